"""What readers get, on both backends."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage.errors import StorageError
from storage.planning import save_study
from storage.queries import (
    find_spec,
    list_studies,
    read_artifact_ids,
    read_attempts,
    read_epochs,
    read_parts,
    read_study,
    read_workers,
)
from storage.schema import PointRow, StudyRow, WorkerRow
from storage.workers import IDLE, STOPPED, TRAINING, Workers

STUDY = "skin-small"


CLOCKS = {
    "sqlite": "SELECT unixepoch('now')",
    "postgresql": "SELECT CAST(extract(epoch from now()) AS double precision)",
}


class TestStudies:
    def test_studies_are_listed_oldest_first(self, lab):
        assert list_studies(lab.database) == ()
        for name in ("b", "c", "a"):
            lab.plant(1, name)
        assert list_studies(lab.database) == ("b", "c", "a")

    def test_an_unknown_study_is_refused(self, lab):
        with pytest.raises(StorageError, match="no study named skin-small"):
            read_study(lab.database, STUDY)
        with pytest.raises(StorageError, match="no study named skin-small"):
            read_parts(lab.database, STUDY)
        assert find_spec(lab.database, STUDY) is None
        assert read_epochs(lab.database, STUDY) == ()
        assert read_attempts(lab.database, STUDY) == ()

    def test_a_study_is_dated_by_the_databases_clock(self, lab):
        save_study(lab.database, lab.mirror, STUDY, "small", {}, lab.facts)
        with lab.database.read() as connection:
            clock = connection.scalar(sa.text(CLOCKS[lab.database.backend]))
        assert read_study(lab.database, STUDY).created_at == pytest.approx(clock, abs=30.0)

    def test_a_study_without_points(self, lab):
        lab.plant(0)
        assert lab.study().points == ()

    def test_points_come_in_the_order_in_which_they_were_planned(self, lab):
        lab.plant(4)
        with lab.database.begin() as connection:
            connection.execute(sa.update(PointRow).where(PointRow.key == "p0").values(position=99))
        assert [point.key for point in lab.study().points] == ["p1", "p2", "p3", "p0"]

    def test_each_state_of_a_point(self, lab):
        study_id = lab.plant(6)
        lab.complete(study_id)
        lab.fail_for_good(lab.claim(study_id))
        lost = lab.claim(study_id)
        lab.claim(study_id)
        scored = lab.claim(study_id)
        lab.ledger.finish(scored, 0.5, {"val": {}}, [], None)
        lab.expire(lost)
        states = [point.state for point in lab.study().points]
        assert states == ["complete", "failed", "waiting", "running", "running", "waiting"]

    def test_attempts_of_a_point_are_counted(self, lab):
        study_id = lab.plant(2)
        lease = lab.lose(lab.claim(study_id), study_id)
        lab.ledger.release(lease)
        lab.complete(study_id)
        lab.complete(lab.plant(1, "skin-large"))
        counts = [(point.attempts, point.lost_attempts) for point in lab.study().points]
        assert counts == [(3, 1), (0, 0)]

    def test_a_read_sees_one_moment(self, lab):
        """A writer in the middle of a read changes nothing of what is read, and does not wait for it."""
        lab.plant(2)
        count = sa.select(sa.func.count()).select_from(PointRow)
        writer = lab.another()
        with lab.database.read() as connection:
            assert connection.scalar(count) == 2
            with writer.begin() as other:
                other.execute(sa.delete(PointRow).where(PointRow.key == "p0"))
            assert connection.scalar(count) == 2
        with lab.database.read() as connection:
            assert connection.scalar(count) == 1

    def test_writes_after_a_read_are_possible(self, lab):
        lab.plant(1)
        with lab.database.read() as connection:
            connection.scalar(sa.select(StudyRow.id))
        lab.plant(1, "skin-large")
        assert len(list_studies(lab.database)) == 2


class TestEpochsAndAttempts:
    def test_epochs_come_by_point_and_number(self, lab):
        study_id = lab.plant(2)
        first, second = lab.claim(study_id), lab.claim(study_id)
        lab.ledger.record_epochs(second, [lab.epoch(1)])
        lab.ledger.record_epochs(first, [lab.epoch(2), lab.epoch(1)])
        found = [(epoch.point_id, epoch.epoch) for epoch in read_epochs(lab.database, STUDY)]
        assert found == [(first.point_id, 1), (first.point_id, 2), (second.point_id, 1)]

    def test_attempts_are_counted_within_their_point(self, lab):
        study_id = lab.plant(2)
        first = lab.claim(study_id, lab.worker("cuda:0", "node1"))
        lab.claim(study_id)
        lab.expire(first)
        lab.claim(study_id, lab.worker("cuda:1", "node2"))
        attempts = read_attempts(lab.database, STUDY)
        found = [(attempt.point_id, attempt.attempt, attempt.host, attempt.device, attempt.end) for attempt in attempts]
        assert found == [
            (first.point_id, 1, "node1", "cuda:0", "lost"),
            (first.point_id, 2, "node2", "cuda:1", None),
            (attempts[2].point_id, 1, "elsewhere", "cpu", None),
        ]
        assert attempts[0].worker == "node1:1:1001"

    def test_other_studies_are_left_out(self, lab):
        lab.plant(1)
        lease = lab.claim(lab.plant(1, "skin-large"))
        lab.ledger.record_epochs(lease, [lab.epoch(1)])
        assert read_epochs(lab.database, STUDY) == ()
        assert read_attempts(lab.database, STUDY) == ()


class TestArtifacts:
    def test_files_weights_and_checkpoints_of_open_points(self, lab):
        study_id = lab.plant(3)
        done = lab.claim(study_id)
        files = [{"artifact_id": f"file-{n}", "filename": "x", "mimetype": "x", "encoding": None} for n in (1, 2)]
        lab.ledger.finish(done, 0.5, {"val": {}}, files, "weights-1")
        lab.ledger.close(done)
        open_lease = lab.claim(study_id)
        again = lab.lose(open_lease, study_id)
        lab.claim(lab.plant(1, "skin-large"))
        checkpoints = {f"checkpoint-{open_lease.token}", f"checkpoint-{again.token}"}
        found = read_artifact_ids(lab.database, STUDY)
        assert len(found) == 5
        assert set(found) == {"file-1", "file-2", "weights-1"} | checkpoints


class TestWorkers:
    def shown(self, lab):
        return {
            worker.pid: (worker.state, worker.study, worker.trial, worker.epoch)
            for worker in read_workers(lab.database)
        }

    def test_a_worker_that_holds_a_point_trains_it(self, lab):
        study_id = lab.plant(2)
        lab.claim(study_id)
        worker = lab.worker()
        lease = lab.claim(study_id, worker)
        lab.ledger.record_epochs(lease, [lab.epoch(1), lab.epoch(2)])
        assert self.shown(lab) == {1: (TRAINING, STUDY, 0, 0), 2: (TRAINING, STUDY, 1, 2)}

    def test_the_latest_worker_comes_first(self, lab):
        for _ in range(3):
            lab.worker()
        assert [worker.worker for worker in read_workers(lab.database)] == [
            "elsewhere:3:1003",
            "elsewhere:2:1002",
            "elsewhere:1:1001",
        ]

    def test_an_idle_one_and_one_that_stopped(self, lab):
        lab.worker()
        lab.workers.note(lab.worker(), STOPPED)
        assert self.shown(lab) == {1: (IDLE, None, None, None), 2: (STOPPED, None, None, None)}

    def test_one_whose_lease_ran_out_is_lost(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.expire(lease)
        assert self.shown(lab) == {1: ("lost", None, None, None)}

    def test_one_that_stopped_while_its_lease_lasts_trains_nothing(self, lab):
        worker = lab.worker()
        lab.claim(lab.plant(1), worker)
        lab.workers.note(worker, STOPPED)
        assert self.shown(lab) == {1: (STOPPED, None, None, None)}

    def test_one_whose_point_is_done_holds_nothing(self, lab):
        worker = lab.worker()
        lab.finish(lab.claim(lab.plant(1), worker))
        assert self.shown(lab) == {1: (IDLE, None, None, None)}

    def test_last_seen_is_in_seconds_and_never_negative(self, lab):
        Workers(lab.database).note(lab.worker(), TRAINING)
        (worker,) = read_workers(lab.database)
        assert 0 <= worker.last_seen_seconds < 60
        with lab.database.begin() as connection:
            connection.execute(sa.update(WorkerRow).values(last_seen=WorkerRow.last_seen + 1000))
        assert read_workers(lab.database)[0].last_seen_seconds == 0
