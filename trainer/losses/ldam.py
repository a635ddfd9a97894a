"""Label-distribution-aware margin loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.config import VARIANTS
from trainer.errors import LossError
from trainer.losses.base import ClassificationLoss, true_log_probabilities, weighted_mean
from trainer.losses.checks import checked_number
from trainer.losses.margins import class_margins

REFERENCE_SCALE = 30.0
"""Factor on the logits in the `reference` variant, where none is given."""


class LDAMLoss(ClassificationLoss):
    """Cross-entropy of logits whose true class had to give up its margin first (paper Eqs. 4 and 5).

    With u = z, less the margin m_y on the true class only, the two variants are

    - `reference`, as the loss's authors ran it: cross-entropy of scale · u under the class weights m_j, as a weighted
      mean;
    - `equations`, as the paper writes it: the plain mean of the cross-entropy of u.

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        max_margin: margin of the rarest class, in logit units, above 0.
        scale: factor on u, above 0; 30 where it is left out. Only the reference variant has one.
        variant: `reference` or `equations`.

    Raises:
        LossError: a class is empty, a figure is out of its range, the variant is unknown, or `equations` was given a
            scale.
    """

    margins: Tensor

    def __init__(
        self,
        class_counts: Sequence[int],
        max_margin: float = 0.5,
        scale: float | None = None,
        variant: str = "reference",
    ) -> None:
        super().__init__(class_counts)
        if variant not in VARIANTS:
            raise LossError(f"variant: value is {variant!r}, expected one of {', '.join(VARIANTS)}")
        if variant == "equations" and scale is not None:
            raise LossError(f"scale: value is {scale!r}, expected none, since the variant equations has no scale")
        self.variant = variant
        self.scale = checked_number("scale", REFERENCE_SCALE if scale is None else scale, low=0, above=True)
        margins = class_margins(class_counts, max_margin, dtype=torch.float64)
        self.register_buffer("margins", margins, persistent=False)

    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy behind the margins, weighted by them in the reference variant."""
        margins = self.margins.to(logits.dtype)[targets]
        classes = torch.arange(self.num_classes, device=logits.device)
        is_true = targets.unsqueeze(1) == classes
        shifted = torch.where(is_true, logits - margins.unsqueeze(1), logits)
        if self.variant == "equations":
            return -true_log_probabilities(shifted, targets).mean()
        return weighted_mean(-true_log_probabilities(self.scale * shifted, targets), margins)
