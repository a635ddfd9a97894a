"""A study's images: found, split, decoded, and known again by every worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.planning import DatasetFacts
from storage.queries import StudyRecord
from study.errors import StudyError
from study.home import Home
from study.spec import StudySpec
from trainer.data.cache import Prepared, open_prepared, prepare
from trainer.data.catalog import open_dataset
from trainer.data.dataset import ImageDataset, Labels
from trainer.data.fingerprint import content_fingerprint
from trainer.data.leakage import group_leakage
from trainer.data.split_file import read_split_file
from trainer.data.splits import PART_NAMES, Split, class_counts, split_dataset, split_fingerprint
from trainer.errors import DataError

Report = Callable[[str, int, int], None]
"""Told of slow work: what is done, how much of it, and of how much."""


@dataclass(frozen=True, eq=False)
class StudyImages:
    """A study's decoded images and their split.

    Attributes:
        prepared: the decoded images.
        split: which of them are for what.
    """

    prepared: Prepared
    split: Split


def find_images(spec: StudySpec) -> tuple[ImageDataset, Split]:
    """The dataset of a study and its split, no image read yet.

    Raises:
        DataError: the dataset cannot be found or used, or a class is too small to be in every part of the split.
    """
    dataset = open_dataset(spec.dataset, spec.data, group=spec.group, drop_empty=spec.drop_empty)
    if spec.split_file is not None:
        return dataset, read_split_file(spec.split_file, dataset)
    return dataset, split_dataset(dataset, spec.split_seed)


def load_images(spec: StudySpec, home: Home, report: Report | None = None) -> DatasetFacts:
    """Read, check and decode the images of a study, or find them decoded.

    Args:
        spec: the study.
        home: where decoded images are kept.
        report: told of progress.

    Returns:
        What the database keeps of them.

    Raises:
        DataError: images or labels cannot be used, or the cache cannot be written.
    """
    dataset, split = find_images(spec)
    prepared = prepare_images(dataset, spec.recipe.image_size, home, exact=spec.recipe.exact, report=report)
    return DatasetFacts(
        title=spec.title,
        fingerprint=prepared.fingerprint,
        split_fingerprint=split_fingerprint(split, dataset.image_names),
        class_names=dataset.class_names,
        counts=split_counts(dataset.labels, split, len(dataset.class_names)),
        parts=split.to_letters(),
        leakage=[leakage.to_dict() for leakage in group_leakage(dataset, split)],
    )


def prepare_images(
    dataset: ImageDataset,
    size: int,
    home: Home,
    *,
    exact: bool = False,
    verify: bool = False,
    report: Report | None = None,
) -> Prepared:
    """The decoded images of a dataset, decoded now where they are not yet.

    Args:
        dataset: whose images.
        size: side of the decoded images in pixels.
        home: where decoded images are kept.
        exact: decode JPEGs at their full size.
        verify: read what was decoded before to the last pixel, and decode it again if it is damaged.
        report: told of progress.

    Raises:
        DataError: images cannot be used, or the cache cannot be written.
    """
    workers = available_cores()
    told = report or (lambda what, done, total: None)
    fingerprint = content_fingerprint(
        dataset,
        cache_dir=home.cache,
        workers=workers,
        progress=lambda done, total: told("reading images", done, total),
    )
    return prepare(
        dataset,
        size,
        home.cache,
        fingerprint=fingerprint,
        exact=exact,
        workers=workers,
        verify=verify,
        progress=lambda done, total: told("decoding images", done, total),
    )


def load_planned_images(record: StudyRecord, parts: str, spec: StudySpec, home: Home) -> StudyImages:
    """The images of a planned study, for a worker: from the cache where it has them, else from the data.

    Args:
        record: the study as it is stored.
        parts: its split, as `Split.to_letters` gives it.
        spec: its description.
        home: where decoded images are kept.

    Raises:
        StudyError: the images here are not those that the study was planned with.
        DataError: images cannot be used.
    """
    recipe = spec.recipe
    prepared = open_prepared(home.cache, record.fingerprint, recipe.image_size, recipe.exact)
    if prepared is None:
        prepared = _prepare_planned(record, spec, home)
    split = Split.from_letters(parts)
    if split_fingerprint(split, prepared.image_names) != record.split_fingerprint:
        raise StudyError(f"study {record.name}: its stored split is damaged; plan it anew under another name (--study)")
    return StudyImages(prepared, split)


def _prepare_planned(record: StudyRecord, spec: StudySpec, home: Home) -> Prepared:
    """Decode the images of a planned study where they lie on this machine, which may be elsewhere than planned."""
    problems = []
    for dataset_name, place in data_places(spec.dataset, spec.data):
        try:
            dataset = open_dataset(dataset_name, place, drop_empty=spec.drop_empty)
            fingerprint = content_fingerprint(dataset, cache_dir=home.cache, workers=available_cores())
        except DataError as error:
            problems.append(str(error))
            continue
        if fingerprint == record.fingerprint:
            return prepare_images(dataset, spec.recipe.image_size, home, exact=spec.recipe.exact)
        counts = class_totals(dataset.labels, dataset.class_names)
        differences = "; ".join(content_differences(record, fingerprint, counts))
        problems.insert(0, f"study {record.name} was planned with other data: {differences}")
    raise StudyError(
        f"{problems[0]}; a worker needs the images of study {record.name}: where they were planned, in a folder of "
        "LMF_DATA, or as a copy of the cache in LMF_HOME"
    )


def data_places(dataset: str, data: Path | None) -> list[tuple[str, Path | None]]:
    """Where a worker looks for a study's data: where they were planned, then in the folders of `LMF_DATA`.

    Args:
        dataset: the dataset as the study names it; `folder:` and `csv:` may hold the planned path.
        data: the planned folder or file; None where the name says it, or the dataset needs none.

    Returns:
        The dataset's name and data for each place. `LMF_DATA` may hold several folders, separated as in PATH; each may
        be the data themselves, or hold them under the name that they had where they were planned.
    """
    places: list[tuple[str, Path | None]] = [(dataset, data)]
    kind, _, path = dataset.partition(":")
    planned = data or (Path(path) if os.path.isabs(path) else None)
    if planned is None:
        return places
    roots = [Path(root).expanduser().absolute() for root in os.environ.get("LMF_DATA", "").split(os.pathsep) if root]
    for place in (place for root in roots for place in (root / planned.name, root)):
        if place.exists() and place != planned:
            places.append((dataset, place) if data else (f"{kind}:{place}", None))
    return places


def split_counts(labels: Labels, split: Split, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Images per class of each part of a split."""
    return {name: class_counts(labels, getattr(split, name), num_classes) for name in PART_NAMES}


