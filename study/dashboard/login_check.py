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
NAME_GROUPS = 32
MOST_REMEMBERED = 1024


@dataclass(frozen=True)
class Verdict:
    """What came of a login.

    Attributes:
        name: who it is; None where nobody is let in.
        wait_seconds: how long this address must wait before this name is listened to again; 0 if it need not.
    """

    name: str | None
    wait_seconds: int = 0


class FailureWaits:
    """How long an address must wait after logins of it that failed; knows the latest `MOST_ADDRESSES` addresses.

    Behind a proxy all users have one address, so each name counts for itself there. `NAME_GROUPS` counts an address
    are kept, whatever names are tried, known or not, so that made-up names cost no memory and tell nothing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, dict[int, tuple[int, float]]] = OrderedDict()
        self._lock = threading.Lock()

    def note_try(self, address: str, name: str) -> int:
        """Count a try as a failure, unless it must wait; `forget` takes that back.

        Returns:
            Seconds that must pass before the next try; 0 where this one may go on.
        """
        group, now = _group(name), self._clock()
        with self._lock:
            failures = self._failures.setdefault(address, {})
            self._failures.move_to_end(address)
            count, last = failures.get(group, (0, 0.0))
            if now - last > FORGET_SECONDS:
                count = 0
            if count >= FREE_FAILURES:
                least = min(1 << min(count - FREE_FAILURES, 10), LONGEST_WAIT_SECONDS)
                wait = math.ceil(least - (now - last))
                if wait > 0:
                    return wait
            failures[group] = (count + 1, now)
            while len(self._failures) > MOST_ADDRESSES:
                self._failures.popitem(last=False)
        return 0

    def forget(self, address: str, name: str) -> None:
        """Forget the failures of a name that came in."""
        with self._lock:
            self._failures.get(address, {}).pop(_group(name), None)


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
        self._hashing = threading.Lock()
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
        if pair is None:
            return Verdict(None, self._waits.note_try(address, ""))
        # One at a time: a page that asks for many things at once sends one login, not so many tries.
        with self._hashing:
            if self._is_remembered(*pair):
                return Verdict(pair[0])
            # Counted before the hash, so that guesses that come all at once are counted as well.
            wait = self._waits.note_try(address, pair[0])
            if wait or not self._is_right(*pair):
                return Verdict(None, wait)
            self._waits.forget(address, pair[0])
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


def _group(name: str) -> int:
    return hashlib.sha256(name.encode()).digest()[0] % NAME_GROUPS


def _name_and_password(authorization: str) -> tuple[str, str] | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon else None
