"""Files that are added to complete points later: replaced together, known to all that handle a study's files."""

from __future__ import annotations

import json

import pytest

from storage.added_files import AddedFile, replace_added_files, show_with_study
from storage.artifacts import Artifacts
from storage.copying import copy_study
from storage.errors import StorageError, StorageUnavailableError
from storage.file_checks import check_files
from storage.file_copying import copy_files
from storage.file_names import describe_file
from storage.files_of_points import read_files
from storage.planning import delete_study
from storage.queries import read_artifact_ids

STUDY = "skin-small"
PREFIX = "extra"


class Box:
    """A study whose points have predictions, and a store."""

    def __init__(self, lab, folder, plan=False):
        self.lab = lab
        self.folder = folder
        self.store = Artifacts.open(str(folder / "store"))
        self.study_id = lab.plan(3) if plan else lab.plant(3)
        self.leases = [self.complete(number) for number in range(2)]
        self.points = [lease.point_id for lease in self.leases]

    def complete(self, number):
        lease = self.lab.claim(self.study_id)
        path = self.folder / "predictions.csv"
        path.write_text(f"predictions {number}")
        self.store.put(f"predictions-{number}", path)
        files = [describe_file(f"predictions-{number}", path.name)]
        self.lab.ledger.finish(lease, 0.5, {"val": {}}, files, None)
        self.lab.ledger.close(lease)
        return lease

    def files(self, contents):
        made = []
        for number, (point, name) in enumerate(contents):
            path = self.folder / f"new-{number}" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(contents[point, name])
            made.append(AddedFile(self.points[point] if isinstance(point, int) else point.point_id, path))
        return made

    def add(self, contents, database=None, store=None):
        return replace_added_files(
            database or self.lab.database, store or self.store, STUDY, PREFIX, self.files(contents)
        )

    def texts(self):
        """What readers find, by point and name."""
        return {
            (self.points.index(point), name): self.store.local_path(artifact_id).read_text()
            for point, names in read_files(self.lab.database, STUDY).items()
            for name, artifact_id in names.items()
        }

    def stored(self):
        return sorted(path.name for path in (self.folder / "store").iterdir())


PREDICTIONS = {(0, "predictions.csv"): "predictions 0", (1, "predictions.csv"): "predictions 1"}
FIRST = {(0, "extra.json"): "one", (0, "extra-1.jpg"): "picture", (1, "extra.json"): "two"}


@pytest.fixture
def box(lab, tmp_path):
    return Box(lab, tmp_path)


def test_files_are_added_beside_those_of_the_training(box):
    entries = box.add(FIRST)
    assert box.texts() == PREDICTIONS | FIRST
    assert entries[box.points[0], "extra-1.jpg"]["mimetype"] == "image/jpeg"
    assert set(box.stored()) == set(read_artifact_ids(box.lab.database, STUDY))
    assert check_files(box.lab.database, box.store.location) == []


def test_files_replace_those_of_their_kind_on_all_points(box):
    box.add(FIRST)
    second = {(1, "extra.json"): "three"}
    box.add(second)
    assert box.texts() == PREDICTIONS | second
    assert set(box.stored()) == set(read_artifact_ids(box.lab.database, STUDY))


def test_the_same_files_again_change_nothing(box):
    first = box.add(FIRST)
    stored = box.stored()
    assert box.add(FIRST) == first
    assert box.stored() == stored
    assert box.texts() == PREDICTIONS | FIRST


def test_a_missing_file_is_found_by_the_check(box):
    entries = box.add(FIRST)
    box.store.remove(entries[box.points[0], "extra.json"]["artifact_id"])
    (finding,) = check_files(box.lab.database, box.store.location)
    assert "extra.json of trial 0" in finding.what


