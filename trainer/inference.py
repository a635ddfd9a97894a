"""Predicts with an exported model, along the very path that its images went in training and test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.config import Recipe
from trainer.data.batches import Batches
from trainer.data.dataset import ImageDataset
from trainer.data.image_marks import ImageMark, mark_image
from trainer.data.images import BrokenImageError, Pixels
from trainer.data.scan import scan_some
from trainer.errors import DivergedError, ModelError, one_line
from trainer.exported import ModelDescription, read_description, read_weights
from trainer.learner import EVALUATION_BATCHES
from trainer.models import build_model
from trainer.process import set_up_process, translated_failures

Probabilities = NDArray[np.float32]

_AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model says of one image.

    Attributes:
        index: the image's index in its dataset.
        raw: the network's probability of each class, float32, shape ``(num_classes,)``.
        calibrated: the same with the logits divided by the model's temperature; None where it has none.
        mark: what the image is known by.
    """

    index: int
    raw: Probabilities
    calibrated: Probabilities | None
    mark: ImageMark

    @property
    def best(self) -> int:
        """Index of the first most probable class; the temperature does not change it."""
        return int(self.raw.argmax())


@dataclass(frozen=True)
class Unusable:
    """An image that could not be used.

    Attributes:
        index: the image's index in its dataset.
        reason: why, without the image's name.
    """

    index: int
    reason: str


@dataclass(frozen=True, eq=False)
class _Decoded:
    pixels: Pixels
    mark: ImageMark


class ExportedModel:
    """An exported model that is ready to predict.

    Attributes:
        description: what its folder says of it.
        precision: what the network is computed in: as it was trained, or float32 where this device cannot do that.
        default_batch_size: as many images at a time as the test of its training took.
    """

    def __init__(self, description: ModelDescription, network: nn.Module, device: torch.device) -> None:
        """Take a network whose weights are loaded; `open_model` is the way to one.

        Args:
            description: what is known of it.
            network: on the CPU.
            device: where to predict.
        """
        self.description = description
        self._device = device
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network.eval()
        self.precision = self._possible_precision()
        self.default_batch_size = EVALUATION_BATCHES * description.recipe.batch_size

    def predict(self, images: Pixels) -> tuple[Probabilities, Probabilities | None]:
        """Predict one batch.

        Args:
            images: uint8, shape ``(n, size, size, 3)``, red first, as `trainer.data.images.decode_image` gives them.

        Returns:
            Probabilities, float32, shape ``(n, num_classes)``: the network's own, and those that the temperature
            calibrates; None where the model has no temperature.

        Raises:
            DivergedError: the network gives something that is infinite or not a number.
            DeviceMemoryError: the device has too little memory for a batch of this size.
        """
        recipe = replace(self.description.recipe, batch_size=max(2, len(images)))
        labels = np.zeros(len(images), dtype=np.int64)
        batches = Batches(images, labels, self._device, statistics=self.description.statistics, source="direct")
        indices = np.arange(len(images))
        with (
            translated_failures(recipe, self._device),
            torch.inference_mode(),
            closing(batches.iterate(indices, [slice(0, len(images))])) as made,
        ):
            logits = torch.cat([self._logits(pixels, self.precision) for pixels, _ in made])
            raw = torch.softmax(logits, dim=1).cpu().numpy()
            temperature = self.description.temperature
            calibrated = None if temperature is None else torch.softmax(logits / temperature, dim=1).cpu().numpy()
        if not np.isfinite(raw).all():
            raise DivergedError(f"model {recipe.model}: its predictions are infinite or not a number on these images")
        return raw, calibrated

    def _logits(self, pixels: Tensor, precision: str) -> Tensor:
        dtype = _AUTOCAST_TYPES.get(precision)
        with torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None):
            logits: Tensor = self._network(pixels).float()
        return logits

    def _possible_precision(self) -> str:
        """The precision of the training, or float32 where a blank image shows that this device cannot compute it."""
        recipe = self.description.recipe
        blank = torch.zeros(1, 3, recipe.image_size, recipe.image_size, device=self._device)
        try:
            with torch.inference_mode():
                self._logits(blank, recipe.precision)
        except RuntimeError:  # a missing kernel is told in many ways
            return "fp32"
        return recipe.precision


def open_model(folder: Path, device: torch.device, threads: int | None = None) -> ExportedModel:
    """Open a model's folder in this process, whose threads and kernels it sets as they were in training.

    Args:
        folder: what `lmf export STUDY --model DIR` wrote.
        device: where to predict.
        threads: threads that the network is computed with on the processor, on which the last digits depend; None for
            as many as in training.

    Raises:
        ModelError: the folder is damaged, of another version, or of a model that this timm does not build.
        DeviceMemoryError: the device has too little memory.
    """
    description = read_description(folder)
    recipe = description.recipe
    set_up_process(recipe if threads is None else replace(recipe, threads=threads), device)
    state = read_weights(folder, description)
    with translated_failures(recipe, device):
        network = build_network(recipe, len(description.classes), state)
        return ExportedModel(description, network, device)


def build_network(recipe: Recipe, num_classes: int, state: dict[str, Tensor]) -> nn.Module:
    """Build a recipe's model, without its pretrained weights, and give it a state.

    Torch's global random state stays as it is.

    Args:
        recipe: names the model and its image size.
        num_classes: width of its head.
        state: all its weights.

    Raises:
        ModelError: timm cannot build the model, or the state is that of another one.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_model(replace(recipe, weights="none", weights_sha256=None), num_classes)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"the weights do not fit {recipe.model} with {num_classes} classes as this timm builds it: "
            f"{one_line(error)}; use the timm that the model was trained with"
        ) from None
    return network


def predict_images(
    model: ExportedModel,
    dataset: ImageDataset,
    indices: Sequence[int],
    *,
    batch_size: int | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Predicted | Unusable]:
    """Read, decode and predict images of a dataset, a batch at a time, in the order of `indices`.

    Args:
        model: what predicts.
        dataset: whose images; its labels are not looked at.
        indices: which of them.
        batch_size: images at a time, at least 1; None for as many as in the test of the model's training. Images that
            cannot be used do not count. The last digits may depend on it.
        workers: threads that read and decode.
        progress: called now and then with images read and images in all.

    Raises:
        DeviceMemoryError: the device has too little memory for a batch.
        DivergedError: the network gives something that is infinite or not a number.
    """
    recipe = model.description.recipe

    def work(index: int) -> _Decoded | BrokenImageError:
        try:
            data = dataset.read(index)
            pixels = dataset.decode(data, recipe.image_size, recipe.exact)
        except BrokenImageError as error:
            return error
        return _Decoded(pixels, mark_image(data, pixels))

    size = batch_size or model.default_batch_size
    done_before = len(dataset) - len(indices)
    told = progress and (lambda done, total: progress(done - done_before, total - done_before))
    batch: list[tuple[int, _Decoded]] = []
    with closing(scan_some(dataset, indices, work, workers=workers, progress=told)) as results:
        for index, result in chain(results, [(-1, None)]):
            if isinstance(result, BrokenImageError):
                yield Unusable(index, str(result))
            elif result is not None:
                batch.append((index, result))
            if batch and (len(batch) == size or result is None):
                yield from _predict_batch(model, batch)
                batch = []


def _predict_batch(model: ExportedModel, batch: Sequence[tuple[int, _Decoded]]) -> Iterator[Predicted]:
    raw, calibrated = model.predict(np.stack([decoded.pixels for _, decoded in batch]))
    for row, (index, decoded) in enumerate(batch):
        yield Predicted(index, raw[row], None if calibrated is None else calibrated[row], decoded.mark)
