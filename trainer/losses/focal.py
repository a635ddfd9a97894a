"""Focal loss, balanced by the margins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.losses.base import ClassificationLoss, cross_entropy
from trainer.losses.checks import checked_number
from trainer.losses.margins import class_margins


class FocalLoss(ClassificationLoss):
    """The plain mean of m_y (1 − p_y)^γ (−log p_y), with the margins for α_t (paper Eqs. 4 and 7).

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        max_margin: margin of the rarest class, above 0.
        gamma: γ, how strongly samples that are already right are played down; 0 does not.

    Raises:
        LossError: a class is empty, or a figure is out of its range.
    """

    margins: Tensor

    def __init__(self, class_counts: Sequence[int], max_margin: float = 0.5, gamma: float = 1.5) -> None:
        super().__init__(class_counts)
        self.gamma = checked_number("gamma", gamma, low=0)
        margins = class_margins(class_counts, max_margin, dtype=torch.float64)
        self.register_buffer("margins", margins, persistent=False)

    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the samples.

        Where γ is below 1, 1 − p_y is kept off 0, where its γ-th power has no finite slope.
        """
        surprises = cross_entropy(logits, targets, reduction="none")
        misses = -torch.expm1(-surprises)
        if self.gamma < 1:
            misses = misses.clamp(min=torch.finfo(logits.dtype).tiny)
        margins = self.margins.to(logits.dtype)[targets]
        return (misses**self.gamma * surprises * margins).mean()
