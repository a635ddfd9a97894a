"""A split of the user's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from trainer.data.dataset import ImageDataset, Parts
from trainer.data.images import Pixels
from trainer.data.split_file import read_split_file, split_file_text
from trainer.data.splits import Split, split_dataset, split_fingerprint
from trainer.errors import DataError

NAMES = ("a/1.png", "a/2.png", "a/3.png", "a/4.png", "b/1.png", "b/5.png", "b/6.png", "b/7.png")
LABELS = (0, 0, 0, 0, 1, 1, 1, 1)
PARTS = ("train", "train", "val", "test", "train", "val", "test", "train")


def dataset(published: Parts | None = None, group: str | None = None) -> ImageDataset:
    def never(*_: object) -> Pixels:
        raise AssertionError("no image is to be read")

    groups = {"lesion": ("x", "y", "z", "w", "p", "q", "r", "s")}
    return ImageDataset(
        name="skin",
        class_names=("A", "B"),
        image_names=NAMES,
        labels=np.array(LABELS, dtype=np.int64),
        read=never,  # type: ignore[arg-type]
        decode=never,
        groups=groups,
        group=group,
        published_split=published,
    )


def table(tmp_path: Path, rows: list[tuple[str, str]], header: str = "image,split") -> Path:
    path = tmp_path / "split.csv"
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    return path


def rows(**changes: str) -> list[tuple[str, str]]:
    parts = {
        **dict(zip(NAMES, PARTS, strict=True)),
        **{name.replace("_", "/") + ".png": p for name, p in changes.items()},
    }
    return [(name, part) for name, part in parts.items() if part]


@pytest.mark.parametrize("header", ["image,split", "File,SUBSET", "path,fold"])
def test_each_image_goes_where_its_row_says(tmp_path: Path, header: str) -> None:
    split = read_split_file(table(tmp_path, rows(), header), dataset())
    assert split.train.tolist() == [0, 1, 4, 7]
    assert split.val.tolist() == [2, 5]
    assert split.test.tolist() == [3, 6]


def test_parts_have_several_names_and_images_may_lack_folder_and_suffix(tmp_path: Path) -> None:
    written = {"train": "Training", "val": "valid", "test": "TESTING"}
    short = [
        (name.split("/")[1].removesuffix(".png") if name not in ("a/1.png", "b/1.png") else name, written[part])
        for name, part in rows()
    ]
    assert read_split_file(table(tmp_path, short), dataset()).val.tolist() == [2, 5]


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    split = split_dataset(dataset(), 7)
    path = tmp_path / "split.csv"
    path.write_text(split_file_text(dataset(), split))
    again = read_split_file(path, dataset())
    assert split_fingerprint(again, NAMES) == split_fingerprint(split, NAMES)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (rows(a_1="holdout"), "1 row cannot be used: line 2: 'holdout' is no part; expected train, val, test"),
        (rows(a_1=""), "1 image has no row: a/1.png; add rows for them"),
        ([*rows(), ("a/9.png", "train")], "line 10: skin has no image 'a/9.png'"),
        ([*rows(), ("1", "train")], "line 10: 1 may mean 2 images"),
        ([*rows(), ("b/5.png", "val")], "line 10: b/5.png is named again"),
        (rows(a_3="train"), "too few images of A to have one in the validation part as well; move some there"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changed: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read_split_file(table(tmp_path, changed), dataset())
    assert str(tmp_path / "split.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_the_columns_names_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no split column; expected one of split, part, set, subset, fold"):
        read_split_file(table(tmp_path, rows(), "image,label"), dataset())


def test_without_a_seed_the_published_split_counts() -> None:
    published = np.array([0, 1, 2, 0, 0, 1, 2, 0], dtype=np.int8)
    split = split_dataset(dataset(published), None)
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0, 3, 4, 7], [1, 5], [2, 6])
    assert split_dataset(dataset(published), 1).to_letters().count("v") == 2
    with pytest.raises(DataError, match="skin: is not published with a split; give --split-seed"):
        split_dataset(dataset(), None)
    with pytest.raises(DataError, match="the published split has too few images of B to have one in the test part"):
        split_dataset(dataset(np.array([0, 1, 2, 0, 0, 1, 0, 0], dtype=np.int8)), None)


def test_letters_keep_a_split() -> None:
    split = split_dataset(dataset(group="lesion"), 3)
    letters = split.to_letters()
    assert len(letters) == len(NAMES)
    assert [letters[index] for index in split.test] == ["t"] * len(split.test)
    again = Split.from_letters(letters)
    for part in ("train", "val", "test"):
        assert getattr(again, part).tolist() == getattr(split, part).tolist()
