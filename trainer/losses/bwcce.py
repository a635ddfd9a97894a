"""Balanced weighted cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.losses.base import WeightedCrossEntropy
from trainer.losses.checks import checked_counts


class BalancedWeightedLoss(WeightedCrossEntropy):
    """Cross-entropy with the weights (1 − n_j / N) / (K − 1), which sum to 1 (paper Eq. 3), as a weighted mean.

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        counts = checked_counts(class_counts)
        total = sum(counts)
        super().__init__(counts, [(1 - count / total) / (len(counts) - 1) for count in counts])
