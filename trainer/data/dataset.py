"""What every dataset looks like to the rest: names, labels, groups, and a way to each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import Pixels

Labels = NDArray[np.int64]
Parts = NDArray[np.int8]


class Decode(Protocol):
    """From an image's bytes to its pixels."""

    def __call__(self, data: bytes, size: int, exact: bool = False) -> Pixels:
        """Decode to uint8 pixels, shape ``(size, size, 3)``; `exact` forbids shortcuts. Raises `BrokenImageError`."""
        ...


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images that are found but not decoded yet.

    Attributes:
        name: a short name, fit for a study's name.
        class_names: the dataset's own codes, sorted; a label is an index into them.
        image_names: unique, sorted; the dataset's own names for its images, or the POSIX path below the data folder.
        labels: int64, shape ``(num_images,)``, in the order of `image_names`.
        read: from an image's index to its bytes; raises `BrokenImageError`.
        decode: from those bytes and a size to pixels.
        groups: what images show that others show as well: by kind (`lesion`, `patient`, a table's column), each
            image's group of that kind.
        group: the kind that a split is asked to keep together, a key of `groups`; None for none.
        files: where each image lies; None for images that are no files of their own.
        published_split: int8, shape ``(num_images,)``: 0 for training, 1 for validation, 2 for test, where the
            dataset is published with its split.
    """

    name: str
    class_names: tuple[str, ...]
    image_names: tuple[str, ...]
    labels: Labels
    read: Callable[[int], bytes]
    decode: Decode
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: str | None = None
    files: tuple[Path, ...] | None = None
    published_split: Parts | None = None

    def __len__(self) -> int:
        return len(self.image_names)

    @property
    def totals(self) -> tuple[int, ...]:
        """Images of each class, in class-index order."""
        return tuple(np.bincount(self.labels, minlength=len(self.class_names)).tolist())


def first_few(items: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """The first items as text, and how many more there are."""
    more = f"{separator}and {len(items) - limit:,} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + more
