"""What readers of a database get: plain records of studies, points, epochs, attempts and workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from storage.database import Database, now_seconds
from storage.errors import StorageError
from storage.file_names import checkpoint_id
from storage.schema import (
    CANCELLED,
    OPEN,
    OPEN_STATES,
    RUNNING,
    WAITING,
    AttemptRow,
    DatasetRow,
    EpochRow,
    PointRow,
    StudyRow,
    WorkerRow,
)
from storage.search_plan import SearchPlan
from storage.workers import LOST, STOPPED, TRAINING

SILENT_SECONDS = 600.0
"""A worker without a point that has not been heard of for so long is lost; one that reads images may be silent."""


@dataclass(frozen=True)
class PointRecord:
    """A point and what came of it; a point whose lease has run out reads as `waiting`."""

    point_id: int
    key: str
    alpha: float | None
    beta: float | None
    loss: str
    seed: int
    settings: tuple[str, ...]
    state: str
    trial_number: int | None
    attempts: int
    lost_attempts: int
    lost_epochs: int
    last_epoch: int
    scores: dict[str, Any] | None
    weights: str | None
    message: str | None
    started_at: float | None
    finished_at: float | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch of a point, counted from 1."""

    point_id: int
    epoch: int
    train_loss: float
    val_loss: float
    lr: float
    images_per_second: float
    seconds: float
    val: dict[str, float | None]
    halves: dict[str, float] | None


@dataclass(frozen=True)
class AttemptRecord:
    """One worker's go at a point; `attempt` counts from 1 within the point, `end` is None while it runs."""

    point_id: int
    attempt: int
    trial_number: int
    worker: str
    host: str
    device: str
    started_at: float
    ended_at: float | None
    first_epoch: int
    epochs: int
    end: str | None
    message: str | None


@dataclass(frozen=True)
class WorkerRecord:
    """A worker: `state` is `training`, `idle`, `stopped` or `lost`; the point it holds, if any.

    `epoch` is the last one on record, `epochs` how many there will be, `epoch_seconds` and `images_per_second` are
    those of the last one.
    """

    worker: str
    host: str
    pid: int
    device: str
    state: str
    last_seen_seconds: float
    study: str | None
    trial: int | None
    epoch: int | None
    versions: dict[str, str] = field(default_factory=dict)
    epochs: int | None = None
    epoch_seconds: float | None = None
    images_per_second: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Time until its point is trained, if no epoch takes longer than the last one."""
        if self.epoch is None or self.epochs is None or self.epoch_seconds is None:
            return None
        return max(0, self.epochs - self.epoch) * self.epoch_seconds


@dataclass(frozen=True)
class StudyRecord:
    """A study with all its points in the order in which they were planned.

    `leakage` is as in `storage.planning.DatasetFacts`: an entry for each known kind of group, or none; `state` is
    `open`, `paused` or `cancelled`.
    """

    study_id: int
    name: str
    dataset: str
    model: str
    spec: dict[str, Any]
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    fingerprint: str
    split_fingerprint: str
    created_at: float
    points: tuple[PointRecord, ...]
    leakage: tuple[dict[str, Any], ...] = ()
    state: str = OPEN

    @property
    def unchosen(self) -> int:
        """Points of a search's budget that are still to be chosen; 0 for a grid, and once the study is cancelled."""
        plan = SearchPlan.of(self.spec)
        return 0 if plan is None or self.state == CANCELLED else max(0, plan.trials - len(self.points))

    @property
    def total(self) -> int:
        """All points, those that are still to be chosen included."""
        return len(self.points) + self.unchosen

    @property
    def remaining(self) -> int:
        """Points that are not closed yet, those that are still to be chosen included."""
        return sum(point.state in OPEN_STATES for point in self.points) + self.unchosen


def list_studies(database: Database) -> tuple[str, ...]:
    """Names of all studies, oldest first."""
    with database.read() as connection:
        return tuple(connection.scalars(sa.select(StudyRow.name).order_by(StudyRow.id)))


def find_spec(database: Database, name: str) -> dict[str, Any] | None:
    """A study's stored description, or None where there is no such study."""
    with database.read() as connection:
        spec = connection.scalar(sa.select(StudyRow.spec).where(StudyRow.name == name))
        return None if spec is None else dict(spec)


