"""`lmf worker`: one process that serves all open studies whose data are here, or the named ones."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from storage.agenda import OpenStudy, open_studies
from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.ledger import Ledger
from storage.pruning import TrialPruner
from storage.queries import read_parts, read_study
from storage.search import Search
from storage.trials import TrialMirror
from study.attempt import AttemptEnd, Bench, Objective
from study.devices import hold_device
from study.errors import StudyError
from study.home import Home
from study.limits import Limits
from study.logs import log_context
from study.run_options import RunOptions
from study.worker import Worker, WorkerOptions, check_versions, library_versions, patiently
from trainer.errors import TrainerError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """What a worker did.

    Attributes:
        ends: how many attempts ended in which way.
        remaining: open points of the studies that it serves, at least 1 where it was stopped and nobody can say.
    """

    ends: dict[AttemptEnd, int]
    remaining: int


@dataclass(frozen=True)
class Desk:
    """What a worker needs to work on one study."""

    bench: Bench
    identity: tuple[int, str, float]
    objective: Objective
    search: Search | None


@dataclass
class Desks:
    """Prepares to work on studies, keeps what it needs for the latest one, and remembers those that it cannot serve.

    Attributes:
        home: where images, files and scratch are.
        database: where studies are planned.
        device: where to train.
        options: attempts, weights to keep, patience.
        stop: set to make the worker stop.
        mirror: Optuna's side of the database.
        is_strict: whether a study that cannot be served is an error rather than skipped.
        refused: why each study that cannot be served here cannot.
    """

    home: Home
    database: Database
    device: str
    options: RunOptions
    stop: threading.Event
    mirror: TrialMirror
    is_strict: bool
    refused: dict[tuple[int, str, float], str] = field(default_factory=dict)
    _latest: Desk | None = None

    def prepare(self, study: OpenStudy) -> Desk | None:
        """What is needed to work on a study; None where it cannot be served here, which is said once.

        Raises:
            StudyError: it cannot be served here, and is not to be skipped.
            StorageError: the database refuses for good, or stays away longer than the patience lasts.
        """
        if study.identity in self.refused:
            return None
        if self._latest is None or self._latest.identity != study.identity:
            self._latest = None
            try:
                self._latest = self._open(study)
            except StorageUnavailableError:
                raise
            except (StudyError, TrainerError, StorageError) as error:
                if self.is_strict:
                    raise StudyError(str(error)) from None
                self.refused[study.identity] = str(error)
                logger.warning("study %s is skipped: %s", study.name, error)
        return self._latest

    def _open(self, study: OpenStudy) -> Desk:
        record = read_study(self.database, study.name)
        if not self.options.allow_versions:
            check_versions(record.spec["versions"], library_versions(), study.name)
        from study.objective import open_objective

        objective = open_objective(record, read_parts(self.database, study.name), self.home, self.device)
        bench = Bench(
            study=study.name,
            select=objective.recipe.select,
            ledger=Ledger(self.database),
            mirror=self.mirror,
            artifacts=Artifacts.open(self.home.artifacts),
            scratch=self.home.scratch,
            keep_weights=self.options.kept_count,
            max_attempts=self.options.max_attempts,
            stop=self.stop,
            pruner=TrialPruner.open(self.mirror, study.name, record.spec),
            patience_seconds=self.options.database_patience,
        )
        return Desk(bench, study.identity, objective, Search.open(self.database, self.mirror, study.study_id))


def work_on_studies(
    home: Home,
    database: Database,
    names: Sequence[str],
    options: RunOptions,
    stop: threading.Event,
    limits: Limits | None = None,
) -> Served:
    """Work on studies until none of their points is left, until `stop` is set, or until a limit is reached.

    Args:
        home: where images, files and scratch are.
        database: where the studies are planned.
        names: studies to serve; all open ones, also those that are planned later, where none is named.
        options: device, lease, attempts, weights to keep and patience.
        stop: set to make it stop; `--max-hours` sets it too.
        limits: when to end earlier or later.

    Raises:
        StudyError: the device is not here, a named study cannot be served here, or none of all can.
        StorageError: the database refuses for good, or stays away longer than the patience lasts.
    """
    limits = limits or Limits()

    def agenda() -> list[OpenStudy]:
        return [study for study in open_studies(database) if not names or study.name in names]

    if limits.idle_exit_seconds == 0 and not patiently(agenda, options.database_patience, stop):
        return Served(dict.fromkeys(AttemptEnd, 0), 0)
    with hold_device(options.device) as device, _alarm(limits.max_hours, stop):
        working = WorkerOptions(device, options.lease_seconds, options.database_patience, limits.max_points)
        worker = Worker(database, working, stop)
        mirror = None
        try:
            mirror = worker.patiently(lambda: TrialMirror.open(database))
            desks = Desks(home, database, device, options, stop, mirror, is_strict=bool(names))
            with log_context(worker=worker.name):
                logger.debug("training on %s, %s", device, database)
                _serve_all(worker, desks, agenda, limits)
            left = [study.open_points for study in worker.patiently(agenda) if study.identity not in desks.refused]
        except StorageUnavailableError as error:
            if not stop.is_set():
                raise
            # Nobody can say what is left; a lease that could not be given back runs out.
            logger.warning("stopped while the database is away: %s", error)
            left = [1]
        finally:
            worker.close()
            if mirror is not None:
                mirror.close()
    return Served(worker.ends, sum(left))


def _serve_all(worker: Worker, desks: Desks, agenda: Callable[[], list[OpenStudy]], limits: Limits) -> None:
    idle_since = None
    serves_any = False
    while worker.may_take:
        todo = [study for study in worker.patiently(agenda) if study.identity not in desks.refused]
        took_any = False
        for study in todo:
            if study.free_points and worker.may_take:
                desk = worker.patiently(partial(desks.prepare, study))
                if desk is not None:
                    took_any |= worker.take_points(desk.bench, study.study_id, desk.objective, desk.search)
        if took_any:
            serves_any = True
            idle_since = None
            continue
        if any(study.identity not in desks.refused for study in todo):
            serves_any = True
            idle_since = None
        else:
            idle_since = time.monotonic() if idle_since is None else idle_since
            if limits.idle_exit_seconds is not None and time.monotonic() - idle_since >= limits.idle_exit_seconds:
                if desks.refused and not serves_any:
                    raise StudyError("; ".join(desks.refused.values()))
                return
        worker.rest()


@contextmanager
def _alarm(hours: float | None, stop: threading.Event) -> Iterator[None]:
    """Set `stop` after some hours, unless the block ends before."""
    if hours is None:
        yield
        return

    def ring() -> None:
        logger.info("stopping after %g h, as --max-hours says", hours)
        stop.set()

    timer = threading.Timer(hours * 3600, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
