"""The worker: takes points of a study one after another until none is left, it is stopped, or it may take no more."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.lease import Lease
from storage.ledger import Ledger
from storage.pruning import TrialPruner
from storage.queries import read_parts, read_study
from storage.search import Search
from storage.trials import TrialMirror
from storage.workers import IDLE, STOPPED, TRAINING, ProcessIdentity, Workers
from study.attempt import AttemptEnd, Bench, Objective, work_on
from study.devices import list_devices
from study.errors import StudyError
from study.home import Home
from study.run_options import RunOptions

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PATIENCE_SECONDS = 600.0
POLL_SECONDS = (0.2, 2.0)
PINNED_LIBRARIES = ("torch", "timm")


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker works.

    Attributes:
        device: name of the device that it trains on.
        lease_seconds: how long its claims last without renewal.
        patience_seconds: how long it waits for a database that is away.
    """

    device: str
    lease_seconds: float = 60.0
    patience_seconds: float = PATIENCE_SECONDS


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
    """Let SIGTERM, SIGINT and SIGUSR1 set an event for the time of the block."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.signal(kind, lambda *_: stop.set()) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def work_on_study(
    home: Home, database: Database, name: str, options: RunOptions, stop: threading.Event
) -> dict[AttemptEnd, int]:
    """Work on a planned study until none of its points is left, or until `stop` is set.

    Args:
        home: where images, files and scratch are.
        database: where the study is planned.
        name: the study.
        options: device, lease, attempts and weights to keep; the first of several devices is used.
        stop: set to make it stop.

    Returns:
        How many attempts ended in which way.

    Raises:
        StudyError: the images or the library versions here are not those of the study, or the device is not here.
        StorageError: the database refuses for good, or stays away longer than the patience lasts.
        DataError: images cannot be used.
    """
    record = read_study(database, name)
    if record.remaining == 0:
        return dict.fromkeys(AttemptEnd, 0)
    if not options.allow_versions:
        check_versions(record.spec["versions"], library_versions(), name)
    device = list_devices(options.device)[0]
    from study.objective import open_objective

    objective = open_objective(record, read_parts(database, name), home, device)
    mirror = TrialMirror.open(database)
    try:
        bench = Bench(
            study=name,
            select=objective.recipe.select,
            ledger=Ledger(database),
            mirror=mirror,
            artifacts=Artifacts.open(home.artifacts),
            scratch=home.scratch,
            keep_weights=options.kept_count,
            max_attempts=options.max_attempts,
            stop=stop,
            pruner=TrialPruner.open(mirror, name, record.spec),
        )
        return serve(bench, record.study_id, objective, WorkerOptions(device, options.lease_seconds))
    finally:
        mirror.close()


def serve(bench: Bench, study_id: int, objective: Objective, options: WorkerOptions) -> dict[AttemptEnd, int]:
    """Work on points of a study until none is left, or until `bench.stop` is set.

    In a search, a worker that finds no free point chooses the next one, as long as the budget lasts. While others hold
    the last points it stays, to take over what they may leave.

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
    ledger, stop = bench.ledger, bench.stop
    workers = Workers(ledger.database)
    ends = dict.fromkeys(AttemptEnd, 0)

    def patiently(action: Callable[[], Result]) -> Result:
        return _with_patience(action, options.patience_seconds, stop)

    worker_id = patiently(lambda: workers.register(ProcessIdentity.of(), options.device, library_versions()))
    search = patiently(lambda: Search.open(ledger.database, bench.mirror, study_id))
    poll_seconds = POLL_SECONDS[0]
    try:
        while not stop.is_set():
            lease: Lease | None = patiently(lambda: ledger.claim(study_id, worker_id, options.lease_seconds))
            if lease is not None:
                patiently(lambda: workers.note(worker_id, TRAINING))
                end = work_on(bench, lease, objective)
                ends[end] += 1
                logger.info("trial %d (%s): %s", lease.trial_number, lease.key, end.value)
                patiently(lambda: workers.note(worker_id, IDLE))
                poll_seconds = POLL_SECONDS[0]
            elif search is not None and patiently(search.plan_next):
                continue
            elif patiently(lambda: ledger.open_points(study_id)) == 0:
                break
            else:
                patiently(lambda: workers.note(worker_id, IDLE))
                stop.wait(poll_seconds * random.uniform(0.5, 1.0))
                poll_seconds = min(POLL_SECONDS[1], poll_seconds * 1.5)
    finally:
        with suppress(StorageError):
            workers.note(worker_id, STOPPED)
    return ends


def _with_patience(action: Callable[[], Result], patience_seconds: float, stop: threading.Event) -> Result:
    """Do something, again and again while the database is away, for a limited time or until asked to stop."""
    until = time.monotonic() + patience_seconds
    pause = 0.2
    while True:
        try:
            return action()
        except StorageUnavailableError as error:
            if stop.is_set() or time.monotonic() + pause > until:
                raise
            logger.warning("the database is away, trying again: %s", error)
            stop.wait(pause)
            pause = min(5.0, pause * 2)
