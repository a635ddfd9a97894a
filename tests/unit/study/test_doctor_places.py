"""What the doctor says of folders, settings and memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from storage.artifacts import Artifacts, FolderStore
from storage.errors import StorageError
from storage.queries import WorkerRecord
from study.doctor.diagnosis import Level
from study.doctor.mounts import Mount, read_mounts
from study.doctor.places import (
    LITTLE_SHARED_BYTES,
    SPARE_BYTES,
    Memory,
    check_artifacts,
    check_cache,
    check_disk,
    check_home,
    check_settings,
    judge_memory,
    others_can_read,
    read_memory,
)
from study.home import Home
from trainer.data.cache_folder import META, partial_name, prepared_name

URL = "postgresql+psycopg://lmf:hidden@db/lmf"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", "sqlite://", str(tmp_path / "home" / "artifacts"))


@pytest.fixture
def open_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that others can enter, as far as the tests' own folder goes."""
    mode = tmp_path.stat().st_mode
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    changed = [place for place in folder.parents if not place.stat().st_mode & 0o001]
    before = {place: place.stat().st_mode for place in changed}
    for place in changed:
        place.chmod(before[place] | 0o001)
    yield folder
    for place, old in before.items():
        place.chmod(old)
    tmp_path.chmod(mode)


def worker(host: str) -> WorkerRecord:
    return WorkerRecord(f"{host}:1:2", host, 1, "cpu", "idle", 5.0, None, None, None)


def write(folder: Path, name: str, mode: int) -> Path:
    path = folder / name
    path.write_text(URL)
    path.chmod(mode)
    return path


def test_settings_that_are_fine_are_named_without_their_values() -> None:
    (found,) = check_settings(None, {"LMF_STORAGE": URL, "LMF_HOME": "/x"})
    assert (found.level, found.found) == (Level.OK, "set by environment: LMF_HOME, LMF_STORAGE")
    assert next(check_settings("sqlite:///x.db", {})).found == "set by environment: none"


def test_a_password_on_the_command_line_is_warned_of() -> None:
    (found,) = check_settings(URL, {})
    assert found.level == Level.WARNING
    assert "`ps`" in found.found
    assert "hidden" not in found.found + found.advice
    assert next(check_settings("no url", {})).level == Level.OK


def test_two_places_of_the_url_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path, "url", 0o600)
    (found,) = check_settings(None, {"LMF_STORAGE": URL, "LMF_STORAGE_FILE": str(path)})
    assert (found.level, found.advice) == (Level.WARNING, "unset one of them")


@pytest.mark.parametrize("variable", ["LMF_STORAGE_FILE", "LMF_STORAGE_PASSWORD_FILE", "PGPASSFILE"])
def test_a_secret_that_others_can_read_is_warned_of(open_folder: Path, variable: str) -> None:
    path = write(open_folder, "secret", 0o644)
    (found,) = check_settings(None, {variable: str(path)})
    assert (found.level, found.advice) == (Level.WARNING, f"chmod 600 {path}")
    path.chmod(0o600)
    (fine,) = check_settings(None, {variable: str(path)})
    assert fine.level == Level.OK


def test_a_folder_that_others_cannot_enter_protects_what_is_in_it(open_folder: Path) -> None:
    folder = open_folder / "secrets"
    folder.mkdir()
    path = write(folder, "password", 0o444)
    assert others_can_read(path)
    folder.chmod(0o700)
    assert not others_can_read(path)


