"""Records of studies as the database gives them, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from storage.queries import AttemptRecord, EpochRecord, PointRecord, StudyRecord
from study.reporting.rows import SCORES, StudyData

CREATED = 1_750_000_000.0


class Records:
    """A factory of records; every argument has a sensible default."""

    def __init__(self) -> None:
        self.numbers = count()

    def scores(self, macro_f1: float = 0.6, **others: Any) -> dict[str, Any]:
        """Scores on one split, of two classes unless told otherwise."""
        return {
            "accuracy": 0.8,
            "precision": 0.7,
            "recall": 0.65,
            "macro_f1": macro_f1,
            "balanced_accuracy": 0.65,
            "macro_auc": 0.9,
            "macro_average_precision": 0.85,
            "sensitivity_at_specificity": 0.55,
            "specificity": 0.95,
            "mcc": 0.41,
            "kappa": 0.4,
            "f1_per_class": [macro_f1, macro_f1],
            "auc_per_class": [0.92, 0.88],
            "average_precision_per_class": [0.93, 0.77],
            "sensitivity_at_specificity_per_class": [0.75, 0.35],
            "confusion": [[7, 1], [2, 2]],
        } | others

    def older_scores(self, macro_f1: float = 0.6) -> dict[str, Any]:
        """Scores on one split as they were stored before there were MCC, kappa and scores of each class but F1."""
        names = ("accuracy", "precision", "recall", "macro_f1", "balanced_accuracy", "macro_auc")
        return {name: self.scores(macro_f1)[name] for name in (*names, "f1_per_class", "confusion")}

    def point(
        self,
        alpha: float | None = 1.0,
        beta: float | None = 1.0,
        val: float | Mapping[str, Any] | None = None,
        test: float | Mapping[str, Any] | None = None,
        **others: Any,
    ) -> PointRecord:
        """A point; complete where it is given scores, else waiting. Its settings follow from its factors."""
        number = next(self.numbers)
        complete = val is not None
        names = {"joint": alpha == beta, "beta": alpha == 1.0, "alpha": beta == 1.0} if alpha is not None else {}
        record = PointRecord(
            point_id=100 + number,
            key=f"point {number}",
            alpha=alpha,
            beta=beta,
            loss="lmf",
            seed=23,
            settings=tuple(name for name, member in names.items() if member),
            state="complete" if complete else "waiting",
            trial_number=number,
            attempts=1 if complete else 0,
            lost_attempts=0,
            lost_epochs=0,
            last_epoch=2 if complete else 0,
            scores={"best_epoch": 2, "val": self._scores(val), "test": self._scores(test), "weights_sha256": "0" * 64}
            if complete
            else None,
            weights="0" * 64 if complete else None,
            message=None,
            started_at=CREATED if complete else None,
            finished_at=CREATED + 60 if complete else None,
        )
        return replace(record, **others)

    def study(self, points: Iterable[PointRecord] = (), **others: Any) -> StudyRecord:
        """A study of two classes that chooses by macro F1."""
        record = StudyRecord(
            study_id=1,
            name="skin-small",
            dataset="skin",
            model="efficientnetv2",
            spec={"dataset": "folder:skin", "recipe": {"select": "macro_f1", "epochs": 2}, "seeds": [23]},
            class_names=("NV", "MEL"),
            counts={"train": (38, 18), "val": (8, 4), "test": (8, 4)},
            fingerprint="f" * 64,
            split_fingerprint="5" * 64,
            created_at=CREATED,
            points=tuple(points),
        )
        return replace(record, **others)

    def epoch(self, point: PointRecord, number: int, macro_f1: float | None = 0.5, **others: Any) -> EpochRecord:
        """One epoch of an LMF point, of ten seconds."""
        record = EpochRecord(
            point_id=point.point_id,
            epoch=number,
            train_loss=4.0 / number,
            val_loss=5.0 / number,
            lr=1e-4,
            images_per_second=200.0,
            seconds=10.0,
            val={name: self.scores()[name] for name in SCORES} | {"macro_f1": macro_f1, "macro_auc": None},
            halves={
                "ldam": 3.5 / number,
                "focal": 0.05 / number,
                "ldam_gradient": 0.7 / number,
                "focal_gradient": 0.01 / number,
            },
        )
        return replace(record, **others)

    def attempt(self, point: PointRecord, number: int = 1, **others: Any) -> AttemptRecord:
        """One attempt that completed its point."""
        record = AttemptRecord(
            point_id=point.point_id,
            attempt=number,
            trial_number=point.trial_number or 0,
            worker="node1-4711",
            host="node1",
            device="cpu",
            started_at=CREATED + number,
            ended_at=CREATED + number + 20,
            first_epoch=0,
            epochs=2,
            end="complete",
            message=None,
        )
        return replace(record, **others)

    def data(self, study: StudyRecord) -> StudyData:
        """The study with two epochs and an attempt for each complete point."""
        done = [point for point in study.points if point.state == "complete"]
        epochs = tuple(self.epoch(point, number) for point in done for number in (1, 2))
        return StudyData(study, epochs, tuple(self.attempt(point) for point in done))

    def _scores(self, given: float | Mapping[str, Any] | None) -> dict[str, Any]:
        if isinstance(given, Mapping):
            return dict(given)
        return self.scores() if given is None else self.scores(given)


@pytest.fixture
def leaks() -> Callable[..., dict[str, Any]]:
    """Makes an entry of a study's leakage: `leaks("lesion", 5, val=3)`; without counts, nothing of the kind leaks."""

    def make(
        group: str, count: int = 0, val: int = 0, images: int | None = None, test_images: int = 30
    ) -> dict[str, Any]:
        return {
            "group": group,
            "groups": 60,
            "leaking_groups": count,
            "leaking_val_groups": val,
            "test_images": test_images,
            "leaking_test_images": count + 1 if images is None and count else images or 0,
        }

    return make


@pytest.fixture
def records() -> Records:
    """A fresh factory; its trial numbers count from 0."""
    return Records()
