"""The digest over all that a dataset holds."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from lmf_testing.images import folder_dataset, write_broken_files, write_classes, write_picture

from trainer.data.dataset import ImageDataset
from trainer.data.fingerprint import content_fingerprint
from trainer.errors import DataError


@pytest.fixture
def skin(tmp_path: Path) -> Path:
    """A folder with two classes, written long ago."""
    folder = write_classes(tmp_path / "skin", {"NV": 40, "DF": 5})
    make_old(*folder.glob("*/*"))
    return folder


def make_old(*paths: Path) -> None:
    long_ago = time.time() - 3600
    for path in paths:
        os.utime(path, (long_ago, long_ago))


class Reads:
    """A dataset that remembers which of its images were read."""

    def __init__(self, folder: Path) -> None:
        dataset = folder_dataset(folder)
        self.names: list[str] = []

        def read(index: int) -> bytes:
            self.names.append(dataset.image_names[index])
            return dataset.read(index)

        self.dataset = replace(dataset, read=read)

    def fingerprint(self, cache_dir: Path) -> tuple[str, list[str]]:
        """The fingerprint, and the images that were read for it."""
        self.names.clear()
        return content_fingerprint(self.dataset, cache_dir=cache_dir, workers=2), sorted(self.names)


def test_place_title_and_threads_play_no_part(skin: Path) -> None:
    digest = content_fingerprint(folder_dataset(skin))
    assert len(digest) == 64
    assert content_fingerprint(folder_dataset(skin), workers=3) == digest
    moved = skin.rename(skin.parent / "other")
    assert content_fingerprint(folder_dataset(moved, "another title")) == digest


def test_names_bytes_labels_and_classes_all_count(skin: Path) -> None:
    dataset = folder_dataset(skin)
    labels = dataset.labels.copy()
    labels[0] = 1
    variants = [
        dataset,
        replace(dataset, image_names=("DF/x.png", *dataset.image_names[1:])),
        replace(dataset, labels=labels),
        replace(dataset, class_names=("DF", "nv")),
        replace(dataset, read=lambda index: b"x" if index == 3 else dataset.read(index)),
    ]
    assert len({content_fingerprint(variant) for variant in variants}) == len(variants)


def test_groups_and_splits_do_not_count(skin: Path) -> None:
    dataset = folder_dataset(skin)
    grouped = replace(dataset, groups={"lesion": dataset.image_names}, group="lesion")
    split = replace(dataset, published_split=(dataset.labels % 3).astype("int8"))
    assert content_fingerprint(grouped) == content_fingerprint(split) == content_fingerprint(dataset)


def test_one_changed_byte_counts(skin: Path) -> None:
    before = content_fingerprint(folder_dataset(skin))
    write_picture(skin / "NV" / "007.png", 99)
    assert content_fingerprint(folder_dataset(skin)) != before


def test_all_files_that_cannot_be_read_or_decoded_are_named_together(skin: Path) -> None:
    dataset = folder_dataset(skin)
    (skin / "NV" / "039.png").unlink()
    (skin / "DF" / "004.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        content_fingerprint(dataset, workers=2)
    assert str(caught.value) == (
        "skin: 2 images of 45 cannot be used: DF/004.png is empty; "
        "NV/039.png cannot be read: No such file or directory; replace or remove them"
    )


def test_an_image_that_comes_back_while_the_others_are_checked_is_still_reported(skin: Path) -> None:
    dataset = folder_dataset(skin)
    (skin / "NV" / "039.png").unlink()

    calls: list[int] = []

    def read(index: int) -> bytes:
        calls.append(index)
        if len(calls) > len(dataset):
            write_picture(skin / "NV" / "039.png", 1)
        return dataset.read(index)

    with pytest.raises(DataError, match=r"1 image of 45 cannot be used: NV/039.png cannot be read"):
        content_fingerprint(replace(dataset, read=read))


def test_unchanged_files_are_read_once(skin: Path, tmp_path: Path) -> None:
    cache = tmp_path / "home" / "cache"
    reads = Reads(skin)
    first, names = reads.fingerprint(cache)
    assert names == list(reads.dataset.image_names)
    assert reads.fingerprint(cache) == (first, [])
    assert Reads(skin).fingerprint(cache) == (first, [])
    assert content_fingerprint(folder_dataset(skin)) == first


def test_only_changed_and_new_files_are_read_again(skin: Path, tmp_path: Path) -> None:
    before, _ = Reads(skin).fingerprint(tmp_path / "cache")
    write_picture(skin / "NV" / "007.png", 99)
    write_picture(skin / "DF" / "new.png", 98)
    make_old(skin / "DF" / "new.png")
    now, names = Reads(skin).fingerprint(tmp_path / "cache")
    assert names == ["DF/new.png", "NV/007.png"]
    assert now == content_fingerprint(folder_dataset(skin)) != before


def test_progress_counts_files_that_are_not_read(skin: Path, tmp_path: Path) -> None:
    content_fingerprint(folder_dataset(skin), cache_dir=tmp_path)
    write_picture(skin / "NV" / "007.png", 99)
    told: list[tuple[int, int]] = []
    content_fingerprint(
        folder_dataset(skin), cache_dir=tmp_path, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(45, 45)]


def test_what_was_read_before_an_error_is_remembered(skin: Path, tmp_path: Path) -> None:
    reads = Reads(skin)
    missing = skin / "NV" / "039.png"
    data = missing.read_bytes()
    missing.unlink()
    with pytest.raises(DataError, match=r"NV/039\.png"):
        reads.fingerprint(tmp_path / "cache")
    missing.write_bytes(data)
    make_old(missing)
    assert Reads(skin).fingerprint(tmp_path / "cache")[1] == ["NV/039.png"]


def test_a_cache_that_cannot_be_written_stops_nothing(skin: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        assert Reads(skin).fingerprint(folder)[0] == content_fingerprint(folder_dataset(skin))


def test_images_that_are_no_files_leave_no_index(skin: Path, tmp_path: Path) -> None:
    dataset: ImageDataset = replace(folder_dataset(skin), files=None)
    assert content_fingerprint(dataset, cache_dir=tmp_path / "cache") == content_fingerprint(dataset)
    assert not (tmp_path / "cache").exists()


def test_broken_files_are_found_where_all_digests_are_known(skin: Path, tmp_path: Path) -> None:
    write_broken_files(skin / "DF")
    (skin / "DF" / "heavy.tif").unlink()
    make_old(*skin.glob("DF/*"))
    Reads(skin).fingerprint(tmp_path / "cache")
    (skin / "NV" / "001.png").unlink()
    with pytest.raises(DataError, match=r"8 images of 52 cannot be used: DF/bit-flip.png is damaged"):
        content_fingerprint(folder_dataset_with(skin, "NV/001.png"), cache_dir=tmp_path / "cache")


def folder_dataset_with(folder: Path, missing: str) -> ImageDataset:
    """The dataset as it was while a file was still there."""
    write_picture(folder / missing, 1)
    dataset = folder_dataset(folder)
    (folder / missing).unlink()
    return dataset
