"""What the cache holds, and what of it is removed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lmf_testing.images import folder_dataset, write_classes

from trainer.data import cache_cleaning
from trainer.data.cache import open_prepared, prepare
from trainer.data.cache_cleaning import Removed, clean_cache, list_cache
from trainer.data.cache_folder import hold, partial_name
from trainer.data.dataset import ImageDataset
from trainer.data.fingerprint import content_fingerprint
from trainer.errors import DataError

OLD = "0123456789abcdef" * 2
TOKEN = "0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache folder."""
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def skin(tmp_path: Path) -> ImageDataset:
    """Some pictures that were written long ago."""
    dataset = folder_dataset(write_classes(tmp_path / "skin", {"NV": 5, "DF": 3}))
    for path in dataset.files or ():
        os.utime(path, (1e9, 1e9))
    return dataset


def prepare_here(dataset: ImageDataset, home: Path, size: int = 8, exact: bool = False) -> tuple[str, int, bool]:
    """Prepare a dataset, and remember the digests of its files."""
    fingerprint = content_fingerprint(dataset, cache_dir=home)
    prepare(dataset, size, home, fingerprint=fingerprint, exact=exact)
    return fingerprint, size, exact


def make_folder(home: Path, name: str, *, old: bool = False, files: tuple[str, ...] = ("images.npy",)) -> Path:
    """A folder with files of 1,000 bytes."""
    folder = home / name
    folder.mkdir()
    for file in files:
        (folder / file).write_bytes(b"x" * 1000)
    if old:
        long_ago = time.time() - 7200
        for path in (*folder.iterdir(), folder):
            os.utime(path, (long_ago, long_ago))
    return folder


@contextmanager
def held_by_another(home: Path, name: str) -> Iterator[None]:
    """Hold a folder of the cache in a thread of its own."""
    held, end = threading.Event(), threading.Event()

    def work() -> None:
        with hold(home, name):
            held.set()
            end.wait(timeout=60)

    thread = threading.Thread(target=work)
    thread.start()
    assert held.wait(timeout=60)
    try:
        yield
    finally:
        end.set()
        thread.join()


def names(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()}


def test_what_is_not_kept_is_removed_and_counted(skin: ImageDataset, home: Path) -> None:
    kept = prepare_here(skin, home)
    other_size, exact = prepare_here(skin, home, size=16), prepare_here(skin, home, exact=True)
    listed = {entry.name: entry for entry in list_cache(home)}
    removed = clean_cache(home, {kept})
    assert sorted(item.name for item in removed) == sorted([f"{kept[0][:32]}-16-v2", f"{kept[0][:32]}-8-exact-v2"])
    for item in removed:
        assert listed[item.name].kind == "prepared"
        assert item.bytes == listed[item.name].bytes > 8 * 8 * 8 * 3
    assert open_prepared(home, *kept)
    assert open_prepared(home, *other_size) is None
    assert open_prepared(home, *exact) is None
    digests = {name for name in names(home) if name.startswith("digests-")}
    assert len(digests) == 1
    assert names(home) == {f"{kept[0][:32]}-8-v2"} | digests


def test_a_dry_run_says_the_same_and_removes_nothing(skin: ImageDataset, home: Path) -> None:
    prepare_here(skin, home)
    make_folder(home, f".{OLD}-8-v2.partial")
    before = names(home)
    told = clean_cache(home, set(), dry_run=True)
    assert names(home) == before
    assert clean_cache(home, set()) == told
    assert len(told) == 3
    assert names(home) == set()


def test_older_formats_go_and_newer_ones_stay(home: Path) -> None:
    for number in (1, 2, 3):
        make_folder(home, f"{OLD}-224-v{number}")
    assert [(entry.name[-2:], entry.kind) for entry in list_cache(home)] == [("v1", "outdated"), ("v2", "prepared")]
    assert clean_cache(home, {(OLD * 2, 224, False)}) == (Removed(f"{OLD}-224-v1", 1000),)
    assert names(home) >= {f"{OLD}-224-v2", f"{OLD}-224-v3"}


