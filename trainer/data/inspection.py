"""One look at every image of a dataset: what cannot be used, what shows nothing, and what each looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.dataset import ImageDataset
from trainer.data.findings import Finding
from trainer.data.images import BrokenImageError, Pixels
from trainer.data.scan import scan_some

Digests = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

MIN_SIDE = 32
BLANK_DEVIATION = 1.0
DIGEST_BYTES = 32
HASH_BITS = 768
HASH_WORDS = HASH_BITS // 64

_DECODED_SIDE = 64
_HASH_SIDE = 16


@dataclass(frozen=True, eq=False)
class Inspection:
    """What looking at all images of a dataset gave.

    Attributes:
        findings: what is wrong with single images, in the dataset's order.
        digests: uint8, shape ``(num_images, 32)``: SHA-256 of each image's bytes; zeros where it cannot be used.
        hashes: uint64, shape ``(num_images, 12)``: the `perceptual_hash` of each; zeros where it cannot be used.
        usable: bool, shape ``(num_images,)``: whether it can be read and decoded.
        blank: bool, shape ``(num_images,)``: whether it shows nothing, so that its hash means nothing.
    """

    findings: tuple[Finding, ...]
    digests: Digests
    hashes: Hashes
    usable: NDArray[np.bool_]
    blank: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.usable)


@dataclass(frozen=True, eq=False)
class _Seen:
    """One image that can be used."""

    digest: bytes
    looks: Hashes
    deviation: float
    shape: tuple[int, int] | None


def inspect_images(
    dataset: ImageDataset,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    min_side: int = MIN_SIDE,
) -> Inspection:
    """Read and decode every image once, in threads, and keep some 130 bytes of each.

    Errors are what a training refuses too, by kind: `unreadable` (no file, not to be read, empty, too large, or of
    pixels without a known range), `unknown format`, `truncated` and `damaged`. Warnings are `tiny`, a shorter side
    below `min_side`, told of image files only; and `blank`: shrunk to 64 x 64, the grey levels of 0 to 255 have a
    standard deviation below `BLANK_DEVIATION`, as those of one plain colour that was compressed.

    Args:
        dataset: whose images to look at.
        workers: threads, at least 1.
        progress: called now and then with images done and images in all.
        min_side: pixels.
    """
    count = len(dataset)
    digests = np.zeros((count, DIGEST_BYTES), dtype=np.uint8)
    hashes = np.zeros((count, HASH_WORDS), dtype=np.uint64)
    usable, blank = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
    findings: list[Finding] = []
    look = partial(_look, dataset)
    for index, seen in scan_some(dataset, range(count), look, workers=workers, progress=progress):
        name = dataset.image_names[index]
        where = str(dataset.files[index]) if dataset.files else name
        if isinstance(seen, BrokenImageError):
            findings.append(Finding(_kind_of(seen), "error", f"{where} {seen}", (name,)))
            continue
        digests[index] = np.frombuffer(seen.digest, dtype=np.uint8)
        hashes[index] = seen.looks
        usable[index] = True
        blank[index] = seen.deviation < BLANK_DEVIATION
        if blank[index]:
            message = f"{where} shows nothing: the standard deviation of its grey levels is {seen.deviation:.1f} of 255"
            findings.append(Finding("blank", "warning", message, (name,)))
        if seen.shape and min(seen.shape) < min_side:
            width, height = seen.shape
            message = f"{where} is {width} x {height} pixels; the shorter side is below {min_side}"
            findings.append(Finding("tiny", "warning", message, (name,)))
    return Inspection(tuple(findings), digests, hashes, usable, blank)


def perceptual_hash(pixels: Pixels) -> Hashes:
    """A hash of what an image looks like: few of its bits change where the image is compressed or resized.

    Three hashes of `ImageHash` one after the other, of 256 bits each: `phash`, the signs of the low frequencies, and
    `dhash` across and down, whether it gets brighter from each place to the next.

    Args:
        pixels: uint8, shape ``(64, 64, 3)``.

    Returns:
        uint64, shape ``(12,)``.
    """
    grey = Image.fromarray(pixels).convert("L")
    kinds = (imagehash.phash, imagehash.dhash, imagehash.dhash_vertical)
    bits = np.concatenate([kind(grey, _HASH_SIDE).hash.ravel() for kind in kinds])
    return np.packbits(bits).view(np.uint64)


def _look(dataset: ImageDataset, index: int) -> _Seen | BrokenImageError:
    try:
        data = dataset.read(index)
        pixels = dataset.decode(data, _DECODED_SIDE)
    except BrokenImageError as error:
        return error
    deviation = float(np.asarray(Image.fromarray(pixels).convert("L")).std())
    shape = _shape_of(data) if dataset.files else None
    return _Seen(hashlib.sha256(data).digest(), perceptual_hash(pixels), deviation, shape)


def _shape_of(data: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(data)) as image:
        return image.size


def _kind_of(error: BrokenImageError) -> str:
    """The kind of a broken image; what befell the bytes, Pillow only says in words."""
    reason = str(error).lower()
    if reason.startswith("is no image"):
        return "unknown format"
    if reason.startswith("is damaged"):
        return "truncated" if "truncated" in reason else "damaged"
    return "unreadable"
