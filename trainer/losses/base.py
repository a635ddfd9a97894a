"""What all losses share: checks, the precision they compute in, and two small formulas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.losses.checks import check_batch, checked_counts

_NO_TARGET = -(2**62)


class ClassificationLoss(nn.Module, ABC):
    """A scalar loss of logits and class indices, on any device, without synchronising with the host.

    Logits of 16 bits are computed with as float32, so that autocast changes nothing here; float32 and float64 stay
    what they are. Constants per class are held as float64 buffers and rounded to the logits' type when used; move
    the loss to the logits' device (and to float32, where a device has no float64).

    Args:
        class_counts: training images per class, in class-index order, each at least 1.

    Raises:
        LossError: a class is empty, or there are fewer than two.
    """

    def __init__(self, class_counts: Sequence[int]) -> None:
        super().__init__()
        self.num_classes = len(checked_counts(class_counts))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            logits: floating point, shape ``(N, num_classes)``.
            targets: int64 class indices in ``[0, num_classes)``, shape ``(N,)``. The range is not checked here: on a
                processor PyTorch refuses others, on a GPU they are a device-side assertion.

        Returns:
            A scalar, float64 for float64 logits and float32 for all others.

        Raises:
            LossError: a shape, type or device is wrong.
        """
        return self.compute(self.prepared(logits, targets), targets)

    def prepared(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The logits, checked and in the precision to compute in."""
        check_batch(logits, targets, self.num_classes)
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits

    @abstractmethod
    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss itself, of logits that `prepared` has passed."""


class WeightedCrossEntropy(ClassificationLoss):
    """Cross-entropy under a weight per class: what losses that only differ in the weights derive from.

    The mean over a batch is weighted as PyTorch's `CrossEntropyLoss` does it: the weighted sum divided by the sum of
    the weights of the samples.

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        weights: a weight per class.
    """

    weights: Tensor

    def __init__(self, class_counts: Sequence[int], weights: Sequence[float]) -> None:
        super().__init__(class_counts)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64), persistent=False)

    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The weighted mean of −log p_y."""
        return cross_entropy(logits, targets, self.weights.to(logits.dtype))


class ShiftedCrossEntropy(ClassificationLoss):
    """Cross-entropy of logits that a constant per class was added to.

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        shifts: what is added to each class's logit.
    """

    shifts: Tensor

    def __init__(self, class_counts: Sequence[int], shifts: Sequence[float]) -> None:
        super().__init__(class_counts)
        self.register_buffer("shifts", torch.tensor(shifts, dtype=torch.float64), persistent=False)

    def compute(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean of −log p_y, with p the softmax of the shifted logits."""
        return cross_entropy(logits + self.shifts.to(logits.dtype), targets)


def cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, reduction: Literal["mean", "none"] = "mean"
) -> Tensor:
    """PyTorch's cross-entropy, without a target that means "leave this sample out".

    Args:
        logits: floating point, shape ``(N, K)``.
        targets: int64 class indices, shape ``(N,)``.
        weights: a weight per class, for a weighted mean; None for none.
        reduction: `mean`, or `none` for a value per sample.
    """
    return functional.cross_entropy(logits, targets, weights, ignore_index=_NO_TARGET, reduction=reduction)
