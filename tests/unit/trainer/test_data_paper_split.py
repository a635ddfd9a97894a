"""The split gives the paper's Tables 1 and 5, class by class, and whole lesions or patients where asked."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trainer.data.catalog import open_dataset
from trainer.data.dataset import Labels
from trainer.data.sets.covid19_radiography import CLASSES
from trainer.data.splits import Split, class_counts, grouped_split, split_fingerprint, stratified_split

DATASETS = ("odir5k", "ham10000", "isic2019", "covid19-radiography")
TABLE_1 = dict(zip(DATASETS, ("ODIR", "HAM", "ISIC", "Covid-19"), strict=True))
TABLE_5 = dict(zip(DATASETS, ("ODIR-5K", "HAM-10K", "ISIC-2019", "Covid-19"), strict=True))
COVID_COUNTS = (3616, 6012, 10192, 1345)
COVID_CODES = dict(zip(CLASSES, ("Covid", "LO", "Normal", "VP"), strict=True))
GROUPS = {
    "odir5k": (6392, "patient", 3358, 0),
    "ham10000": (10015, "lesion", 7470, 0),
    "isic2019": (25331, "lesion", 11847, 2084),
    "covid19-radiography": (21165, None, 0, 0),
}
"""Images, and of groups the kind, how many there are, and how many images have none."""
SEEDS = (0, 1, 23, 2**32 - 1)


class Published:
    """Labels of a complete dataset."""

    def __init__(self, name: str, test_data: Path) -> None:
        self.name, self.paper = name, test_data / "paper"
        self.groups: dict[str, tuple[str, ...]] = {}
        if name == "covid19-radiography":
            self.classes = tuple(COVID_CODES[name] for name in CLASSES)
            self.labels: Labels = np.repeat(np.arange(4), COVID_COUNTS)
            self.images = tuple(f"{label}/{index:05d}" for index, label in enumerate(self.labels.tolist()))
            return
        dataset = open_dataset(name, test_data / "data" / "metadata", with_images=False)
        self.classes, self.labels, self.images = dataset.class_names, dataset.labels, dataset.image_names
        self.groups = dict(dataset.groups)

    def rows(self, table: str, dataset: str) -> Iterator[dict[str, str]]:
        """A dataset's rows in a table of the paper."""
        with (self.paper / table).open(encoding="utf-8", newline="") as file:
            yield from (row for row in csv.DictReader(file) if row["dataset"] == dataset)

    def counts(self, split: Split) -> dict[str, tuple[int, ...]]:
        """Images of each class in each part."""
        parts = {"train": split.train, "val": split.val, "test": split.test}
        return {part: class_counts(self.labels, images, len(self.classes)) for part, images in parts.items()}


@pytest.fixture(scope="module", params=DATASETS)
def published(request: pytest.FixtureRequest, test_data: Path) -> Published:
    """Each dataset of the paper."""
    return Published(request.param, test_data)


def test_every_seed_gives_the_papers_counts(published: Published) -> None:
    (wanted,) = published.rows("table1.csv", TABLE_1[published.name])
    train = {row["class"]: int(row["train_samples"]) for row in published.rows("table5.csv", TABLE_5[published.name])}
    totals = np.bincount(published.labels)
    members = set()
    for seed in SEEDS:
        split = stratified_split(published.labels, len(published.classes), seed)
        counts = published.counts(split)
        assert {part: sum(of_part) for part, of_part in counts.items()} == {part: int(wanted[part]) for part in counts}
        assert dict(zip(published.classes, counts["train"], strict=True)) == train
        assert counts["val"] == counts["test"]
        assert np.array_equal(np.add(counts["train"], np.add(counts["val"], counts["test"])), totals)
        members.add(split_fingerprint(split, published.images))
    assert len(members) == len(SEEDS)


def test_the_paper_has_27_classes(test_data: Path) -> None:
    with (test_data / "paper" / "table5.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27
    assert {row["dataset"] for row in rows} == set(TABLE_5.values())


def test_complete_tables_say_what_images_share(published: Published) -> None:
    images, kind, shared, alone = GROUPS[published.name]
    assert len(published.images) == images
    assert list(published.groups) == ([kind] if kind else [])
    found = set(published.groups[kind]) if kind else set()
    without = {group for group in found if group.startswith("image ")}
    assert (len(found - without), len(without)) == (shared, alone)


@pytest.mark.parametrize("seed", [0, 23])
def test_whole_groups_keep_the_shares(published: Published, seed: int) -> None:
    for groups in published.groups.values():
        check_groups(published, groups, seed)


def check_groups(published: Published, groups: tuple[str, ...], seed: int) -> None:
    split = grouped_split(published.labels, groups, len(published.classes), seed)
    parts = [{groups[index] for index in part.tolist()} for part in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(set(groups))
    wanted = published.counts(stratified_split(published.labels, len(published.classes), seed))
    for part, counts in published.counts(split).items():
        for name, count, plain in zip(published.classes, counts, wanted[part], strict=True):
            assert abs(count - plain) <= max(2, 0.02 * plain), (part, name)
