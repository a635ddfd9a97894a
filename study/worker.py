"""The worker: takes points one after another until none is left, it is stopped, or it may take no more."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from queue import SimpleQueue
from typing import TypeVar

from storage.agenda import open_studies
from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.lease import Lease
from storage.ledger import Ledger
from storage.search import Search
from storage.workers import IDLE, STOPPED, TRAINING, ProcessIdentity, Workers
from study.attempt import AttemptEnd, Bench, Objective, work_on
from study.devices import describe_device
from study.errors import StudyError
from study.lease_keeper import PATIENCE_SECONDS, supervisor_is_gone
from study.logs import log_context

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

POLL_SECONDS = (0.2, 2.0)
PINNED_LIBRARIES = ("torch", "timm")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works.

    Attributes:
        device: name of the device that it trains on.
        lease_seconds: how long its claims last without renewal.
        patience_seconds: how long it waits for a database that is away.
        max_points: after so many attempts it takes no more; None sets no limit.
    """

    device: str
    lease_seconds: float = 60.0
    patience_seconds: float = PATIENCE_SECONDS
    max_points: int | None = None


def library_versions() -> dict[str, str]:
    """Versions of the libraries on which the result of a training depends."""
    return {name: version(name) for name in PINNED_LIBRARIES}


def check_versions(planned: dict[str, str], here: dict[str, str], study: str) -> None:
    """Refuse to work on a study that was planned with another minor version.

    Raises:
        StudyError: a version differs before its second dot; both are named.
    """
    different = [
        f"{name} {planned[name]} planned, {here[name]} here"
        for name in planned
        if planned[name].split(".")[:2] != here[name].split(".")[:2]
    ]
    if different:
        raise StudyError(f"{study}: {', '.join(different)}; install the planned versions, or give --allow-versions")


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM, SIGINT, and what schedulers warn with, SIGUSR1 and SIGUSR2, set an event within the block."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
    # A handler may interrupt another one: the event's lock would then wait for itself, while this queue has none.
    told: SimpleQueue[bool] = SimpleQueue()

    def set_when_told() -> None:
        if told.get():
            stop.set()

    threading.Thread(target=set_when_told, name="stop-on-signals", daemon=True).start()
    before = [signal.signal(kind, lambda *_: told.put(True)) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
        told.put(False)


class Worker:
    """A registered worker: takes points of studies, one at a time, and counts how they ended."""

    def __init__(self, database: Database, options: WorkerOptions, stop: threading.Event) -> None:
        """Register this process as a worker; it is one until `close`.

        Args:
            database: where points are claimed.
            options: how to work.
            stop: set to make it stop.

        Raises:
            StorageError: the database refuses for good, or stays away longer than the patience lasts.
        """
        self.options = options
        self.ends = dict.fromkeys(AttemptEnd, 0)
        self._ledger = Ledger(database)
        self._workers = Workers(database)
        self._stop = stop
        self._poll_seconds = POLL_SECONDS[0]
        identity = ProcessIdentity.of()
        self.name = identity.name
        facts = {**library_versions(), **describe_device(options.device)}
        self._id = self.patiently(lambda: self._workers.register(identity, options.device, facts))

    def patiently(self, action: Callable[[], Result]) -> Result:
        """Do something, again and again while the database is away, as long as the patience lasts."""
        return patiently(action, self.options.patience_seconds, self._stop)

    @property
    def may_take(self) -> bool:
        """Whether it may take another point."""
        most = self.options.max_points
        return not self._stop.is_set() and (most is None or sum(self.ends.values()) < most)

    def take_points(
        self, bench: Bench, study_id: int, objective: Objective, search: Search | None, *, only_cancelled: bool = False
    ) -> bool:
        """Work on a study's points until none is free.

        In a search, a worker that finds no free point chooses the next one, as long as the budget lasts.

        Args:
            bench: where to work.
            study_id: of which study.
            objective: trains a point.
            search: chooses points; None for a grid.
            only_cancelled: take points only while the study is cancelled.

        Returns:
            Whether there was any.

        Raises:
            StorageError: the database refuses for good, or stays away longer than the patience lasts.
        """
        took_any = False
        while self.may_take:
            token = str(uuid.uuid4())
            seconds = self.options.lease_seconds
            claim = partial(self._ledger.claim, study_id, self._id, seconds, token, only_cancelled=only_cancelled)
            lease: Lease | None = self.patiently(claim)
            if lease is not None:
                took_any = True
                self._note(TRAINING)
                with log_context(study=bench.study, trial=lease.trial_number):
                    logger.debug("claimed %s, epoch %d is the last on record", lease.key, lease.last_epoch)
                    end = work_on(bench, lease, objective)
                    logger.info("trial %d (%s): %s", lease.trial_number, lease.key, end.value)
                self.ends[end] += 1
                self._note(IDLE)
            elif search is None or not self.patiently(search.plan_next):
                break
        if took_any:
            self._poll_seconds = POLL_SECONDS[0]
        return took_any

    def rest(self) -> None:
        """Wait a moment, longer each time in a row, and sign that it lives."""
        if supervisor_is_gone():
            logger.warning("the run that started this worker is gone: stopping")
            self._stop.set()
        self._note(IDLE)
        self._stop.wait(self._poll_seconds * random.uniform(0.5, 1.0))
        self._poll_seconds = min(POLL_SECONDS[1], self._poll_seconds * 1.5)

    def close(self) -> None:
        """Sign off."""
        with suppress(StorageError):
            self._workers.note(self._id, STOPPED)

    def _note(self, state: str) -> None:
        self.patiently(lambda: self._workers.note(self._id, state))


def serve(bench: Bench, study_id: int, objective: Objective, options: WorkerOptions) -> dict[AttemptEnd, int]:
    """Work on points of one study until none is left, or until `bench.stop` is set.

    While others hold the last points, or the study is paused, it stays, to take over what they may leave.

    Args:
        bench: where to work.
        study_id: of which study.
        objective: trains a point.
        options: how to work.

    Returns:
        How many attempts ended in which way.

    Raises:
        StorageError: the database refuses for good, or stays away longer than the patience lasts.
    """
    database = bench.ledger.database
    worker = Worker(database, options, bench.stop)
    try:
        search = worker.patiently(lambda: Search.open(database, bench.mirror, study_id))
        with log_context(worker=worker.name):
            while worker.may_take:
                if worker.take_points(bench, study_id, objective, search):
                    continue
                if study_id not in {study.study_id for study in worker.patiently(lambda: open_studies(database))}:
                    break
                worker.rest()
    finally:
        worker.close()
    return worker.ends


def patiently(action: Callable[[], Result], patience_seconds: float, stop: threading.Event) -> Result:
    """Do something, again and again while the database is away, for a limited time or until asked to stop.

    Raises:
        StorageUnavailableError: the database stayed away.
    """
    until = time.monotonic() + patience_seconds
    pause = 0.2
    while True:
        try:
            return action()
        except StorageUnavailableError as error:
            if stop.is_set() or time.monotonic() + pause > until:
                raise
            logger.warning("the database is away, trying again: %s", error)
            stop.wait(pause * random.uniform(0.5, 1.0))
            pause = min(5.0, pause * 2)
