"""A model with what moves it: loss, optimiser, learning rate and precision; one batch at a time.

It knows nothing of epochs, checkpoints or whoever asks it to stop: that is `trainer.train`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.config import Recipe, TrialConfig
from trainer.data.batches import Batches
from trainer.losses import LMFLoss, build_loss
from trainer.models import build_model, input_statistics

_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_EVALUATION_BATCHES = 2


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """The learning rate of an epoch: the recipe's, times `lr_gamma` after every `lr_step_epochs` epochs.

    Args:
        recipe: its `lr`, `lr_step_epochs` and `lr_gamma` are used.
        epoch: 1-based epoch.
    """
    steps = (epoch - 1) // recipe.lr_step_epochs
    return float(recipe.lr * recipe.lr_gamma**steps)


class Learner:
    """One model in training.

    Args:
        config: recipe, loss, α and β.
        class_counts: training images per class, in class-index order.
        images: uint8, shape ``(N, size, size, 3)``, all splits.
        labels: int64 class indices, shape ``(N,)``.
        device: where everything is computed.
        pretrained: load the weights that the recipe names; False where a state is loaded over them anyway.

    Raises:
        TrainerError: the loss or the model cannot be built.
    """

    def __init__(
        self,
        config: TrialConfig,
        class_counts: Sequence[int],
        images: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
        *,
        pretrained: bool = True,
    ) -> None:
        recipe = config.recipe if pretrained else replace(config.recipe, weights="none", weights_sha256=None)
        self._recipe = recipe
        self._device = device
        self._criterion = build_loss(config.loss, class_counts, **config.loss_hyperparameters())
        self._criterion.to(device, torch.float32)
        self._model = build_model(recipe, len(class_counts))
        self._model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        statistics = input_statistics(self._model) if recipe.normalize else None
        self._batches = Batches(images, labels, device, statistics=statistics)
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What `train_batch` returns: `loss`, and for LMF its two halves behind it."""
        return ("loss", "ldam", "focal") if isinstance(self._criterion, LMFLoss) else ("loss",)

    def batches(
        self, indices: np.ndarray, slices: Sequence[slice], table: Tensor | None
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Make batches to train on; to be closed, as `Batches.iterate` says.

        Args:
            indices: int64 image indices, shape ``(n,)``.
            slices: which of the indices are in each batch.
            table: an augmentation table on the device, or None for none.

        Returns:
            The pixels and targets of each batch, in order.
        """
        return self._batches.iterate(indices, slices, table)

    def train_batch(self, pixels: Tensor, targets: Tensor) -> Tensor:
        """Take one step of the optimiser, without waiting for a GPU.

        Args:
            pixels: float32, shape ``(n, 3, size, size)``, on the device.
            targets: int64 class indices, shape ``(n,)``, on the device.

        Returns:
            The batch's losses named by `loss_names`, float32, on the device, without gradients.
        """
        self._model.train()
        with self._autocast():
            logits = self._model(pixels)
        if isinstance(self._criterion, LMFLoss):
            ldam, focal = self._criterion.halves(logits, targets)
            loss = self._criterion.alpha * ldam + self._criterion.beta * focal
            losses = torch.stack((loss, ldam, focal))
        else:
            loss = self._criterion(logits, targets)
            losses = loss.reshape(1)
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return losses.detach()

    def start_epoch(self, epoch: int) -> float:
        """Set the learning rate for an epoch, and return it.

        Args:
            epoch: 1-based epoch.
        """
        rate = learning_rate(self._recipe, epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def evaluate(self, indices: np.ndarray, after_batch: Callable[[], None]) -> tuple[np.ndarray, float]:
        """Predict images in evaluation mode; uses no random numbers and changes nothing.

        Args:
            indices: int64 image indices, shape ``(n,)``.
            after_batch: called after every batch; may raise.

        Returns:
            Class probabilities, float32, shape ``(n, num_classes)``, and the loss over all images at once.
        """
        self._model.eval()
        size = _EVALUATION_BATCHES * self._recipe.batch_size
        slices = [slice(start, start + size) for start in range(0, len(indices), size)]
        logits, targets = [], []
        with torch.inference_mode(), closing(self._batches.iterate(indices, slices)) as batches:
            for pixels, labels in batches:
                with self._autocast():
                    logits.append(self._model(pixels).float())
                targets.append(labels)
                after_batch()
            everything = torch.cat(logits)
            loss = float(self._criterion(everything, torch.cat(targets)))
            return torch.softmax(everything, dim=1).cpu().numpy(), loss

    def model_state(self) -> dict[str, Tensor]:
        """Copy the model's state to the CPU."""
        return {name: value.detach().to("cpu", copy=True) for name, value in self._model.state_dict().items()}

    def load_model_state(self, state: dict[str, Tensor]) -> None:
        """Give the model a state that `model_state` copied."""
        self._model.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint: tensors by reference and plain values."""
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to what `state_dict` returned."""
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _AUTOCAST_TYPES.get(self._recipe.precision)
        return torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None)
