"""Marks of a model's images: known again by file or by pixels, whatever they are called."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from lmf_testing.images import encode, folder_dataset, picture, write_classes

from trainer.data.cache import prepare
from trainer.data.fingerprint import content_fingerprint
from trainer.data.image_marks import ImageMark, KnownImages, mark_image, marks_text, read_marks
from trainer.data.images import decode_image
from trainer.data.splits import Split
from trainer.errors import DataError

SIZE = 16


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "skin", {"mel": 3, "nv": 3})


@pytest.fixture
def known(root: Path, tmp_path: Path) -> KnownImages:
    """Of six images, four to train on, one to validate and one to test."""
    dataset = folder_dataset(root)
    fingerprint = content_fingerprint(dataset)
    prepare(dataset, SIZE, tmp_path / "cache", fingerprint=fingerprint)
    split = Split.from_letters("rrrrvt")
    text = marks_text(tmp_path / "cache", fingerprint, SIZE, False, split)
    assert text is not None
    path = tmp_path / "marks.txt"
    path.write_text(text)
    return read_marks(path, hashlib.sha256(text.encode()).hexdigest())


def mark(data: bytes) -> ImageMark:
    return mark_image(data, decode_image(data, SIZE))


def test_images_are_known_by_their_files(root: Path, known: KnownImages) -> None:
    files = [path.read_bytes() for path in sorted(root.glob("*/*"))]
    assert known.count(map(mark, files)) == {"train": 4, "val": 1, "test": 1}
    assert known.count(map(mark, files[5:])) == {"test": 1}


def test_images_are_known_by_their_pixels_where_the_file_was_saved_anew(known: KnownImages) -> None:
    anew = encode(picture(1), "BMP")
    assert known.count([mark(anew)]) == {"train": 1}


def test_other_images_are_not_known(known: KnownImages) -> None:
    assert known.count([mark(encode(picture(99), "PNG"))]) == {}
    assert known.count([]) == {}


def test_an_image_in_two_parts_counts_for_training() -> None:
    twice = ImageMark("a" * 16, "b" * 16)
    assert KnownImages.of([("test", twice), ("train", twice)]).count([twice]) == {"train": 1}


def test_there_are_no_marks_without_the_decoded_images(tmp_path: Path) -> None:
    assert marks_text(tmp_path / "cache", "f" * 64, SIZE, False, Split.from_letters("rrvt")) is None


def test_a_split_of_other_images_gives_no_marks(root: Path, known: KnownImages, tmp_path: Path) -> None:
    fingerprint = content_fingerprint(folder_dataset(root))
    assert marks_text(tmp_path / "cache", fingerprint, SIZE, False, Split.from_letters("rrvt")) is None


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "marks.txt"
    path.write_text("train\n")
    with pytest.raises(DataError, match="was changed or damaged"):
        read_marks(path, "0" * 64)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_marks(tmp_path / "none.txt", "0" * 64)


def test_a_mark_depends_on_every_pixel() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    other = pixels.copy()
    other[3, 3, 2] = 1
    assert mark_image(b"x", pixels).pixels != mark_image(b"x", other).pixels
    assert mark_image(b"x", pixels).source == mark_image(b"x", other).source
