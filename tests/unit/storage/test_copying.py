"""Copying a study to another database: complete, compared, all or nothing, and ready to go on there."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import sqlalchemy as sa
from lmf_testing.history import LEAKAGE, begin, make_history
from lmf_testing.whole_study import whole_study
from optuna.trial import TrialState

from storage.copying import COPY_STEPS, check_holders, check_target, copy_study
from storage.database import Database
from storage.errors import StorageError
from storage.planning import retry_failed
from storage.queries import list_studies, read_attempts, read_workers
from storage.schema import DatasetRow, EpochRow, PointRow, WorkerRow

STUDY = "skin-small"


@pytest.fixture
def other_sqlite(sqlite_template, tmp_path):
    """The URL of another prepared SQLite database."""
    path = tmp_path / "other.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture(params=["to postgresql", "to sqlite"])
def pair(request, prepared_sqlite, prepared_postgres, make_lab):
    """Two labs: where studies come from and where they go to, in each direction."""
    labs = (make_lab(prepared_sqlite), make_lab(prepared_postgres))
    return labs if request.param == "to postgresql" else labs[::-1]


class TestCopy:
    def test_everything_arrives_and_comes_back(self, pair, make_lab, other_sqlite):
        source, target = pair
        make_history(source)
        copied = copy_study(source.database, target.database, STUDY)
        assert (copied.points, copied.trials, copied.attempts, copied.epochs) == (8, 9, 8, 7)
        original = whole_study(source.database, STUDY)
        assert whole_study(target.database, STUDY) == original
        assert {point["state"] for point in original["study"]["points"]} == {"complete", "pruned", "failed", "waiting"}
        back = make_lab(other_sqlite)
        assert copy_study(target.database, back.database, STUDY) == copied
        assert whole_study(back.database, STUDY) == original

    def test_numbers_of_rows_are_the_targets_own(self, pair):
        source, target = pair
        for study in ("one", "two"):
            target.plan(5, study=study)
            target.claim(target.study(study).study_id)
        make_history(source)
        copy_study(source.database, target.database, STUDY)
        assert whole_study(target.database, STUDY) == whole_study(source.database, STUDY)
        assert list_studies(target.database) == ("one", "two", STUDY)
        assert [point.attempts for point in target.study("two").points] == [1, 0, 0, 0, 0]
        with target.database.read() as connection:
            assert connection.scalar(sa.select(sa.func.count()).select_from(DatasetRow)) == 1, "one dataset, shared"

    def test_the_study_goes_on_at_the_target(self, pair):
        source, target = pair
        make_history(source)
        copy_study(source.database, target.database, STUDY)
        study_id = target.study().study_id
        lost = target.claim(study_id)
        assert (lost.key, lost.last_epoch, len(lost.earlier_tokens)) == ("p6", 1, 1)
        assert target.trial(lost).state == TrialState.RUNNING
        assert target.trial(lost).intermediate_values == {1: 0.1}
        released = target.claim(study_id)
        assert (released.key, len(released.earlier_tokens)) == ("p5", 1)
        waiting = target.claim(study_id)
        target.mirror.start(waiting.trial_id)
        assert target.trial(waiting).user_attrs["lmf:point"] == waiting.key == "p7"
        assert target.ledger.claim(study_id, target.worker(), 60.0) is None
        assert [attempt.end for attempt in _attempts(target, lost)] == ["lost", None]
        with target.database.lock("plan"):
            assert retry_failed(target.database, target.mirror, study_id) == 1

    def test_workers_of_the_source_do_not_work_at_the_target(self, pair):
        source, target = pair
        study_id = make_history(source)
        dead = begin(source, study_id)
        source.workers.note_lost(dead.worker_id)
        source.expire(dead)
        copy_study(source.database, target.database, STUDY)
        states = [worker.state for worker in read_workers(target.database)]
        assert len(states) == len(read_workers(source.database))
        assert {state: states.count(state) for state in states} == {"stopped": len(states) - 1, "lost": 1}

    def test_an_empty_json_column_stays_empty(self, pair):
        source, target = pair
        make_history(source)
        copy_study(source.database, target.database, STUDY)
        with target.database.read() as connection:
            for column in (EpochRow.halves, PointRow.scores):
                empty = sa.select(sa.func.count()).where(column.is_(sa.null()))
                assert connection.scalar(empty), f"{column} is NULL where there is nothing"

    def test_a_dataset_that_the_target_knows_gets_what_it_lacks(self, pair):
        source, target = pair
        target.plan(1, study="earlier")
        with target.database.begin() as connection:
            connection.execute(sa.update(DatasetRow).values(parts=None, leakage=sa.null()))
        make_history(source)
        copy_study(source.database, target.database, STUDY)
        with target.database.read() as connection:
            row = connection.execute(sa.select(DatasetRow.parts, DatasetRow.leakage)).one()
        assert tuple(row) == ("rrrrrrrrrrrrvvvttt", list(LEAKAGE))


def _attempts(lab, lease):
    return [attempt for attempt in read_attempts(lab.database, STUDY) if attempt.point_id == lease.point_id]


class TestRefusals:
    def test_a_study_that_workers_hold(self, pair):
        source, target = pair
        lease = source.claim(source.plan(2), source.worker(host="node7"))
        message = r"skin-small: workers hold points of it: node7:\d+:\d+; stop them first, or wait"
        for refuse in (
            lambda: copy_study(source.database, target.database, STUDY),
            lambda: check_holders(source.database, STUDY),
        ):
            with pytest.raises(StorageError, match=message):
                refuse()
        assert list_studies(target.database) == ()
        source.ledger.release(lease)
        check_holders(source.database, STUDY)

    def test_a_backup_takes_such_a_study_as_if_its_workers_were_lost(self, pair):
        source, target = pair
        source.claim(source.plan(2))
        copy_study(source.database, target.database, STUDY, live=True)
        assert [point.state for point in source.study().points] == ["running", "waiting"]
        assert [point.state for point in target.study().points] == ["waiting", "waiting"]
        assert target.claim(target.study().study_id).key == "p0"

    def test_a_name_that_the_target_has(self, pair):
        source, target = pair
        source.plan(2)
        target.plan(1)
        with pytest.raises(StorageError, match="has a study named skin-small already; delete it there first"):
            copy_study(source.database, target.database, STUDY)
        assert len(target.study().points) == 1

    def test_a_name_that_only_optuna_has_at_the_target(self, pair):
        source, target = pair
        source.plan(2)
        target.mirror.ensure_study(STUDY)
        for refuse in (
            lambda: copy_study(source.database, target.database, STUDY),
            lambda: check_target(target.database, ("another", STUDY)),
        ):
            with pytest.raises(StorageError, match="has a study of Optuna named skin-small already"):
                refuse()
        assert list_studies(target.database) == ()

    def test_a_database_onto_itself(self, pair):
        source, _ = pair
        source.plan(2)
        with pytest.raises(StorageError, match="has a study named skin-small already"):
            copy_study(source.database, source.another(), STUDY)

    def test_an_unknown_study(self, pair):
        source, target = pair
        with pytest.raises(StorageError, match="no study named nothing"):
            copy_study(source.database, target.database, "nothing")
        with pytest.raises(StorageError, match="no study named nothing"):
            check_holders(source.database, "nothing")

    def test_a_study_whose_half_in_optuna_is_gone(self, pair):
        source, target = pair
        source.plan(2)
        source.mirror.delete_study(STUDY)
        with pytest.raises(StorageError, match=r"skin-small: row 1 of studies, .* is missing; `lmf db check`"):
            copy_study(source.database, target.database, STUDY)
        check_target(target.database, (STUDY,))

    @pytest.mark.parametrize("table", ["lmf_epochs", "trial_intermediate_values"])
    def test_a_target_that_gives_back_other_figures(self, prepared_sqlite, other_sqlite, make_lab, table):
        source, target = make_lab(prepared_sqlite), make_lab(other_sqlite)
        make_history(source)
        column = "val_loss" if table == "lmf_epochs" else "intermediate_value"
        with target.database.begin() as connection:
            connection.exec_driver_sql(
                f"CREATE TRIGGER spoil AFTER INSERT ON {table} BEGIN "
                f"UPDATE {table} SET {column} = {column} + 1e-12 WHERE rowid = new.rowid; END"
            )
        with pytest.raises(StorageError, match=rf"of 7 rows of {table} the target gives back 7, and not as they were"):
            copy_study(source.database, target.database, STUDY)
        check_target(target.database, (STUDY,))
        assert list_studies(target.database) == ()


class TestCutShort:
    @pytest.mark.parametrize("step", COPY_STEPS)
    def test_a_kill_leaves_nothing_or_all(self, pair, step):
        source, target = pair
        make_history(source)
        process = multiprocessing.get_context("spawn").Process(target=_copy, args=(source.url, target.url, step))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        if step == "copied":
            assert whole_study(target.database, STUDY) == whole_study(source.database, STUDY)
            return
        check_target(target.database, (STUDY,))
        with target.database.read() as connection:
            for row in (PointRow, WorkerRow, DatasetRow):
                assert connection.scalar(sa.select(sa.func.count()).select_from(row)) == 0
        copy_study(source.database, target.database, STUDY)
        assert whole_study(target.database, STUDY) == whole_study(source.database, STUDY)


def _copy(source: str, target: str, step: str) -> None:
    os.environ["LMF_FAULT"] = step
    copy_study(Database.open(source), Database.open(target), STUDY)
