"""What stands before optuna-dashboard: it lets in whom it should, and lets through what may be done."""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import quote, urlsplit
from wsgiref.types import StartResponse, WSGIEnvironment

from storage.errors import StorageError, StorageUnavailableError
from study.dashboard.answer import Answer, Application
from study.dashboard.application import NothingThereError, TrialEndedError
from study.dashboard.login_check import LoginCheck
from study.dashboard.writes import check_write

RETRY_SECONDS = 10
TELL_AGAIN_SECONDS = 60.0

_logger = logging.getLogger(__name__)

_ALWAYS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
_OPENING = ("access-control-allow-origin", "access-control-allow-credentials", "access-control-expose-headers")
_FRAMES = "frame-ancestors 'self'"
# Files of trials are anybody's: shown or kept, they run no script and belong to no origin.
_SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_OWN_PAGES = re.compile(r"/(dashboard|static|api|csv)(/.*)?|/favicon\.ico|/incompatible-rdb-schema")
_SHOWN_TYPES = frozenset(
    {"text/plain", "text/csv", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
)


class RefusedError(Exception):
    """A request that is not let through."""

    def __init__(self, status: HTTPStatus, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Request:
    """What the gateway looks at.

    Attributes:
        method: the method, in capitals.
        path: the path, with percent signs resolved; never without a slash at its start.
        address: where it came from.
        headers: its headers by their names in WSGI, such as `HTTP_HOST`.
    """

    method: str
    path: str
    address: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Request:
        """Read a request.

        Raises:
            RefusedError: its path is no text. optuna-dashboard would leave out what it cannot read, and so take one
                path for another.
        """
        try:
            path = environ["PATH_INFO"].encode("latin-1").decode()
        except ValueError:
            raise RefusedError(HTTPStatus.BAD_REQUEST, "the path is not UTF-8") from None
        headers = {name: value for name, value in environ.items() if name.startswith("HTTP_")}
        return cls(environ["REQUEST_METHOD"], path or "/", environ.get("REMOTE_ADDR", ""), headers)

    @property
    def reads(self) -> bool:
        """Whether it asks for nothing to be changed."""
        return self.method in ("GET", "HEAD")


class Gateway:
    """A WSGI application before optuna-dashboard."""

    def __init__(
        self,
        reader: Application,
        writer: Application | None = None,
        *,
        logins: LoginCheck | None = None,
        local_names: Sequence[str] | None = None,
    ) -> None:
        """Set it up.

        Args:
            reader: answers what only reads.
            writer: answers the few things that may be changed; None where nothing may.
            logins: who may come in; None for everybody.
            local_names: only requests for this machine's loopback by number, or by one of these names, are answered,
                so that no page from elsewhere reaches it by a name of its own; None where any name will do.
        """
        self._reader = reader
        self._writer = writer
        self._logins = logins
        self._told_away = -math.inf
        self._local_names = None if local_names is None else {name.lower() for name in local_names}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        path = ""
        try:
            request = Request.of(environ)
            path = request.path
            answer = self._answer(request, environ)
        except RefusedError as error:
            answer = _refusal(path, error)
        except StorageUnavailableError as error:
            self._tell_away(error)
            answer = _refusal(path, _AWAY)
        except StorageError as error:
            _logger.error("%s", error)
            answer = _refusal(path, _UNREADABLE)
        except NothingThereError:
            answer = _refusal(path, _NOTHING)
        except TrialEndedError:
            answer = _refusal(path, _ENDED)
        except Exception:
            _logger.exception("%s: cannot be answered", quote(path))
            answer = _refusal(path, _BROKEN)
        answer = _secured(path, answer)
        start_response(answer.status, list(answer.headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" and isinstance(answer.body, list) else answer.body

    def _answer(self, request: Request, environ: WSGIEnvironment) -> Answer:
        self._check_host(request)
        user = self._check_login(request)
        if request.reads:
            if request.path == "/":
                return Answer("302 Found", (("Location", "/dashboard"), ("Content-Length", "0")), [])
            return self._reader(environ)
        if self._writer is None:
            raise RefusedError(
                HTTPStatus.FORBIDDEN, "this dashboard is read-only; with --allow-edit, notes can be written in it"
            )
        _check_origin(request)
        refused = check_write(request.method, request.path, environ)
        if refused is not None:
            raise RefusedError(refused.status, refused.reason)
        outcome = "failed"
        try:
            answer = self._writer(environ)
            outcome = answer.status.split()[0]
        finally:
            # A warning, so that it is also said where the log is told to say little.
            _logger.warning(
                "write by %s from %s: %s %s: %s",
                user or "anybody",
                request.address,
                request.method,
                quote(request.path),
                outcome,
            )
        return answer

    def _tell_away(self, error: StorageUnavailableError) -> None:
        """Say that the database is away, and not again for every request of a browser that keeps asking."""
        now = time.monotonic()
        if now - self._told_away > TELL_AGAIN_SECONDS:
            _logger.warning("%s", error)
            self._told_away = now

    def _check_host(self, request: Request) -> None:
        if self._local_names is None:
            return
        try:
            host = urlsplit(f"//{request.headers.get('HTTP_HOST', '')}").hostname or ""
        except ValueError:
            host = ""
        if host not in self._local_names and not _is_loopback(host):
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST, "this dashboard answers to localhost, 127.0.0.1 and [::1] only"
            )

    def _check_login(self, request: Request) -> str | None:
        if self._logins is None:
            return None
        verdict = self._logins.check(request.headers.get("HTTP_AUTHORIZATION"), request.address)
        if verdict.name is not None:
            return verdict.name
        if verdict.wait_seconds:
            raise RefusedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too many logins failed; wait a moment",
                {"Retry-After": str(verdict.wait_seconds)},
            )
        if "HTTP_AUTHORIZATION" in request.headers:
            _logger.warning("a login from %s failed", request.address)
        raise RefusedError(
            HTTPStatus.UNAUTHORIZED,
            "name and password are needed",
            {"WWW-Authenticate": 'Basic realm="lmf dashboard", charset="UTF-8"'},
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_origin(request: Request) -> None:
    """Refuse what another site's page asks for through a user's browser, which always says whose page it is."""
    site, origin = request.headers.get("HTTP_SEC_FETCH_SITE"), request.headers.get("HTTP_ORIGIN")
    if site is not None:
        foreign = site != "same-origin"
    else:
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("HTTP_HOST")
    if foreign:
        raise RefusedError(HTTPStatus.FORBIDDEN, "changes are taken from the dashboard's own pages only")


_AWAY = RefusedError(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "the database cannot be reached just now; try again in a moment",
    {"Retry-After": str(RETRY_SECONDS)},
)
_UNREADABLE = RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "what is stored cannot be read; the log says why")
_NOTHING = RefusedError(HTTPStatus.NOT_FOUND, "there is no such thing")
_ENDED = RefusedError(
    HTTPStatus.CONFLICT, "this trial has ended, so its attributes can no longer be changed; a note can be written"
)
_BROKEN = RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "this cannot be answered; the log says why")


def _refusal(path: str, error: RefusedError) -> Answer:
    """The answer to a request that is not let through: JSON where a script asked, else a line of text."""
    if path.startswith("/api/") or error.status == HTTPStatus.FORBIDDEN:
        kind, text = "application/json", json.dumps({"reason": error.reason})
    else:
        kind, text = "text/plain; charset=utf-8", f"{error.reason}\n"
    content = text.encode()
    headers = (("Content-Type", kind), ("Content-Length", str(len(content))), *error.headers.items())
    return Answer(f"{error.status.value} {error.status.phrase}", headers, [content])


def _secured(path: str, answer: Answer) -> Answer:
    """An answer without what opens it to other sites and with what keeps it to its own."""
    answer = answer.without(*_OPENING).with_headers(*_ALWAYS)
    if not path.startswith("/static/"):
        answer = answer.without("cache-control").with_headers(("Cache-Control", "private, no-store"))
    if _OWN_PAGES.fullmatch(path):
        return answer.with_headers(("Content-Security-Policy", _FRAMES))
    shown = _harmless(answer) if answer.status.startswith("2") else answer
    return shown.with_headers(("Content-Security-Policy", f"{_SANDBOX}; {_FRAMES}"))


def _harmless(answer: Answer) -> Answer:
    """A file as an answer: only what no browser runs is shown, everything else is kept as a file."""
    kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
    # So optuna-dashboard misspells how a file is packed, and a browser would take it for what is in it.
    if kind in _SHOWN_TYPES and answer.header("content-encodings") is None:
        return answer
    return answer.without("content-type", "content-disposition", "content-encodings").with_headers(
        ("Content-Type", "application/octet-stream"), ("Content-Disposition", "attachment")
    )
