"""Decoded images on disk: what is prepared, opened and verified."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmf_testing.images import encode, folder_dataset, picture, write_classes

from trainer.data.cache import Prepared, open_prepared, prepare, prepared_bytes, prepared_folder, verify_prepared
from trainer.data.dataset import ImageDataset
from trainer.data.fingerprint import content_fingerprint
from trainer.errors import DataError

SIZE = 24


@pytest.fixture
def skin(tmp_path: Path) -> ImageDataset:
    """Fifty pictures in two classes."""
    return folder_dataset(write_classes(tmp_path / "skin", {"NV": 45, "DF": 5}))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache folder that does not exist yet."""
    return tmp_path / "home" / "cache"


def folders(home: Path) -> list[str]:
    """What lies in a cache but for lock files."""
    return sorted(path.name for path in home.iterdir() if path.suffix != ".lock")


def prepare_here(dataset: ImageDataset, home: Path, size: int = SIZE, **options: Any) -> Prepared:
    return prepare(dataset, size, home, fingerprint=content_fingerprint(dataset), **options)


def unreadable(dataset: ImageDataset) -> ImageDataset:
    """A dataset whose images must not be read."""

    def fail(index: int) -> bytes:
        raise AssertionError("an image was read")

    return replace(dataset, read=fail)


def test_prepared_images_are_the_decoded_ones_in_order(skin: ImageDataset, home: Path) -> None:
    fingerprint = content_fingerprint(skin)
    prepared = prepare_here(skin, home, workers=2)
    assert prepared.images.shape == (50, SIZE, SIZE, 3)
    assert prepared.images.dtype == np.uint8
    for index in range(50):
        assert np.array_equal(prepared.images[index], skin.decode(skin.read(index), SIZE))
    assert prepared.labels.dtype == np.int64
    assert prepared.labels.tolist() == skin.labels.tolist()
    assert (prepared.class_names, prepared.image_names) == (skin.class_names, skin.image_names)
    assert (prepared.fingerprint, prepared.size, prepared.exact) == (fingerprint, SIZE, False)
    assert isinstance(prepared.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        prepared.images[0] = 0


def test_what_is_prepared_is_opened_and_not_decoded_again(skin: ImageDataset, home: Path) -> None:
    fingerprint = content_fingerprint(skin)
    assert open_prepared(home, fingerprint, SIZE) is None
    first = prepare(skin, SIZE, home, fingerprint=fingerprint)
    again = prepare(unreadable(skin), SIZE, home, fingerprint=fingerprint)
    opened = open_prepared(home, fingerprint, SIZE)
    assert opened is not None
    for prepared in (again, opened):
        assert np.array_equal(prepared.images, first.images)
        assert prepared.image_names == first.image_names
        assert prepared.labels.tolist() == first.labels.tolist()
    assert open_prepared(home, fingerprint, SIZE + 1) is None
    assert open_prepared(home, "0" * 64, SIZE) is None
    assert folders(home) == [prepared_folder(home, fingerprint, SIZE).name]


def test_threads_change_nothing(skin: ImageDataset, home: Path) -> None:
    one, four = prepare_here(skin, home / "one", workers=1), prepare_here(skin, home / "four", workers=4)
    assert np.array_equal(one.images, four.images)


def test_another_group_or_split_decodes_nothing_again(skin: ImageDataset, home: Path) -> None:
    prepare_here(skin, home)
    grouped = replace(skin, groups={"lesion": skin.image_names}, group="lesion")
    fingerprint = content_fingerprint(grouped)
    assert prepare(unreadable(grouped), SIZE, home, fingerprint=fingerprint).images.shape[0] == 50


def test_sizes_are_kept_apart(skin: ImageDataset, home: Path) -> None:
    assert prepare_here(skin, home).images.shape[1] == SIZE
    assert prepare_here(skin, home, size=8).images.shape[1] == 8
    assert len(folders(home)) == 2


def test_exact_and_scaled_decoding_are_kept_apart(tmp_path: Path, home: Path) -> None:
    for name in ("A/1.jpg", "B/1.jpg"):
        path = tmp_path / "large" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(picture(3, 12, 12).resize((300, 200)), "JPEG", quality=95))
    dataset = folder_dataset(tmp_path / "large")
    fingerprint = content_fingerprint(dataset)
    exact, scaled = prepare_here(dataset, home, exact=True), prepare_here(dataset, home)
    assert (exact.exact, scaled.exact) == (True, False)
    assert np.array_equal(exact.images[0], dataset.decode(dataset.read(0), SIZE, exact=True))
    assert np.array_equal(scaled.images[0], dataset.decode(dataset.read(0), SIZE))
    assert not np.array_equal(exact.images, scaled.images)
    for is_exact, prepared in ((True, exact), (False, scaled)):
        opened = open_prepared(home, fingerprint, SIZE, is_exact)
        assert opened is not None
        assert np.array_equal(opened.images, prepared.images)
        shutil.rmtree(prepared_folder(home, fingerprint, SIZE, is_exact))
        assert open_prepared(home, fingerprint, SIZE, is_exact) is None


def test_progress_ends_at_the_last_image(skin: ImageDataset, home: Path) -> None:
    told: list[tuple[int, int]] = []
    prepare_here(skin, home, progress=lambda done, total: told.append((done, total)))
    assert told == [(32, 50), (50, 50)]


def test_images_that_are_no_files_are_prepared_too(home: Path) -> None:
    def decode(data: bytes, size: int, exact: bool = False) -> np.ndarray:
        return np.full((size, size, 6), data[0], dtype=np.uint8)[:, :, ::2]

    dataset = ImageDataset("plain", ("a", "b"), ("0", "1"), np.array([0, 1]), lambda index: bytes([40 + index]), decode)
    prepared = prepare_here(dataset, home, size=16)
    assert (prepared.images[0] == 40).all()
    assert (prepared.images[1] == 41).all()


