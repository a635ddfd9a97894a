"""Short digests of the images that a model has seen, so that it is noticed when it is scored on them again.

An image is known again by its file, or, where the file was saved anew without loss or lost its metadata, by its
pixels. A mark says nothing of what the image shows.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.data.cache import open_prepared, prepared_folder
from trainer.data.cache_folder import JOURNAL
from trainer.data.images import Pixels
from trainer.data.splits import PART_NAMES, Split
from trainer.data.unfinished import journal_header, read_journal
from trainer.errors import DataError

_BYTES = 8
_LINE = re.compile(r"(train|val|test) ([0-9a-f]{16}) ([0-9a-f]{16})")
_HEADER = "# Part, and the first 64 bits of the SHA-256 of each image's file and of its decoded pixels."


@dataclass(frozen=True)
class ImageMark:
    """What an image is known by.

    Attributes:
        source: the first 16 hexadecimal digits of the SHA-256 of its file's bytes.
        pixels: the same of its decoded pixels, at the model's image size.
    """

    source: str
    pixels: str


@dataclass(frozen=True)
class KnownImages:
    """The images of a model's study.

    Attributes:
        parts: from a mark's `source`, or its `pixels`, to the part of the split: `train`, `val` or `test`. An image
            that is in several counts for the first of these.
    """

    parts: dict[str, str]

    @classmethod
    def of(cls, marked: Iterable[tuple[str, ImageMark]]) -> KnownImages:
        """Take in images with their parts."""
        parts: dict[str, str] = {}
        for part, mark in sorted(marked, key=lambda item: PART_NAMES.index(item[0])):
            parts.setdefault(mark.source, part)
            parts.setdefault(mark.pixels, part)
        return cls(parts)

    def count(self, marks: Iterable[ImageMark]) -> dict[str, int]:
        """How many of some images are known from each part; parts without any are left out."""
        found = (self.parts.get(mark.source) or self.parts.get(mark.pixels) for mark in marks)
        counts = Counter(part for part in found if part is not None)
        return {part: counts[part] for part in PART_NAMES if counts[part]}


def mark_image(data: bytes, pixels: Pixels) -> ImageMark:
    """The mark of an image, from its file's bytes and its decoded pixels."""
    return ImageMark(_short(hashlib.sha256(data).digest()), _short(_pixel_digest(pixels)))


def marks_text(cache_dir: Path, fingerprint: str, size: int, exact: bool, split: Split) -> str | None:
    """The marks of all images of a planned study, from its decoded images; None where the cache has them not.

    Args:
        cache_dir: the folder of decoded images.
        fingerprint: the dataset's content fingerprint.
        size: side of a decoded image in pixels.
        exact: whether JPEGs were decoded at their full size.
        split: which image is in which part.

    Returns:
        A text that `read_marks` reads.
    """
    prepared = open_prepared(cache_dir, fingerprint, size, exact)
    if prepared is None:
        return None
    journal_path = prepared_folder(cache_dir, fingerprint, size, exact) / JOURNAL
    journal = read_journal(journal_path, journal_header(fingerprint, size, exact))
    total = sum(len(getattr(split, part)) for part in PART_NAMES)
    if set(journal) != set(range(len(prepared.labels))) or total != len(prepared.labels):
        return None
    lines = [_HEADER]
    for part in PART_NAMES:
        for index in getattr(split, part).tolist():
            pixels = _pixel_digest(prepared.images[index])
            lines.append(f"{part} {_short(journal[index].source)} {_short(pixels)}")
    return "\n".join(lines) + "\n"


def read_marks(path: Path, sha256: str) -> KnownImages:
    """Read what `marks_text` gave.

    Args:
        path: the file.
        sha256: what it hashes to.

    Raises:
        DataError: it cannot be read, or is not as it was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}; copy the model's folder again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path}: was changed or damaged after it was written; copy the model's folder again")
    matches = (_LINE.fullmatch(line) for line in data.decode().splitlines())
    return KnownImages.of((match[1], ImageMark(match[2], match[3])) for match in matches if match)


def _pixel_digest(pixels: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()


def _short(digest: bytes) -> str:
    return digest[:_BYTES].hex()