def test_unfinished_images_go_unless_somebody_works_on_them(home: Path) -> None:
    busy, idle = f"{OLD}-224-v2", f"{OLD}-224-exact-v2"
    for name in (busy, idle):
        make_folder(home, partial_name(name))
    with held_by_another(home, busy):
        assert clean_cache(home, set(), dry_run=True) == (Removed(partial_name(idle), 1000),)
        assert clean_cache(home, set()) == (Removed(partial_name(idle), 1000),)
        assert names(home) == {partial_name(busy), f".{busy}.lock"}
    assert clean_cache(home, set()) == (Removed(partial_name(busy), 1000),)
    assert names(home) == set()


def test_prepared_images_that_somebody_works_on_stay(home: Path) -> None:
    make_folder(home, f"{OLD}-224-v2")
    with held_by_another(home, f"{OLD}-224-v2"):
        assert clean_cache(home, set()) == ()
    assert clean_cache(home, set()) == (Removed(f"{OLD}-224-v2", 1000),)


def test_what_killed_processes_left_goes_when_it_is_old(home: Path) -> None:
    old = [f".{OLD}-224-v1-{TOKEN}", f".{OLD}-224-v2-{TOKEN}.partial", f".digests-{TOKEN}.json.{TOKEN}.tmp"]
    for name in old[:2]:
        make_folder(home, name, old=True)
    (home / old[2]).write_bytes(b"x" * 1000)
    os.utime(home / old[2], (1e9, 1e9))
    young = {f".{OLD}-32-v1-{TOKEN}", f".{OLD}-32-v2-{TOKEN}.partial"}
    for name in young:
        make_folder(home, name)
    assert clean_cache(home, set()) == tuple(Removed(name, 1000) for name in sorted(old))
    assert names(home) == young


def test_what_is_not_the_caches_own_stays(home: Path, tmp_path: Path) -> None:
    (home / "notes.txt").write_text("mine")
    make_folder(home, "my-images", old=True)
    make_folder(home, ".hidden.partial", old=True)
    make_folder(home, f"{OLD}-224", old=True)
    mixed = make_folder(home, f"{OLD}-224-v2", files=("images.npy", "meta.json", "mine.txt"))
    elsewhere = make_folder(tmp_path, "elsewhere")
    (home / f"{OLD}-96-v2").symlink_to(elsewhere)
    before = names(home)
    assert clean_cache(home, set()) == (Removed(mixed.name, 2000),)
    assert names(home) == before
    assert names(mixed) == {"mine.txt"}
    assert names(elsewhere) == {"images.npy"}


def test_digests_go_when_no_images_stay(skin: ImageDataset, home: Path) -> None:
    kept = prepare_here(skin, home)
    clean_cache(home, {kept})
    assert any(entry.kind == "digests" for entry in list_cache(home))
    clean_cache(home, set())
    assert list_cache(home) == ()


def test_digests_of_files_that_are_gone_go(skin: ImageDataset, home: Path) -> None:
    kept = prepare_here(skin, home)
    for path in skin.files or ():
        path.unlink()
    removed = clean_cache(home, {kept})
    assert [item.name.partition("-")[0] for item in removed] == ["digests"]
    assert open_prepared(home, *kept)


def test_a_lock_that_nobody_holds_goes(home: Path) -> None:
    (home / f".{OLD}-224-v2.lock").touch()
    assert [entry.kind for entry in list_cache(home)] == ["lock"]
    assert clean_cache(home, set()) == ()
    assert names(home) == set()


def test_no_cache_is_clean(tmp_path: Path) -> None:
    assert list_cache(tmp_path / "absent") == clean_cache(tmp_path / "absent", set()) == ()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=r"cannot read the image cache in .*file: Not a directory"):
        clean_cache(tmp_path / "file", set())


def test_what_cannot_be_removed_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(home, f"{OLD}-224-v2")

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(DataError, match=r"cannot clean the image cache in .*cache: Permission denied"):
        clean_cache(home, set())


def test_what_another_process_removed_meanwhile_is_no_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(home, f"{OLD}-224-v2")
    make_folder(home, partial_name(f"{OLD}-224-v2"))

    @contextmanager
    def wait(cache_dir: Path, name: str) -> Iterator[bool]:
        with hold(cache_dir, name) as held:
            os.rename(home / partial_name(name), home / "renamed")
            yield held

    monkeypatch.setattr(cache_cleaning, "hold", wait)
    assert clean_cache(home, set()) == (Removed(f"{OLD}-224-v2", 1000),)
    assert names(home) == {"renamed"}
