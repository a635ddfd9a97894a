"""From a dataset's name on the command line to the dataset."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from trainer.data import sets
from trainer.data.dataset import ImageDataset, first_few
from trainer.data.source import DatasetSource, Found, Query
from trainer.errors import DataError

_GENERIC = ("folder", "csv")


@cache
def dataset_sources() -> dict[str, DatasetSource]:
    """Every dataset that can be named, by its name in front of the colon: those of `trainer.data.sets`."""
    modules = (
        importlib.import_module(f"{sets.__name__}.{found.name}") for found in pkgutil.iter_modules(sets.__path__)
    )
    found: list[DatasetSource] = [module.SOURCE for module in modules]
    return {source.name: source for source in sorted(found, key=lambda source: (source.name in _GENERIC, source.name))}


def find_source(name: str) -> DatasetSource:
    """The source of a dataset.

    Args:
        name: as it is written on the command line, such as `ham10000` or `folder:skin`.

    Raises:
        DataError: the name is unknown.
    """
    return _parse(name)[0]


def find_dataset(
    name: str, data: Path | None, *, group: str | None = None, with_images: bool = True, drop_empty: bool = False
) -> Found:
    """Find a dataset's images and labels, with all that is wrong with them; no image is read yet.

    Args:
        name: a name of `dataset_sources`, with its argument. A relative PATH lies below `data`, or below the current
            folder without it; `folder` and `csv` alone mean `data` itself.
        data: the folder of the data, or a table in it.
        group: what to keep together in a split, such as `lesion` or `patient`, or a column of the label table.
        with_images: look for the images; without, the label table alone is read where there is one.
        drop_empty: leave out classes that have no image.

    Raises:
        DataError: the name is unknown, or nothing can be made of what is there.
    """
    source, argument = _parse(name)
    if source.needs_data and data is None:
        raise DataError(f"{name}: nothing says where the data is; add --data DIR")
    found = source.find(Query(argument, data if source.takes_data else None, group, with_images))
    return drop_empty_classes(found) if drop_empty else found


def open_dataset(
    name: str, data: Path | None, *, group: str | None = None, with_images: bool = True, drop_empty: bool = False
) -> ImageDataset:
    """Find a dataset that can be trained on; the arguments are those of `find_dataset`.

    Raises:
        DataError: labels or files are wrong: all errors are counted and the first are named; or a class is empty.
    """
    found = find_dataset(name, data, group=group, with_images=with_images, drop_empty=drop_empty)
    refuse_errors(found)
    return found.dataset


def refuse_errors(found: Found) -> None:
    """Turn what stops a training into one error.

    Raises:
        DataError: there is such a finding; all are counted and the first are named.
    """
    errors = [finding for finding in found.findings if finding.severity == "error"]
    if not errors:
        return
    remedies = (
        [] if any(finding.kind != "empty class" for finding in errors) else ["--drop-empty leaves such classes out"]
    )
    if any(finding.kind == "row without image" for finding in errors):
        remedies.append("add the images, or remove the rows")
    text = first_few([finding.message for finding in errors], separator="; ")
    number = f"{len(errors):,} errors: " if len(errors) > 1 else ""
    raise DataError("; ".join([f"{found.dataset.name}: {number}{text}", *remedies]))


def drop_empty_classes(found: Found) -> Found:
    """What was found without the classes that have no image.

    Raises:
        DataError: fewer than two classes are left; where other errors explain that, they are named.
    """
    dataset = found.dataset
    kept = [index for index, count in enumerate(dataset.totals) if count]
    others = tuple(finding for finding in found.findings if finding.kind != "empty class")
    if len(kept) < 2:
        refuse_errors(Found(dataset, others))
        having = f"only the class {dataset.class_names[kept[0]]} has images" if kept else "no class has images"
        raise DataError(f"{dataset.name}: {having}; a classifier needs at least 2 classes")
    renumbered = np.full(len(dataset.class_names), -1, dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    names = tuple(dataset.class_names[index] for index in kept)
    smaller = replace(dataset, class_names=names, labels=renumbered[dataset.labels])
    return Found(smaller, others)


def dataset_title(name: str, data: Path | None = None) -> str:
    """A short name for studies: ``folder:/a/b/skin`` gives `skin`, ``csv:/x/ham.csv`` gives `ham`.

    Args:
        name: as `find_dataset` takes it.
        data: as `find_dataset` takes it; it gives the title where `name` has no path.

    Raises:
        DataError: the name is unknown.
    """
    source, argument = _parse(name)
    return source.title(Query(argument, data)) if source.title else source.name


def _parse(name: str) -> tuple[DatasetSource, str | None]:
    start, colon, argument = name.partition(":")
    source = dataset_sources().get(start)
    if source is None or (colon and not source.argument):
        known = ", ".join(source.form for source in dataset_sources().values())
        raise DataError(f"unknown dataset {name!r}; known are {known}")
    return source, argument or None
