"""Scores of a classifier on one split, as the paper reports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from trainer.errors import DataError, DivergedError


@dataclass(frozen=True)
class Scores:
    """What one split came to; every fraction lies in [0, 1].

    Attributes:
        accuracy: fraction of images whose most probable class is the true one.
        precision: mean over the classes of the fraction of right images among those predicted as the class; 0 for a
            class that is never predicted.
        recall: mean over the classes of the fraction of its images that are predicted as such; 0 for a class without
            images.
        macro_f1: mean over the classes of F1, the harmonic mean of the class's precision and recall.
        balanced_accuracy: mean recall of the classes that have images.
        macro_auc: mean over the classes of the area under the ROC curve of the class against the rest; None where a
            class has no image, since its curve does not exist then.
        f1_per_class: F1 of each class, in class-index order.
        confusion: images by true class (rows) and predicted class (columns).
    """

    accuracy: float
    precision: float
    recall: float
    macro_f1: float
    balanced_accuracy: float
    macro_auc: float | None
    f1_per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The scores by name, in plain values that JSON can hold."""
        return asdict(self) | {
            "f1_per_class": list(self.f1_per_class),
            "confusion": [list(row) for row in self.confusion],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """The inverse of `to_dict`."""
        return cls(
            **dict(values)
            | {
                "f1_per_class": tuple(values["f1_per_class"]),
                "confusion": tuple(tuple(row) for row in values["confusion"]),
            }
        )

    def selected(self, selector: str) -> float:
        """The score to choose by.

        Args:
            selector: one of `SELECTORS`.

        Raises:
            DataError: it is `macro_auc` and a class had no image.
        """
        chosen: float | None = getattr(self, selector)
        if chosen is None:
            raise DataError(f"{selector}: not defined, since a class has no image; expected every class in the split")
        return chosen


def score(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> Scores:
    """Score predicted probabilities against true classes; scikit-learn does the arithmetic.

    Args:
        probabilities: shape ``(N, K)``, a row per image; the first most probable class is the prediction.
        targets: class indices in ``[0, K)``, shape ``(N,)``.

    Raises:
        DataError: there is no image, the shapes do not fit each other, or a target is out of its range.
        DivergedError: a probability is infinite or not a number.
    """
    _check(probabilities, targets)
    classes = np.arange(probabilities.shape[1])
    predictions = probabilities.argmax(axis=1)
    precisions, recalls, f1s, images = precision_recall_fscore_support(
        targets, predictions, labels=classes, average=None, zero_division=0
    )
    present = images > 0
    return Scores(
        accuracy=float(accuracy_score(targets, predictions)),
        precision=float(precisions.mean()),
        recall=float(recalls.mean()),
        macro_f1=float(f1s.mean()),
        balanced_accuracy=float(recalls[present].mean()),
        macro_auc=_macro_auc(probabilities, targets) if present.all() else None,
        f1_per_class=tuple(f1s.tolist()),
        confusion=tuple(tuple(row) for row in confusion_matrix(targets, predictions, labels=classes).tolist()),
    )


def _macro_auc(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> float:
    one_hot = np.eye(probabilities.shape[1], dtype=np.int64)[targets]
    return float(roc_auc_score(one_hot, probabilities, average="macro"))


def _check(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> None:
    if probabilities.ndim != 2 or probabilities.shape[0] < 1 or probabilities.shape[1] < 2:
        raise DataError(
            f"probabilities: shape is {probabilities.shape}, expected (N, K) with at least 1 image and 2 classes"
        )
    if targets.shape != probabilities.shape[:1]:
        raise DataError(f"targets: shape is {targets.shape}, expected ({probabilities.shape[0]},), one per image")
    if targets.min() < 0 or targets.max() >= probabilities.shape[1]:
        raise DataError(
            f"targets: classes run from {targets.min()} to {targets.max()}, expected 0 to {probabilities.shape[1] - 1}"
        )
    if not np.isfinite(probabilities).all():
        raise DivergedError("probabilities: some are infinite or not a number; the model has diverged")
