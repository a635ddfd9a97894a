"""A folder for each class."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmf_testing.images import write_classes, write_picture

from trainer.data.catalog import open_dataset
from trainer.data.dataset import ImageDataset
from trainer.data.findings import Finding
from trainer.data.sets.folder import find
from trainer.data.source import Query
from trainer.data.tree import walk
from trainer.errors import DataError


def open_folder(folder: Path) -> ImageDataset:
    return open_dataset("folder", folder)


def test_names_labels_and_bytes_belong_together(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "skin", {"NV": 3, "DF": 2})
    dataset = open_folder(root)
    assert dataset.name == "skin"
    assert dataset.class_names == ("DF", "NV")
    assert dataset.image_names == ("DF/000.png", "DF/001.png", "NV/000.png", "NV/001.png", "NV/002.png")
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset.labels.dtype == np.int64
    assert dataset.groups == {}
    assert dataset.files == tuple(root / name for name in dataset.image_names)
    assert [dataset.read(index) for index in range(len(dataset))] == [file.read_bytes() for file in dataset.files]
    assert dataset.decode(dataset.read(0), 6).shape == (6, 6, 3)


def test_the_order_is_the_names_whatever_the_file_system_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"a": 4, "b": 4, "B": 2, "10": 2, "9": 2})
    write_picture(tmp_path / "a" / "deep" / "x.png", 1)
    expected = open_folder(tmp_path)
    assert expected.class_names == ("10", "9", "B", "a", "b")
    assert list(expected.image_names) == sorted(expected.image_names)
    scandir = os.scandir

    class Reversed:
        def __init__(self, folder: Any) -> None:
            self.entries = scandir(folder)

        def __enter__(self) -> Any:
            return reversed(list(self.entries))

        def __exit__(self, *error: object) -> None:
            self.entries.close()

    monkeypatch.setattr(os, "scandir", Reversed)
    names = [image.name for image in walk(tmp_path).images]
    assert names == sorted(names)
    found = open_folder(tmp_path)
    assert found.image_names == expected.image_names
    assert found.labels.tolist() == expected.labels.tolist()


def test_what_is_no_image_of_a_class_is_passed_over(tmp_path: Path) -> None:
    write_classes(tmp_path, {"COVID": 1, "masks": 1})
    write_picture(tmp_path / "COVID" / "images" / "b.JPG", 2)
    write_picture(tmp_path / "COVID" / "Masks" / "b.png", 3)
    write_picture(tmp_path / "COVID" / ".thumbnails" / "b.png", 4)
    write_picture(tmp_path / "COVID" / "._a.png", 5)
    write_picture(tmp_path / ".git" / "a.png", 6)
    write_picture(tmp_path / "overview.png", 7)
    (tmp_path / "COVID" / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "COVID" / "pipe.png")
    assert open_folder(tmp_path).image_names == ("COVID/000.png", "COVID/images/b.JPG", "masks/000.png")
    assert find(Query(data=tmp_path)).findings == (
        Finding(
            "image without class",
            "warning",
            "overview.png lies beside the folders of the classes; it is not used",
            ("overview.png",),
        ),
    )


def test_accents_are_the_same_in_either_encoding(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write_classes(tmp_path / form, {unicodedata.normalize(form, "Mélanome"): 1, "b": 1})
    composed, decomposed = (open_folder(tmp_path / form) for form in ("NFC", "NFD"))
    assert decomposed.image_names == composed.image_names
    assert decomposed.class_names == ("Mélanome", "b")
    assert decomposed.read(0) == composed.read(0)


def test_names_that_differ_only_in_encoding_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    for form in ("NFC", "NFD"):
        write_picture(tmp_path / "a" / unicodedata.normalize(form, "é.png"), 1)
    if len(list((tmp_path / "a").iterdir())) == 3:
        with pytest.raises(DataError, match="accents"):
            open_folder(tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"'\\udcff.png' is not UTF-8"):
        open_folder(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "readme.txt").write_text("x")
    (tmp_path / "d" / "images").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        open_folder(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path.name}: 2 errors: {tmp_path}: no image in the class folder c (looked"
    )
    assert f"{tmp_path}: no image in the class folder d (looked for .bmp .gif" in str(caught.value)
    assert str(caught.value).endswith("; --drop-empty leaves such classes out")
    found = find(Query(data=tmp_path))
    assert found.dataset.class_names == ("a", "b", "c", "d")
    assert found.dataset.totals == (2, 2, 0, 0)
    assert [finding.kind for finding in found.findings] == ["empty class"] * 2
    dropped = open_dataset("folder", tmp_path, drop_empty=True)
    assert dropped.class_names == ("a", "b")
    assert dropped.labels.tolist() == [0, 0, 1, 1]


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    write_classes(tmp_path, {"NV": 3})
    with pytest.raises(DataError, match="only the class 'NV'; a classifier needs at least 2"):
        open_folder(tmp_path)


def test_images_without_class_folders_are_not_enough(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="holds no folder; expected one folder"):
        open_folder(tmp_path)


def test_a_folder_that_is_split_already_is_told_apart_from_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"Train": 2, "test": 2})
    with pytest.raises(DataError, match="holds Train, test, which look like parts of a split"):
        open_folder(tmp_path)
    write_classes(tmp_path, {"quiz": 2})
    assert open_folder(tmp_path).class_names == ("Train", "quiz", "test")


def test_a_missing_folder_and_a_file_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory"):
        open_folder(tmp_path / "absent")
    file = write_picture(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="is a file; give the folder"):
        open_folder(file)
    with pytest.raises(DataError, match="Not a directory"):
        open_folder(file / "below")


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    scandir = os.scandir

    def refuse(folder: Any) -> Any:
        if os.fspath(folder).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError) as caught:
        open_folder(tmp_path)
    assert str(caught.value) == f"cannot read the folder {tmp_path / 'b'}: Permission denied"


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data", {"a": 1, "b": 1})
    inside = root / "a" / "again.png"
    inside.symlink_to(root / "b" / "000.png")
    assert "a/again.png" in open_folder(root).image_names
    outside = write_picture(tmp_path / "secret.png", 1)
    (root / "a" / "out.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"a/out.png is a link to .*secret.png, which leaves the data folder"):
        open_folder(root)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"a/gone.png is a broken link"):
        open_folder(tmp_path)
    (tmp_path / "a" / "gone.png").unlink()
    (tmp_path / "a" / "loop.png").symlink_to("loop.png")
    with pytest.raises(DataError, match=r"a/loop.png is a broken link"):
        open_folder(tmp_path)


def test_links_to_folders_are_refused_and_never_walked_in_circles(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    with pytest.raises(DataError, match="links to folders are not followed: a/up"):
        open_folder(tmp_path)


def test_the_data_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write_classes(tmp_path / "real", {"a": 1, "b": 1})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert open_folder(tmp_path / "link").image_names == ("a/000.png", "b/000.png")


def test_there_are_no_groups(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset("folder", tmp_path, group="lesion")
    assert str(caught.value) == (
        "--group lesion: folder has no groups; a csv:PATH with a column lesion or lesion_id has"
    )


def test_real_radiographs(test_data: Path) -> None:
    folder = test_data / "data" / "images" / "COVID-19_Radiography_Dataset"
    dataset = open_folder(folder)
    assert dataset.class_names == ("COVID", "Normal")
    assert np.bincount(dataset.labels).tolist() == [84, 236]
    assert dataset.image_names[0].startswith("COVID/images/COVID-")
    pixels = dataset.decode(dataset.read(0), 64)
    assert 20 < pixels.mean() < 235
    assert pixels.std() > 10


def test_real_layout_with_masks(test_data: Path) -> None:
    dataset = open_folder(test_data / "data" / "images" / "COVID-19_Radiography_Dataset_one_per_class")
    assert dataset.class_names == ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
    assert dataset.image_names == tuple(f"{name}/images/{name}-1.png" for name in dataset.class_names)
