"""The margins that LDAM, the focal half and so LMF are built on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.losses.checks import checked_counts, checked_number


def class_margins(
    class_counts: Sequence[int], max_margin: float = 0.5, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Label-distribution-aware margins, larger for rarer classes (paper Eq. 4).

    The margin of class j is C / n_j^(1/4), with C such that the rarest class gets `max_margin`.

    Args:
        class_counts: training images per class, in class-index order, each at least 1.
        max_margin: the rarest class's margin, in logit units, above 0.
        dtype: the type to give them in.

    Returns:
        Margins, shape ``(num_classes,)``.

    Raises:
        LossError: a class is empty, so its margin would be infinite; or `max_margin` is not above 0.
    """
    counts = checked_counts(class_counts)
    largest = checked_number("max_margin", max_margin, low=0, above=True)
    return torch.tensor([largest * (min(counts) / count) ** 0.25 for count in counts], dtype=dtype)
