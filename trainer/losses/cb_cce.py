"""Class-balanced cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer.losses.base import WeightedCrossEntropy
from trainer.losses.checks import checked_counts, checked_number


class ClassBalancedLoss(WeightedCrossEntropy):
    """Cross-entropy weighted by the inverse of the effective number of images, as a weighted mean.

    A class of n images counts as (1 − β^n) / (1 − β) images, so that more of the same counts ever less (Cui et al.,
    "Class-Balanced Loss Based on Effective Number of Samples", 2019, Eq. 2).

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        effective_beta: β, from 0 (every class weighs the same) to below 1 (towards inverse frequency).

    Raises:
        LossError: a class is empty, or `effective_beta` is out of its range.
    """

    def __init__(self, class_counts: Sequence[int], effective_beta: float = 0.9999) -> None:
        counts = checked_counts(class_counts)
        beta = checked_number("effective_beta", effective_beta, low=0, high=1)
        super().__init__(counts, [(1 - beta) / _one_minus_power(beta, count) for count in counts])


def _one_minus_power(base: float, exponent: int) -> float:
    return -math.expm1(exponent * math.log(base)) if base > 0 else 1.0
