"""The register of workers, on both backends: who lives, who is dead, and whose points are free."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
import sqlalchemy as sa

from storage.queries import read_workers
from storage.schema import WorkerRow
from storage.workers import IDLE, STOPPED, TRAINING, ProcessIdentity

STUDY = "skin-small"


@pytest.fixture
def process():
    """Another process of this machine, which a test may kill."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.wait()
    child.stdin.close()


def states(lab):
    """Each worker's state as it is stored, by process number."""
    with lab.database.read() as connection:
        return {row.pid: row.state for row in connection.execute(sa.select(WorkerRow.pid, WorkerRow.state))}


class TestIdentity:
    def test_this_process(self, this_host):
        me = ProcessIdentity.of()
        assert (me.host, me.pid) == (this_host, os.getpid())
        assert me.started == pytest.approx(psutil.Process().create_time(), abs=0.01)
        assert me == ProcessIdentity.of(os.getpid())
        assert me.is_alive()

    def test_the_name_tells_host_process_and_start(self):
        assert ProcessIdentity("node7", 12, 1750000000.42).name == "node7:12:1750000000"

    def test_a_process_that_was_killed_is_dead(self, process):
        identity = ProcessIdentity.of(process.pid)
        assert identity.is_alive()
        process.kill()
        process.wait()
        assert not identity.is_alive()

    def test_a_killed_process_that_its_parent_has_not_waited_for_is_dead(self, process):
        identity = ProcessIdentity.of(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.is_alive()

    def test_a_later_process_of_the_same_number_is_another(self, process):
        identity = ProcessIdentity.of(process.pid)
        assert not replace(identity, started=identity.started - 5.0).is_alive()

    def test_a_number_that_no_process_has(self, this_host):
        unused = next(pid for pid in range(4_000_000, 5_000_000) if not psutil.pid_exists(pid))
        assert not ProcessIdentity(this_host, unused, 1000.0).is_alive()


class TestRegister:
    def test_a_worker_is_known_by_its_process(self, lab):
        me = ProcessIdentity.of()
        worker_id = lab.workers.register(me, "cuda:0", {"torch": "2.6.0"})
        with lab.database.read() as connection:
            row = connection.execute(sa.select(WorkerRow.__table__)).one()
        assert (row.id, row.name, row.host, row.pid, row.device) == (worker_id, me.name, me.host, me.pid, "cuda:0")
        assert (row.process_started, row.versions, row.state) == (me.started, {"torch": "2.6.0"}, IDLE)
        assert row.last_seen == pytest.approx(row.started_at, abs=1.0)

    def test_a_process_that_works_on_one_study_after_another_stays_one_worker(self, lab):
        me = ProcessIdentity.of()
        worker_id = lab.workers.register(me, "cuda:0", {"torch": "2.6.0"})
        lab.workers.note(worker_id, STOPPED)
        assert lab.workers.register(me, "cuda:1", {"torch": "2.7.0"}) == worker_id
        (worker,) = read_workers(lab.database)
        assert (worker.state, worker.device) == (IDLE, "cuda:1")

    def test_two_processes_are_two_workers(self, lab, process):
        first = lab.workers.register(ProcessIdentity.of(), "cpu", {})
        assert lab.workers.register(ProcessIdentity.of(process.pid), "cpu", {}) != first

    def test_a_note_is_a_sign_of_life(self, lab):
        worker_id = lab.worker()
        with lab.database.begin() as connection:
            connection.execute(sa.update(WorkerRow).values(last_seen=1000.0))
        lab.workers.note(worker_id, TRAINING)
        (worker,) = read_workers(lab.database)
        assert (worker.state, worker.last_seen_seconds < 60) == (TRAINING, True)

    def test_noting_a_loss_is_no_sign_of_life(self, lab):
        worker_id = lab.worker()
        with lab.database.begin() as connection:
            connection.execute(sa.update(WorkerRow).values(last_seen=1000.0))
        lab.workers.note_lost(worker_id)
        (worker,) = read_workers(lab.database)
        assert worker.state == "lost"
        assert worker.last_seen_seconds > 1_000_000


class TestReleaseDead:
    def test_the_points_of_a_dead_process_are_free_at_once(self, lab, process):
        study_id = lab.plant(2)
        dead = ProcessIdentity.of(process.pid)
        lease = lab.claim(study_id, lab.workers.register(dead, "cpu", {}))
        alive = lab.workers.register(ProcessIdentity.of(), "cpu", {})
        lab.claim(study_id, alive)
        assert lab.workers.release_dead() == []
        process.kill()
        process.wait()
        assert lab.workers.release_dead() == [dead.name]
        assert lab.point("p0").state == "waiting"
        assert lab.claim(study_id, alive).point_id == lease.point_id
        assert lab.ledger.claim(study_id, alive, 60) is None, "the living one keeps its point"
        assert states(lab) == {dead.pid: "lost", os.getpid(): IDLE}

    def test_a_dead_worker_is_found_once(self, lab, process):
        lab.workers.register(ProcessIdentity.of(process.pid), "cpu", {})
        process.kill()
        process.wait()
        assert len(lab.workers.release_dead()) == 1
        assert lab.workers.release_dead() == []

    def test_a_process_number_that_was_given_again_does_not_keep_the_points(self, lab, process):
        study_id = lab.plant(1)
        before = replace(ProcessIdentity.of(process.pid), started=1000.0)
        lab.claim(study_id, lab.workers.register(before, "cpu", {}))
        assert lab.workers.release_dead() == [before.name]
        assert lab.claim(study_id).key == "p0"

    def test_workers_of_other_machines_are_not_judged(self, lab):
        study_id = lab.plant(1)
        lab.claim(study_id, lab.worker(host="elsewhere"))
        assert lab.workers.release_dead() == []
        assert lab.point("p0").state == "running"

    def test_a_worker_that_said_that_it_stopped_is_not_lost(self, lab, process):
        worker_id = lab.workers.register(ProcessIdentity.of(process.pid), "cpu", {})
        lab.workers.note(worker_id, STOPPED)
        process.kill()
        process.wait()
        assert lab.workers.release_dead() == []
        assert states(lab) == {process.pid: STOPPED}


class TestHolders:
    def test_holders_are_named_with_the_seconds_left(self, lab):
        study_id = lab.plant(3)
        first, second = lab.worker(), lab.worker()
        lab.claim(study_id, second, 600)
        lab.claim(study_id, first, 60)
        lab.claim(lab.plant(1, "skin-large"), lab.worker(), 60)
        holders = lab.workers.holders(study_id)
        assert [name for name, _ in holders] == ["elsewhere:1:1001", "elsewhere:2:1002"]
        assert 0 < holders[0][1] <= 60 < 500 < holders[1][1] <= 600

    def test_nobody_holds_what_ran_out_or_ended(self, lab):
        study_id = lab.plant(3)
        lab.expire(lab.claim(study_id))
        lab.ledger.release(lab.claim(study_id))
        lab.complete(study_id)
        assert lab.workers.holders(study_id) == []
