"""Reading all images in threads."""

from __future__ import annotations

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from lmf_testing.images import folder_dataset, write_broken_files, write_classes

from trainer.data.dataset import ImageDataset
from trainer.data.images import BrokenImageError
from trainer.data.scan import scan_images, scan_some
from trainer.errors import DataError


@pytest.fixture
def skin(tmp_path: Path) -> ImageDataset:
    """45 pictures in two classes."""
    return folder_dataset(write_classes(tmp_path / "skin", {"NV": 40, "DF": 5}))


def test_results_come_in_order_and_progress_is_told(skin: ImageDataset) -> None:
    told: list[tuple[int, int]] = []
    results = list(scan_images(skin, len, workers=2, progress=lambda done, total: told.append((done, total))))
    assert results == [len(skin.read(index)) for index in range(45)]
    assert told == [(32, 45), (45, 45)]


def test_some_images_are_a_part_of_all(skin: ImageDataset) -> None:
    told: list[tuple[int, int]] = []
    asked = [44, 3, *range(10, 20)]
    results = scan_some(
        skin, asked, lambda index: index * 2, workers=2, progress=lambda done, total: told.append((done, total))
    )
    assert list(results) == [(index, index * 2) for index in asked]
    assert told == [(45, 45)]


def test_a_slow_image_does_not_stop_the_other_threads(skin: ImageDataset) -> None:
    others = threading.Event()
    lock = threading.Lock()
    seen: set[int] = set()

    def work(index: int) -> bool:
        if index == 0:
            return others.wait(timeout=60)
        with lock:
            seen.add(index)
            if len(seen) >= 20:
                others.set()
        return True

    assert next(scan_some(skin, range(45), work, workers=2)) == (0, True)


def test_threads_do_not_run_far_ahead_of_what_is_taken(skin: ImageDataset) -> None:
    started: list[int] = []
    results = scan_some(skin, range(45), started.append, workers=1)
    next(results)
    end = time.monotonic() + 60
    while len(started) < 16 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(started) == 16
    results.close()


def test_what_nobody_takes_any_more_is_not_begun(skin: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    closing = threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def work(index: int) -> None:
        started.append(index)
        if index >= 4:
            closing.wait(timeout=60)

    def watched(self: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shutdown(self, wait=False, cancel_futures=cancel_futures)
        closing.set()
        shutdown(self, wait=wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", watched)
    results = scan_some(skin, range(45), work, workers=1)
    next(results)
    results.close()
    assert started in ([*range(4)], [*range(8)])


def test_broken_images_are_named_together_at_the_end(skin: ImageDataset) -> None:
    def work(index: int) -> int:
        if index % 20 == 7:
            raise BrokenImageError("is odd")
        return index

    results: list[tuple[int, int]] = []
    with pytest.raises(DataError) as caught:
        results.extend(scan_some(skin, range(45), work, workers=2))
    assert results == [(index, index) for index in range(45) if index not in (7, 27)]
    names = skin.image_names
    assert str(caught.value) == (
        f"skin: 2 images of 45 cannot be used: {names[7]} is odd; {names[27]} is odd; replace or remove them"
    )


def test_the_first_five_of_many_are_named(tmp_path: Path, skin: ImageDataset) -> None:
    expected = write_broken_files(tmp_path / "skin" / "DF")
    dataset = folder_dataset(tmp_path / "skin")
    with pytest.raises(DataError) as caught:
        list(scan_images(dataset, lambda data: dataset.decode(data, 8), workers=2))
    message = str(caught.value)
    assert f"{len(expected)} images of {45 + len(expected)} cannot be used: DF/bit-flip.png is damaged" in message
    assert message.endswith("; and 3 more; replace or remove them")
    assert [name for name in expected if f"DF/{name} " in message] == sorted(expected)[:5]
    assert "\n" not in message


def test_what_an_image_library_only_warns_of_stops_nothing(skin: ImageDataset) -> None:
    def warn(data: bytes) -> int:
        warnings.warn("odd metadata", stacklevel=1)
        return 1

    assert list(scan_images(skin, warn, workers=2)) == [1] * 45


def test_another_error_ends_it_at_once(skin: ImageDataset) -> None:
    def fail(index: int) -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(scan_images(replace(skin, read=fail), len, workers=2))
