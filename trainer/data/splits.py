"""Training, validation and test parts: the same share of every class, or whole groups."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.dataset import ImageDataset, Labels
from trainer.errors import DataError

Indices = NDArray[np.int64]

HELD_OUT_PERCENT = 15
MIN_IMAGES = 4
PART_NAMES = ("train", "val", "test")
_PARTS = 3
_LETTERS = "rvt"


@dataclass(frozen=True, eq=False)
class Split:
    """Which images are trained on, validated on and tested on.

    Attributes:
        train: sorted int64 indices of images.
        val: likewise.
        test: likewise; the three share no image and hold all of them.
    """

    train: Indices
    val: Indices
    test: Indices

    @classmethod
    def of_parts(cls, part_of: NDArray[np.integer[Any]]) -> Split:
        """The split in which each image is in the part of its number: 0 training, 1 validation, 2 test."""
        train, val, test = (np.flatnonzero(part_of == part).astype(np.int64) for part in range(_PARTS))
        return cls(train, val, test)

    @classmethod
    def from_letters(cls, letters: str) -> Split:
        """Read what `to_letters` gave."""
        return cls.of_parts(np.array([_LETTERS.index(letter) for letter in letters], dtype=np.int8))

    def to_letters(self) -> str:
        """One letter an image, in the dataset's order: `r` for training, `v` for validation, `t` for test."""
        part_of = np.zeros(sum(map(len, (self.train, self.val, self.test))), dtype=np.int8)
        part_of[self.val] = 1
        part_of[self.test] = 2
        return "".join(_LETTERS[part] for part in part_of.tolist())


def stratified_split(labels: Labels, num_classes: int, seed: int, *, class_names: Sequence[str] | None = None) -> Split:
    """Split every class on its own: 15 % to validation, as many to test, halves rounded up, the rest to training.

    Args:
        labels: int64 class indices, shape ``(num_images,)``.
        num_classes: number of classes, at least 2.
        seed: chooses the images, 0 to 2**32 - 1.
        class_names: names for messages.

    Raises:
        DataError: fewer than two classes, or a class with fewer than 4 images.
    """
    _check(labels, num_classes, seed, class_names)
    random = np.random.RandomState(seed)
    part_of = np.zeros(len(labels), dtype=np.int64)
    for label, held_out in enumerate(_held_out(np.bincount(labels, minlength=num_classes))):
        shuffled = random.permutation(np.flatnonzero(labels == label))
        part_of[shuffled[:held_out]] = 1
        part_of[shuffled[held_out : 2 * held_out]] = 2
    return Split.of_parts(part_of)


def grouped_split(
    labels: Labels, groups: Sequence[str], num_classes: int, seed: int, *, class_names: Sequence[str] | None = None
) -> Split:
    """Split so that no group is in two parts, with shares of every class as near to 15 % and 15 % as can be.

    Groups are dealt one by one, those of rare classes first and large ones before small ones, each to the part where
    it lowers the chi-square distance between the parts' class counts and the wanted ones the most. A part that still
    lacks a class is served first while just enough groups of that class are left. Where every image is a group of
    its own, the counts are those of `stratified_split`.

    Args:
        labels: int64 class indices, shape ``(num_images,)``.
        groups: each image's lesion, patient or the like.
        num_classes: number of classes, at least 2.
        seed: orders groups of equal size, 0 to 2**32 - 1.
        class_names: names for messages.

    Raises:
        DataError: fewer than two classes, a class with fewer than 4 images, or one that cannot reach all three parts.
    """
    _check(labels, num_classes, seed, class_names)
    group_names, group_of = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    table = np.zeros((len(group_names), num_classes), dtype=np.int64)
    np.add.at(table, (group_of, labels), 1)
    part_of_group = _deal(table, seed)
    split = Split.of_parts(part_of_group[group_of])
    check_classes(
        split,
        labels,
        _names(num_classes, class_names),
        "split by groups: too few groups of",
        "add images of other groups, leave the class out, or split without groups",
    )
    return split


