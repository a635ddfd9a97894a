"""What a claim gives a worker, and what the worker tells of each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Lease:
    """A worker's time-limited claim on a point.

    Attributes:
        point_id: the point.
        study_id: its study.
        worker_id: who holds the lease.
        attempt_id: the attempt that the claim opened.
        token: what fences off a worker that lost the lease.
        seconds: how long the lease lasts from each renewal.
        key: the point's key.
        generation: 1, and one more for each retry.
        alpha: weight of the LDAM half, or None.
        beta: weight of the focal half, or None.
        loss: name of the loss.
        seed: seed of the training.
        trial_id: Optuna's id of the point's trial.
        trial_number: Optuna's number of it.
        last_epoch: the last epoch on record.
        outcome: None while there is training to do; else how it ended, and only Optuna remains to be told.
        earlier_tokens: tokens of earlier attempts, latest first; their checkpoints lie under them.
    """

    point_id: int
    study_id: int
    worker_id: int
    attempt_id: int
    token: str
    seconds: float
    key: str
    generation: int
    alpha: float | None
    beta: float | None
    loss: str
    seed: int
    trial_id: int
    trial_number: int
    last_epoch: int
    outcome: str | None
    earlier_tokens: tuple[str, ...]


@dataclass(frozen=True)
class EpochFigures:
    """What is remembered of one epoch; `epoch` counts from 1, `warnings` are kept with the point."""

    epoch: int
    train_loss: float
    val_loss: float
    lr: float
    images_per_second: float
    seconds: float
    val: Mapping[str, float | None]
    halves: Mapping[str, float] | None = None
    warnings: Sequence[str] = ()
