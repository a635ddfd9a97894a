"""From decoded images to training batches on the device.

What a batch holds depends on the trial's seed, the epoch and the split alone, never on how a trial came to this epoch:
that lets an interrupted epoch go on at the batch where it stopped.
"""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

Source = Literal["resident", "prefetched", "direct"]
A = TypeVar("A")
B = TypeVar("B")

RESIDENT_SHARE = 0.25
"""Images are kept on a GPU where they take at most this share of its free memory."""

_COLOUR_RANGE = 0.2
_LUMA = (0.299, 0.587, 0.114)


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

    Turns are quarter turns: they need no interpolation, which would soften the image, and leave no corners that a
    border would have to be invented for.

    Args:
        count: images in the dataset, all splits together, so that a row belongs to an image whatever the order.
        seed: the trial's seed.
        epoch: 1-based epoch.

    Returns:
        float32, shape ``(count, 6)``, on the CPU: flip left-right, flip up-down and swap axes (each 0 or 1, which
        together give all flips and quarter turns with equal chance), then factors of contrast, brightness and
        saturation, each in [0.8, 1.2].
    """
    table = torch.rand((count, 6), generator=_generator(seed, epoch, "augment"))
    table[:, :3] = (table[:, :3] < 0.5).float()
    table[:, 3:] = 1 + _COLOUR_RANGE * (2 * table[:, 3:] - 1)
    return table


def augment(raw: Tensor, rows: Tensor) -> Tensor:
    """Apply the rows of an augmentation table to a batch of square images.

    An image comes out the same bit for bit in any batch and with any number of threads on a CPU: its mean is taken
    over integers, and all else is computed value by value.

    Args:
        raw: uint8, shape ``(n, size, size, 3)``.
        rows: one row of the table per image, shape ``(n, 6)``, on the same device.

    Returns:
        float32, shape ``(n, 3, size, size)``, channels last in memory: flipped left-right, then up-down, then with
        axes swapped; contrast spread around the image's mean; brightness; saturation as distance from the grey of the
        same luma (ITU-R BT.601). Cut to [0, 1] at the end.
    """
    left_right, up_down, swap = (rows[:, column].bool().view(-1, 1, 1, 1) for column in range(3))
    contrast, brightness, saturation = (rows[:, column].view(-1, 1, 1, 1) for column in range(3, 6))
    mean = raw.sum(dim=(1, 2, 3)).double().div(255 * raw[0].numel()).float().view(-1, 1, 1, 1)
    raw = torch.where(left_right, raw.flip(2), raw)
    raw = torch.where(up_down, raw.flip(1), raw)
    raw = torch.where(swap, raw.transpose(1, 2), raw)
    pixels = _scale(raw)
    pixels.sub_(mean).mul_(contrast).add_(mean).mul_(brightness)
    red, green, blue = pixels.chunk(3, dim=1)
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return pixels.sub_(grey).mul_(saturation).add_(grey).clamp_(0, 1)


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to a device, on a GPU without waiting for what it still computes.

    Args:
        values: any tensor that is not changed afterwards.
        device: where to.
    """
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


