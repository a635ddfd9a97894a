"""Addresses to listen on, the server on them, and its end."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication

from study.dashboard.writes import MOST_BYTES
from study.errors import StudyError

THREADS = 8

# A name may stand for an address that this machine lacks, such as ::1 for localhost.
_LACKING = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Attributes:
        host: the name or number that was asked for.
        port: the port; 0 for any that is free.
        numbers: all that the host stands for, as family and number.
    """

    host: str
    port: int
    numbers: tuple[tuple[socket.AddressFamily, str], ...]

    @classmethod
    def find(cls, host: str, port: int) -> Address:
        """Look a host up.

        Raises:
            StudyError: it is empty or unknown.
        """
        if not host:
            raise StudyError("--host: is empty; expected an address of this machine, such as 127.0.0.1 or 0.0.0.0")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise StudyError(
                f"--host: {host!r} is unknown: {getattr(error, 'strerror', None) or error}; expected an address of "
                "this machine, such as 127.0.0.1 or 0.0.0.0"
            ) from None
        return cls(host, port, tuple(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found)))

    @property
    def is_local(self) -> bool:
        """Whether no other machine can reach it."""
        return all(ip_address(number.partition("%")[0]).is_loopback for _, number in self.numbers)

    def url(self, port: int) -> str:
        """The URL for people, with the port that was really taken."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{port}/"


def bind(address: Address) -> list[socket.socket]:
    """Take an address: a socket for each of its numbers, all with the same port.

    Raises:
        StudyError: another program has the port, or the address is none of this machine.
    """
    taken: list[socket.socket] = []
    port = address.port
    lacking = None
    for family, number in address.numbers:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((number, port))
            # Two programs may bind the same port, and only one may listen on it.
            listener.listen()
        except OSError as error:
            listener.close()
            if error.errno in _LACKING:
                lacking = error
                continue
            for other in taken:
                other.close()
            raise _refusal(address, number, port, error) from None
        taken.append(listener)
        port = listener.getsockname()[1]
    if not taken:
        assert lacking is not None
        raise _refusal(address, address.numbers[0][1], port, lacking)
    return taken


def serve(application: WSGIApplication, sockets: list[socket.socket]) -> None:
    """Serve until SIGTERM or SIGINT; requests under way have a few seconds to end. The sockets are closed then."""
    from waitress import create_server

    # That requests wait a moment is no news: a browser sends several at once.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server: Any = create_server(
        application,
        sockets=sockets,
        threads=THREADS,
        ident="",
        max_request_body_size=MOST_BYTES,
        clear_untrusted_proxy_headers=True,
    )
    try:
        server.run()
    finally:
        with suppress(OSError):
            server.close()
        for listener in sockets:
            listener.close()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the block quietly; once one has come, others change nothing."""
    signals = (signal.SIGTERM, signal.SIGINT)

    def end(_: int, __: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise SystemExit(0)

    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    except SystemExit:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def in_background(work: Any, stop: threading.Event, seconds: float = 5.0) -> Iterator[None]:
    """Do some work in a thread beside the block, and tell it to stop at the block's end.

    Args:
        work: is called without arguments.
        stop: is set at the end.
        seconds: how long to wait for the thread then; the process may end before it.
    """
    thread = threading.Thread(target=work, name="figures", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(seconds)


def _refusal(address: Address, number: str, port: int, error: OSError) -> StudyError:
    if error.errno == errno.EADDRINUSE:
        return StudyError(
            f"--port: another program listens on {address.host} port {port} already; name another port, or 0 for any "
            "that is free"
        )
    if error.errno == errno.EACCES:
        return StudyError(f"--port: this user may not listen on port {port}; name one from 1024 up")
    return StudyError(f"--host: cannot listen on {number} port {port}: {error.strerror or error}")
