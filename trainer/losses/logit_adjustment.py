"""Logit adjustment."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer.losses.base import ShiftedCrossEntropy
from trainer.losses.checks import checked_counts, checked_number


class LogitAdjustmentLoss(ShiftedCrossEntropy):
    """Cross-entropy of z + τ log(n_j / N) (Menon et al., "Long-tail learning via logit adjustment", 2021, Eq. 10).

    With τ = 1 this is balanced softmax.

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        tau: strength of the adjustment; 0 is plain cross-entropy.

    Raises:
        LossError: a class is empty, or `tau` is negative.
    """

    def __init__(self, class_counts: Sequence[int], tau: float = 1.0) -> None:
        counts = checked_counts(class_counts)
        strength = checked_number("tau", tau, low=0)
        total = sum(counts)
        super().__init__(counts, [strength * math.log(count / total) for count in counts])
