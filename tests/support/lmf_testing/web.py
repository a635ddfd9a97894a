"""Requests over HTTP, and to a WSGI application without it."""

from __future__ import annotations

import base64
import io
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults


@dataclass(frozen=True)
class Page:
    """An answer; the names of its headers are in lower case, and one that came twice is joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(
    url: str,
    *,
    method: str = "GET",
    login: tuple[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Page:
    """Send one request, and follow no redirection."""
    request = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
    if login is not None:
        request.add_header("Authorization", basic(*login))
    opener = urllib.request.build_opener(_NoRedirection, urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as answer:
            return Page(answer.status, _joined(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Page(error.code, _joined(error.headers), error.read())


def ask_application(application: WSGIApplication, path: str, method: str = "GET", **environ: Any) -> Page:
    """Send one request to a WSGI application.

    Args:
        application: the application.
        path: the path as it stands in the request, percent signs resolved, as bytes read as Latin-1.
        method: the method.
        environ: more of its environment, such as `HTTP_HOST`; `body` is its body.
    """
    body = environ.pop("body", b"")
    given: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8080",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **environ,
    }
    setup_testing_defaults(given)
    started: list[tuple[str, list[tuple[str, str]]]] = []
    parts = application(given, lambda status, headers, *_: started.append((status, headers)))  # type: ignore[arg-type,return-value]
    try:
        content = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    ((status, headers),) = started
    message = Message()
    for name, value in headers:
        message[name] = value
    return Page(int(status.split()[0]), _joined(message), content)


def basic(name: str, password: str) -> str:
    """The header `Authorization` of a name and password."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _joined(headers: Message) -> dict[str, str]:
    return {name.lower(): ", ".join(map(str, headers.get_all(name, ()))) for name in headers}


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None
