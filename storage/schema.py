"""The tables. Times are Unix seconds (UTC) by the database's clock; every table of ours begins with `lmf_`."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# What a point's `state` says; `waiting` and `running` are open, the others final.
WAITING, RUNNING, COMPLETE, FAILED, PRUNED = "waiting", "running", "complete", "failed", "pruned"
OPEN_STATES = (WAITING, RUNNING)

# What a study's `state` says.
OPEN, PAUSED, CANCELLED = "open", "paused", "cancelled"


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
        float: Double,
    }


class DatasetRow(Base):
    """A dataset as it was split: its images by fingerprint, its classes and their counts per split.

    `parts` has a letter for each image, `leakage` what the parts share; both are NULL where an older lmf planned.
    """

    __tablename__ = "lmf_datasets"
    __table_args__ = (UniqueConstraint("fingerprint", "split_fingerprint", name="uq_lmf_datasets_fingerprints"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    split_fingerprint: Mapped[str] = mapped_column(String(64))
    class_names: Mapped[list[str]]
    counts: Mapped[dict[str, Any]]
    parts: Mapped[str | None] = mapped_column(Text)
    leakage: Mapped[list[dict[str, Any]] | None]


class StudyRow(Base):
    """A study: one dataset, one model, one recipe; `spec` is its full description.

    `state` says whether it may be worked on: `open`, `paused` (no point is claimed) or `cancelled` (none is trained).
    """

    __tablename__ = "lmf_studies"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    model: Mapped[str] = mapped_column(String(255))
    dataset_id: Mapped[int] = mapped_column(ForeignKey("lmf_datasets.id"), index=True)
    optuna_study_id: Mapped[int] = mapped_column(Integer)
    spec: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    state: Mapped[str] = mapped_column(String(16), default=OPEN, server_default=OPEN)


class WorkerRow(Base):
    """A worker process, known by host, process number and start of the process."""

    __tablename__ = "lmf_workers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    host: Mapped[str] = mapped_column(String(255), index=True)
    pid: Mapped[int]
    process_started: Mapped[float]
    device: Mapped[str] = mapped_column(String(255))
    versions: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[float]
    last_seen: Mapped[float]


class PointRow(Base):
    """What one training tries, its lease and its scores.

    `outcome` is set together with the scores, before Optuna is told; `state` follows when it has been.
    """

    __tablename__ = "lmf_points"
    __table_args__ = (
        UniqueConstraint("study_id", "key", name="uq_lmf_points_key"),
        # Only points with a trial can be claimed. That the index says so, and not only the query, keeps PostgreSQL from
        # reading the whole table where its statistics date from before the planner gave the points their trials.
        Index(
            "ix_lmf_points_queue",
            "study_id",
            "state",
            "position",
            sqlite_where=text("trial_id IS NOT NULL"),
            postgresql_where=text("trial_id IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("lmf_studies.id"))
    key: Mapped[str] = mapped_column(String(255))
    position: Mapped[int]
    alpha: Mapped[float | None]
    beta: Mapped[float | None]
    loss: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int]
    settings: Mapped[list[str]]
    generation: Mapped[int] = mapped_column(default=1)
    trial_id: Mapped[int | None]
    trial_number: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16), default=WAITING)
    outcome: Mapped[str | None] = mapped_column(String(16))
    lease_token: Mapped[str | None] = mapped_column(String(36))
    lease_expires: Mapped[float | None]
    worker_id: Mapped[int | None] = mapped_column(ForeignKey("lmf_workers.id"), index=True)
    last_epoch: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    fruitless_losses: Mapped[int] = mapped_column(default=0)
    lost_epochs: Mapped[int] = mapped_column(default=0)
    value: Mapped[float | None]
    scores: Mapped[dict[str, Any] | None]
    files: Mapped[list[dict[str, Any]] | None]
    weights: Mapped[str | None] = mapped_column(String(64))
    message: Mapped[str | None] = mapped_column(Text)
    warnings: Mapped[list[str] | None]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]


class AttemptRow(Base):
    """One worker's go at a point, from claim to its end."""

    __tablename__ = "lmf_attempts"
    __table_args__ = (Index("ix_lmf_attempts_point", "point_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    point_id: Mapped[int] = mapped_column(ForeignKey("lmf_points.id"))
    token: Mapped[str] = mapped_column(String(36), unique=True)
    trial_number: Mapped[int]
    worker_id: Mapped[int] = mapped_column(ForeignKey("lmf_workers.id"), index=True)
    host: Mapped[str] = mapped_column(String(255))
    device: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[float]
    ended_at: Mapped[float | None]
    known_epoch: Mapped[int]
    first_epoch: Mapped[int]
    epochs: Mapped[int] = mapped_column(default=0)
    end: Mapped[str | None] = mapped_column(String(16))
    message: Mapped[str | None] = mapped_column(Text)


class EpochRow(Base):
    """One epoch of one point."""

    __tablename__ = "lmf_epochs"

    point_id: Mapped[int] = mapped_column(ForeignKey("lmf_points.id"), primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("lmf_attempts.id"), index=True)
    train_loss: Mapped[float]
    val_loss: Mapped[float]
    lr: Mapped[float]
    images_per_second: Mapped[float]
    seconds: Mapped[float]
    val: Mapped[dict[str, Any]]
    halves: Mapped[dict[str, Any] | None]
