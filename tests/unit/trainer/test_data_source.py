"""From labelled images to a dataset."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from lmf_testing.images import write_picture

from trainer.data.images import BrokenImageError
from trainer.data.source import DatasetSource, Found, LabelledImage, Query, build_dataset
from trainer.errors import DataError

SOURCE = Path("/data/skin")


def test_names_labels_groups_and_bytes_belong_together(tmp_path: Path) -> None:
    paths = {name: write_picture(tmp_path / f"{name}.png", seed) for seed, name in enumerate("cab")}
    images = [
        LabelledImage("c", "NV", paths["c"], {"lesion": "L1", "eye": "l"}),
        LabelledImage("a", "DF", paths["a"], {"lesion": "L2", "eye": "r"}),
        LabelledImage("b", "NV", paths["b"], {"lesion": "L1", "eye": "r"}),
    ]
    dataset = build_dataset("skin", SOURCE, ["NV", "AK", "DF"], iter(images), "eye")
    assert (dataset.name, len(dataset)) == ("skin", 3)
    assert dataset.class_names == ("AK", "DF", "NV")
    assert dataset.image_names == ("a", "b", "c")
    assert dataset.labels.tolist() == [1, 2, 2]
    assert dataset.labels.dtype == np.int64
    assert dataset.totals == (0, 1, 2)
    assert list(dataset.groups.items()) == [("lesion", ("L2", "L1", "L1")), ("eye", ("r", "r", "l"))]
    assert dataset.group == "eye"
    assert dataset.files == (paths["a"], paths["b"], paths["c"])
    assert [dataset.read(index) for index in range(3)] == [file.read_bytes() for file in dataset.files]
    assert dataset.decode(dataset.read(0), 5).shape == (5, 5, 3)
    assert dataset.published_split is None


def test_images_that_were_not_looked_for_cannot_be_read() -> None:
    dataset = build_dataset("skin", SOURCE, ["a", "b"], [LabelledImage("x", "a"), LabelledImage("y", "b")])
    assert dataset.files is None
    assert (dataset.groups, dataset.group) == ({}, None)
    with pytest.raises(BrokenImageError, match="was not looked for"):
        dataset.read(0)


def test_no_image_at_all_is_a_dataset_too() -> None:
    dataset = build_dataset("skin", SOURCE, ["a", "b"], [])
    assert (len(dataset), dataset.totals, dataset.labels.dtype) == (0, (0, 0), np.int64)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["NV"], "/data/skin holds only the class 'NV'; a classifier needs at least 2 classes"),
        ([], "/data/skin holds no class; a classifier needs at least 2 classes"),
    ],
)
def test_one_class_is_not_enough(classes: list[str], said: str) -> None:
    with pytest.raises(DataError) as caught:
        build_dataset("skin", SOURCE, classes, [LabelledImage("x", name) for name in classes])
    assert str(caught.value) == said


def test_a_name_may_occur_once() -> None:
    name = unicodedata.normalize("NFC", "é")
    images = [LabelledImage(name, "a"), LabelledImage(name, "b"), LabelledImage("x", "a")]
    with pytest.raises(DataError) as caught:
        build_dataset("skin", SOURCE, ["a", "b"], images)
    assert str(caught.value) == f"/data/skin: names that differ only in how accents are encoded: {name}"


def test_a_source_is_written_with_its_argument() -> None:
    def find(query: Query) -> Found:
        raise NotImplementedError

    assert DatasetSource("ham10000", "skin", find).form == "ham10000"
    assert DatasetSource("folder", "yours", find, argument="PATH").form == "folder:PATH"
