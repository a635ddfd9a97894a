"""A full disk: one clear line, and nothing half-written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lmf_testing.cli import Lmf, run_lmf

from storage.database import Database
from storage.queries import list_studies, read_study

SHORT = ("--settings", "joint", "--grid", "1.0", "--epochs", "1", "--workers", "1", "--threads", "1")
Disk = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Makes small disks of a given size."""
    made: list[Path] = []

    def make(size: str) -> Path:
        folder = tmp_path / f"disk-{len(made)}"
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        if mounted.returncode:
            pytest.skip("this machine lets nobody mount a small disk")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "-l", folder], check=True)


def test_no_room_for_the_decoded_images(lmf: Lmf, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    home = disk("1m") / "home"
    monkeypatch.setenv("LMF_HOME", str(home))
    monkeypatch.setenv("LMF_STORAGE", f"sqlite:///{home.parent.parent / 'elsewhere.db'}")
    line = lmf("run", "digits-lt", *SHORT).refusal()
    assert "LMF_HOME" in line
    assert str(home) in line
    assert [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_no_room_for_the_database(lmf: Lmf, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = disk("100k")
    monkeypatch.setenv("LMF_STORAGE", f"sqlite:///{folder / 'lmf.db'}")
    line = lmf("run", "digits-lt", *SHORT).refusal()
    assert str(folder) in line
    assert "room" in line


def test_no_room_for_checkpoints_and_files_fails_the_point(disk: Disk, tmp_path: Path) -> None:
    folder = disk("200k")
    home = tmp_path / "home"
    ran = run_lmf(home, "run", "digits-lt", *SHORT, changes={"LMF_ARTIFACTS": str(folder)})
    assert ran.code == 1, (ran.out, ran.err)
    assert "No space left on device" in ran.out
    assert str(folder) in ran.out
    assert list(folder.iterdir()) == [], "nothing half-written is left"
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    (study,) = list_studies(database)
    (point,) = read_study(database, study).points
    assert (point.state, point.attempts, point.scores) == ("failed", 2, None)
    database.close()
