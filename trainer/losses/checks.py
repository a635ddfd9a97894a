"""What every loss demands of its arguments, said in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from operator import index

import torch
from torch import Tensor

from trainer.errors import LossError


def checked_counts(class_counts: Sequence[int]) -> tuple[int, ...]:
    """The training images per class as plain whole numbers.

    Args:
        class_counts: training images per class, in class-index order; any sequence of whole numbers, NumPy's too.

    Raises:
        LossError: fewer than two classes, an entry that is no whole number, or a class without images.
    """
    try:
        counts = tuple(index(count) for count in class_counts)
    except TypeError:
        raise LossError(f"class_counts: value is {class_counts!r}, expected a whole number per class") from None
    if len(counts) < 2:
        raise LossError(f"class_counts: {len(counts)} class(es) given, expected at least 2")
    empty = [str(position) for position, count in enumerate(counts) if count < 1]
    if empty:
        raise LossError(
            f"class_counts: no training image in class {', '.join(empty)}, expected at least 1 in each; "
            "its weight or margin would be infinite"
        )
    return counts


def checked_number(name: str, value: object, *, low: float, high: float = math.inf, above: bool = False) -> float:
    """A hyperparameter as a finite float within its range.

    Args:
        name: the hyperparameter, for the message.
        value: what was given.
        low: least value allowed.
        high: values from here on are refused.
        above: whether `low` itself is refused too.

    Raises:
        LossError: the value is no number, not finite or out of its range.
    """
    if not isinstance(value, bool) and isinstance(value, Real):
        number = float(value)
        if math.isfinite(number) and low <= number < high and not (above and number == low):
            return number
    expected = f"a finite number {'above' if above else 'from'} {low:g}"
    if high < math.inf:
        expected += f" and below {high:g}"
    raise LossError(f"{name}: value is {value!r}, expected {expected}")


def check_batch(logits: Tensor, targets: Tensor, num_classes: int) -> None:
    """Hold a batch against the shapes and types that losses take, by looking at no value in it.

    Args:
        logits: floating point, shape ``(N, num_classes)``, N at least 1.
        targets: int64 class indices, shape ``(N,)``, on the same device.
        num_classes: classes of the loss.

    Raises:
        LossError: a shape, type or device is wrong.
    """
    if logits.ndim != 2 or logits.shape[1] != num_classes or logits.shape[0] < 1:
        raise LossError(
            f"logits: shape is {tuple(logits.shape)}, expected (N, {num_classes}) with N at least 1, "
            "as many columns as the loss has classes"
        )
    if targets.shape != logits.shape[:1]:
        raise LossError(
            f"targets: shape is {tuple(targets.shape)}, expected ({logits.shape[0]},), an index per row of logits"
        )
    if not logits.is_floating_point():
        raise LossError(f"logits: type is {logits.dtype}, expected a floating-point type")
    if targets.dtype != torch.int64:
        raise LossError(f"targets: type is {targets.dtype}, expected torch.int64 class indices")
    if logits.device != targets.device:
        raise LossError(f"targets: device is {targets.device}, expected {logits.device}, where the logits are")