class Batches:
    """Gather images and labels by index into batches on the training device.

    Where the images are read from depends on the device, and never changes a bit of a batch:

    - ``resident``: all of them are copied to the device once. The choice on a GPU where they take at most a quarter of
      its free memory.
    - ``prefetched``: a thread reads the next two batches into pinned memory and copies them on a stream of its own, so
      that training waits for no disk. The choice on a GPU otherwise.
    - ``direct``: each batch is read when its turn comes. The choice on a CPU, whose cores training needs itself: a
      thread costs each batch one more copy (5 ms for 32 images of 224 x 224), for ever, and could save no more than
      the wait for the disk in the first epoch (20 to 30 ms, beside 500 ms for training on them with the smallest
      model).
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        device: torch.device,
        *,
        statistics: tuple[Sequence[float], Sequence[float]] | None = None,
        source: Source | None = None,
    ) -> None:
        """Prepare the gathering.

        Args:
            images: uint8, shape ``(N, size, size, 3)``; may be a read-only memory map.
            labels: int64, shape ``(N,)``.
            device: where batches are made.
            statistics: per-channel mean and standard deviation on the [0, 1] scale to normalise with, or None for none.
            source: where images are read from; None chooses.
        """
        self._images = np.asarray(images)
        self._device = device
        self._labels = torch.from_numpy(np.array(labels, dtype=np.int64)).to(device)
        self._statistics: tuple[Tensor, Tensor] | None = None
        if statistics is not None:
            mean, deviation = (torch.tensor(list(values)).view(1, 3, 1, 1).to(device) for values in statistics)
            self._statistics = (mean, deviation)
        self._source = source or _choose_source(images.nbytes, device)
        self._resident = _upload(self._images, device) if self._source == "resident" else None

    def iterate(
        self, indices: np.ndarray, slices: Sequence[slice], table: Tensor | None = None
    ) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Make batches one after the other; on a GPU without waiting for it.

        Close the generator, as `contextlib.closing` does: that ends its thread where a loop is left early.

        Args:
            indices: int64 image indices, shape ``(n,)``.
            slices: which of the indices are in each batch.
            table: an augmentation table on the device, or None for none.

        Yields:
            float32 pixels, shape ``(batch, 3, size, size)``, channels last in memory, on the [0, 1] scale or
            normalised, and int64 labels, shape ``(batch,)``.
        """
        order = send(torch.from_numpy(indices), self._device)
        with closing(self._read(indices, order, slices)) as read:
            for part, raw in zip(slices, read, strict=True):
                yield self._finish(raw, order[part], table)

    def _read(self, indices: np.ndarray, order: Tensor, slices: Sequence[slice]) -> Generator[Tensor, None, None]:
        """Bring the uint8 images of each batch to the device, shape ``(batch, size, size, 3)``."""
        if self._resident is not None:
            for part in slices:
                yield self._resident.index_select(0, order[part])
        elif self._source == "direct":
            for part in slices:
                yield torch.from_numpy(self._images[indices[part]]).to(self._device)
        else:
            batches = [indices[part] for part in slices]
            sender = _Sender(self._images, self._device, max(map(len, batches), default=0))
            with closing(_ahead(sender.send, batches)) as sent:
                for raw, arrived in sent:
                    if arrived is not None:
                        stream = torch.cuda.current_stream(self._device)
                        stream.wait_event(arrived)
                        raw.record_stream(stream)
                    yield raw

    def _finish(self, raw: Tensor, where: Tensor, table: Tensor | None) -> tuple[Tensor, Tensor]:
        pixels = _scale(raw) if table is None else augment(raw, table[where])
        if self._statistics is not None:
            mean, deviation = self._statistics
            pixels = pixels.sub_(mean).div_(deviation)
        return pixels, self._labels[where]


class _Sender:
    """Copies images by index into one of two buffers in turn, and from there to the device; used by one thread.

    Args:
        images: uint8, shape ``(N, size, size, 3)``.
        device: where to send them.
        most: images of the largest batch.
    """

    def __init__(self, images: np.ndarray, device: torch.device, most: int) -> None:
        self._images = images
        self._device = device
        self._stream = _copy_stream(device) if device.type == "cuda" else None
        pinned = self._stream is not None
        shape = (most, *images.shape[1:])
        self._buffers = [torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        self._left: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

    def send(self, indices: np.ndarray) -> tuple[Tensor, torch.cuda.Event | None]:
        """Send one batch.

        Args:
            indices: int64 image indices, shape ``(n,)``.

        Returns:
            The images, uint8, shape ``(n, size, size, 3)``; on a GPU, they may be used after the event.
        """
        self._turn = 1 - self._turn
        left = self._left[self._turn]
        if left is not None:
            left.synchronize()
        buffer = self._buffers[self._turn][: len(indices)]
        for row, index in zip(buffer.numpy(), indices.tolist(), strict=True):
            row[...] = self._images[index]
        if self._stream is None:
            return buffer.clone(), None
        with torch.cuda.stream(self._stream):
            raw = buffer.to(self._device, non_blocking=True)
        self._left[self._turn] = sent = self._stream.record_event()
        return raw, sent


def _ahead(work: Callable[[A], B], items: Iterable[A], depth: int = 2) -> Generator[B, None, None]:
    """Do `work` on items in a thread, up to `depth` items ahead of the one in use; closing ends the thread.

    An error of `work` is raised where its result would have come.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(thread.submit(work, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def _scale(raw: Tensor) -> Tensor:
    """Make float32 of ``raw / 255``, channels first in shape and last in memory."""
    return raw.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last).div_(255)


def _generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """Make a generator of its own for each seed, epoch and purpose."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _choose_source(size: int, device: torch.device) -> Source:
    """Choose where `size` bytes of images are read from, beside a model in training."""
    if device.type != "cuda":
        return "direct"
    return "resident" if size <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0] else "prefetched"


@functools.cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream a device for all trials: memory that was allocated on it serves it again, and no other stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _upload(images: np.ndarray, device: torch.device, rows: int = 256) -> Tensor:
    """Copy all images to the device, some at a time so that a memory map is not read whole into memory."""
    copy = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), rows):
        copy[start : start + rows] = torch.from_numpy(np.array(images[start : start + rows])).to(device)
    return copy
