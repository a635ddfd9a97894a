"""What a training reports: one value per epoch, and one at its end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.config import SELECTORS
from trainer.metrics import Scores

EPOCH_SCORES = ("accuracy", "precision", "recall", *SELECTORS)
"""The validation scores that are kept of every epoch: all that may choose one, and three that are only told."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch of a trial.

    Attributes:
        epoch: 1-based.
        train_loss: mean of the batches' losses, each weighted by its images, as they were while training.
        val_loss: the loss over the whole validation set.
        lr: the learning rate of this epoch.
        images_per_second: training images per second of training, without validation.
        seconds: training and validation, without the time between an interruption and its continuation.
        val: the validation scores named in `EPOCH_SCORES`, as in `trainer.metrics.Scores`: None where the score needs
            images of every class, and one is absent.
        halves: for LMF, means over the epoch's images of its two unweighted halves, `ldam` and `focal`, and of the
            norms of their gradients at a batch's logits, `ldam_gradient` and `focal_gradient`; otherwise None.
        warnings: what this epoch gave reason to warn of, one line each.
    """

    epoch: int
    train_loss: float
    val_loss: float
    lr: float
    images_per_second: float
    seconds: float
    val: dict[str, float | None]
    halves: dict[str, float] | None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, in values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EpochResult:
        """Make the result again from what `to_dict` returned."""
        return cls(**dict(values) | {"warnings": tuple(values["warnings"])})


@dataclass(frozen=True, eq=False)
class TrialResult:
    """A finished trial: its best epoch by validation, tested once.

    Attributes:
        best_epoch: 1-based epoch with the best selected validation score; the earliest on a tie.
        val: its scores on the validation images.
        test: its scores on the test images.
        val_probabilities: float32, shape ``(n_val, num_classes)``, rows in the order of `split.val`.
        test_probabilities: float32, shape ``(n_test, num_classes)``, rows in the order of `split.test`.
        weights_sha256: `weights_digest(best_state)`.
        history: every epoch, in order.
        resumed_from: epochs that an earlier attempt had completed, 0 where none had.
        best_state: the model's state of the best epoch, on the CPU.
    """

    best_epoch: int
    val: Scores
    test: Scores
    val_probabilities: np.ndarray
    test_probabilities: np.ndarray
    weights_sha256: str
    history: tuple[EpochResult, ...]
    resumed_from: int
    best_state: dict[str, Tensor]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the epochs gave reason to warn of, in their order."""
        return tuple(line for epoch in self.history for line in epoch.warnings)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """Hash a model's state: names, types, shapes and bytes, in the order of the names.

    Args:
        state: a state dict; its tensors' device and memory layout do not matter.

    Returns:
        SHA-256, hexadecimal.
    """
    sha256 = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()
