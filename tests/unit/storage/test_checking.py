"""What `check_database` finds, and that work under way is no finding."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from io import BytesIO

import pytest
import sqlalchemy as sa
from lmf_testing.history import WEIGHTS, begin, complete, make_history
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import TrialState, create_trial

from storage.artifacts import Artifacts
from storage.checking import check_database
from storage.copying import copy_study
from storage.database import Database
from storage.errors import StorageError
from storage.file_checks import is_stored
from storage.file_copying import copy_files
from storage.file_names import checkpoint_id
from storage.findings import ERROR, INFO
from storage.schema import AttemptRow, EpochRow, PointRow
from storage.trials import POINT_KEY

STUDY = "skin-small"


@pytest.fixture
def artifacts(tmp_path):
    """A store with all files of the history, and one that is nobody's."""
    store = Artifacts.open(str(tmp_path / "artifacts"))
    body = tmp_path / "body"
    for name in ("file-0", "file-1", "file-8", WEIGHTS, "strange"):
        body.write_text(name)
        store.put(name, body)
    return store


@pytest.fixture
def check(lab, artifacts):
    """Checks the lab's database; gives severity, place and what of each finding."""

    def run(severity=None):
        findings = check_database(lab.database, artifacts.location).findings
        return [(found.where, found.what) for found in findings if severity in (None, found.severity)]

    return run


def change(lab, row, **values):
    key = values.pop("key", None)
    with lab.database.begin() as connection:
        statement = sa.update(row)
        connection.execute((statement if key is None else statement.where(row.key == key)).values(values))


class TestWhole:
    def test_an_empty_database(self, lab, tmp_path):
        checked = check_database(lab.database, str(tmp_path / "none"))
        assert (checked.studies, checked.findings, checked.errors) == ((), (), 0)

    def test_all_that_can_happen_to_points_is_no_error(self, lab, artifacts):
        make_history(lab)
        checked = check_database(lab.database, artifacts.location)
        assert checked.studies == (STUDY,)
        assert checked.errors == 0
        [lost] = checked.findings
        assert (lost.severity, lost.where) == (INFO, "skin-small p6")
        assert lost.line.startswith("info: skin-small p6: the lease of elsewhere:")
        assert lost.line.endswith(" has run out; the next worker takes the point over; start one with `lmf worker`")

    def test_work_under_way_is_no_finding(self, lab, check):
        study_id = lab.plan(2)
        lease = lab.claim(study_id)
        assert check() == [], "claimed, the trial still waits"
        lab.mirror.start(lease.trial_id)
        assert check() == [], "the trial runs"
        lab.ledger.begin_training(lease, 0)
        lab.ledger.record_epochs(lease, [lab.epoch(1)])
        assert check() == [], "Optuna lacks an epoch"
        lab.ledger.finish(lease, 0.5, {"val": {"macro_f1": 0.5}}, [], None)
        assert check() == [], "scored, Optuna is not told"
        lab.mirror.tell(lease.trial_id, TrialState.COMPLETE, 0.5)
        assert check() == [], "told, the point is not closed"
        lab.ledger.release(lease)
        assert check() == [], "released in between"
        lab.finish(lab.claim(study_id))
        assert check() == []

    def test_a_copy_has_nothing_wrong(self, lab, tmp_path, artifacts, sqlite_url):
        make_history(lab)
        copy = Database.open(sqlite_url)
        copy_study(lab.database, copy, STUDY)
        place = Artifacts.open(str(tmp_path / "copies"))
        assert copy_files(copy, STUDY, artifacts, place, tmp_path / "scratch").copied == 4
        assert check_database(copy, place.location).errors == 0
        copy.close()


