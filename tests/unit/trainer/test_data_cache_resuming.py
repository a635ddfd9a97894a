"""Preparing images: what is cut short goes on, and processes wait for each other."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from lmf_testing.images import folder_dataset, write_broken_files, write_classes, write_picture

from trainer.data.cache import Prepared, open_prepared, prepare, prepared_folder, verify_prepared
from trainer.data.cache_folder import hold, partial_name
from trainer.data.dataset import ImageDataset
from trainer.data.fingerprint import content_fingerprint
from trainer.data.images import BrokenImageError
from trainer.data.unfinished import count_journal
from trainer.errors import DataError

SIZE = 24


@pytest.fixture
def skin(tmp_path: Path) -> ImageDataset:
    """150 pictures in two classes."""
    return folder_dataset(write_classes(tmp_path / "skin", {"NV": 140, "DF": 10}))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache folder that does not exist yet."""
    return tmp_path / "home" / "cache"


def prepare_counted(dataset: ImageDataset, home: Path, fingerprint: str = "", **options: Any) -> tuple[Prepared, int]:
    """Prepare a dataset, and count its images that are decoded for it."""
    decoded: list[int] = []

    def decode(data: bytes, size: int, exact: bool = False) -> np.ndarray:
        decoded.append(1)
        return dataset.decode(data, size, exact)

    fingerprint = fingerprint or content_fingerprint(dataset)
    return prepare(replace(dataset, decode=decode), SIZE, home, fingerprint=fingerprint, **options), len(decoded)


def assert_right(prepared: Prepared, dataset: ImageDataset) -> None:
    """Each image is the decoded one, to the last pixel."""
    for index in range(len(dataset)):
        assert np.array_equal(prepared.images[index], dataset.decode(dataset.read(index), SIZE))


def target(dataset: ImageDataset, home: Path) -> Path:
    return prepared_folder(home, content_fingerprint(dataset), SIZE)


def unfinished(dataset: ImageDataset, home: Path) -> Path:
    return home / partial_name(target(dataset, home).name)


def assert_only_unfinished(dataset: ImageDataset, home: Path) -> None:
    """Nothing counts as prepared, and one unfinished folder is all that there is."""
    assert open_prepared(home, content_fingerprint(dataset), SIZE) is None
    left = [path for path in home.iterdir() if path.suffix != ".lock" and not path.name.startswith("digests-")]
    assert left == [unfinished(dataset, home)]


def interrupt(dataset: ImageDataset, home: Path, after: int = 96, fingerprint: str = "") -> None:
    """Prepare a part of a dataset, then end like at Ctrl-C."""

    def progress(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, SIZE, home, fingerprint=fingerprint or content_fingerprint(dataset), progress=progress)


CHILD = """
import os, sys
from dataclasses import replace
from pathlib import Path
from lmf_testing.images import folder_dataset
from trainer.data.cache import prepare
from trainer.data.fingerprint import content_fingerprint

folder, home, log, stuck_at = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
dataset = folder_dataset(folder)
fingerprint = content_fingerprint(dataset)
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
decoded = 0

def decode(data, size, exact=False):
    global decoded
    decoded += 1
    os.write(log, b"x")
    if decoded == stuck_at:
        print("stuck", flush=True)
        sys.stdin.readline()
    return dataset.decode(data, size, exact)

print("ready", flush=True)
sys.stdin.readline()
print(prepare(replace(dataset, decode=decode), 24, home, fingerprint=fingerprint).images.sum())
"""


