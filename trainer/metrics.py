"""Scores of a classifier on one split, as the paper reports them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    auc,
    average_precision_score,
    cohen_kappa_score,
    confusion_matrix,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_curve,
)

from trainer.config import Recipe
from trainer.errors import DataError, DivergedError, RecipeError

_PER_CLASS = (
    "f1_per_class",
    "auc_per_class",
    "average_precision_per_class",
    "sensitivity_at_specificity_per_class",
)


@dataclass(frozen=True)
class Scores:
    """What one split came to; every score lies in [0, 1], `mcc` and `kappa` in [-1, 1].

    The scores that have a default are None, or empty, where they were stored by a version that did not have them.

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
        macro_average_precision: mean over the classes of the average precision of the class against the rest; None
            where a class has no image.
        sensitivity_at_specificity: mean over the classes of the highest sensitivity of the class against the rest on
            this split's own ROC curve where the specificity is at least `specificity`; None where a class has no
            image.
        specificity: the stated specificity, above 0, at most 1.
        mcc: Matthews' correlation coefficient over all classes; 0 where every image has, or is predicted as, the same
            class.
        kappa: Cohen's kappa, unweighted; 0 where every image has and is predicted as the same class.
        auc_per_class: area under the ROC curve of each class against the rest, in class-index order; None where the
            class, or the rest, has no image.
        average_precision_per_class: average precision of each class against the rest, likewise.
        sensitivity_at_specificity_per_class: that sensitivity of each class against the rest, likewise.
    """

    accuracy: float
    precision: float
    recall: float
    macro_f1: float
    balanced_accuracy: float
    macro_auc: float | None
    f1_per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    macro_average_precision: float | None = None
    sensitivity_at_specificity: float | None = None
    specificity: float | None = None
    mcc: float | None = None
    kappa: float | None = None
    auc_per_class: tuple[float | None, ...] = ()
    average_precision_per_class: tuple[float | None, ...] = ()
    sensitivity_at_specificity_per_class: tuple[float | None, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The scores by name, in plain values that JSON can hold."""
        return (
            asdict(self)
            | {name: list(getattr(self, name)) for name in _PER_CLASS}
            | {"confusion": [list(row) for row in self.confusion]}
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """The inverse of `to_dict`; what an older version did not store is None, or empty."""
        return cls(
            **dict(values)
            | {name: tuple(values.get(name, ())) for name in _PER_CLASS}
            | {"confusion": tuple(tuple(row) for row in values["confusion"])}
        )

    def selected(self, selector: str) -> float:
        """The score to choose by.

        Args:
            selector: one of `trainer.config.SELECTORS`.

        Raises:
            DataError: the score needs images of every class, and a class had none.
        """
        chosen: float | None = getattr(self, selector)
        if chosen is None:
            raise DataError(f"{selector}: not defined, since a class has no image; expected every class in the split")
        return chosen


def score(
    probabilities: NDArray[np.floating[Any]],
    targets: NDArray[np.integer[Any]],
    specificity: float = Recipe.specificity,
) -> Scores:
    """Score predicted probabilities against true classes; scikit-learn does the arithmetic.

    Args:
        probabilities: shape ``(N, K)``, a row per image; the first most probable class is the prediction.
        targets: class indices in ``[0, K)``, shape ``(N,)``.
        specificity: at which specificity sensitivity is stated, above 0, at most 1.

    Raises:
        DataError: there is no image, the shapes do not fit each other, or a target is out of its range.
        DivergedError: a probability is infinite or not a number.
        RecipeError: the specificity is out of its range.
    """
    _check(probabilities, targets)
    if not 0 < specificity <= 1:
        raise RecipeError(f"specificity: value is {specificity!r}, expected a number above 0, at most 1")
    classes = np.arange(probabilities.shape[1])
    predictions = probabilities.argmax(axis=1)
    precisions, recalls, f1s, images = precision_recall_fscore_support(
        targets, predictions, labels=classes, average=None, zero_division=0
    )
    against_rest = [_against_rest(targets == index, probabilities[:, index], specificity) for index in classes]
    aucs, average_precisions, sensitivities = zip(*against_rest, strict=True)
    mcc, kappa = _mcc_and_kappa(targets, predictions)
    return Scores(
        accuracy=float(accuracy_score(targets, predictions)),
        precision=float(precisions.mean()),
        recall=float(recalls.mean()),
        macro_f1=float(f1s.mean()),
        balanced_accuracy=float(recalls[images > 0].mean()),
        macro_auc=_macro_mean(aucs),
        f1_per_class=tuple(f1s.tolist()),
        confusion=tuple(tuple(row) for row in confusion_matrix(targets, predictions, labels=classes).tolist()),
        macro_average_precision=_macro_mean(average_precisions),
        sensitivity_at_specificity=_macro_mean(sensitivities),
        specificity=float(specificity),
        mcc=mcc,
        kappa=kappa,
        auc_per_class=aucs,
        average_precision_per_class=average_precisions,
        sensitivity_at_specificity_per_class=sensitivities,
    )


def _against_rest(
    in_class: NDArray[np.bool_], probabilities: NDArray[np.floating[Any]], specificity: float
) -> tuple[float | None, float | None, float | None]:
    """Area under the ROC curve, average precision and sensitivity at a specificity of one class against the rest.

    Args:
        in_class: which images are of the class, shape ``(N,)``.
        probabilities: the class's probability of each image, shape ``(N,)``.
        specificity: the least specificity at which the sensitivity is taken.

    Returns:
        the three, all None where the class, or the rest, has no image.
    """
    rest = np.count_nonzero(~in_class)
    if rest in (0, in_class.size):
        return None, None, None
    # Points between two others on a line are kept: where images have equal probabilities, one may be the point sought.
    false_positive_rates, sensitivities, _ = roc_curve(in_class, probabilities, drop_intermediate=False)
    # Whole images are divided, because 1 - 0.8 is below 0.2 in floating point, and 1 / 5 is not.
    specificities = (rest - np.rint(false_positive_rates * rest)) / rest
    return (
        float(auc(false_positive_rates, sensitivities)),
        min(1.0, float(average_precision_score(in_class, probabilities))),  # a sum that rounding takes above 1
        float(sensitivities[specificities >= specificity].max()),
    )


def _macro_mean(values: Sequence[float | None]) -> float | None:
    """Mean over the classes, None where a class has no value."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _mcc_and_kappa(targets: NDArray[np.integer[Any]], predictions: NDArray[np.integer[Any]]) -> tuple[float, float]:
    if (targets == targets[0]).all() and (predictions == targets[0]).all():
        return 0.0, 0.0  # chance agrees as often, so that both are 0 / 0
    return float(matthews_corrcoef(targets, predictions)), float(cohen_kappa_score(targets, predictions))


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
