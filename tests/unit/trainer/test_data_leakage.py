"""Groups that are in several parts of a split."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from trainer.data.dataset import ImageDataset
from trainer.data.images import decode_image
from trainer.data.leakage import GroupLeakage, group_leakage, leakage_findings
from trainer.data.splits import Split, grouped_split, stratified_split


def dataset_of(
    groups: Mapping[str, Sequence[str]], group: str | None = None, labels: Sequence[int] | None = None
) -> ImageDataset:
    """A dataset of which only groups and labels matter."""
    count = len(labels) if labels is not None else len(next(iter(groups.values()), ()))
    return ImageDataset(
        name="set",
        class_names=("a", "b"),
        image_names=tuple(f"{index:06d}" for index in range(count)),
        labels=np.array(labels if labels is not None else [0] * count, dtype=np.int64),
        read=lambda index: b"",
        decode=decode_image,
        groups={kind: tuple(names) for kind, names in groups.items()},
        group=group,
    )


def count_by_hand(names: Sequence[str], letters: str) -> dict[str, int]:
    """The figures by a plain loop over images."""
    seen: dict[str, set[str]] = {}
    for name, letter in zip(names, letters, strict=True):
        seen.setdefault(name, set()).add(letter)
    test = [name for name, letter in zip(names, letters, strict=True) if letter == "t"]
    return {
        "groups": len(seen),
        "leaking_groups": sum({"r", "t"} <= parts for parts in seen.values()),
        "leaking_val_groups": sum({"r", "v"} <= parts for parts in seen.values()),
        "test_images": len(test),
        "leaking_test_images": sum("r" in seen[name] for name in test),
    }


def test_each_figure_of_a_small_split() -> None:
    names = ["a", "a", "a", "b", "b", "c", "c", "c", "c", "d", "e", "e", "e", "f"]
    letters = "rttrrrvvtvvttt"
    (leakage,) = group_leakage(dataset_of({"lesion": names}), Split.from_letters(letters))
    assert leakage == GroupLeakage(
        "lesion", groups=6, leaking_groups=2, leaking_val_groups=1, test_images=6, leaking_test_images=3
    )


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_a_plain_loop(seed: int) -> None:
    random = np.random.RandomState(seed)
    names = [f"g{number}" for number in random.zipf(1.5, 500)]
    letters = "".join(random.choice(list("rvt"), 500, p=[0.7, 0.15, 0.15]))
    (leakage,) = group_leakage(dataset_of({"patient": names}), Split.from_letters(letters))
    assert leakage.to_dict() == {"group": "patient"} | count_by_hand(names, letters)


def test_the_asked_kind_comes_first_and_the_others_keep_their_order() -> None:
    names = ("x", "y", "x")
    dataset = dataset_of({"lesion": names, "patient": names, "site": names}, group="patient")
    assert [leakage.group for leakage in group_leakage(dataset, Split.from_letters("rvt"))] == [
        "patient",
        "lesion",
        "site",
    ]


def test_nothing_known_of_groups_gives_nothing() -> None:
    assert group_leakage(dataset_of({}, labels=[0, 1]), Split.from_letters("rt")) == ()
    assert leakage_findings(()) == ()


def test_names_that_differ_in_trailing_characters_only_are_different_groups() -> None:
    (leakage,) = group_leakage(dataset_of({"lesion": ["a", "a\0", "a "]}), Split.from_letters("rvt"))
    assert (leakage.groups, leakage.leaking_groups) == (3, 0)


def test_a_grouped_split_leaks_nothing_of_its_kind() -> None:
    random = np.random.RandomState(4)
    names = [f"g{number}" for number in random.randint(0, 90, 300)]
    dataset = dataset_of({"lesion": names}, "lesion", (np.arange(300) % 2).tolist())
    (leakage,) = group_leakage(dataset, grouped_split(dataset.labels, names, 2, 23))
    assert (leakage.leaking_groups, leakage.leaking_val_groups, leakage.leaking_test_images) == (0, 0, 0)
    assert leakage_findings([leakage]) == ()


def test_a_leak_becomes_one_warning_with_its_numbers() -> None:
    (finding,) = leakage_findings([GroupLeakage("lesion", 7470, 1234, 1250, 1502, 601)])
    assert (finding.kind, finding.severity) == ("leaking group", "warning")
    assert finding.message == (
        "lesion: 1,234 of 7,470 groups have images in training and in test, so that 601 of 1,502 test images (40 %) "
        "are of a group that is trained on; 1,250 of 7,470 groups have images in training and in validation; "
        "--group lesion keeps groups together"
    )
    (val_only,) = leakage_findings([GroupLeakage("patient", 9, 0, 2, 5, 0)])
    assert val_only.message == (
        "patient: 2 of 9 groups have images in training and in validation; --group patient keeps groups together"
    )


def test_the_lesions_of_ham10000(test_data: Path) -> None:
    with gzip.open(test_data / "data/metadata/HAM10000_metadata.csv.gz", "rt", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image_id"])
    codes = sorted({row["dx"].upper() for row in rows})
    labels = [codes.index(row["dx"].upper()) for row in rows]
    lesions = [row["lesion_id"] for row in rows]
    split = stratified_split(np.array(labels, dtype=np.int64), len(codes), 23)
    (leakage,) = group_leakage(dataset_of({"lesion": lesions}, labels=labels), split)
    assert leakage.to_dict() == {"group": "lesion"} | count_by_hand(lesions, split.to_letters())
    assert leakage == GroupLeakage("lesion", 7470, 488, 505, 1502, 512)
    assert json.loads(json.dumps(leakage.to_dict())) == leakage.to_dict()
