"""Categorical cross-entropy."""

from __future__ import annotations

from torch import Tensor

from trainer.losses.base import ClassificationLoss, cross_entropy


class CrossEntropyLoss(ClassificationLoss):
    """The mean of −log p_y (paper Eq. 1).

    Args:
        class_counts: training images per class; only their number matters here.
    """

    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean of −log p_y."""
        return cross_entropy(logits, targets)