class TestLedgerAndOptuna:
    def test_a_trial_that_somebody_ended(self, lab, check):
        study_id = lab.plan(2)
        lab.mirror.tell(lab.trials(study_id)[1]._trial_id, TrialState.FAIL)
        assert check() == [("skin-small p1", "is waiting, but Optuna's trial 1 is FAIL")]

    def test_a_closed_point_that_optuna_does_not_know_of(self, lab, check):
        lab.complete(lab.plan(1))
        assert check() == [("skin-small p0", "is complete, but Optuna's trial 0 is WAITING")]

    def test_another_end(self, lab, check):
        lease = begin(lab, lab.plan(1))
        lab.mirror.tell(lease.trial_id, TrialState.PRUNED)
        lab.finish(lease)
        assert check() == [("skin-small p0", "is complete, but Optuna's trial 0 is PRUNED")]

    def test_an_outcome_that_optuna_contradicts(self, lab, check):
        lease = begin(lab, lab.plan(1))
        lab.ledger.prune(lease, "no hope")
        lab.mirror.tell(lease.trial_id, TrialState.FAIL)
        assert check() == [("skin-small p0", "is running, but Optuna's trial 0 is FAIL")]

    def test_another_value(self, lab, check):
        make_history(lab)
        change(lab, PointRow, key="p1", value=0.4)
        assert check(ERROR) == [("skin-small p1", f"scored 0.4, but Optuna's trial 1 has {1 / 3}")]

    def test_two_trials_for_a_point(self, lab, check):
        study_id = lab.plan(1)
        lab.mirror.add_waiting(lab.mirror.ensure_study(STUDY), "p0", 1.0, 1.0, {})
        assert len(lab.trials(study_id)) == 2
        assert check() == [("skin-small p0", "Optuna has 2 trials of it: 0, 1")]

    @pytest.mark.parametrize("attributes", [{}, {POINT_KEY: "p7"}, {POINT_KEY: "p0 retry=1"}])
    def test_a_trial_of_nobody(self, lab, check, attributes):
        lab.plan(1)
        stranger = create_trial(state=TrialState.WAITING, user_attrs=attributes)
        lab.mirror.storage.create_new_trial(lab.mirror.ensure_study(STUDY), stranger)
        assert check() == [(STUDY, "Optuna's trial 1 belongs to no point")]

    def test_a_point_whose_trial_is_another_points(self, lab, check):
        study_id = lab.plan(2)
        first, second = lab.trials(study_id)
        change(lab, PointRow, key="p0", trial_id=second._trial_id)
        change(lab, PointRow, key="p1", trial_number=first.number)
        what = "is not among Optuna's, or is another point's"
        assert check() == [("skin-small p0", f"its trial 0 {what}"), ("skin-small p1", f"its trial 0 {what}")]

    def test_a_study_that_was_deleted_in_optuna(self, lab, check):
        lab.plan(1)
        lab.mirror.delete_study(STUDY)
        assert check() == [(STUDY, "Optuna has no such study any more, or one of another name")]

    def test_a_study_that_only_optuna_has(self, lab, check):
        lab.mirror.ensure_study("mine")
        [(_, what)] = check(INFO)
        assert what == "Optuna has a study mine that the ledger does not have"
        assert check(ERROR) == []

    def test_a_point_without_its_trial(self, lab, check):
        lab.plan(1)
        change(lab, PointRow, trial_id=None, trial_number=None)
        assert check(INFO) == [("skin-small p0", "has no trial yet: planning was cut short")]
        change(lab, PointRow, state="failed")
        assert check(ERROR) == [("skin-small p0", "is failed without a trial")]

    def test_optunas_tables_are_gone(self, prepared_sqlite, make_lab, tmp_path):
        lab = make_lab(prepared_sqlite)
        with lab.database.begin() as connection:
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            for name in sa.inspect(connection).get_table_names():
                if name.startswith(("studies", "study_", "trial")):
                    connection.exec_driver_sql(f"DROP TABLE {name}")
        [found] = check_database(lab.database, str(tmp_path)).findings
        assert found.what == "Optuna's tables are missing from this database; `lmf db upgrade` makes them"


