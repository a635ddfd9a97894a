"""From decoded images to training batches on the device.

What a batch holds depends on the trial's seed, the epoch and the split alone, never on how a trial came to this epoch:
that lets an interrupted epoch go on at the batch where it stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_RESIDENT_SHARE = 0.25
_BRIGHTNESS = 0.2
_CONTRAST = 0.2


def epoch_order(indices: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Shuffle the training images for one epoch.

    Args:
        indices: int64 image indices, shape ``(n,)``.
        seed: the trial's seed.
        epoch: 1-based epoch.

    Returns:
        The same indices in the epoch's order, int64, shape ``(n,)``.
    """
    permutation = torch.randperm(len(indices), generator=_generator(seed, epoch, "order"))
    order: np.ndarray = np.asarray(indices, dtype=np.int64)[permutation.numpy()]
    return order


def batch_slices(count: int, batch_size: int) -> tuple[slice, ...]:
    """Cut `count` images into batches.

    A last batch of a single image is joined to the one before: batch norm cannot train on it.

    Args:
        count: images in an epoch, at least 1.
        batch_size: images per batch, at least 1.

    Returns:
        One slice per batch, in order, that together cover ``0 .. count``.
    """
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return tuple(slice(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True))


def augmentation_table(count: int, seed: int, epoch: int) -> Tensor:
    """Draw the standard augmentation of every image for one epoch.

    Args:
        count: images in the dataset, all splits together, so that a row belongs to an image whatever the order.
        seed: the trial's seed.
        epoch: 1-based epoch.

    Returns:
        float32, shape ``(count, 5)``, on the CPU: flip left-right, flip up-down and swap axes (each 0 or 1, which
        together give all flips and 90-degree rotations with equal chance), a brightness factor in [0.8, 1.2] and a
        contrast factor in [0.8, 1.2].
    """
    table = torch.rand((count, 5), generator=_generator(seed, epoch, "augment"))
    table[:, :3] = (table[:, :3] < 0.5).float()
    table[:, 3] = 1 + _BRIGHTNESS * (2 * table[:, 3] - 1)
    table[:, 4] = 1 + _CONTRAST * (2 * table[:, 4] - 1)
    return table


def augment(pixels: Tensor, rows: Tensor) -> Tensor:
    """Apply the rows of an augmentation table to a batch of square images.

    Args:
        pixels: floats in [0, 1], shape ``(n, 3, size, size)``.
        rows: one row of the table per image, shape ``(n, 5)``, on the same device.

    Returns:
        The changed images, in [0, 1], same shape and memory format.
    """
    left_right, up_down, swap = (rows[:, column].bool().view(-1, 1, 1, 1) for column in range(3))
    brightness, contrast = (rows[:, column].view(-1, 1, 1, 1) for column in (3, 4))
    pixels = torch.where(left_right, pixels.flip(3), pixels)
    pixels = torch.where(up_down, pixels.flip(2), pixels)
    pixels = torch.where(swap, pixels.transpose(2, 3), pixels)
    middle = pixels.mean(dim=(1, 2, 3), keepdim=True)
    pixels = ((pixels - middle) * contrast + middle) * brightness
    return pixels.clamp(0, 1).contiguous(memory_format=torch.channels_last)


class Batches:
    """Gather images and labels by index into batches on the training device.

    Where all images take at most a quarter of a GPU's free memory they are copied there once; otherwise each batch is
    read from `images` and sent over. On a CPU each batch is read from `images`.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
        *,
        statistics: tuple[Sequence[float], Sequence[float]] | None = None,
        resident: bool | None = None,
    ) -> None:
        """Prepare the gathering.

        Args:
            images: uint8, shape ``(N, size, size, 3)``; may be a read-only memory map.
            labels: int64, shape ``(N,)``.
            device: where batches are made.
            statistics: per-channel mean and standard deviation on the [0, 1] scale to normalise with, or None for none.
            resident: keep all images on the device; None decides by its free memory.
        """
        self._images = images
        self._device = device
        self._labels = torch.from_numpy(np.array(labels, dtype=np.int64)).to(device)
        self._statistics: tuple[Tensor, Tensor] | None = None
        if statistics is not None:
            mean, deviation = (torch.tensor(list(values)).view(1, 3, 1, 1).to(device) for values in statistics)
            self._statistics = (mean, deviation)
        if resident is None:
            resident = _fits(images.nbytes, device)
        self._resident = _upload(images, device) if resident else None

    def gather(self, indices: np.ndarray, table: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Make one batch; on a GPU without waiting for it.

        Args:
            indices: int64 image indices, shape ``(n,)``.
            table: an augmentation table on the device, or None for none.

        Returns:
            float32 pixels, shape ``(n, 3, size, size)``, channels last in memory, on the [0, 1] scale or normalised,
            and int64 labels, shape ``(n,)``.
        """
        where = torch.from_numpy(indices).to(self._device, non_blocking=True)
        if self._resident is not None:
            raw = self._resident[where]
        else:
            raw = torch.from_numpy(np.asarray(self._images[indices]))
            if self._device.type == "cuda":
                raw = raw.pin_memory()
            raw = raw.to(self._device, non_blocking=True)
        pixels = raw.permute(0, 3, 1, 2).float().div_(255)
        if table is not None:
            pixels = augment(pixels, table[where])
        if self._statistics is not None:
            mean, deviation = self._statistics
            pixels = (pixels - mean) / deviation
        return pixels, self._labels[where]


def _generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """Make a generator of its own for each seed, epoch and purpose."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _fits(size: int, device: torch.device) -> bool:
    """Tell whether `size` bytes of images can stay on the device beside a model in training."""
    return device.type == "cuda" and size <= _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def _upload(images: np.ndarray, device: torch.device, rows: int = 256) -> Tensor:
    """Copy all images to the device, some at a time so that a memory map is not read whole into memory."""
    copy = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), rows):
        copy[start : start + rows] = torch.from_numpy(np.array(images[start : start + rows])).to(device)
    return copy
