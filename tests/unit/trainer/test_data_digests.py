"""The index of digests of files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from trainer.data import digests
from trainer.data.digests import INDEX_NAME, DigestIndex, forget_digests, indexes_nothing


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three old files in two folders."""
    paths = [tmp_path / "data" / name for name in ("a/1", "a/2", "b/1")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some bytes")
    age(paths)
    return paths


def age(paths: Iterable[Path], seconds: float = 3600.0) -> None:
    then = time.time() - seconds
    for path in paths:
        os.utime(path, (then, then))


def digest(number: int) -> bytes:
    return bytes([number]) * 32


def fill(cache: Path, files: list[Path]) -> None:
    """Remember a digest of each file."""
    index = DigestIndex(cache, files)
    for position in range(len(files)):
        index.add(position, digest(position))
    index.save()


def known(cache: Path, files: list[Path]) -> dict[int, bytes]:
    return DigestIndex(cache, files).known


def only_file(cache: Path) -> Path:
    (path,) = cache.iterdir()
    return path


def test_digests_are_known_again(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    assert known(cache, files) == {}
    fill(cache, files)
    assert known(cache, files) == {0: digest(0), 1: digest(1), 2: digest(2)}
    assert INDEX_NAME.fullmatch(only_file(cache).name)


def test_paths_may_be_relative(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "cache", files)
    monkeypatch.chdir(tmp_path / "data")
    assert known(tmp_path / "cache", [Path("a/1"), Path("a/2"), Path("b/1")]).keys() == {0, 1, 2}


@pytest.mark.parametrize("change", ["size", "time", "inode", "gone"])
def test_a_changed_file_is_not_known(tmp_path: Path, files: list[Path], change: str) -> None:
    fill(tmp_path / "cache", files)
    path, status = files[1], files[1].stat()
    if change == "size":
        path.write_bytes(b"other")
    elif change == "time":
        age([path], 1800)
    elif change == "inode":
        copy = path.with_name("copy")
        copy.write_bytes(b"more bytes")
        os.replace(copy, path)
    else:
        path.unlink()
    if change in ("size", "inode"):
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known(tmp_path / "cache", files).keys() == {0, 2}


@pytest.mark.parametrize(("seconds", "trusted"), [(3.0, True), (1.9, False), (0.0, False), (-60.0, False)])
def test_a_file_that_was_written_just_now_is_not_trusted(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, seconds: float, trusted: bool
) -> None:
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    os.utime(files[1], ns=(now, now - int(seconds * 1e9)))
    fill(tmp_path / "cache", files)
    assert known(tmp_path / "cache", files).keys() == ({0, 1, 2} if trusted else {0, 2})


def test_a_file_that_changes_after_the_index_was_read_is_not_known(tmp_path: Path, files: list[Path]) -> None:
    index = DigestIndex(tmp_path / "cache", files)
    files[1].write_bytes(b"new bytes, read by nobody")
    for position in range(3):
        index.add(position, digest(position))
    index.save()
    assert known(tmp_path / "cache", files).keys() == {0, 2}


def test_what_another_process_wrote_stays(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    first, second = DigestIndex(cache, files), DigestIndex(cache, files)
    first.add(0, digest(0))
    second.add(2, digest(2))
    first.save()
    second.save()
    assert known(cache, files) == {0: digest(0), 2: digest(2)}


def test_files_that_are_gone_are_dropped(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    more = [files[0].with_name(f"more-{number}") for number in range(200)]
    for path in more:
        path.write_bytes(b"x")
    age(more)
    fill(cache, [*files, *more])
    large = only_file(cache).stat().st_size
    for path in more:
        path.unlink()
    age([files[0]], 1800)
    fill(cache, files)
    assert only_file(cache).stat().st_size < large / 20
    assert known(cache, files).keys() == {0, 1, 2}


def test_other_files_of_the_folder_stay(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    fill(cache, files)
    age([files[2]], 1800)
    fill(cache, [files[0], files[2]])
    assert known(cache, files).keys() == {0, 1, 2}
    assert len(list(cache.iterdir())) == 1


def test_datasets_elsewhere_have_a_file_of_their_own(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    fill(cache, files[:2])
    fill(cache, files[2:])
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data.replace(b"0101", b"0202", 1),
        lambda data: b"\xff" * 100,
        lambda data: digests.hashlib.sha256(b"[]").hexdigest().encode() + b"\n[]",
    ],
)
def test_a_damaged_index_is_ignored_and_written_anew(tmp_path: Path, files: list[Path], damage) -> None:
    cache = tmp_path / "cache"
    fill(cache, files)
    path = only_file(cache)
    path.write_bytes(damage(path.read_bytes()))
    assert known(cache, files) == {}
    assert indexes_nothing(path)
    fill(cache, files)
    assert known(cache, files).keys() == {0, 1, 2}
    assert not indexes_nothing(path)


def test_nothing_new_writes_nothing(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    fill(cache, files)
    before = only_file(cache).stat().st_ino
    DigestIndex(cache, files).save()
    assert only_file(cache).stat().st_ino == before


def test_what_is_forgotten_is_not_known(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    forget_digests(cache, files)
    fill(cache, files)
    forget_digests(cache, None)
    assert known(cache, files)
    forget_digests(cache, files)
    assert known(cache, files) == {}


def test_an_index_of_files_that_are_gone_indexes_nothing(tmp_path: Path, files: list[Path]) -> None:
    cache = tmp_path / "cache"
    fill(cache, files)
    files[0].unlink()
    files[1].unlink()
    assert not indexes_nothing(only_file(cache))
    files[2].unlink()
    assert indexes_nothing(only_file(cache))
