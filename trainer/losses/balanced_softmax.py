"""Balanced softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer.losses.base import ShiftedCrossEntropy
from trainer.losses.checks import checked_counts


class BalancedSoftmaxLoss(ShiftedCrossEntropy):
    """Cross-entropy of z + log n_j (Ren et al., "Balanced Meta-Softmax for Long-Tailed Recognition", 2020, Eq. 4).

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        counts = checked_counts(class_counts)
        super().__init__(counts, [math.log(count) for count in counts])
