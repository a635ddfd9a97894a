"""Copying the files of a study to another place."""

from __future__ import annotations

import pytest
from lmf_testing.history import WEIGHTS, begin, complete, make_history

from storage.artifacts import Artifacts
from storage.errors import StorageError
from storage.file_copying import copy_files, stored_digest
from storage.file_names import checkpoint_id

STUDY = "skin-small"


@pytest.fixture
def lab(sqlite_lab):
    """A lab on one backend: files are no business of the database."""
    yield sqlite_lab
    sqlite_lab.clear()


@pytest.fixture
def places(tmp_path):
    """A store with files and an empty one."""
    source, target = (Artifacts.open(str(tmp_path / name)) for name in ("source", "target"))
    for name in ("file-0", "file-1", WEIGHTS, "of another study"):
        (tmp_path / "body").write_text(f"content of {name}")
        source.put(name, tmp_path / "body")
    return source, target


def test_files_weights_and_checkpoints_arrive_once(lab, places, tmp_path):
    source, target = places
    study_id = lab.plan(3)
    complete(lab, study_id, 0.5, WEIGHTS)
    complete(lab, study_id, 0.5)
    (tmp_path / "body").write_text("checkpoint")
    checkpoint = checkpoint_id(begin(lab, study_id).token)
    source.put(checkpoint, tmp_path / "body")
    first = copy_files(lab.database, STUDY, source, target, tmp_path / "scratch")
    sizes = sum((tmp_path / "source" / name).stat().st_size for name in ("file-0", "file-1", WEIGHTS, checkpoint))
    assert (first.copied, first.bytes, first.present, first.missing) == (4, sizes, 0, ())
    for name in ("file-0", "file-1", WEIGHTS, checkpoint):
        assert (tmp_path / "target" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
    assert stored_digest(target, "of another study") is None
    (tmp_path / "target" / "file-1").write_text("spoilt")
    again = copy_files(lab.database, STUDY, source, target, tmp_path / "scratch")
    assert (again.copied, again.present) == (1, 3)
    assert (tmp_path / "target" / "file-1").read_text() == "content of file-1"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_missing_files_are_named_and_missing_checkpoints_are_not(lab, places, tmp_path):
    make_history(lab)
    found = copy_files(lab.database, STUDY, *places, tmp_path / "scratch")
    assert (found.copied, found.missing) == (3, ("file-8",))


def test_one_place_is_refused(lab, places, tmp_path):
    make_history(lab)
    (tmp_path / "link").symlink_to(tmp_path / "source")
    with pytest.raises(StorageError, match="the files of trials are here already"):
        copy_files(lab.database, STUDY, places[0], Artifacts.open(str(tmp_path / "link")), tmp_path / "scratch")


def test_a_store_that_gives_back_something_else(lab, places, tmp_path, monkeypatch):
    make_history(lab)
    source, target = places
    write = type(target.store).write

    def spoil(store, artifact_id, body):
        write(store, artifact_id, body)
        store.path_of(artifact_id).write_text("spoilt")

    monkeypatch.setattr(type(target.store), "write", spoil)
    with pytest.raises(StorageError, match="reads back with another content; copy again"):
        copy_files(lab.database, STUDY, source, target, tmp_path / "scratch")