class TestLedgerItself:
    def test_an_epoch_too_few(self, lab, check):
        make_history(lab)
        with lab.database.begin() as connection:
            connection.execute(sa.delete(EpochRow).where(EpochRow.epoch == 2))
        what = "says that epoch 2 was the last, but epoch 1 is"
        assert check(ERROR) == [(f"skin-small {key}", what) for key in ("p0", "p1", "p3")]

    def test_complete_without_scores(self, lab, check):
        complete(lab, lab.plan(1), 0.5)
        change(lab, PointRow, scores=sa.null())
        assert ("skin-small p0", "is complete without scores") in check(ERROR)

    def test_a_lease_that_fits_no_state(self, lab, check):
        lab.claim(lab.plan(2))
        change(lab, PointRow, key="p0", state="waiting")
        change(lab, PointRow, key="p1", state="running")
        expected = [
            ("skin-small p0", "is waiting, but is held"),
            ("skin-small p1", "is running, but is held by nobody"),
        ]
        assert check() == expected

    def test_attempts_that_are_not_the_holders(self, lab, check):
        lab.claim(lab.plan(1))
        change(lab, AttemptRow, token="another")
        what = "has 1 open attempts, which are not that of its holder"
        assert check() == [("skin-small p0", what)]
        change(lab, PointRow, state="waiting", lease_token=None)
        assert check() == [("skin-small p0", what)]

    def test_rows_that_name_what_is_not_there(self, prepared_sqlite, make_lab, artifacts):
        lab = make_lab(prepared_sqlite)
        make_history(lab)
        with closing(sqlite3.connect(lab.database.path)) as connection, connection:
            connection.execute("DELETE FROM lmf_attempts WHERE id = 1")
        whats = [found.what for found in check_database(lab.database, artifacts.location).findings]
        assert "2 rows of lmf_epochs name a lmf_attempts row that is not there" in whats

    def test_a_damaged_file(self, prepared_sqlite, make_lab, artifacts):
        lab = make_lab(prepared_sqlite)
        make_history(lab)
        with lab.database.read() as connection:
            root = connection.scalar(sa.text("SELECT rootpage FROM sqlite_master WHERE name = 'ix_lmf_attempts_point'"))
            size = connection.scalar(sa.text("PRAGMA page_size"))
        lab.close()
        with lab.database.path.open("r+b") as file:
            file.seek((root - 1) * size + 8)
            file.write(b"\xff" * 64)
        database = Database.open(prepared_sqlite)
        [found] = check_database(database, artifacts.location).findings
        assert (found.severity, found.where) == (ERROR, str(lab.database.path))
        assert found.what.startswith("the file is damaged: ")
        database.close()


class TestFiles:
    def test_files_that_are_missing(self, lab, check, artifacts):
        make_history(lab)
        artifacts.remove("file-1")
        artifacts.remove(WEIGHTS)
        what = f"2 files of finished trials are missing from {artifacts.location}, the first is the weights of trial 0"
        assert check(ERROR) == [(STUDY, what)]

    def test_a_folder_that_is_not_there(self, lab, tmp_path):
        make_history(lab)
        where = str(tmp_path / "elsewhere")
        found = check_database(lab.database, where).findings[0]
        assert (found.where, found.what) == (where, "is no folder, but 4 files of trials should be there")
        assert not (tmp_path / "elsewhere").exists(), "a check makes nothing"

    def test_checkpoints_of_finished_points(self, lab, check, artifacts, tmp_path):
        study_id = lab.plan(2)
        done, running = complete(lab, study_id, 0.5), begin(lab, study_id)
        body = tmp_path / "body"
        body.write_text("checkpoint")
        for lease in (done, running):
            artifacts.put(checkpoint_id(lease.token), body)
        assert check(INFO) == [(artifacts.location, "1 checkpoints of finished points are left over")]

    def test_a_store_that_is_no_folder(self):
        class Elsewhere:
            def open_reader(self, artifact_id):
                if artifact_id == "there":
                    return BytesIO(b"x")
                raise ArtifactNotFound if artifact_id == "gone" else OSError("the bucket\nis away")

        store = Artifacts("s3://bucket", Elsewhere())
        assert (is_stored(store, "there"), is_stored(store, "gone")) == (True, False)
        with pytest.raises(StorageError, match="s3://bucket: cannot be read: the bucket is away"):
            is_stored(store, "other")
