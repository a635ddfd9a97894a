"""Images decoded so far, and the journal of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from trainer.data.unfinished import Sums, Unfinished, count_journal, journal_header, read_journal, sound_images

FINGERPRINT = "ab" * 32


def open_part(folder: Path, num_images: int = 100) -> Unfinished:
    return Unfinished(folder, FINGERPRINT, 4, False, num_images)


def add(part: Unfinished, index: int) -> None:
    """Write an image of one grey and take it down."""
    pixels = np.full((4, 4, 3), index, dtype=np.uint8)
    part.record(index, Sums(bytes([index]) * 32, part.write(index, pixels)))


def test_what_is_recorded_is_there_again_in_any_order(tmp_path: Path) -> None:
    folder = tmp_path / "part"
    with open_part(folder) as part:
        for index in (99, 0, 50):
            add(part, index)
    again = open_part(folder)
    assert again.done.keys() == {0, 50, 99}
    assert again.done[50].source == bytes([50]) * 32
    with again:
        for index in set(range(100)) - {0, 50, 99}:
            add(again, index)
    images = np.load(folder / "images.npy")
    assert images.shape == (100, 4, 4, 3)
    assert (images == np.arange(100).reshape(100, 1, 1, 1)).all()


def test_looking_writes_nothing(tmp_path: Path) -> None:
    assert open_part(tmp_path / "part").done == {}
    assert not (tmp_path / "part").exists()


def test_pixels_that_are_not_recorded_do_not_count(tmp_path: Path) -> None:
    with open_part(tmp_path) as part:
        add(part, 1)
        part.write(2, np.zeros((4, 4, 3), dtype=np.uint8))
    assert open_part(tmp_path).done.keys() == {1}


def test_the_journal_follows_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        fsync(descriptor)
        name = os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2]
        flushed.append(f"{name} {count_journal(tmp_path)}")

    with open_part(tmp_path) as part:
        monkeypatch.setattr(os, "fsync", spy)
        for index in range(70):
            add(part, index)
    assert flushed == ["images.npy 0", "images.sums 64", "images.npy 64", "images.sums 70"]


def test_images_beyond_the_last_are_passed_over(tmp_path: Path) -> None:
    with open_part(tmp_path) as part:
        add(part, 3)
        add(part, 99)
    assert open_part(tmp_path, num_images=50).done.keys() == {3}


@pytest.mark.parametrize(
    ("fingerprint", "size", "exact"), [("cd" * 32, 4, False), (FINGERPRINT, 5, False), (FINGERPRINT, 4, True)]
)
def test_a_journal_of_other_images_is_none(tmp_path: Path, fingerprint: str, size: int, exact: bool) -> None:
    with open_part(tmp_path) as part:
        add(part, 3)
    assert Unfinished(tmp_path, fingerprint, size, exact, 100).done == {}


def test_a_torn_line_and_what_follows_it_are_passed_over(tmp_path: Path) -> None:
    header = journal_header(FINGERPRINT, 4, False)
    with open_part(tmp_path) as part:
        for index in range(3):
            add(part, index)
    path = tmp_path / "images.sums"
    data = path.read_bytes()
    line = (len(data) - len(header)) // 3
    path.write_bytes(data[: len(header) + line + 10] + data[len(header) + 2 * line :])
    assert read_journal(path, header).keys() == {0}
    with open_part(tmp_path) as part:
        assert part.done.keys() == {0}
        add(part, 7)
    assert read_journal(path, header).keys() == {0, 7}


def test_changed_pixels_are_found(tmp_path: Path) -> None:
    with open_part(tmp_path) as part:
        for index in range(3):
            add(part, index)
    path = tmp_path / "images.npy"
    data = bytearray(path.read_bytes())
    data[128 + 48] ^= 1
    path.write_bytes(data)
    assert list(sound_images(path, 128, 48, part.done)) == [(0, True), (1, False), (2, True)]
    assert open_part(tmp_path).done.keys() == {0, 2}
    assert not any(is_sound for _, is_sound in sound_images(tmp_path / "absent", 128, 48, part.done))


def test_progress_is_told_while_images_are_read_again(tmp_path: Path) -> None:
    with open_part(tmp_path) as part:
        for index in range(70):
            add(part, index)
    told: list[tuple[int, int]] = []
    Unfinished(tmp_path, FINGERPRINT, 4, False, 100, lambda done, total: told.append((done, total)))
    assert told == [(64, 100)]


def test_a_count_is_known_while_another_process_writes(tmp_path: Path) -> None:
    assert count_journal(tmp_path / "absent") == 0
    with open_part(tmp_path) as part:
        assert count_journal(tmp_path) == 0
        for index in range(64):
            add(part, index)
        assert count_journal(tmp_path) == 64
