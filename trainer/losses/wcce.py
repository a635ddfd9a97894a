"""Cross-entropy weighted by inverse class frequency."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.losses.base import WeightedCrossEntropy
from trainer.losses.checks import checked_counts


class InverseFrequencyLoss(WeightedCrossEntropy):
    """Cross-entropy with the weights N / (K n_j) (paper Eq. 2), as PyTorch's weighted mean.

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        counts = checked_counts(class_counts)
        super().__init__(counts, [sum(counts) / (len(counts) * count) for count in counts])
