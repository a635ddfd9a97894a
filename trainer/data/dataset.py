"""What every dataset looks like to the rest: names, labels, and a way to each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.images import Pixels, decode_image, read_image_file
from trainer.errors import DataError

Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled images that are found but not decoded yet.

    Attributes:
        name: a short name, fit for a study's name.
        class_names: the dataset's own codes, sorted; a label is an index into them.
        image_names: unique, sorted; for files the POSIX path below the data folder.
        labels: int64, shape ``(num_images,)``, in the order of `image_names`.
        groups: the lesion, patient or the like that each image shows, where asked for.
        read: from an image's index to its bytes; raises `BrokenImageError`.
        decode: from those bytes and a size to uint8 pixels ``(size, size, 3)``; raises `BrokenImageError`.
    """

    name: str
    class_names: tuple[str, ...]
    image_names: tuple[str, ...]
    labels: Labels
    groups: tuple[str, ...] | None
    read: Callable[[int], bytes]
    decode: Callable[[bytes, int], Pixels]

    def __len__(self) -> int:
        return len(self.image_names)


@dataclass(frozen=True)
class LabelledFile:
    """An image file and what is known of it.

    Attributes:
        name: POSIX path below the data folder.
        path: where the file is.
        label: class name.
        group: lesion, patient or the like, where asked for.
    """

    name: str
    path: Path
    label: str
    group: str | None = None


def dataset_of_files(title: str, source: Path, files: Iterable[LabelledFile]) -> ImageDataset:
    """A dataset of image files, in the order of their names.

    Args:
        title: the dataset's short name.
        source: the folder or table that names the files, for messages.
        files: all with a group, or all without.

    Raises:
        DataError: fewer than two classes, or a name that occurs twice.
    """
    ordered = sorted(files, key=lambda file: file.name)
    twice = [name for name, count in Counter(file.name for file in ordered).items() if count > 1]
    if twice:
        raise DataError(f"{source}: file names that differ only in how accents are encoded: {first_few(twice)}")
    class_names = tuple(sorted({file.label for file in ordered}))
    if len(class_names) < 2:
        only = f"only the class {class_names[0]!r}" if class_names else "no class"
        raise DataError(f"{source} holds {only}; a classifier needs at least 2 classes")
    index = {name: position for position, name in enumerate(class_names)}
    groups = tuple(file.group for file in ordered if file.group is not None)
    return ImageDataset(
        name=title,
        class_names=class_names,
        image_names=tuple(file.name for file in ordered),
        labels=np.array([index[file.label] for file in ordered], dtype=np.int64),
        groups=groups or None,
        read=partial(_read, tuple(file.path for file in ordered)),
        decode=decode_image,
    )


def first_few(items: Sequence[str], limit: int = 5, separator: str = ", ") -> str:
    """The first items as text, and how many more there are."""
    more = f"{separator}and {len(items) - limit:,} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + more


def _read(paths: tuple[Path, ...], index: int) -> bytes:
    return read_image_file(paths[index])