def class_totals(labels: Labels, class_names: tuple[str, ...]) -> dict[str, int]:
    """Images per class by name."""
    found = labels.tolist()
    return {name: found.count(index) for index, name in enumerate(class_names)}


def data_differences(stored: StudyRecord, found: DatasetFacts) -> list[str]:
    """What differs between the data of a planned study and the data that were found."""
    if stored.fingerprint == found.fingerprint:
        if stored.split_fingerprint == found.split_fingerprint:
            return []
        return ["the same images are split in another way"]
    return content_differences(stored, found.fingerprint, _totals(found.class_names, found.counts))


def content_differences(stored: StudyRecord, fingerprint: str, totals: Mapping[str, int]) -> list[str]:
    """What differs between the images of a planned study and others.

    Args:
        stored: the planned study.
        fingerprint: of the other images.
        totals: how many there are of each class.
    """
    before = _totals(stored.class_names, stored.counts)
    lines = [
        f"{name}: {before.get(name, 0)} images stored, {totals.get(name, 0)} found"
        for name in sorted({*before, *totals})
        if before.get(name, 0) != totals.get(name, 0)
    ]
    return lines or [
        "images, names or labels have changed, while the number of images in each class has not "
        f"(fingerprint {stored.fingerprint[:12]} stored, {fingerprint[:12]} found)"
    ]


def available_cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _totals(class_names: tuple[str, ...], counts: Mapping[str, Any]) -> dict[str, int]:
    return {name: sum(int(part[index]) for part in counts.values()) for index, name in enumerate(class_names)}
