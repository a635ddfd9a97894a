"""From a study's description to its images, its split and its planned points."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.database import Database
from storage.planning import DatasetFacts, NewPoint, plan_points, save_study
from storage.queries import StudyRecord, find_spec, list_studies, read_study
from storage.trials import TrialMirror
from study.errors import StudyError
from study.extension import Comparison, compare
from study.home import Home
from study.spec import StudySpec, points
from trainer.data.cache import Prepared, open_prepared, prepare
from trainer.data.catalog import open_dataset
from trainer.data.fingerprint import content_fingerprint
from trainer.data.splits import Split, class_counts, grouped_split, split_fingerprint, stratified_split

if TYPE_CHECKING:
    from trainer.data.dataset import ImageDataset

Report = Callable[[str, int, int], None]
"""Told of slow work: what is done, how much of it, and of how much."""


@dataclass(frozen=True, eq=False)
class StudyImages:
    """A study's decoded images and their split."""

    prepared: Prepared
    split: Split

    @property
    def split_fingerprint(self) -> str:
        """The split as one digest (hex)."""
        return split_fingerprint(self.split, self.prepared.image_names)

    def facts(self, title: str) -> DatasetFacts:
        """What the database keeps of them."""
        classes = self.prepared.class_names
        return DatasetFacts(
            title=title,
            fingerprint=self.prepared.fingerprint,
            split_fingerprint=self.split_fingerprint,
            class_names=classes,
            counts=split_counts(self.prepared.labels, self.split, len(classes)),
        )


@dataclass(frozen=True)
class PlannedStudy:
    """A study that is planned.

    Attributes:
        spec: its description as it is stored now.
        study_id: its id in the ledger.
        is_new: whether this planning made it.
        added: points that this planning added.
        additions: what of the description this planning added.
    """

    spec: StudySpec
    study_id: int
    is_new: bool
    added: int
    additions: tuple[str, ...]


def make_split(labels: Any, groups: tuple[str, ...] | None, class_names: tuple[str, ...], seed: int) -> Split:
    """The split of a study: by groups where it has them, else image by image.

    Raises:
        DataError: a class is too small to be in every part.
    """
    if groups is None:
        return stratified_split(labels, len(class_names), seed, class_names=class_names)
    return grouped_split(labels, groups, len(class_names), seed, class_names=class_names)


