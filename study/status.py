"""Where studies and workers stand: one document for scripts, one view for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from storage.costs import StudyCost, read_costs
from storage.database import Database
from storage.errors import StorageError
from storage.queries import StudyRecord, WorkerRecord, list_studies, read_epoch_seconds, read_study, read_workers
from study.errors import StudyError
from study.progress import StudyProgress, count_text, duration_text, study_table, worker_table, workers_to_show
from study.reporting.cautions import cautions
from study.reporting.leakage import leakage_notice

if TYPE_CHECKING:
    from rich.console import RenderableType

POINT_STATES = ("waiting", "running", "complete", "failed", "pruned")


def choose_studies(database: Database, names: Sequence[str]) -> tuple[str, ...]:
    """The named studies, or all where none is named.

    Raises:
        StudyError: a name is unknown; the message lists the names there are.
    """
    known = list_studies(database)
    unknown = [name for name in names if name not in known]
    if unknown:
        there = ", ".join(known) if known else "none yet; `lmf run` or `lmf demo` makes one"
        raise StudyError(f"no study named {', '.join(unknown)}; studies here: {there}")
    return tuple(names) or known


def status_document(database: Database, studies: Sequence[str] = ()) -> dict[str, Any]:
    """The document of `lmf status --json`; its keys are stable.

    Args:
        database: the database.
        studies: names, or none for all.

    Raises:
        StudyError: a study is unknown.
    """
    names = choose_studies(database, studies)
    workers = read_workers(database)
    costs = read_costs(database)
    documents = [_study_document(database, read_study(database, name), workers, costs) for name in names]
    shown = [_worker_document(worker) for worker in workers if not studies or worker.study in names]
    return {"studies": documents, "workers": shown}


def status_view(database: Database, studies: Sequence[str] = ()) -> RenderableType:
    """What `lmf status` shows: studies, workers, what they cost, warnings, and why points failed.

    Args:
        database: the database.
        studies: names, or none for all.

    Raises:
        StudyError: a study is unknown.
    """
    from rich.console import Group
    from rich.text import Text

    names = choose_studies(database, studies)
    if not names:
        return Text("no studies yet; `lmf run` or `lmf demo` makes one")
    records = [read_study(database, name) for name in names]
    everybody = read_workers(database)
    costs = read_costs(database)
    left = [time_left(database, record, everybody) for record in records]
    parts: list[Any] = [study_table([StudyProgress.of(record) for record in records], left)]
    parts += [Text(line) for line in _state_lines(records) + _leakage_lines(records)]
    parts += [Text(f"{record.name}: {line}") for record in records for line in _cost_lines(record, costs)]
    workers = workers_to_show(everybody)
    if studies:
        workers = [worker for worker in workers if worker.study in names]
    if workers:
        parts += [Text(), worker_table(workers)]
    warned = [f"{record.name} {caution.line}" for record in records for caution in cautions(record)]
    if warned:
        parts += [Text(), Text("warnings:"), *(Text(line) for line in warned)]
    failed = [
        f"{record.name} trial {point.trial_number} ({point.key}): {point.message}"
        for record in records
        for point in record.points
        if point.state == "failed"
    ]
    if failed:
        parts += [Text(), Text("failed points (`lmf study retry STUDY` tries them again):")]
        parts += [Text(line) for line in failed]
    return Group(*parts)


def time_left(database: Database, record: StudyRecord, workers: Sequence[WorkerRecord]) -> float | None:
    """Seconds until a study is trained if its workers of now go on as they did; None where that is not known."""
    at_work = sum(worker.study == record.name for worker in workers)
    if not record.remaining or not at_work:
        return None
    try:
        epoch_seconds = read_epoch_seconds(database, record.study_id)
    except StorageError:
        return None
    progress = StudyProgress.of(record)
    return None if epoch_seconds is None else (progress.epochs_planned - progress.epochs_done) * epoch_seconds / at_work


def _study_document(
    database: Database, record: StudyRecord, workers: Sequence[WorkerRecord], costs: dict[int, StudyCost]
) -> dict[str, Any]:
    progress = StudyProgress.of(record)
    cost = costs.get(record.study_id, StudyCost())
    left = time_left(database, record, workers)
    best = None
    if progress.best is not None:
        best = {"alpha": progress.best.alpha, "beta": progress.best.beta, "val_macro_f1": progress.best_score}
    return {
        "study": record.name,
        "dataset": record.dataset,
        "model": record.model,
        "points": progress.points,
        **{state: progress.states.get(state, 0) for state in POINT_STATES},
        "attempts": sum(point.attempts for point in record.points),
        "lost_attempts": sum(point.lost_attempts for point in record.points),
        "lost_epochs": sum(point.lost_epochs for point in record.points),
        "best": best,
        "leakage": [dict(entry) for entry in record.leakage],
        "warnings": [{"warning": caution.warning, "trials": list(caution.trials)} for caution in cautions(record)],
        "state": record.state,
        "seconds_left": None if left is None else round(left, 1),
        "hours": {
            kind: {"used": round(time.used / 3600, 4), "lost": round(time.lost / 3600, 4)}
            for kind, time in (("gpu", cost.gpu), ("cpu", cost.cpu))
        },
        "failures": [
            {"trial": point.trial_number, "point": point.key, "message": point.message}
            for point in record.points
            if point.state == "failed"
        ],
    }


def _worker_document(worker: WorkerRecord) -> dict[str, Any]:
    left = worker.seconds_left
    return {
        "worker": worker.worker,
        "host": worker.host,
        "pid": worker.pid,
        "device": worker.device,
        "study": worker.study,
        "trial": worker.trial,
        "epoch": worker.epoch,
        "last_seen_seconds": round(worker.last_seen_seconds, 1),
        "state": worker.state,
        "epochs": worker.epochs,
        "images_per_second": None if worker.images_per_second is None else round(worker.images_per_second, 1),
        "seconds_left": None if left is None else round(left, 1),
        "versions": worker.versions,
    }


def _state_lines(records: Sequence[StudyRecord]) -> list[str]:
    """Which studies are not open."""
    said = {"paused": "paused; `lmf study resume` lets it go on", "cancelled": "cancelled"}
    return [f"{record.name}: {said[record.state]}" for record in records if record.state in said]


def _cost_lines(record: StudyRecord, costs: dict[int, StudyCost]) -> list[str]:
    """What a study cost on each kind of device, and what accidents took of it."""
    cost = costs.get(record.study_id, StudyCost())
    attempts = sum(point.lost_attempts for point in record.points)
    lines = []
    for kind, time in (("GPU", cost.gpu), ("processor", cost.cpu)):
        if time.used > 0:
            lost = f", of which lost workers took {duration_text(time.lost)}" if attempts else ""
            lines.append(f"{duration_text(time.used)} of {kind} time{lost}")
    if attempts and lines:
        epochs = sum(point.lost_epochs for point in record.points)
        lines[-1] += f" ({count_text(attempts, 'attempt')} lost, {count_text(epochs, 'epoch')} trained again)"
    return lines


def _leakage_lines(records: Sequence[StudyRecord]) -> list[str]:
    """What training shares with test, a line for all studies of which the same is to be said."""
    studies: dict[str, list[str]] = {}
    for record in records:
        notice = leakage_notice(record.leakage)
        if notice is not None:
            studies.setdefault(notice, []).append(record.name)
    return [f"{', '.join(names)}: {notice}" for notice, names in studies.items()]
