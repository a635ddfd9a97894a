"""Records of the database as flat rows: one a point, one an epoch, one a class of a point."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.costs import StudyCost
    from storage.hardware import Hardware
    from storage.queries import AttemptRecord, EpochRecord, PointRecord, StudyRecord
    from study.reporting.cams import CamSheet
    from study.reporting.predictions import TrialPredictions

SCORES = (
    "macro_f1",
    "accuracy",
    "precision",
    "recall",
    "balanced_accuracy",
    "macro_auc",
    "macro_average_precision",
    "sensitivity_at_specificity",
    "mcc",
    "kappa",
)
CLASS_SCORES = ("auc", "average_precision", "sensitivity_at_specificity")
"""Scores that each class has against the rest, besides F1."""
SPLITS = ("val", "test")


@dataclass(frozen=True)
class StudyData:
    """All that a report needs of one study.

    Attributes:
        study: the study with its points.
        epochs: the epochs of all its points.
        attempts: all attempts at its points.
        cost: what it cost so far, where that was read.
        predictions: what trials predicted, by point; of those alone that a report shows.
        cams: where its networks look; None where that was not asked for.
        hardware: on what its points were trained, where that was read.
    """

    study: StudyRecord
    epochs: tuple[EpochRecord, ...]
    attempts: tuple[AttemptRecord, ...]
    cost: StudyCost | None = None
    predictions: Mapping[int, TrialPredictions] = field(default_factory=dict)
    cams: CamSheet | None = None
    hardware: tuple[Hardware, ...] = ()


@dataclass(frozen=True)
class SplitScores:
    """One point's scores on one split; all are fractions in [0, 1], but `mcc` and `kappa` lie in [-1, 1].

    What the version that trained the point did not store is None, also for each class.

    Attributes:
        macro_f1: mean of the classes' F1.
        accuracy: share of images that were classified right.
        precision: mean of the classes' precision, 0 for a class that was never predicted.
        recall: mean of the classes' recall.
        balanced_accuracy: mean recall over the classes present.
        macro_auc: mean one-against-rest area under the ROC curve; None where a class is absent.
        macro_average_precision: mean one-against-rest average precision; None where a class is absent.
        sensitivity_at_specificity: mean one-against-rest sensitivity at a specificity of at least `specificity`; None
            where a class is absent.
        mcc: Matthews' correlation coefficient.
        kappa: Cohen's kappa.
        specificity: the stated specificity.
        f1_per_class: F1 in class-index order.
        auc_per_class: area under the ROC curve of each class against the rest; None where either has no image.
        average_precision_per_class: average precision of each class against the rest, likewise.
        sensitivity_at_specificity_per_class: sensitivity of each class against the rest at a specificity of at least
            `specificity`, likewise.
        confusion: images by true class (rows) and predicted class (columns).
    """

    macro_f1: float | None
    accuracy: float | None
    precision: float | None
    recall: float | None
    balanced_accuracy: float | None
    macro_auc: float | None
    macro_average_precision: float | None
    sensitivity_at_specificity: float | None
    mcc: float | None
    kappa: float | None
    specificity: float | None
    f1_per_class: tuple[float, ...]
    auc_per_class: tuple[float | None, ...]
    average_precision_per_class: tuple[float | None, ...]
    sensitivity_at_specificity_per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...]

    @classmethod
    def from_dict(cls, scores: Mapping[str, Any]) -> SplitScores:
        """Read what the trainer's scores were stored as, by this version or an older one."""
        unknown = [None] * len(scores["f1_per_class"])
        values: dict[str, Any] = {name: finite(scores.get(name)) for name in (*SCORES, "specificity")}
        for name in (f"{name}_per_class" for name in CLASS_SCORES):
            values[name] = tuple(map(finite, scores.get(name, unknown)))
        return cls(
            **values,
            f1_per_class=tuple(float(value) for value in scores["f1_per_class"]),
            confusion=tuple(tuple(int(count) for count in row) for row in scores["confusion"]),
        )

    def get(self, name: str) -> float | None:
        """The score of that name, one of `SCORES`."""
        value: float | None = getattr(self, name)
        return value

    def per_class(self, name: str) -> tuple[float | None, ...]:
        """The score of that name, one of `CLASS_SCORES`, of each class in class-index order."""
        values: tuple[float | None, ...] = getattr(self, f"{name}_per_class")
        return values

    @property
    def predicted_counts(self) -> tuple[int, ...]:
        """How many images were predicted to be of each class."""
        return tuple(sum(column) for column in zip(*self.confusion, strict=True))


