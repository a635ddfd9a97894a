"""Label-distribution-aware margin loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.config import VARIANTS
from trainer.errors import LossError
from trainer.losses.base import ClassificationLoss, cross_entropy
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
    shifts: Tensor

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
        # Row y is what a sample of class y adds to its scaled logits: one gathering and one sum for all of a batch.
        factor = self.scale if variant == "reference" else 1.0
        self.register_buffer("shifts", torch.diag(-factor * margins), persistent=False)

    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy behind the margins, weighted by them in the reference variant."""
        shifts = self.shifts.to(logits.dtype)[targets]
        if self.variant == "equations":
            return cross_entropy(logits + shifts, targets)
        return cross_entropy(torch.add(shifts, logits, alpha=self.scale), targets, self.margins.to(logits.dtype))