def read_study(database: Database, name: str) -> StudyRecord:
    """Read a study with its points.

    Raises:
        StorageError: there is no such study.
    """
    with database.read() as connection:
        study = connection.execute(
            sa.select(
                StudyRow.__table__,
                DatasetRow.title,
                DatasetRow.fingerprint,
                DatasetRow.split_fingerprint,
                DatasetRow.class_names,
                DatasetRow.counts,
                DatasetRow.leakage,
            )
            .join(DatasetRow, DatasetRow.id == StudyRow.dataset_id)
            .where(StudyRow.name == name)
        ).first()
        if study is None:
            raise StorageError(f"no study named {name}")
        mine = PointRow.study_id == study.id
        lost = sa.case((AttemptRow.end == "lost", 1), else_=0)
        attempts = (
            sa.select(AttemptRow.point_id, sa.func.count().label("attempts"), sa.func.sum(lost).label("lost"))
            .join(PointRow, PointRow.id == AttemptRow.point_id)
            .where(mine)
            .group_by(AttemptRow.point_id)
            .subquery()
        )
        expired = sa.and_(PointRow.state == RUNNING, PointRow.lease_expires < now_seconds())
        rows = connection.execute(
            sa.select(
                PointRow.__table__,
                sa.case((expired, WAITING), else_=PointRow.state).label("shown_state"),
                sa.func.coalesce(attempts.c.attempts, 0).label("attempts"),
                sa.func.coalesce(attempts.c.lost, 0).label("lost"),
            )
            .outerjoin(attempts, attempts.c.point_id == PointRow.id)
            .where(mine)
            .order_by(PointRow.position)
        ).all()
    points = tuple(
        PointRecord(
            point_id=row.id,
            key=row.key,
            alpha=row.alpha,
            beta=row.beta,
            loss=row.loss,
            seed=row.seed,
            settings=tuple(row.settings),
            state=row.shown_state,
            trial_number=row.trial_number,
            attempts=int(row.attempts),
            lost_attempts=int(row.lost),
            lost_epochs=row.lost_epochs,
            last_epoch=row.last_epoch,
            scores=row.scores,
            weights=row.weights,
            message=row.message,
            started_at=row.started_at,
            finished_at=row.finished_at,
            warnings=tuple(row.warnings or ()),
        )
        for row in rows
    )
    return StudyRecord(
        study_id=study.id,
        name=study.name,
        dataset=study.title,
        model=study.model,
        spec=study.spec,
        class_names=tuple(study.class_names),
        counts={split: tuple(counts) for split, counts in study.counts.items()},
        fingerprint=study.fingerprint,
        split_fingerprint=study.split_fingerprint,
        created_at=study.created_at,
        points=points,
        leakage=tuple(study.leakage or ()),
        state=study.state,
    )


def read_parts(database: Database, name: str) -> str:
    """The part of each of a study's images, as one letter an image in the order of image names.

    Returns:
        `r` for training, `v` for validation, `t` for test; the empty string where an older lmf planned the study.

    Raises:
        StorageError: there is no such study.
    """
    with database.read() as connection:
        row = connection.execute(
            sa.select(DatasetRow.parts)
            .join(StudyRow, StudyRow.dataset_id == DatasetRow.id)
            .where(StudyRow.name == name)
        ).first()
    if row is None:
        raise StorageError(f"no study named {name}")
    return row.parts or ""


def read_epochs(database: Database, study: str) -> tuple[EpochRecord, ...]:
    """All epochs of a study, by point and epoch."""
    columns = [name for name in EpochRecord.__dataclass_fields__]
    query = (
        sa.select(*(EpochRow.__table__.c[name] for name in columns))
        .join(PointRow, PointRow.id == EpochRow.point_id)
        .join(StudyRow, StudyRow.id == PointRow.study_id)
        .where(StudyRow.name == study)
        .order_by(PointRow.position, EpochRow.epoch)
    )
    with database.read() as connection:
        return tuple(EpochRecord(*row) for row in connection.execute(query))