@dataclass(frozen=True)
class PointRow:
    """One point: what was tried, how far it came and what it scored.

    Attributes:
        study: name of the study.
        point: the point's number in the ledger.
        trial: the Optuna trial's number, None before it has one.
        loss: name of the loss.
        alpha: weight of the LDAM half; None for a loss without it.
        beta: weight of the focal half; None for a loss without it.
        seed: the training seed.
        settings: the paper's settings that the point belongs to.
        state: waiting, running, complete, failed or pruned.
        attempts: how many times a worker went at it.
        lost_attempts: how many of those ended without a word.
        lost_epochs: epochs that had to be trained again.
        epochs: epochs remembered.
        seconds: training time of those epochs.
        best_epoch: the epoch whose weights were tested, from 1.
        val: scores on validation, None unless complete.
        test: scores on test, None unless complete.
        message: why it failed.
    """

    study: str
    point: int
    trial: int | None
    loss: str
    alpha: float | None
    beta: float | None
    seed: int
    settings: tuple[str, ...]
    state: str
    attempts: int
    lost_attempts: int
    lost_epochs: int
    epochs: int
    seconds: float
    best_epoch: int | None
    val: SplitScores | None
    test: SplitScores | None
    message: str | None

    def score(self, split: str, name: str) -> float | None:
        """A score on `val` or `test`, None where the point has none."""
        scores = self.val if split == "val" else self.test
        return scores.get(name) if scores else None

    @property
    def specificity(self) -> float | None:
        """At which specificity its sensitivity is stated, None where the point has no such score."""
        return self.val.specificity if self.val else None


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch of one point.

    Attributes:
        point: the row of its point.
        epoch: number of the epoch, from 1.
        train_loss: mean training loss.
        val_loss: mean validation loss.
        lr: learning rate.
        images_per_second: training images a second.
        seconds: time that the epoch took.
        val: validation scores by name, those of `SCORES`.
        ldam: mean unweighted LDAM half of the training loss; None for other losses than LMF.
        focal: mean unweighted focal half of the training loss; None for other losses than LMF.
        ldam_gradient: mean norm of the unweighted LDAM half's gradient at a batch's logits, or None.
        focal_gradient: the same of the focal half.
    """

    point: PointRow
    epoch: int
    train_loss: float | None
    val_loss: float | None
    lr: float
    images_per_second: float | None
    seconds: float
    val: Mapping[str, float | None]
    ldam: float | None
    focal: float | None
    ldam_gradient: float | None = None
    focal_gradient: float | None = None


@dataclass(frozen=True)
class ClassRow:
    """One class of one complete point on one split.

    Attributes:
        point: the row of its point.
        split: `val` or `test`.
        name: the class's name.
        images: images of that class in the split.
        predicted: images of the split that were predicted to be of that class.
        right: images that are both.
        f1: F1 of that class, a fraction.
        auc: area under the ROC curve of that class against the rest; None where either has no image.
        average_precision: average precision of that class against the rest, likewise.
        sensitivity_at_specificity: sensitivity of that class against the rest at the point's `specificity`, likewise.
    """

    point: PointRow
    split: str
    name: str
    images: int
    predicted: int
    right: int
    f1: float
    auc: float | None
    average_precision: float | None
    sensitivity_at_specificity: float | None

    @property
    def recall(self) -> float:
        """Share of the class's images that were found; 0 where it has none."""
        return self.right / self.images if self.images else 0.0


@dataclass(frozen=True)
class ClassCount:
    """How many images a class has.

    Attributes:
        name: the class's name.
        train: its training images; None where there is no split.
        val: its validation images; None where there is no split.
        test: its test images; None where there is no split.
        total: all its images; needed only where there is no split.
    """

    name: str
    train: int | None
    val: int | None
    test: int | None
    total: int | None = None

    @property
    def images(self) -> int:
        """All its images."""
        parts = [count for count in (self.train, self.val, self.test) if count is not None]
        return sum(parts) if self.total is None else self.total


