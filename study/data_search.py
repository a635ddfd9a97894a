"""Finding published datasets below the folders where a user keeps them, by trying their loaders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.errors import StudyError
from study.images import split_counts
from trainer.data.catalog import find_dataset, find_source, refuse_errors
from trainer.data.splits import split_dataset
from trainer.errors import DataError

_PARTS_OF_NAMES = {
    "odir5k": "odir|ocular",
    "ham10000": "ham",
    "isic2019": "isic",
    "covid19-radiography": "covid|radiograph",
}
"""What the folder of a dataset is often called, so that it is tried first; any other folder is tried after it."""


@dataclass(frozen=True)
class DataAtHand:
    """A dataset that can be trained on.

    Attributes:
        dataset: its name.
        folder: where it lies.
        classes: how many classes it has.
        counts: images of `train`, `val` and `test`.
    """

    dataset: str
    folder: Path
    classes: int
    counts: dict[str, int]

    @property
    def images(self) -> int:
        """All its images."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class DataMissing:
    """A dataset that cannot be trained on.

    Attributes:
        dataset: its name.
        is_there: whether some of it was found.
        reason: what was looked for, or what is wrong with it.
    """

    dataset: str
    is_there: bool
    reason: str


def data_roots(data: str | None) -> tuple[Path, ...]:
    """The folder of `--data`, or else those of `LMF_DATA`, which may hold several as PATH does.

    Raises:
        StudyError: neither is given, or there is no such folder.
    """
    named = [data] if data else [root for root in os.environ.get("LMF_DATA", "").split(os.pathsep) if root]
    if not named:
        raise StudyError("--data: is missing; give the folder that holds the folders of the datasets, or set LMF_DATA")
    roots = tuple(Path(os.path.abspath(os.path.expanduser(root))) for root in named)
    for root in roots:
        if not root.is_dir():
            where = "--data" if data else "LMF_DATA"
            raise StudyError(f"{where}: {root} is no folder; expected the one that holds the folders of the datasets")
    return roots


def search_data(
    names: Iterable[str], roots: Sequence[Path], split_seed: int, drop_empty: bool = False
) -> tuple[tuple[DataAtHand, ...], tuple[DataMissing, ...]]:
    """Look for datasets below some folders; labels and file names are read, images are not.

    Args:
        names: datasets that take a folder, such as `ham10000`.
        roots: folders that hold the datasets' folders, or are such a folder.
        split_seed: seed of the split.
        drop_empty: leave out classes that have no image.

    Returns:
        Those that can be trained on, and all others with the reason, both in the order of the names.
    """
    found: list[DataAtHand] = []
    missing: list[DataMissing] = []
    for name in names:
        result = _search(name, roots, split_seed, drop_empty)
        if isinstance(result, DataAtHand):
            found.append(result)
        else:
            missing.append(result)
    return tuple(found), tuple(missing)


def _search(name: str, roots: Sequence[Path], split_seed: int, drop_empty: bool) -> DataAtHand | DataMissing:
    absent = ""
    unusable: list[str] = []
    for folder in _candidates(name, roots):
        if unusable and folder in roots:
            # Together, several folders that each hold a part would be a dataset that nobody published.
            continue
        try:
            found = find_dataset(name, folder, drop_empty=drop_empty)
        except DataError as error:
            absent = str(error)
            continue
        try:
            refuse_errors(found)
            split = split_dataset(found.dataset, split_seed)
        except DataError as error:
            unusable.append(f"{folder}: {error}")
            continue
        classes = len(found.dataset.class_names)
        counts = split_counts(found.dataset.labels, split, classes)
        return DataAtHand(name, folder, classes, {part: sum(images) for part, images in counts.items()})
    if unusable:
        return DataMissing(name, True, "; ".join(unusable))
    return DataMissing(name, False, f"{absent}; it can be had from {find_source(name).download}")


def _candidates(name: str, roots: Sequence[Path]) -> Iterator[Path]:
    """Folders that may hold a dataset: those that are called so, then the others in a root, then the root itself."""
    likely = re.compile(_PARTS_OF_NAMES.get(name, re.escape(name)), re.IGNORECASE)
    for root in roots:
        try:
            folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        except OSError as error:
            raise StudyError(f"{root}: cannot be read: {error.strerror}; expected a folder of datasets") from None
        yield from sorted(folders, key=lambda folder: likely.search(folder.name) is None)
        yield root
