"""What `lmf data` tells of a dataset: classes and counts, leaks, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.errors import StudyError
from study.home import Home, data_root
from study.images import available_cores, split_counts
from study.spec import DEFAULT_SEED
from trainer.data.catalog import drop_empty_classes, find_dataset, find_source, refuse_errors
from trainer.data.dataset import ImageDataset
from trainer.data.findings import Finding
from trainer.data.fingerprint import content_fingerprint
from trainer.data.leakage import GroupLeakage, group_leakage, leakage_findings
from trainer.data.source import Found
from trainer.data.split_file import read_split_file
from trainer.data.splits import Split, split_dataset, split_fingerprint
from trainer.errors import DataError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DataQuery:
    """Which dataset is meant, and how it is to be split.

    Attributes:
        dataset: its name, such as `ham10000`.
        data: the folder of the data, or None to leave it to LMF_DATA.
        group: what a split keeps together, or None.
        split_seed: seed of the split; None for the published split, where there is one, and else the default seed.
        split_file: a table of image and part, or None.
        drop_empty: leave out classes that have no image.
        with_images: look for the images too.
    """

    dataset: str
    data: Path | None = None
    group: str | None = None
    split_seed: int | None = None
    split_file: Path | None = None
    drop_empty: bool = False
    with_images: bool = True


@dataclass(frozen=True, eq=False)
class DataView:
    """A dataset with its split.

    Attributes:
        found: the dataset and what is wrong with labels and files.
        split: its split; None where a class is too small for one.
        no_split: why there is none.
        leakage: what of each kind of group is in more than one part; empty where nothing is known of groups.
    """

    found: Found
    split: Split | None
    no_split: str | None
    leakage: tuple[GroupLeakage, ...]

    @property
    def dataset(self) -> ImageDataset:
        """The dataset, its empty classes included."""
        return self.found.dataset


def find_data(query: DataQuery) -> Found:
    """A dataset with all that is wrong with its labels and files.

    Raises:
        StudyError: the request contradicts itself.
        DataError: nothing can be made of what is there.
    """
    if query.split_file is not None and (query.group is not None or query.split_seed is not None):
        raise StudyError("--split-file: cannot go with --group or --split-seed; give one of them")
    return find_dataset(
        query.dataset,
        data_root(query.data) if find_source(query.dataset).takes_data else None,
        group=query.group,
        with_images=query.with_images,
        drop_empty=query.drop_empty,
    )


def view_data(query: DataQuery, found: Found) -> DataView:
    """Split a dataset as `lmf run` would, classes without images left out.

    Raises:
        DataError: the split file cannot be used, or the seed is out of range.
    """
    whole = found.dataset
    try:
        dataset = drop_empty_classes(found).dataset
        if query.split_file is not None:
            split = read_split_file(query.split_file, dataset)
        else:
            published = whole.published_split is not None and query.group is None and query.split_seed is None
            seed = query.split_seed if query.split_seed is not None else DEFAULT_SEED
            split = split_dataset(dataset, None if published else seed)
    except DataError as error:
        if query.split_file is not None:
            raise
        return DataView(found, None, str(error), ())
    return DataView(found, split, None, group_leakage(dataset, split))


def show_document(view: DataView, fingerprint: str | None) -> dict[str, Any]:
    """The document of `lmf data show --json`; its keys are stable.

    Args:
        view: the dataset.
        fingerprint: its content fingerprint, None where the images were not read.
    """
    dataset, split = view.dataset, view.split
    counts = split_counts(dataset.labels, split, len(dataset.class_names)) if split else {}
    classes = [
        {
            "name": name,
            "total": total,
            **{part: counts[part][index] if split else None for part in ("train", "val", "test")},
        }
        for index, (name, total) in enumerate(zip(dataset.class_names, dataset.totals, strict=True))
    ]
    kind = dataset.group or next(iter(dataset.groups), None)
    return {
        "dataset": dataset.name,
        "images": len(dataset),
        "classes": classes,
        "imbalance_ratio": imbalance_ratio(dataset),
        "group": dataset.group,
        "groups": len(set(dataset.groups[kind])) if kind else None,
        "leaking_groups": view.leakage[0].leaking_groups if view.leakage else None,
        "leakage": [leakage.to_dict() for leakage in view.leakage],
        "fingerprint": fingerprint,
        "split_fingerprint": split_fingerprint(split, dataset.image_names) if split else None,
    }


def imbalance_ratio(dataset: ImageDataset) -> float | None:
    """Images of the largest class over those of the smallest that has any; None where no class has one."""
    counts = [count for count in dataset.totals if count]
    return max(counts) / min(counts) if counts else None


def read_fingerprint(dataset: ImageDataset, home: Home, progress: Progress) -> str:
    """The content fingerprint of a dataset; what is known of unchanged files is kept where the home exists already."""
    return content_fingerprint(
        dataset,
        cache_dir=home.cache if home.root.is_dir() else None,
        workers=available_cores(),
        progress=lambda done, total: progress("reading images", done, total),
    )


def check_data(query: DataQuery, progress: Progress) -> tuple[DataView, tuple[Finding, ...]]:
    """Look at every image of a dataset and collect all that is wrong with it, what stops a training first.

    Raises:
        StudyError: the request contradicts itself.
        DataError: nothing can be made of what is there.
    """
    # These two load scipy, which nobody should wait for who only wants to see the classes.
    from trainer.data.duplicates import duplicate_findings
    from trainer.data.inspection import inspect_images

    found = find_data(query)
    view = view_data(query, found)
    findings = list(found.findings)
    if view.no_split is not None:
        findings.append(Finding("no split", "error", view.no_split))
    if query.with_images:
        inspection = inspect_images(
            found.dataset,
            workers=available_cores(),
            progress=lambda done, total: progress("checking images", done, total),
        )
        findings += inspection.findings
        findings += duplicate_findings(inspection, found.dataset, view.split)
    findings += leakage_findings(view.leakage)
    return view, tuple(sorted(findings, key=lambda finding: finding.severity != "error"))


def refuse_bad_labels(found: Found) -> None:
    """Refuse what a training refuses, but for classes without an image.

    Raises:
        DataError: labels or files are wrong.
    """
    others = tuple(finding for finding in found.findings if finding.kind != "empty class")
    refuse_errors(Found(found.dataset, others))