@pytest.fixture
def start_child(skin: ImageDataset, home: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that prepare the dataset; they write a byte for each decoded image into the file `log`."""
    started: list[subprocess.Popen[str]] = []

    def start(stuck_at: int = 0) -> subprocess.Popen[str]:
        arguments = [str(tmp_path / "skin"), str(home), str(tmp_path / "log"), str(stuck_at)]
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        started.append(process)
        assert line_of(process) == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_process_loses_no_image_that_reached_the_disk(
    skin: ImageDataset, home: Path, start_child: Callable[..., subprocess.Popen[str]]
) -> None:
    child, folder = start_child(stuck_at=100), unfinished(skin, home)
    go_on(child)
    assert line_of(child) == "stuck\n"
    wait_until(lambda: count_journal(folder) == 64)
    child.kill()
    child.communicate()
    assert_only_unfinished(skin, home)
    told: list[tuple[int, int]] = []
    prepared, decoded = prepare_counted(skin, home, progress=lambda done, total: told.append((done, total)))
    assert decoded == 150 - 64
    assert told == [(64, 150), (96, 150), (128, 150), (150, 150)]
    assert_right(prepared, skin)
    assert verify_prepared(home, prepared.fingerprint, SIZE)
    assert not unfinished(skin, home).exists()


def test_an_interrupt_loses_nothing(skin: ImageDataset, home: Path) -> None:
    interrupt(skin, home)
    assert_only_unfinished(skin, home)
    assert count_journal(unfinished(skin, home)) == 96
    prepared, decoded = prepare_counted(skin, home)
    assert decoded == 150 - 96
    assert_right(prepared, skin)


def test_it_can_be_interrupted_many_times(skin: ImageDataset, home: Path) -> None:
    interrupt(skin, home, after=32)
    interrupt(skin, home, after=64)
    interrupt(skin, home, after=128)
    assert_only_unfinished(skin, home)
    assert prepare_counted(skin, home, workers=2)[1] == 150 - 128


def test_exact_and_scaled_images_are_not_mixed(skin: ImageDataset, home: Path) -> None:
    interrupt(skin, home)
    assert prepare_counted(skin, home, exact=True)[1] == 150
    assert prepare_counted(skin, home)[1] == 150 - 96


def test_a_reader_that_left_is_not_the_disks_fault(skin: ImageDataset, home: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    fingerprint = content_fingerprint(skin)
    with pytest.raises(BrokenPipeError):
        prepare(skin, SIZE, home, fingerprint=fingerprint, progress=progress)
    assert_only_unfinished(skin, home)


def tear(folder: Path) -> None:
    os.truncate(folder / "images.sums", (folder / "images.sums").stat().st_size - 50)


def fill_with_zeros(folder: Path) -> None:
    journal = (folder / "images.sums").read_bytes()
    (folder / "images.sums").write_bytes(journal[:-83] + b"\0" * 300)


def lose_pixels(folder: Path) -> None:
    """Set the last row of the image 95, which the journal names last, to zero."""
    path = folder / "images.npy"
    data = bytearray(path.read_bytes())
    end = 128 + 96 * SIZE * SIZE * 3
    data[end - 72 : end] = bytes(72)
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [tear, fill_with_zeros, lose_pixels])
def test_what_did_not_survive_a_power_cut_is_decoded_again(
    skin: ImageDataset, home: Path, damage: Callable[[Path], None]
) -> None:
    interrupt(skin, home)
    damage(unfinished(skin, home))
    prepared, decoded = prepare_counted(skin, home)
    assert decoded == 150 - 95
    assert_right(prepared, skin)
    assert verify_prepared(home, prepared.fingerprint, SIZE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "images.sums").unlink(),
        lambda folder: (folder / "images.sums").write_bytes(b"another journal\n" * 500),
        lambda folder: (folder / "images.npy").unlink(),
        lambda folder: (folder / "images.npy").write_bytes(b"x" * 500_000),
        lambda folder: (shutil.rmtree(folder), folder.write_text("a file in its place")),
    ],
)
def test_an_unusable_part_is_started_over(skin: ImageDataset, home: Path, damage: Callable[[Path], None]) -> None:
    interrupt(skin, home)
    damage(unfinished(skin, home))
    prepared, decoded = prepare_counted(skin, home)
    assert decoded == 150
    assert_right(prepared, skin)


@pytest.mark.parametrize("workers", [1, 3])
def test_broken_images_are_named_together_and_the_good_ones_are_kept(
    skin: ImageDataset, home: Path, tmp_path: Path, workers: int
) -> None:
    broken = write_broken_files(tmp_path / "skin" / "NV")
    (tmp_path / "skin" / "NV" / "heavy.tif").unlink()
    dataset = folder_dataset(tmp_path / "skin")
    with pytest.raises(DataError) as caught:
        prepare_counted(dataset, home, workers=workers)
    message = str(caught.value)
    assert message.startswith(f"skin: {len(broken) - 1} images of {150 + len(broken) - 1} cannot be used: ")
    assert "NV/bit-flip.png is damaged" in message
    assert "NV/empty.jpg is empty" in message
    assert message.endswith("and 2 more; replace or remove them")
    assert_only_unfinished(dataset, home)
    assert count_journal(unfinished(dataset, home)) == 150
    with pytest.raises(DataError) as caught:
        prepare_counted(dataset, home, workers=workers)
    assert str(caught.value) == message


def test_an_image_that_could_not_be_read_for_a_while_is_all_that_is_decoded(skin: ImageDataset, home: Path) -> None:
    fingerprint = content_fingerprint(skin)

    def read(index: int) -> bytes:
        if index == 70:
            raise BrokenImageError("cannot be read: Stale file handle")
        return skin.read(index)

    with pytest.raises(DataError, match="1 image of 150 cannot be used"):
        prepare(replace(skin, read=read), SIZE, home, fingerprint=fingerprint)
    prepared, decoded = prepare_counted(skin, home, fingerprint)
    assert decoded == 1
    assert_right(prepared, skin)


def test_images_that_change_after_the_fingerprint_are_noticed(skin: ImageDataset, home: Path, tmp_path: Path) -> None:
    for path in skin.files or ():
        os.utime(path, (1e9, 1e9))
    fingerprint = content_fingerprint(skin, cache_dir=home)
    path = tmp_path / "skin" / "NV" / "003.png"
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match="skin: images changed while they were read; start again"):
        prepare(skin, SIZE, home, fingerprint=fingerprint)
    assert [item for item in home.iterdir() if item.suffix != ".lock"] == []
    again = content_fingerprint(skin, cache_dir=home)
    assert again != fingerprint
    assert_right(prepare(skin, SIZE, home, fingerprint=again), skin)


def test_an_image_that_changes_before_it_is_decoded_is_noticed(skin: ImageDataset, home: Path, tmp_path: Path) -> None:
    fingerprint = content_fingerprint(skin)
    interrupt(skin, home)
    write_picture(tmp_path / "skin" / "NV" / "139.png", 9999)
    with pytest.raises(DataError, match="images changed while they were read"):
        prepare(skin, SIZE, home, fingerprint=fingerprint)
    assert open_prepared(home, fingerprint, SIZE) is None


def test_an_image_that_changes_after_it_is_decoded_belongs_to_another_fingerprint(
    skin: ImageDataset, home: Path, tmp_path: Path
) -> None:
    fingerprint = content_fingerprint(skin)
    original = skin.decode(skin.read(0), SIZE)
    interrupt(skin, home)
    write_picture(tmp_path / "skin" / "DF" / "000.png", 9999)
    changed, decoded = prepare_counted(skin, home)
    assert decoded == 150
    assert_right(changed, skin)
    before, decoded = prepare_counted(skin, home, fingerprint)
    assert decoded == 150 - 96
    assert np.array_equal(before.images[0], original)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Lets no file of this process grow beyond 100,000 bytes, like a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
def test_a_disk_that_fills_up_half_way_loses_nothing(skin: ImageDataset, home: Path) -> None:
    with pytest.raises(DataError, match=r"cannot write the image cache in .*cache: File too large; make room there"):
        prepare_counted(skin, home)
    assert_only_unfinished(skin, home)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    prepared, decoded = prepare_counted(skin, home)
    fitted = (100_000 - 128) // (SIZE * SIZE * 3)
    assert 0 <= decoded - (150 - fitted) < 4
    assert_right(prepared, skin)


@pytest.mark.parametrize(("call", "left"), [("fsync", 150), ("rename", 0)])
def test_a_full_disk_is_said_and_the_next_call_goes_on(
    skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch, call: str, left: int
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(DataError) as caught:
            prepare_counted(skin, home)
    assert str(caught.value) == (
        f"cannot write the image cache in {home}: No space left on device; make room there, or set LMF_HOME to a "
        "folder on a disk that can be written and has room"
    )
    assert_only_unfinished(skin, home)
    assert prepare_counted(skin, home)[1] == left


def test_no_thread_writes_after_an_error(skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    fsync = os.fsync

    def fail_later(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises(DataError) as caught:
        prepare_counted(skin, home, workers=2)
    assert "Input/output error" in str(caught.value)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("lmf-images")] == []


def test_room_is_needed_only_for_what_is_missing(
    skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(skin, home)
    usage = type(shutil.disk_usage(home))
    missing = (150 - 96) * SIZE * SIZE * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, missing + 2**20 - 1))
    with pytest.raises(DataError, match=r"need 0\.1 MB in .*cache, where 1\.1 MB are free"):
        prepare_counted(skin, home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, missing + 2**20))
    assert prepare_counted(skin, home)[1] == 150 - 96


def test_a_home_that_cannot_be_written(skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.parent.write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot write the image cache in .*cache: Not a directory; .*LMF_HOME"):
        prepare_counted(skin, home)
    home.parent.unlink()

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match="Read-only file system; "):
        prepare_counted(skin, home)


def test_processes_that_prepare_at_once_decode_each_image_once(
    skin: ImageDataset, home: Path, tmp_path: Path, start_child: Callable[..., subprocess.Popen[str]]
) -> None:
    first, *others = start_child(stuck_at=50), start_child(), start_child()
    go_on(first)
    assert line_of(first) == "stuck\n"
    for other in others:
        go_on(other)
    go_on(first)
    ends = [process.communicate(timeout=60) for process in (first, *others)]
    expected = int(sum(int(skin.decode(skin.read(index), SIZE).sum()) for index in range(150)))
    assert ends == [(f"{expected}\n", "")] * 3
    assert (tmp_path / "log").stat().st_size == 150
    assert not unfinished(skin, home).exists()


def test_who_waits_shows_the_others_progress_and_takes_its_result(skin: ImageDataset, home: Path) -> None:
    fingerprint, folder = content_fingerprint(skin), unfinished(skin, home)
    released = threading.Event()

    def slow(data: bytes, size: int, exact: bool = False) -> np.ndarray:
        if count_journal(folder) == 128:
            assert released.wait(timeout=60)
        return skin.decode(data, size, exact)

    def progress(done: int, total: int) -> None:
        if (done, total) == (128, 150):
            released.set()

    def never(*args: object) -> Any:
        raise AssertionError("an image was decoded twice")

    results: list[Prepared] = []
    first = threading.Thread(
        target=lambda: results.append(prepare(replace(skin, decode=slow), SIZE, home, fingerprint=fingerprint))
    )
    first.start()
    wait_until(lambda: count_journal(folder) == 128)
    second = prepare(replace(skin, decode=never, read=never), SIZE, home, fingerprint=fingerprint, progress=progress)
    first.join(timeout=60)
    assert len(results) == 1
    assert_right(second, skin)


def test_other_images_do_not_wait(skin: ImageDataset, home: Path) -> None:
    home.mkdir(parents=True)
    with hold(home, target(skin, home).name) as held:
        assert held
        assert prepare_counted(skin, home, exact=True)[1] == 150


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no locks."""

    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_each_process_decodes_for_itself(
    skin: ImageDataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = content_fingerprint(skin)
    rename = os.rename
    inodes: list[int] = []

    def late(source: Path, place: Path) -> None:
        if not inodes:
            inodes.append(0)
            prepare(skin, SIZE, home, fingerprint=fingerprint)
            inodes[0] = (place / "images.npy").stat().st_ino
        rename(source, place)

    monkeypatch.setattr(os, "rename", late)
    prepared = prepare(skin, SIZE, home, fingerprint=fingerprint)
    assert_right(prepared, skin)
    assert list(home.iterdir()) == [target(skin, home)]
    assert (target(skin, home) / "images.npy").stat().st_ino == inodes[0]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nothing_unfinished_is_left(skin: ImageDataset, home: Path) -> None:
    interrupt(skin, home)
    assert list(home.iterdir()) == []
    assert prepare_counted(skin, home)[1] == 150
