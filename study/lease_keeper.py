"""Keeps a lease alive from a thread of its own while its point is trained."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Literal, TypeVar

from storage.errors import LeaseLostError, StorageError, StorageUnavailableError
from storage.lease import Lease
from storage.ledger import Ledger
from storage.schema import CANCELLED, OPEN
from storage.workers import TRAINING, Workers

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

SUPERVISOR_VARIABLE = "LMF_SUPERVISOR"
"""Set for a worker that must not outlive the process of this number."""

PATIENCE_SECONDS = 600.0
RENEWALS_PER_LEASE = 3
RETRY_SECONDS = 1.0


def supervisor_is_gone() -> bool:
    """Whether the process that started this worker, and that it must not outlive, has ended."""
    supervisor = os.environ.get(SUPERVISOR_VARIABLE)
    return bool(supervisor) and str(os.getppid()) != supervisor


def suspend_proof_seconds() -> float:
    """A clock that only goes forward and counts the time for which the machine was suspended."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class LeaseKeeper:
    """Renews a lease until the `with` block ends, the lease is lost, or it has run out.

    While the database is away, work goes on as long as the patience lasts, also beyond the lease: when the database is
    back, the lease's token decides whether that work counts. Where the lease ran out although the database was there,
    because this process was suspended, it is lost.
    """

    def __init__(
        self, ledger: Ledger, lease: Lease, stop: threading.Event, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Start to keep a lease that was claimed just now.

        Args:
            ledger: where the lease was claimed.
            lease: the lease.
            stop: set where the worker is asked to stop.
            patience_seconds: for how long work goes on while the database is away.
        """
        self._ledger = ledger
        self._lease = lease
        self._stop = stop
        self._patience_seconds = patience_seconds
        self._away_since: float | None = None
        self._asking_since: float | None = None
        self._study_state = OPEN
        self._deadline = suspend_proof_seconds() + lease.seconds
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_ended, name="lease-keeper", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def is_lost(self) -> bool:
        """Whether the lease is gone, or has run out for good."""
        # A server that does not answer is as good as away.
        now, away_since = suspend_proof_seconds(), self._away_since or self._asking_since
        if self._lost.is_set():
            return True
        if away_since is not None:
            return now >= max(self._deadline, away_since + self._patience_seconds)
        return now >= self._deadline

    @property
    def is_cancelled(self) -> bool:
        """Whether the study was cancelled while the lease was held."""
        return self._study_state == CANCELLED

    def control(self) -> Literal["stop", "abandon"] | None:
        """What the training should do: go on (None), stop with a checkpoint, or stop at once."""
        if self.is_lost:
            return "abandon"
        return "stop" if self._stop.is_set() or self._study_state != OPEN else None

    def note_away(self, error: StorageUnavailableError) -> None:
        """Note that the database is away.

        Raises:
            LeaseLostError: the lease has run out for good.
        """
        if self.is_lost:
            raise LeaseLostError(f"the lease ran out while the database was away ({error})") from None
        if self._away_since is None:
            self._away_since = suspend_proof_seconds()
            logger.warning("the database is away, going on without it: %s", error)

    def patiently(self, write: Callable[[], Result]) -> Result:
        """Do a write, again and again while the database is away and the lease or the patience lasts.

        Raises:
            LeaseLostError: the lease was lost, or ran out meanwhile.
            StorageError: the write failed for another reason.
        """
        while True:
            try:
                return write()
            except StorageUnavailableError as error:
                self.note_away(error)
                self._lost.wait(RETRY_SECONDS)

    def _renew_until_ended(self) -> None:
        wait = self._lease.seconds / RENEWALS_PER_LEASE
        while not self._ended.wait(wait):
            if supervisor_is_gone() and not self._stop.is_set():
                logger.warning("the run that started this worker is gone: stopping")
                self._stop.set()
            asked_at = suspend_proof_seconds()
            if self.is_lost:
                logger.warning("the lease on %s ran out", self._lease.key)
                self._lost.set()
                return
            self._asking_since = asked_at
            try:
                self._study_state = self._ledger.renew(self._lease)
                Workers(self._ledger.database).note(self._lease.worker_id, TRAINING)
                self._deadline = asked_at + self._lease.seconds
                self._note_back()
                logger.debug("lease renewed for %g s; the study is %s", self._lease.seconds, self._study_state)
                wait = self._lease.seconds / RENEWALS_PER_LEASE
                if suspend_proof_seconds() >= self._deadline:
                    # So late an answer may be of a lease that is over again: ask once more before going by it.
                    wait = 0.0
                    continue
            except LeaseLostError as error:
                logger.warning("%s", error)
                self._lost.set()
                return
            except StorageUnavailableError as error:
                with suppress(LeaseLostError):
                    self.note_away(error)
                wait = min(RETRY_SECONDS, self._lease.seconds / RENEWALS_PER_LEASE)
            except StorageError as error:
                logger.warning("cannot renew the lease on %s, trying again: %s", self._lease.key, error)
                wait = min(RETRY_SECONDS, self._lease.seconds / RENEWALS_PER_LEASE)
            self._asking_since = None

    def _note_back(self) -> None:
        away_since, self._away_since = self._away_since, None
        if away_since is not None:
            logger.warning("the database is back after %.0f s", suspend_proof_seconds() - away_since)
