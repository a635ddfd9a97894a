"""Pausing, resuming and cancelling studies, whoever works on them wherever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NoReturn

from storage.agenda import open_studies, set_study_state
from storage.artifacts import Artifacts
from storage.database import Database
from storage.lease import Lease
from storage.ledger import CANCELLED_MESSAGE, Ledger
from storage.queries import StudyRecord, read_study
from storage.schema import CANCELLED, FAILED, OPEN, PAUSED
from storage.trials import TrialMirror
from storage.workers import Workers
from study.attempt import Bench, Progress
from study.errors import StudyError
from study.home import Home
from study.worker import Worker, WorkerOptions

POLL_SECONDS = 0.5
GRACE_SECONDS = 10.0


def pause(database: Database, name: str) -> list[tuple[str, float]]:
    """Let no point of a study be claimed; its workers checkpoint and give their points back.

    Returns:
        Who holds points now, with the seconds within which each will have learnt of it.

    Raises:
        StudyError: the study is cancelled.
    """
    study_id = read_study(database, name).study_id
    _set_state(database, study_id, name, PAUSED)
    return Workers(database).holders(study_id)


def resume(database: Database, name: str) -> bool:
    """Let a paused study go on.

    Returns:
        Whether it was paused.

    Raises:
        StudyError: the study is cancelled.
    """
    return _set_state(database, read_study(database, name).study_id, name, OPEN) == PAUSED


def _set_state(database: Database, study_id: int, name: str, state: str) -> str:
    before = set_study_state(database, study_id, state)
    if before == CANCELLED:
        raise StudyError(f"{name}: it is cancelled; `lmf study retry` plans its points again")
    return before


def cancel(
    database: Database, home: Home, name: str, on_wait: Callable[[list[tuple[str, float]]], None] = lambda _: None
) -> tuple[int, int]:
    """End a study: points that are not trained are closed as failed, in Optuna too, and running trainings stopped.

    Points that workers hold are closed by these, within a lease; those of workers that are gone are closed here once
    their leases are over.

    Args:
        database: where it is planned.
        home: where the files of its trials are.
        name: the study.
        on_wait: told once who holds points that are waited for, and until when at the latest.

    Returns:
        How many points were closed without being trained, and how many are still held after all waiting; 0 where the
        study was opened again meanwhile.
    """
    record = read_study(database, name)
    set_study_state(database, record.study_id, CANCELLED)
    mirror = TrialMirror.open(database)
    stop = threading.Event()
    worker = Worker(database, WorkerOptions("none"), stop)
    try:
        bench = Bench(
            study=name,
            select=record.spec["recipe"].get("select", "macro_f1"),
            ledger=Ledger(database),
            mirror=mirror,
            artifacts=Artifacts.open(home.artifacts),
            scratch=home.scratch,
            keep_weights=None,
            max_attempts=1,
            stop=stop,
        )
        until = None
        while True:
            worker.take_points(bench, record.study_id, _train_nothing, None, only_cancelled=True)
            left = {study.study_id: study.open_points for study in open_studies(database)}.get(record.study_id, 0)
            if until is None:
                holders = Workers(database).holders(record.study_id)
                until = time.monotonic() + GRACE_SECONDS + max((seconds for _, seconds in holders), default=0.0)
                if left and holders:
                    on_wait(holders)
            if not left or time.monotonic() > until or read_study(database, name).state != CANCELLED:
                break
            time.sleep(POLL_SECONDS)
    finally:
        worker.close()
        mirror.close()
    after = read_study(database, name)
    return _cancelled_points(after) - _cancelled_points(record), left if after.state == CANCELLED else 0


def _cancelled_points(record: StudyRecord) -> int:
    return sum(point.state == FAILED and point.message == CANCELLED_MESSAGE for point in record.points)


def _train_nothing(lease: Lease, progress: Progress) -> NoReturn:
    raise AssertionError("a point of a cancelled study has its outcome when it is claimed")