def test_secrets_of_a_container_are_its_own(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(open_folder, "password", 0o444)
    monkeypatch.setattr("study.doctor.places.CONTAINER_SECRETS", open_folder)
    assert not others_can_read(path)


def test_a_home_is_there_or_can_be_made(home: Home, tmp_path: Path) -> None:
    assert next(check_home(home)).found == f"{home.root} is made when it is needed"
    home.root.mkdir()
    assert next(check_home(home)).found == str(home.root)
    file = tmp_path / "file"
    file.touch()
    bad = next(check_home(Home(file / "home", "sqlite://", str(tmp_path))))
    assert (bad.level, bad.found) == (Level.PROBLEM, f"{file} is no folder")


def test_folders_that_cannot_be_written_are_problems(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.cache.mkdir(parents=True)
    monkeypatch.setattr("os.access", lambda *_: False)
    for found in (next(check_home(home)), next(check_cache(home)), next(check_artifacts(home, (), ()))):
        assert found.level == Level.PROBLEM
        assert "cannot be written" in found.found


def test_the_cache_is_counted_and_what_is_unfinished_told(home: Home) -> None:
    assert next(check_cache(home)).found.startswith("0 sets of decoded images, 0 kB")
    assert not home.root.exists()
    done = prepared_name("a" * 64, 32, False)
    for name in (done, partial_name(prepared_name("b" * 64, 32, False))):
        (home.cache / name).mkdir(parents=True)
        (home.cache / name / META).write_bytes(bytes(4096))
    found = next(check_cache(home))
    assert found.level == Level.WARNING
    assert found.found.startswith("1 set of decoded images, 8 kB; 1 unfinished")
    shutil.rmtree(home.cache / partial_name(prepared_name("b" * 64, 32, False)))
    assert next(check_cache(home)).level == Level.OK


def test_artifacts_are_written_and_removed(home: Home) -> None:
    assert next(check_artifacts(home, read_mounts(), ())).found.endswith("made when it is needed")
    assert not home.root.exists()
    Path(home.artifacts).mkdir(parents=True)
    assert next(check_artifacts(home, read_mounts(), ())).level == Level.OK
    assert list(Path(home.artifacts).iterdir()) == []


def test_a_store_that_loses_files_is_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(home.artifacts).mkdir(parents=True)
    monkeypatch.setattr(FolderStore, "write", lambda *_: None)
    with pytest.raises(StorageError, match="what was stored is not there"):
        list(check_artifacts(home, read_mounts(), ()))


def test_a_store_that_is_no_folder_is_asked_too(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = Artifacts.open(str(tmp_path / "bucket"))
    monkeypatch.setattr(Artifacts, "open", lambda location: store)
    (found,) = check_artifacts(Home(home.root, "sqlite://", "s3://bucket"), (), (worker("a"), worker("b")))
    assert (found.level, found.found) == (Level.OK, "s3://bucket: a file was stored, read back and removed")
    assert list((tmp_path / "bucket").iterdir()) == []


def test_a_folder_of_one_machine_is_warned_of_where_several_work(home: Home) -> None:
    both = (worker("a"), worker("b"))
    found = next(check_artifacts(home, (Mount("/", "ext4"),), both))
    assert found.level == Level.WARNING
    assert "2 machines work (a, b)" in found.found
    assert next(check_artifacts(home, (Mount("/", "ext4"),), (worker("a"), worker("a")))).level == Level.OK
    assert next(check_artifacts(home, (Mount("/", "nfs4"),), both)).level == Level.OK


def test_a_kind_of_store_that_is_unknown_is_refused(home: Home) -> None:
    with pytest.raises(StorageError, match=r"gs:// is not supported"):
        list(check_artifacts(Home(home.root, "sqlite://", "gs://bucket"), (), ()))


@pytest.mark.parametrize(
    ("free", "level"), [(10**13, Level.OK), (SPARE_BYTES + 10**8, Level.WARNING), (10**7, Level.PROBLEM)]
)
def test_disks_have_room_for_checkpoints(home: Home, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**14, 0, free))
    (found, *_) = check_disk(home, workers=4)
    assert found.level == level
    assert "LMF_HOME" in found.found
    if level != Level.OK:
        assert "checkpoints of 4 workers may take 2.6 GB" in found.found


def test_the_weights_that_are_there_tell_what_a_checkpoint_takes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**14, 0, 10**9))
    home.weights.mkdir(parents=True)
    with (home.weights / "big.safetensors").open("wb") as file:
        file.truncate(500_000_000)
    assert "checkpoints of 2 workers may take 5.0 GB" in next(check_disk(home, workers=2)).found


def test_memory_is_told_and_limits_count(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    assert read_memory(limit).limit is None
    limit.write_text("max\n")
    assert read_memory(limit).limit is None
    limit.write_text("1500000000\n")
    found = read_memory(limit, shared=tmp_path / "none")
    assert (found.limit, found.shared) == (1_500_000_000, None)
    assert found.total >= found.available > 0


def test_little_memory_is_warned_of() -> None:
    assert [found.level for found in judge_memory(Memory(10**11, 10**11, None, 10**9))] == [Level.OK]
    for memory in (Memory(10**11, 10**9, None, None), Memory(10**11, 10**11, 10**9, None)):
        (found,) = judge_memory(memory)
        assert (found.check, found.level) == ("memory", Level.WARNING)
    fine, shared = judge_memory(Memory(10**11, 10**11, None, LITTLE_SHARED_BYTES - 1))
    assert (fine.level, shared.check, shared.level) == (Level.OK, "shared memory", Level.WARNING)