def split_counts(labels: Any, split: Split, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Images per class of each part of a split."""
    parts = {"train": split.train, "val": split.val, "test": split.test}
    return {name: class_counts(labels, part, num_classes) for name, part in parts.items()}


def find_dataset(spec: StudySpec) -> ImageDataset:
    """The dataset of a study, its images not yet read.

    Raises:
        DataError: it cannot be found or used.
    """
    return open_dataset(spec.dataset, spec.data, group=spec.group)


def load_images(spec: StudySpec, home: Home, report: Report | None = None) -> StudyImages:
    """Read, check and decode the images of a study, or open what was decoded before.

    Raises:
        DataError: images or labels cannot be used, or the cache cannot be written.
    """
    dataset = find_dataset(spec)
    make_split(dataset.labels, dataset.groups, dataset.class_names, spec.split_seed)
    workers = available_cores()
    told = report or (lambda what, done, total: None)
    fingerprint = content_fingerprint(
        dataset, workers=workers, progress=lambda done, total: told("reading images", done, total)
    )
    prepared = prepare(
        dataset,
        spec.recipe.image_size,
        home.cache,
        fingerprint=fingerprint,
        workers=workers,
        progress=lambda done, total: told("decoding images", done, total),
    )
    return StudyImages(prepared, make_split(prepared.labels, prepared.groups, prepared.class_names, spec.split_seed))


def load_planned_images(record: StudyRecord, spec: StudySpec, home: Home) -> StudyImages:
    """The images of a planned study, for a worker: from the cache where it has them, else from the data.

    Raises:
        StudyError: the images here are not those that the study was planned with.
        DataError: images cannot be used.
    """
    prepared = open_prepared(home.cache, record.fingerprint, spec.recipe.image_size)
    if prepared is None:
        images = load_images(spec, home)
    else:
        split = make_split(prepared.labels, prepared.groups, prepared.class_names, spec.split_seed)
        images = StudyImages(prepared, split)
    differences = data_differences(record, images.facts(spec.title))
    if differences:
        raise StudyError(f"study {record.name} was planned with other data: {'; '.join(differences)}")
    return images


def data_differences(stored: StudyRecord, found: DatasetFacts) -> list[str]:
    """What differs between the data of a planned study and the data that were found."""
    if stored.fingerprint == found.fingerprint:
        if stored.split_fingerprint == found.split_fingerprint:
            return []
        return ["the same images are split in another way"]
    before, now = _totals(stored.class_names, stored.counts), _totals(found.class_names, found.counts)
    lines = [
        f"{name}: {before.get(name, 0)} images stored, {now.get(name, 0)} found"
        for name in sorted({*before, *now})
        if before.get(name, 0) != now.get(name, 0)
    ]
    return lines or [
        "images, names or labels have changed, while the number of images in each class has not "
        f"(fingerprint {stored.fingerprint[:12]} stored, {found.fingerprint[:12]} found)"
    ]


def compare_with_stored(database: Database, asked: StudySpec, facts: DatasetFacts | None = None) -> Comparison | None:
    """A stored study of the asked name beside what is asked, or None where there is none.

    Args:
        database: where studies are stored.
        asked: the description that is asked for.
        facts: the data that were found, if they are to be compared as well.

    Raises:
        StudyError: the stored study is another one; every difference is named.
    """
    document = find_spec(database, asked.name)
    if document is None:
        return None
    comparison = compare(stored_spec(document), asked)
    refusals = list(comparison.refusals)
    if facts is not None and not refusals:
        refusals += data_differences(read_study(database, asked.name), facts)
    if refusals:
        raise StudyError(
            f"study {asked.name} exists and is another one: {'; '.join(refusals)}; "
            "ask for the stored values, or choose another name with --study"
        )
    return comparison


def plan_study(
    database: Database, mirror: TrialMirror, asked: StudySpec, facts: DatasetFacts, versions: Mapping[str, str]
) -> PlannedStudy:
    """Store a study and plan its points, or extend the stored study of that name.

    Args:
        database: where studies are stored.
        mirror: Optuna's side of it.
        asked: the description that is asked for, with no figure left to the machine.
        facts: the data that were found.
        versions: versions of the libraries on which results depend.

    Raises:
        StudyError: there is another study of that name; every difference is named.
    """
    with database.lock("plan"):
        comparison = compare_with_stored(database, asked, facts)
        spec = asked if comparison is None else comparison.merged
        kept = find_spec(database, asked.name) or {"versions": dict(versions)}
        document = {**spec.to_dict(), "versions": kept["versions"]}
        study_id = save_study(database, mirror, spec.name, spec.model, document, facts)
        new = [
            NewPoint(point.key, point.alpha, point.beta, point.loss, point.seed, point.settings)
            for point in points(spec)
        ]
        added = plan_points(database, mirror, study_id, new)
    return PlannedStudy(spec, study_id, comparison is None, added, comparison.additions if comparison else ())


def stored_spec(document: Mapping[str, Any]) -> StudySpec:
    """The description within what is stored with a study.

    Raises:
        StudyError: another version stored it.
    """
    return StudySpec.from_dict({name: value for name, value in document.items() if name != "versions"})


def is_planned(database: Database, name: str) -> bool:
    """Whether a study of this name is stored."""
    return name in list_studies(database)


def available_cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _totals(class_names: tuple[str, ...], counts: Mapping[str, Any]) -> dict[str, int]:
    return {name: sum(int(part[index]) for part in counts.values()) for index, name in enumerate(class_names)}
