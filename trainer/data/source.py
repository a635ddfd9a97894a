"""What a dataset that can be named consists of: its description, and how its images and labels are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from trainer.data.dataset import ImageDataset, first_few
from trainer.data.findings import Finding
from trainer.data.images import BrokenImageError, decode_image, read_image_file
from trainer.errors import DataError


@dataclass(frozen=True)
class Query:
    """What is asked of a source.

    Attributes:
        argument: what stands behind the colon in the dataset's name; None where there is none.
        data: the folder of the data, or a file in it.
        group: what a split is to keep together, such as `lesion` or a column of the label table.
        with_images: look for the images as well; without, the label table alone is read.
    """

    argument: str | None = None
    data: Path | None = None
    group: str | None = None
    with_images: bool = True


@dataclass(frozen=True)
class Found:
    """What a source found.

    Attributes:
        dataset: what can be used.
        findings: what is wrong, or worth knowing, of labels and files; the images' content is not looked at.
    """

    dataset: ImageDataset
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class DatasetSource:
    """A dataset that can be named.

    Attributes:
        name: its name, in front of the colon where it has an argument.
        summary: what it shows, in a few words.
        find: finds images and labels; raises `DataError` where nothing can be made of what is there.
        argument: what stands behind the colon: `PATH`, `NAME`, or nothing.
        licence: as far as known.
        origin: who published it, and how many images of what.
        download: what to download, and from where.
        groups: the kinds of group that it knows, such as `lesion`.
        needs_data: whether it has to be told where the data lie.
        takes_data: whether it can be told.
        publishes_split: whether it comes with a split of its own.
        title: a short name for studies; by default `name`.
    """

    name: str
    summary: str
    find: Callable[[Query], Found]
    argument: str = ""
    licence: str = "yours"
    origin: str = "your own images"
    download: str = "nothing"
    groups: tuple[str, ...] = ()
    needs_data: bool = True
    takes_data: bool = True
    publishes_split: bool = False
    title: Callable[[Query], str] | None = None

    @property
    def form(self) -> str:
        """How it is written, such as `folder:PATH`."""
        return f"{self.name}:{self.argument}" if self.argument else self.name


@dataclass(frozen=True)
class LabelledImage:
    """An image and what is known of it.

    Attributes:
        name: unique within the dataset.
        label: class name.
        file: where it lies; None where that was not looked for.
        groups: by kind, the group that it belongs to.
    """

    name: str
    label: str
    file: Path | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


def build_dataset(
    title: str,
    source: Path,
    class_names: Sequence[str],
    images: Iterable[LabelledImage],
    group: str | None = None,
) -> ImageDataset:
    """A dataset of image files, in the order of their names.

    Args:
        title: the dataset's short name.
        source: the folder or table that names the images, for messages.
        class_names: all classes, those without an image too.
        images: all with the same kinds of group, and all with a file or all without.
        group: the kind of group that a split is to keep together.

    Raises:
        DataError: fewer than two classes, or a name that occurs twice.
    """
    ordered = sorted(images, key=lambda image: image.name)
    twice = [name for name, count in Counter(image.name for image in ordered).items() if count > 1]
    if twice:
        raise DataError(f"{source}: names that differ only in how accents are encoded: {first_few(twice)}")
    classes = tuple(sorted(class_names))
    if len(classes) < 2:
        only = f"only the class {classes[0]!r}" if classes else "no class"
        raise DataError(f"{source} holds {only}; a classifier needs at least 2 classes")
    index = {name: position for position, name in enumerate(classes)}
    files = tuple(image.file for image in ordered if image.file is not None)
    kinds = tuple(ordered[0].groups) if ordered else ()
    return ImageDataset(
        name=title,
        class_names=classes,
        image_names=tuple(image.name for image in ordered),
        labels=np.array([index[image.label] for image in ordered], dtype=np.int64),
        read=partial(_read, files),
        decode=decode_image,
        groups={kind: tuple(image.groups[kind] for image in ordered) for kind in kinds},
        group=group,
        files=files or None,
    )


def _read(files: Sequence[Path], index: int) -> bytes:
    if not files:
        raise BrokenImageError("was not looked for")
    return read_image_file(files[index])