def test_pixels_of_another_shape_are_refused(skin: ImageDataset, home: Path) -> None:
    wrong = replace(skin, decode=lambda data, size, exact=False: np.zeros((size, size), dtype=np.uint8))
    with pytest.raises(ValueError, match="576 bytes of pixels; expected 1728"):
        prepare_here(wrong, home)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def relabel(path: Path) -> None:
    stored = json.loads(path.read_bytes())
    stored["meta"]["labels"][0] = 1 - stored["meta"]["labels"][0]
    path.write_text(json.dumps(stored))


def flip(path: Path) -> None:
    """Change one bit of the last image."""
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("images.npy", cut),
        ("images.npy", append),
        ("images.npy", lambda path: path.write_bytes(b"")),
        ("images.npy", lambda path: path.write_bytes(b"\0" * path.stat().st_size)),
        ("images.npy", lambda path: np.save(path, np.zeros((3, SIZE, SIZE, 3), dtype=np.uint8))),
        ("images.npy", lambda path: np.save(path, np.zeros((50, SIZE, SIZE, 3), dtype=np.int8))),
        ("images.npy", Path.unlink),
        ("meta.json", cut),
        ("meta.json", relabel),
        ("meta.json", lambda path: path.write_text("[]")),
        ("meta.json", lambda path: path.write_bytes(b"\xff")),
        ("meta.json", Path.unlink),
        (".", shutil.rmtree),
        (".", lambda path: (shutil.rmtree(path), path.write_text("a file in its place"))),
    ],
)
def test_damage_is_noticed_and_repaired(skin: ImageDataset, home: Path, file: str, damage: Any) -> None:
    fingerprint = content_fingerprint(skin)
    expected = np.array(prepare(skin, SIZE, home, fingerprint=fingerprint).images)
    folder = prepared_folder(home, fingerprint, SIZE)
    damage(folder / file)
    assert open_prepared(home, fingerprint, SIZE) is None
    assert not verify_prepared(home, fingerprint, SIZE)
    assert np.array_equal(prepare(skin, SIZE, home, fingerprint=fingerprint).images, expected)
    assert open_prepared(home, fingerprint, SIZE) is not None
    assert folders(home) == [folder.name]


@pytest.mark.parametrize(("file", "damage"), [("images.npy", flip), ("images.sums", cut), ("images.sums", Path.unlink)])
def test_damage_within_pixels_is_found_when_all_are_read(
    skin: ImageDataset, home: Path, file: str, damage: Any
) -> None:
    fingerprint = content_fingerprint(skin)
    expected = np.array(prepare(skin, SIZE, home, fingerprint=fingerprint).images)
    assert verify_prepared(home, fingerprint, SIZE)
    damage(prepared_folder(home, fingerprint, SIZE) / file)
    assert open_prepared(home, fingerprint, SIZE) is not None
    assert not verify_prepared(home, fingerprint, SIZE)
    assert np.array_equal(prepare(skin, SIZE, home, fingerprint=fingerprint, verify=True).images, expected)
    assert verify_prepared(home, fingerprint, SIZE)
    assert len(folders(home)) == 1


def test_verifying_tells_progress_and_decodes_nothing(skin: ImageDataset, home: Path) -> None:
    fingerprint = content_fingerprint(skin)
    prepare(skin, SIZE, home, fingerprint=fingerprint)
    told: list[tuple[int, int]] = []
    prepare(
        unreadable(skin),
        SIZE,
        home,
        fingerprint=fingerprint,
        verify=True,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(50, 50)]


def test_too_little_room_is_said_before_anything_is_decoded(
    skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = content_fingerprint(skin)
    usage = type(shutil.disk_usage(home.parent.parent))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1_000_000))
    with pytest.raises(DataError, match=r"need 7,525\.3 MB in .*cache, where 1\.0 MB are free; make room"):
        prepare(unreadable(skin), 7083, home, fingerprint=fingerprint)
    assert folders(home) == []


def test_the_room_that_is_needed_is_the_room_that_is_taken(skin: ImageDataset, home: Path) -> None:
    prepare_here(skin, home)
    taken = (prepared_folder(home, content_fingerprint(skin), SIZE) / "images.npy").stat().st_size
    assert prepared_bytes(50, SIZE) == 50 * SIZE * SIZE * 3
    assert 0 <= taken - prepared_bytes(50, SIZE) < 256


def test_the_file_of_pixels_is_a_plain_npy_file(skin: ImageDataset, home: Path) -> None:
    prepared = prepare_here(skin, home)
    data = (prepared_folder(home, prepared.fingerprint, SIZE) / "images.npy").read_bytes()
    assert np.array_equal(np.load(BytesIO(data)), prepared.images)


def test_real_lesions_are_prepared(test_data: Path, home: Path) -> None:
    dataset = folder_dataset(test_data / "data" / "images" / "HAM10000")
    pictures = [index for index, name in enumerate(dataset.image_names) if name.endswith(".jpg")]
    assert len(pictures) == len(dataset) == 1200
    prepared = prepare_here(dataset, home, size=32, workers=2)
    assert prepared.images.shape == (1200, 32, 32, 3)
    channels = prepared.images.reshape(-1, 3).mean(axis=0)
    assert channels[0] > channels[1]
    assert channels[0] > channels[2]
    assert len(np.unique(prepared.images.reshape(1200, -1), axis=0)) == 1200
