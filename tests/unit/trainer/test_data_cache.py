"""Decoded images on disk."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmf_testing.images import write_broken_files, write_classes, write_picture

from trainer.data import cache
from trainer.data.cache import open_prepared, prepare, prepared_bytes
from trainer.data.csv_table import open_table
from trainer.data.dataset import ImageDataset
from trainer.data.digits import open_digits
from trainer.data.fingerprint import content_fingerprint
from trainer.data.folder import open_folder
from trainer.errors import DataError

SIZE = 24


@pytest.fixture
def skin(tmp_path: Path) -> ImageDataset:
    """Fifty pictures in two classes."""
    return open_folder(write_classes(tmp_path / "skin", {"NV": 45, "DF": 5}), "skin")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache folder that does not exist yet."""
    return tmp_path / "home" / "cache"


def only_folder(home: Path) -> Path:
    """The one entry of a cache: nothing half-written lies beside it."""
    (folder,) = home.iterdir()
    return folder


def prepare_here(dataset: ImageDataset, home: Path, size: int = SIZE, **options: Any) -> cache.Prepared:
    return prepare(dataset, size, home, fingerprint=content_fingerprint(dataset), **options)


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
    assert (prepared.groups, prepared.fingerprint, prepared.size) == (None, fingerprint, SIZE)
    assert isinstance(prepared.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        prepared.images[0] = 0


def test_what_is_prepared_is_opened_and_not_decoded_again(skin: ImageDataset, home: Path) -> None:
    fingerprint = content_fingerprint(skin)
    assert open_prepared(home, fingerprint, SIZE) is None
    first = prepare(skin, SIZE, home, fingerprint=fingerprint)

    def fail(*args: object) -> Any:
        raise AssertionError("an image was read again")

    again = prepare(replace(skin, read=fail), SIZE, home, fingerprint=fingerprint)
    opened = open_prepared(home, fingerprint, SIZE)
    assert opened is not None
    for prepared in (again, opened):
        assert np.array_equal(prepared.images, first.images)
        assert prepared.image_names == first.image_names
        assert prepared.labels.tolist() == first.labels.tolist()
    assert open_prepared(home, fingerprint, SIZE + 1) is None
    assert open_prepared(home, "0" * 64, SIZE) is None


def test_threads_change_nothing(skin: ImageDataset, home: Path) -> None:
    one, four = prepare_here(skin, home / "one", workers=1), prepare_here(skin, home / "four", workers=4)
    assert np.array_equal(one.images, four.images)


def test_sizes_and_groups_are_kept_apart(skin: ImageDataset, home: Path) -> None:
    grouped = replace(skin, groups=tuple(f"g{index}" for index in range(50)))
    assert prepare_here(skin, home).groups is None
    assert prepare_here(grouped, home).groups == grouped.groups
    assert prepare_here(grouped, home, size=8).images.shape[1] == 8
    assert len(list(home.iterdir())) == 3


def test_progress_ends_at_the_last_image(skin: ImageDataset, home: Path) -> None:
    told: list[tuple[int, int]] = []
    prepare_here(skin, home, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (50, 50)


def test_digits_are_prepared_like_files(home: Path) -> None:
    digits = open_digits()
    prepared = prepare_here(digits, home, size=16)
    assert np.array_equal(prepared.images[7], digits.decode(digits.read(7), 16))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def relabel(path: Path) -> None:
    stored = json.loads(path.read_bytes())
    stored["meta"]["labels"][0] = 1 - stored["meta"]["labels"][0]
    path.write_text(json.dumps(stored))


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
    damage(only_folder(home) / file)
    assert open_prepared(home, fingerprint, SIZE) is None
    assert np.array_equal(prepare(skin, SIZE, home, fingerprint=fingerprint).images, expected)
    assert open_prepared(home, fingerprint, SIZE) is not None
    only_folder(home)


@pytest.mark.parametrize("workers", [1, 3])
def test_all_broken_images_are_counted_and_nothing_is_left(skin: ImageDataset, home: Path, workers: int) -> None:
    home.mkdir(parents=True)
    folder = home.parent.parent / "skin"
    broken = write_broken_files(folder / "NV")
    (folder / "NV" / "heavy.tif").unlink()
    dataset = open_folder(folder, "skin")
    with pytest.raises(DataError) as caught:
        prepare_here(dataset, home, workers=workers)
    message = str(caught.value)
    assert message.startswith(f"skin: {len(broken) - 1} images of {50 + len(broken) - 1} cannot be used: ")
    assert "NV/bit-flip.png is damaged" in message
    assert "NV/empty.jpg is empty" in message
    assert message.endswith("and 2 more; replace or remove them")
    assert list(home.iterdir()) == []


def test_images_that_change_after_the_fingerprint_are_noticed(skin: ImageDataset, home: Path) -> None:
    fingerprint = content_fingerprint(skin)
    write_picture(home.parent.parent / "skin" / "NV" / "003.png", 77)
    with pytest.raises(DataError, match="skin: images changed while they were read; start again"):
        prepare(skin, SIZE, home, fingerprint=fingerprint)
    assert list(home.iterdir()) == []


@pytest.fixture
def small_files() -> Iterator[None]:
    """Lets no file of this process grow beyond 20,000 bytes, like a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_write_that_fails_half_way_leaves_nothing(skin: ImageDataset, home: Path) -> None:
    with pytest.raises(DataError, match=r"cannot write the image cache in .*cache: File too large; make room there"):
        prepare_here(skin, home)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_at_the_last_step_leaves_nothing(
    skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(DataError) as caught:
            prepare_here(skin, home)
    assert str(caught.value) == (
        f"cannot write the image cache in {home}: No space left on device; make room there, or set LMF_HOME to a "
        "folder on a disk that can be written and has room"
    )
    assert list(home.iterdir()) == []
    assert len(prepare_here(skin, home).labels) == 50


def test_too_little_room_is_said_before_anything_is_decoded(
    skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = content_fingerprint(skin)
    usage = type(shutil.disk_usage(home.parent.parent))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1_000_000))

    def fail(index: int) -> bytes:
        raise AssertionError("an image was read")

    with pytest.raises(DataError, match=r"need 7,525\.3 MB in .*cache, where 1\.0 MB are free; make room"):
        prepare(replace(skin, read=fail), 7083, home, fingerprint=fingerprint)
    assert list(home.iterdir()) == []


def test_the_room_that_is_needed_is_the_room_that_is_taken(skin: ImageDataset, home: Path) -> None:
    prepare_here(skin, home)
    taken = (only_folder(home) / "images.npy").stat().st_size
    assert prepared_bytes(50, SIZE) == 50 * SIZE * SIZE * 3
    assert 0 <= taken - prepared_bytes(50, SIZE) < 256


def test_a_home_that_cannot_be_written(skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.parent.write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot write the image cache in .*cache: Not a directory; .*LMF_HOME"):
        prepare_here(skin, home)
    home.parent.unlink()

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match="Read-only file system; "):
        prepare_here(skin, home)


def test_a_reader_that_left_is_not_the_disks_fault(skin: ImageDataset, home: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    fingerprint = content_fingerprint(skin)
    with pytest.raises(BrokenPipeError):
        prepare(skin, SIZE, home, fingerprint=fingerprint, progress=progress)
    assert list(home.iterdir()) == []


def test_an_interrupt_leaves_nothing(skin: ImageDataset, home: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise KeyboardInterrupt

    fingerprint = content_fingerprint(skin)
    with pytest.raises(KeyboardInterrupt):
        prepare(skin, SIZE, home, fingerprint=fingerprint, progress=progress)
    assert list(home.iterdir()) == []


def test_what_a_killed_process_left_is_removed_when_it_is_old(skin: ImageDataset, home: Path) -> None:
    prepare_here(skin, home)
    name = only_folder(home).name
    shutil.rmtree(home / name)
    old, young, of_others = home / f".{name}-old", home / f".{name}-young", home / ".other-old"
    for folder in (old, young, of_others):
        folder.mkdir()
        (folder / "images.npy").write_bytes(b"x")
    long_ago = time.time() - 7200
    for path in (old / "images.npy", old, young, of_others / "images.npy", of_others):
        os.utime(path, (long_ago, long_ago))
    prepare_here(skin, home)
    assert sorted(path.name for path in home.iterdir()) == sorted([name, young.name, of_others.name])


def test_another_process_that_finishes_first_counts(
    skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = content_fingerprint(skin)
    rename = os.rename
    first: list[int] = []

    def late(source: Path, target: Path) -> None:
        if not first:
            first.append(0)
            prepare(skin, SIZE, home, fingerprint=fingerprint)
            first[0] = (target / "images.npy").stat().st_ino
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    prepared = prepare(skin, SIZE, home, fingerprint=fingerprint)
    assert (only_folder(home) / "images.npy").stat().st_ino == first[0]
    assert len(prepared.images) == 50


RACER = """
import sys
from pathlib import Path
from trainer.data.cache import prepare
from trainer.data.fingerprint import content_fingerprint
from trainer.data.folder import open_folder

dataset = open_folder(Path(sys.argv[1]), "skin")
fingerprint = content_fingerprint(dataset)
print("ready", flush=True)
sys.stdin.readline()
print(prepare(dataset, 24, Path(sys.argv[2]), fingerprint=fingerprint).images.sum())
"""


def test_processes_that_prepare_at_once_agree(skin: ImageDataset, home: Path) -> None:
    command = [sys.executable, "-c", RACER, str(home.parent.parent / "skin"), str(home)]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ends = [racer.communicate(timeout=60) for racer in racers]
    expected = int(prepare_here(skin, home.with_name("other")).images.sum())
    assert ends == [(f"{expected}\n", "")] * 3
    only_folder(home)


def test_real_lesions_are_prepared(test_data: Path, home: Path) -> None:
    folder = test_data / "data" / "images" / "HAM10000"
    dataset = open_table(folder / "HAM10000_metadata.csv", folder, "ham", "lesion")
    prepared = prepare_here(dataset, home, size=32, workers=2)
    assert prepared.images.shape == (1200, 32, 32, 3)
    assert prepared.groups == dataset.groups
    channels = prepared.images.reshape(-1, 3).mean(axis=0)
    assert channels[0] > channels[1]
    assert channels[0] > channels[2]
    assert len(np.unique(prepared.images.reshape(1200, -1), axis=0)) == 1200
