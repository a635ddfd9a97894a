"""Reading all images, and the digest over them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from lmf_testing.images import write_broken_files, write_classes, write_picture

from trainer.data.dataset import ImageDataset
from trainer.data.fingerprint import content_fingerprint
from trainer.data.folder import open_folder
from trainer.data.scan import scan_images
from trainer.errors import DataError


@pytest.fixture
def skin(tmp_path: Path) -> Path:
    """A folder with two classes."""
    return write_classes(tmp_path / "skin", {"NV": 40, "DF": 5})


def dataset_of(folder: Path) -> ImageDataset:
    return open_folder(folder, "skin")


def test_place_title_and_threads_play_no_part(skin: Path) -> None:
    digest = content_fingerprint(dataset_of(skin))
    assert len(digest) == 64
    assert content_fingerprint(dataset_of(skin), workers=3) == digest
    moved = skin.rename(skin.parent / "other")
    assert content_fingerprint(open_folder(moved, "another title")) == digest


def test_names_bytes_labels_classes_and_groups_all_count(skin: Path) -> None:
    dataset = dataset_of(skin)
    labels = dataset.labels.copy()
    labels[0] = 1
    groups = tuple("g" + name for name in dataset.image_names)
    variants = [
        dataset,
        replace(dataset, image_names=("DF/x.png", *dataset.image_names[1:])),
        replace(dataset, labels=labels),
        replace(dataset, class_names=("DF", "nv")),
        replace(dataset, read=lambda index: b"x" if index == 3 else dataset.read(index)),
        replace(dataset, groups=groups),
        replace(dataset, groups=("other", *groups[1:])),
    ]
    assert len({content_fingerprint(variant) for variant in variants}) == len(variants)


def test_one_changed_byte_counts(skin: Path) -> None:
    before = content_fingerprint(dataset_of(skin))
    write_picture(skin / "NV" / "007.png", 99)
    assert content_fingerprint(dataset_of(skin)) != before


def test_results_come_in_order_and_progress_is_told(skin: Path) -> None:
    dataset, told = dataset_of(skin), []
    results = list(scan_images(dataset, len, workers=2, progress=lambda done, total: told.append((done, total))))
    assert results == [len(dataset.read(index)) for index in range(45)]
    assert told == [(32, 45), (45, 45)]


def test_all_files_that_cannot_be_read_or_decoded_are_named_together(skin: Path) -> None:
    dataset = dataset_of(skin)
    (skin / "NV" / "039.png").unlink()
    (skin / "DF" / "004.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        content_fingerprint(dataset, workers=2)
    assert str(caught.value) == (
        "skin: 2 images of 45 cannot be used: DF/004.png is empty; "
        "NV/039.png cannot be read: No such file or directory; replace or remove them"
    )


def test_an_image_that_comes_back_while_the_others_are_checked_is_still_reported(skin: Path) -> None:
    dataset = dataset_of(skin)
    (skin / "NV" / "039.png").unlink()

    calls: list[int] = []

    def read(index: int) -> bytes:
        calls.append(index)
        if len(calls) > len(dataset):
            write_picture(skin / "NV" / "039.png", 1)
        return dataset.read(index)

    with pytest.raises(DataError, match=r"1 image of 45 cannot be used: NV/039.png cannot be read"):
        content_fingerprint(replace(dataset, read=read))


def test_what_an_image_library_only_warns_of_stops_nothing(skin: Path) -> None:
    def warn(data: bytes) -> int:
        warnings.warn("odd metadata", stacklevel=1)
        return 1

    assert list(scan_images(dataset_of(skin), warn, workers=2)) == [1] * 45


def test_the_first_five_of_many_are_named(skin: Path) -> None:
    expected = write_broken_files(skin / "DF")
    with pytest.raises(DataError) as caught:
        content_fingerprint(dataset_of(skin), workers=2)
    message = str(caught.value)
    assert f"{len(expected)} images of {45 + len(expected)} cannot be used: DF/bit-flip.png is damaged" in message
    assert message.endswith("; and 3 more; replace or remove them")
    assert [name for name in expected if f"DF/{name} " in message] == sorted(expected)[:5]
    assert "\n" not in message
