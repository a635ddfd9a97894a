"""The large margin aware focal loss: what this project tunes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.errors import LossError
from trainer.losses.base import ClassificationLoss
from trainer.losses.checks import checked_number
from trainer.losses.focal import FocalLoss
from trainer.losses.ldam import LDAMLoss


class LMFLoss(ClassificationLoss):
    """α · LDAM + β · focal, both of the same logits (paper Eq. 8).

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        alpha: weight of the LDAM half, at least 0.
        beta: weight of the focal half, at least 0; not both are 0.
        max_margin: margin of the rarest class, in logit units, above 0.
        scale: factor on LDAM's logits, above 0; 30 where it is left out. Only the reference variant has one.
        gamma: focusing exponent of the focal half, at least 0.
        variant: `reference` or `equations`, see `LDAMLoss`.

    Raises:
        LossError: a class is empty, a figure is out of its range, the variant is unknown, or `equations` was given a
            scale.
    """

    def __init__(
        self,
        class_counts: Sequence[int],
        alpha: float,
        beta: float,
        max_margin: float = 0.5,
        scale: float | None = None,
        gamma: float = 1.5,
        variant: str = "reference",
    ) -> None:
        super().__init__(class_counts)
        self.alpha = checked_number("alpha", alpha, low=0)
        self.beta = checked_number("beta", beta, low=0)
        if self.alpha == 0 and self.beta == 0:
            raise LossError("alpha, beta: both are 0, expected at least one above 0; nothing would be learnt")
        self.ldam = LDAMLoss(class_counts, max_margin, scale, variant)
        self.focal = FocalLoss(class_counts, max_margin, gamma)

    def halves(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves before α and β weigh them.

        Args:
            logits: floating point, shape ``(N, num_classes)``.
            targets: int64 class indices, shape ``(N,)``.

        Returns:
            The LDAM and the focal loss, both scalars, with gradients.

        Raises:
            LossError: a shape, type or device is wrong.
        """
        return self._halves(self.prepared(logits, targets), targets)

    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The weighted sum of the halves."""
        ldam, focal = self._halves(logits, targets)
        return torch.add(self.alpha * ldam, focal, alpha=self.beta)

    def _halves(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self.ldam.compute(logits, targets), self.focal.compute(logits, targets)
