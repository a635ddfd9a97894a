"""A model with what moves it: loss, optimiser, learning rate and precision; one batch at a time.

It knows nothing of epochs, checkpoints or whoever asks it to stop: that is `trainer.train`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.config import AUTO, Recipe, TrialConfig
from trainer.data.batches import Batches
from trainer.errors import RecipeError
from trainer.losses import LMFLoss, build_loss
from trainer.models import build_model, input_statistics

HALF_NAMES = ("ldam", "focal", "ldam_gradient", "focal_gradient")
"""What a step of LMF tells of its two halves: their values, and the norms of their gradients at the logits."""

EVALUATION_BATCHES = 2
"""How many batches' images are predicted at a time."""

_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
        weights_folder: where pretrained weights lie that were fetched before, see `trainer.models`.

    Raises:
        TrainerError: the loss or the model cannot be built.
        RecipeError: the recipe's precision is still to be chosen.
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
        weights_folder: Path | None = None,
    ) -> None:
        if config.recipe.precision == AUTO:
            raise RecipeError("precision: auto is to be replaced before anything is trained; choose one of its values")
        recipe = config.recipe if pretrained else replace(config.recipe, weights="none", weights_sha256=None)
        self._recipe = recipe
        self._device = device
        self._criterion = build_loss(config.loss, class_counts, **config.loss_hyperparameters())
        self._criterion.to(device, torch.float32)
        self._model = build_model(recipe, len(class_counts), weights_folder)
        self._model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward: Callable[[Tensor], Tensor] = self._model
        if recipe.compile:
            # What a batch is computed with must depend neither on which sizes came before it nor on earlier trials.
            torch.compiler.reset()
            self._forward = torch.compile(self._model, dynamic=False)
        statistics = input_statistics(self._model) if recipe.normalize else None
        self._batches = Batches(images, labels, device, statistics=statistics)
        self._optimizer = torch.optim.Adam(
            self._model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What `train_batch` returns: `loss`, and for LMF `HALF_NAMES` behind it."""
        return ("loss", *HALF_NAMES) if isinstance(self._criterion, LMFLoss) else ("loss",)

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
        if not self._model.training:
            self._model.train()
        self._optimizer.zero_grad()
        with self._autocast():
            outputs = self._forward(pixels)
        logits = outputs.float() if outputs.dtype in _AUTOCAST_TYPES.values() else outputs
        # Scaled at the logits, where the loss's own gradient is known already, and not at the loss.
        losses, gradient = self._losses_at(logits.detach().requires_grad_(), targets)
        logits.backward(self._scaler.scale(gradient))  # type: ignore[no-untyped-call]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return losses

    def _losses_at(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The losses named by `loss_names` at logits that the model is cut off from, and the loss's gradient there.

        LMF's halves are differentiated one by one: that costs no more than their sum, and tells how much of the
        gradient comes from each.
        """
        if not isinstance(self._criterion, LMFLoss):
            loss = self._criterion(logits, targets)
            (gradient,) = torch.autograd.grad(loss, logits)
            return loss.detach().reshape(1), gradient
        halves = self._criterion.halves(logits, targets)
        gradients = [torch.autograd.grad(half, logits)[0] for half in halves]
        weights = (self._criterion.alpha, self._criterion.beta)
        ldam, focal = (half.detach() for half in halves)
        norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
        losses = torch.stack((weights[0] * ldam + weights[1] * focal, ldam, focal, *norms))
        return losses, weights[0] * gradients[0] + weights[1] * gradients[1]

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
        size = EVALUATION_BATCHES * self._recipe.batch_size
        slices = [slice(start, start + size) for start in range(0, len(indices), size)]
        logits, targets = [], []
        with torch.inference_mode(), closing(self._batches.iterate(indices, slices)) as batches:
            for pixels, labels in batches:
                with self._autocast():
                    logits.append(self._forward(pixels).float())
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
