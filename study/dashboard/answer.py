"""An answer to a request, before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from wsgiref.types import WSGIApplication, WSGIEnvironment


@dataclass(frozen=True)
class Answer:
    """An answer to a request.

    Attributes:
        status: the status with its phrase, such as `200 OK`.
        headers: names and values.
        body: the content, piece by piece; one that can be closed is closed by whoever sends it.
    """

    status: str
    headers: tuple[tuple[str, str], ...]
    body: Iterable[bytes]

    def without(self, *names: str) -> Answer:
        """The same answer without the headers of these names, which are in lower case."""
        kept = tuple((name, value) for name, value in self.headers if name.lower() not in names)
        return Answer(self.status, kept, self.body)

    def with_headers(self, *headers: tuple[str, str]) -> Answer:
        """The same answer with more headers."""
        return Answer(self.status, (*self.headers, *headers), self.body)

    def header(self, name: str) -> str | None:
        """The value of the header of this name in lower case, None where there is none."""
        return next((value for found, value in self.headers if found.lower() == name), None)

    def close(self) -> None:
        """Let go of a body that is not sent."""
        if hasattr(self.body, "close"):
            self.body.close()


Application = Callable[[WSGIEnvironment], Answer]
"""Answers requests."""


def call(application: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Let a WSGI application answer a request, as far as its status and headers."""
    started: list[tuple[str, tuple[tuple[str, str], ...]]] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: object = None, /) -> Callable[[bytes], object]:
        started.append((status, tuple(headers)))
        return _no_write

    body = application(environ, start)
    status, headers = started[-1]
    return Answer(status, headers, body)


def _no_write(_: bytes) -> object:
    raise AssertionError("an answer is given as a whole, not written piece by piece")