def read_epoch_seconds(database: Database, study_id: int, latest: int = 50) -> float | None:
    """How long an epoch of a study takes, on average over the latest ones; None before there is any."""
    recent = (
        sa.select(EpochRow.seconds)
        .join(AttemptRow, AttemptRow.id == EpochRow.attempt_id)
        .join(PointRow, PointRow.id == EpochRow.point_id)
        .where(PointRow.study_id == study_id)
        .order_by(AttemptRow.id.desc(), EpochRow.epoch.desc())
        .limit(latest)
        .subquery()
    )
    with database.read() as connection:
        return connection.scalar(sa.select(sa.func.avg(recent.c.seconds)))


def read_attempts(database: Database, study: str) -> tuple[AttemptRecord, ...]:
    """All attempts of a study, by point and time."""
    number = sa.func.row_number().over(partition_by=AttemptRow.point_id, order_by=AttemptRow.id)
    with database.read() as connection:
        rows = connection.execute(
            sa.select(
                AttemptRow.point_id,
                number.label("attempt"),
                AttemptRow.trial_number,
                WorkerRow.name.label("worker"),
                AttemptRow.host,
                AttemptRow.device,
                AttemptRow.started_at,
                AttemptRow.ended_at,
                AttemptRow.first_epoch,
                AttemptRow.epochs,
                AttemptRow.end,
                AttemptRow.message,
            )
            .join(WorkerRow, WorkerRow.id == AttemptRow.worker_id)
            .join(PointRow, PointRow.id == AttemptRow.point_id)
            .join(StudyRow, StudyRow.id == PointRow.study_id)
            .where(StudyRow.name == study)
            .order_by(PointRow.position, AttemptRow.id)
        ).all()
    return tuple(AttemptRecord(**row._asdict()) for row in rows)


def read_artifact_ids(database: Database, study: str) -> tuple[str, ...]:
    """Ids in the artifact store of all that a study may have there: files, weights and checkpoints."""
    mine = sa.select(StudyRow.id).where(StudyRow.name == study).scalar_subquery()
    with database.read() as connection:
        points = connection.execute(sa.select(PointRow.files, PointRow.weights).where(PointRow.study_id == mine)).all()
        tokens = connection.scalars(
            sa.select(AttemptRow.token)
            .join(PointRow, PointRow.id == AttemptRow.point_id)
            .where(PointRow.study_id == mine, PointRow.state.in_((WAITING, RUNNING)))
        ).all()
    files = [file["artifact_id"] for point in points for file in point.files or ()]
    weights = [point.weights for point in points if point.weights is not None]
    return tuple([*files, *weights, *(checkpoint_id(token) for token in tokens)])


def read_workers(database: Database) -> tuple[WorkerRecord, ...]:
    """All workers, latest first; one that holds an expired lease, or has been silent for long, reads as `lost`."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(
                WorkerRow.__table__,
                (now_seconds() - WorkerRow.last_seen).label("silent"),
                (PointRow.lease_expires < now_seconds()).label("expired"),
                PointRow.trial_number,
                PointRow.last_epoch,
                StudyRow.name.label("study"),
                StudyRow.spec,
                EpochRow.seconds,
                EpochRow.images_per_second,
            )
            .outerjoin(PointRow, sa.and_(PointRow.worker_id == WorkerRow.id, PointRow.lease_token.is_not(None)))
            .outerjoin(StudyRow, StudyRow.id == PointRow.study_id)
            .outerjoin(EpochRow, sa.and_(EpochRow.point_id == PointRow.id, EpochRow.epoch == PointRow.last_epoch))
            .order_by(WorkerRow.id.desc())
        ).all()
    records = []
    for row in rows:
        over = row.state in (LOST, STOPPED)
        state = LOST if row.expired and not over else TRAINING if row.study and not over else row.state
        if row.study is None and not over and row.silent > SILENT_SECONDS:
            state = LOST
        holds = row.study is not None and state == TRAINING
        records.append(
            WorkerRecord(
                worker=row.name,
                host=row.host,
                pid=row.pid,
                device=row.device,
                state=state,
                last_seen_seconds=max(0.0, float(row.silent)),
                study=row.study if holds else None,
                trial=row.trial_number if holds else None,
                epoch=row.last_epoch if holds else None,
                versions=dict(row.versions),
                epochs=row.spec.get("recipe", {}).get("epochs") if holds else None,
                epoch_seconds=row.seconds if holds else None,
                images_per_second=row.images_per_second if holds else None,
            )
        )
    return tuple(records)