def finite(value: float | None) -> float | None:
    """The value as a float, or None where it is None, infinite or not a number."""
    return float(value) if value is not None and math.isfinite(value) else None


def point_rows(study: StudyRecord, epochs: Iterable[EpochRecord] = ()) -> tuple[PointRow, ...]:
    """One row a point, by trial number; points without a trial come last.

    Args:
        study: the study.
        epochs: its epochs; without them `epochs` and `seconds` of the rows are 0.
    """
    seconds: dict[int, list[float]] = defaultdict(list)
    for epoch in epochs:
        seconds[epoch.point_id].append(epoch.seconds)
    rows = [_point_row(study.name, record, seconds[record.point_id]) for record in study.points]
    return tuple(sorted(rows, key=lambda row: (row.trial is None, row.trial or 0, row.point)))


def epoch_rows(points: Sequence[PointRow], epochs: Iterable[EpochRecord]) -> tuple[EpochRow, ...]:
    """One row an epoch, in the order of the points and then of the epochs.

    Args:
        points: rows of the study's points; epochs of other points are left out.
        epochs: the study's epochs, in any order.
    """
    by_point: dict[int, list[EpochRecord]] = defaultdict(list)
    for record in epochs:
        by_point[record.point_id].append(record)
    return tuple(
        _epoch_row(point, record)
        for point in points
        for record in sorted(by_point[point.point], key=lambda record: record.epoch)
    )


def class_rows(point: PointRow, class_names: Sequence[str]) -> tuple[ClassRow, ...]:
    """One row a split and class of a complete point, none for another."""
    rows = []
    for split in SPLITS:
        scores = point.val if split == "val" else point.test
        if scores is None:
            continue
        predicted = scores.predicted_counts
        for index, name in enumerate(class_names):
            true = scores.confusion[index]
            counts = (sum(true), predicted[index], true[index])
            against_rest = (scores.per_class(score)[index] for score in CLASS_SCORES)
            rows.append(ClassRow(point, split, name, *counts, scores.f1_per_class[index], *against_rest))
    return tuple(rows)


def class_counts(study: StudyRecord) -> tuple[ClassCount, ...]:
    """How many images each class of a study has in each part of the split, in class-index order."""
    parts = [study.counts.get(part) for part in ("train", "val", "test")]
    return tuple(
        ClassCount(name, *(None if counts is None else counts[index] for counts in parts))
        for index, name in enumerate(study.class_names)
    )


def _point_row(study: str, record: PointRecord, seconds: Sequence[float]) -> PointRow:
    scores = record.scores if record.state == "complete" else None
    return PointRow(
        study=study,
        point=record.point_id,
        trial=record.trial_number,
        loss=record.loss,
        alpha=record.alpha,
        beta=record.beta,
        seed=record.seed,
        settings=tuple(record.settings),
        state=record.state,
        attempts=record.attempts,
        lost_attempts=record.lost_attempts,
        lost_epochs=record.lost_epochs,
        epochs=len(seconds),
        seconds=math.fsum(seconds),
        best_epoch=scores["best_epoch"] if scores else None,
        val=SplitScores.from_dict(scores["val"]) if scores else None,
        test=SplitScores.from_dict(scores["test"]) if scores else None,
        message=record.message,
    )


def _epoch_row(point: PointRow, record: EpochRecord) -> EpochRow:
    halves = record.halves or {}
    return EpochRow(
        point=point,
        epoch=record.epoch,
        train_loss=finite(record.train_loss),
        val_loss=finite(record.val_loss),
        lr=record.lr,
        images_per_second=finite(record.images_per_second),
        seconds=record.seconds,
        val={name: finite(record.val.get(name)) for name in SCORES},
        ldam=finite(halves.get("ldam")),
        focal=finite(halves.get("focal")),
        ldam_gradient=finite(halves.get("ldam_gradient")),
        focal_gradient=finite(halves.get("focal_gradient")),
    )