@pytest.mark.parametrize("error", [None, StorageUnavailableError("gone")])
def test_a_run_that_is_cut_short_leaves_the_old_or_the_new_and_is_done_again(box, cut_at, power_cut, error):
    box.add(FIRST)
    second = {(0, "extra.json"): "three", (1, "extra-1.jpg"): "four"}
    with pytest.raises(power_cut if error is None else StorageUnavailableError), cut_at(box.lab, 1, error):
        box.add(second)
    # The write is one transaction; where only its acknowledgement was lost, the new files are there, and stay.
    assert box.texts() == PREDICTIONS | (FIRST if error is None else second)
    box.add(second)
    assert box.texts() == PREDICTIONS | second
    assert set(box.stored()) >= set(read_artifact_ids(box.lab.database, STUDY))
    if error is None:
        assert set(box.stored()) == set(read_artifact_ids(box.lab.database, STUDY))


def test_a_store_that_cannot_be_written_leaves_the_old_files(box, monkeypatch):
    box.add(FIRST)
    before = box.stored()
    put = Artifacts.put
    written = []

    def full(self, artifact_id, path):
        if written:
            raise StorageError("no room")
        written.append(artifact_id)
        put(self, artifact_id, path)

    monkeypatch.setattr(Artifacts, "put", full)
    with pytest.raises(StorageError, match="no room"):
        box.add({(0, "extra.json"): "three", (1, "extra.json"): "four"})
    assert written
    assert box.texts() == PREDICTIONS | FIRST
    assert box.stored() == before


def test_only_complete_points_take_files(box):
    open_lease = box.lab.claim(box.study_id)
    with pytest.raises(StorageError, match=r"point p2 is running; files are added to complete ones"):
        box.add({(open_lease, "extra.json"): "early"})
    assert box.texts() == PREDICTIONS


def test_a_study_that_was_deleted_takes_no_files(lab, tmp_path):
    box = Box(lab, tmp_path, plan=True)
    for point, lease in zip(box.points, box.leases, strict=True):
        assert point == lease.point_id
    delete_study(lab.database, lab.mirror, STUDY)
    before = box.stored()
    with pytest.raises(StorageError, match="has changed meanwhile"):
        box.add(FIRST)
    assert box.stored() == before


def test_names_of_another_kind_are_a_mistake(box):
    with pytest.raises(ValueError, match="begin with extra"):
        box.add({(0, "scores.json"): "x"})


def test_added_files_are_copied_with_the_study(lab, tmp_path, make_lab, sqlite_template):
    box = Box(lab, tmp_path, plan=True)
    entries = box.add(FIRST)
    show_with_study(lab.mirror, STUDY, entries[box.points[0], "extra-1.jpg"])
    copy = tmp_path / "copy.db"
    copy.write_bytes(sqlite_template.read_bytes())
    target = make_lab(f"sqlite:///{copy}")
    copy_study(lab.database, target.database, STUDY)
    other = Artifacts.open(str(tmp_path / "other"))
    copied = copy_files(target.database, STUDY, box.store, other, tmp_path / "scratch")
    assert (copied.copied, copied.missing) == (5, ())
    assert check_files(target.database, other.location) == []


def test_a_study_shows_one_file_of_a_name_in_optuna(lab, tmp_path):
    box = Box(lab, tmp_path, plan=True)

    def shown():
        storage = lab.mirror.storage
        attributes = storage.get_study_system_attrs(storage.get_study_id_from_name(STUDY))
        found = [json.loads(value) for key, value in attributes.items() if key.startswith("artifacts:")]
        return [entry for entry in found if entry is not None]

    first = box.add(FIRST)[box.points[0], "extra-1.jpg"]
    show_with_study(lab.mirror, STUDY, first)
    show_with_study(lab.mirror, STUDY, first)
    assert shown() == [first]
    second = box.add({(0, "extra-1.jpg"): "another"})[box.points[0], "extra-1.jpg"]
    assert second["artifact_id"] != first["artifact_id"]
    show_with_study(lab.mirror, STUDY, second)
    assert shown() == [second]
    with pytest.raises(StorageError, match="Optuna's half of this study is gone"):
        show_with_study(lab.mirror, "nobody's", second)