def check_classes(split: Split, labels: Labels, class_names: Sequence[str], problem: str, remedy: str) -> None:
    """Make sure that every class has an image in every part.

    Args:
        split: the split.
        labels: int64 class indices, shape ``(num_images,)``.
        class_names: in class-index order.
        problem: start of the message, before the names of the classes.
        remedy: end of the message.

    Raises:
        DataError: a class has none.
    """
    for part, indices in (("training", split.train), ("validation", split.val), ("test", split.test)):
        counts = class_counts(labels, indices, len(class_names))
        missing = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
        if missing:
            raise DataError(f"{problem} {', '.join(missing)} to have one in the {part} part as well; {remedy}")


def split_dataset(dataset: ImageDataset, seed: int | None) -> Split:
    """Split a dataset: by groups where it is asked to keep some together, else by a seed, else as it is published.

    Args:
        dataset: what to split.
        seed: chooses the images, 0 to 2**32 - 1; None for the published split.

    Raises:
        DataError: a class is too small to be in every part, or there is no published split.
    """
    names = dataset.class_names
    if seed is None:
        if dataset.published_split is None:
            raise DataError(f"{dataset.name}: is not published with a split; give --split-seed")
        split = Split.of_parts(dataset.published_split)
        check_classes(
            split, dataset.labels, names, "the published split has too few images of", "give --split-seed to deal anew"
        )
        return split
    if dataset.group is None:
        return stratified_split(dataset.labels, len(names), seed, class_names=names)
    return grouped_split(dataset.labels, dataset.groups[dataset.group], len(names), seed, class_names=names)


def class_counts(labels: Labels, indices: Indices, num_classes: int) -> tuple[int, ...]:
    """Images per class among `indices`, in class-index order, shape ``(num_classes,)``."""
    return tuple(np.bincount(labels[indices], minlength=num_classes).tolist())


def split_fingerprint(split: Split, image_names: Sequence[str]) -> str:
    """SHA-256, as 64 hexadecimal digits, over the names of the images in each part."""
    parts = [[image_names[index] for index in part.tolist()] for part in (split.train, split.val, split.test)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _held_out(counts: Indices) -> Indices:
    return (HELD_OUT_PERCENT * counts + 50) // 100


def _deal(table: Indices, seed: int) -> Indices:
    """Give each group, a row of class counts, its part: 0 training, 1 validation, 2 test."""
    totals = table.sum(axis=0)
    held_out = _held_out(totals)
    wanted = np.stack([totals - 2 * held_out, held_out, held_out])
    rarest = np.argmin(np.where(table > 0, totals, totals.sum() + 1), axis=1)
    random = np.random.RandomState(seed)
    shuffled = random.permutation(len(table))
    order = shuffled[np.lexsort((-table.sum(axis=1)[shuffled], totals[rarest][shuffled]))]
    dealt = np.zeros_like(wanted)
    left = (table > 0).sum(axis=0)
    part_of = np.zeros(len(table), dtype=np.int64)
    for group in order:
        counts = table[group]
        present = counts > 0
        cost = (((2 * (dealt - wanted) + counts) * counts) / wanted).sum(axis=1)
        lacking = dealt == 0
        urgent = present & (left <= lacking.sum(axis=0))
        served = (lacking & urgent).sum(axis=1)
        part = int(np.lexsort((cost, -served))[0])
        part_of[group] = part
        dealt[part] += counts
        left -= present
    return part_of


def _check(labels: Labels, num_classes: int, seed: int, class_names: Sequence[str] | None) -> None:
    if num_classes < 2:
        raise DataError(f"a split needs at least 2 classes, got {num_classes}")
    if not 0 <= seed < 2**32:
        raise DataError(f"the split's seed is {seed}, expected 0 to {2**32 - 1}")
    names = _names(num_classes, class_names)
    counts = np.bincount(labels, minlength=num_classes).tolist()
    small = [f"{names[label]} has {count}" for label, count in enumerate(counts) if count < MIN_IMAGES]
    if small:
        raise DataError(
            f"each class needs at least {MIN_IMAGES} images for training, validation and test, but {', '.join(small)}; "
            "add images or leave the class out"
        )


def _names(num_classes: int, class_names: Sequence[str] | None) -> Sequence[str]:
    return class_names or [f"class {label}" for label in range(num_classes)]
