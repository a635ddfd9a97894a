"""Scores in terms of a confusion matrix, for many matrices at once, and many matrices from many predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer[Any]]
Figures = NDArray[np.float64]
ConfusionScore = Callable[[Figures], Figures]
"""Takes confusion matrices `(..., K, K)`, true classes in rows, and gives a fraction for each, `(...)`."""


def accuracy(confusion: Figures) -> Figures:
    """Share of images that are classified right."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def precision(confusion: Figures) -> Figures:
    """Mean precision of the classes, 0 for one that is never predicted."""
    return _mean(_ratio(_right(confusion), confusion.sum(axis=-2)))


def recall(confusion: Figures) -> Figures:
    """Mean recall of the classes, 0 for one without images."""
    return _mean(_ratio(_right(confusion), confusion.sum(axis=-1)))


def macro_f1(confusion: Figures) -> Figures:
    """Mean F1 of the classes, 0 for one that has no image and is never predicted."""
    return _mean(_ratio(2 * _right(confusion), confusion.sum(axis=-2) + confusion.sum(axis=-1)))


def balanced_accuracy(confusion: Figures) -> Figures:
    """Mean recall of the classes that have images."""
    images = confusion.sum(axis=-1)
    return _ratio(_ratio(_right(confusion), images).sum(axis=-1), (images > 0).sum(axis=-1).astype(np.float64))


CONFUSION_SCORES: dict[str, ConfusionScore] = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "balanced_accuracy": balanced_accuracy,
}
"""By the names of `study.reporting.rows.SCORES`, with the same definitions; the other scores need probabilities."""


def confusions(truth: Labels, predictions: Labels, classes: int) -> Figures:
    """Count a confusion matrix for each row of predictions.

    Args:
        truth: true classes, shape `(N,)`, in `[0, classes)`.
        predictions: predicted classes, shape `(S, N)`, likewise.
        classes: number of classes K.

    Returns:
        Counts, shape `(S, K, K)`, true classes in rows.
    """
    rows = np.arange(len(predictions))[:, None]
    cells = (rows * classes + truth) * classes + predictions
    counts = np.bincount(cells.ravel(), minlength=len(predictions) * classes**2)
    return counts.astype(np.float64).reshape(len(predictions), classes, classes)


class Tally:
    """Adds weighted images up to confusion matrices, many weightings at once.

    Args:
        truth: true classes of P images, or kinds of images, shape `(P,)`.
        predictions: their predicted classes, shape `(S, P)`.
        classes: number of classes K.
    """

    def __init__(self, truth: Labels, predictions: Labels, classes: int) -> None:
        from scipy.sparse import csr_array

        self._shape = (len(predictions), classes, classes)
        cells = (np.arange(len(predictions))[:, None] * classes + truth) * classes + predictions
        images = np.broadcast_to(np.arange(len(truth)), cells.shape)
        size = (int(np.prod(self._shape)), len(truth))
        self._cells = csr_array((np.ones(cells.size), (cells.ravel(), images.ravel())), shape=size)

    def add(self, weights: NDArray[Any]) -> Figures:
        """The matrices of each weighting.

        Args:
            weights: how often each image counts, shape `(B, P)`.

        Returns:
            Shape `(B, S, K, K)`.
        """
        counts: Figures = self._cells @ weights.T.astype(np.float64)
        return np.moveaxis(counts.reshape(*self._shape, -1), -1, 0)


def _right(confusion: Figures) -> Figures:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _mean(by_class: Figures) -> Figures:
    return np.asarray(by_class.mean(axis=-1))


def _ratio(part: Figures, whole: Figures) -> Figures:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)
