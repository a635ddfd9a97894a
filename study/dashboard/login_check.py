"""The check of what a browser sends as name and password (HTTP Basic), and how often it may be wrong."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from study.dashboard.login_file import Login

FREE_FAILURES = 5
LONGEST_WAIT_SECONDS = 30
FORGET_SECONDS = 900
MOST_ADDRESSES = 1024
MOST_REMEMBERED = 1024


@dataclass(frozen=True)
class Verdict:
    """What came of a login.

    Attributes:
        name: who it is; None where nobody is let in.
        wait_seconds: how long this address must wait before it is listened to again; 0 if it need not.
    """

    name: str | None
    wait_seconds: int = 0


class FailureWaits:
    """How long an address must wait after logins of it that failed; knows the latest `MOST_ADDRESSES` addresses."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def seconds(self, address: str) -> int:
        """How long this address must still wait."""
        with self._lock:
            count, last = self._failures.get(address, (0, 0.0))
            passed = self._clock() - last
        if count < FREE_FAILURES or passed > FORGET_SECONDS:
            return 0
        return max(0, math.ceil(min(1 << min(count - FREE_FAILURES, 10), LONGEST_WAIT_SECONDS) - passed))

    def note_failure(self, address: str) -> None:
        """Count a failure."""
        with self._lock:
            count, last = self._failures.pop(address, (0, 0.0))
            now = self._clock()
            self._failures[address] = (1 if now - last > FORGET_SECONDS else count + 1, now)
            while len(self._failures) > MOST_ADDRESSES:
                self._failures.popitem(last=False)

    def forget(self, address: str) -> None:
        """Forget the failures of an address that came in."""
        with self._lock:
            self._failures.pop(address, None)


class LoginCheck:
    """Lets in who sends a name and the password that belongs to it.

    A password that was right is remembered, as a keyed hash and in memory alone, so that only the first request of a
    browser costs an scrypt. An unknown name costs as much as a known one.
    """

    def __init__(self, logins: Sequence[Login], clock: Callable[[], float] = time.monotonic) -> None:
        """Make a check.

        Args:
            logins: at least one login.
            clock: seconds that only rise.
        """
        self._logins = {login.name: login for login in logins}
        first = logins[0]
        self._nobody = Login("", first.cost, first.block_size, first.parallel, secrets.token_bytes(16), bytes(32))
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()
        self._waits = FailureWaits(clock)

    def check(self, authorization: str | None, address: str) -> Verdict:
        """Check the header `Authorization` of a request.

        Args:
            authorization: the header's value; None where the request has none.
            address: where the request came from.
        """
        if authorization is None:
            return Verdict(None)
        pair = _name_and_password(authorization)
        if pair is not None and self._is_remembered(*pair):
            return Verdict(pair[0])
        wait = self._waits.seconds(address)
        if wait:
            return Verdict(None, wait)
        if pair is None or not self._is_right(*pair):
            self._waits.note_failure(address)
            return Verdict(None)
        self._waits.forget(address)
        self._remember(*pair)
        return Verdict(pair[0])

    def _is_right(self, name: str, password: str) -> bool:
        login = self._logins.get(name, self._nobody)
        same = hmac.compare_digest(login.hash(password), login.digest)
        return same and login is not self._nobody

    def _is_remembered(self, name: str, password: str) -> bool:
        with self._lock:
            return self._mark(name, password) in self._right

    def _remember(self, name: str, password: str) -> None:
        with self._lock:
            self._right[self._mark(name, password)] = None
            while len(self._right) > MOST_REMEMBERED:
                self._right.popitem(last=False)

    def _mark(self, name: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{name}:{password}".encode(), hashlib.sha256)


def _name_and_password(authorization: str) -> tuple[str, str] | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None
