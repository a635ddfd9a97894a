"""On what a study was trained, by what its workers said, on both backends."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa

from storage.copying import copy_study
from storage.costs import read_costs
from storage.hardware import Hardware, read_hardware
from storage.schema import AttemptRow, WorkerRow
from storage.workers import ProcessIdentity

STUDY = "skin-small"
SOFTWARE = {"torch": "2.6.0", "python": "3.11.7", "system": "Debian"}
H100 = {**SOFTWARE, "device_name": "NVIDIA H100", "cuda": "12.8", "cudnn": "9.10.2"}


def register(lab, number, host, device, facts):
    """Register the worker of a process number; returns its id."""
    return lab.workers.register(ProcessIdentity(host, number, 1000.0), device, facts)


def attempt(lab, study_id, worker_id, seconds=10.0):
    """An attempt of a worker that took so long."""
    lease = lab.claim(study_id, worker_id)
    lab.ledger.release(lease)
    with lab.database.begin() as connection:
        row = sa.update(AttemptRow).where(AttemptRow.id == lease.attempt_id)
        connection.execute(row.values(started_at=1000.0, ended_at=1000.0 + seconds))


def gpu(number):
    return {**H100, "device_uuid": f"gpu-{number}"}


def versions_of(facts):
    return {name: value for name, value in facts.items() if not name.startswith("device_")}


def test_nothing_was_trained(lab):
    lab.plant(1)
    assert read_hardware(lab.database, STUDY) == ()


def test_attempts_and_times_are_added_up_by_host_device_and_versions(lab):
    study_id = lab.plant(1)
    first, second = (register(lab, number, "node1", "cuda:0", gpu(number)) for number in (1, 2))
    old = register(lab, 3, "node1", "cuda:0", {**gpu(1), "torch": "2.5.0"})
    cpu = register(lab, 4, "node0", "cpu", {**SOFTWARE, "device_name": "EPYC"})
    for worker, seconds in ((first, 10.0), (first, 20.0), (second, 40.0), (old, 80.0), (cpu, 160.0)):
        attempt(lab, study_id, worker, seconds)
    attempt(lab, lab.plant(1, "another"), second)
    assert read_hardware(lab.database, STUDY) == (
        Hardware("node1", "gpu", "NVIDIA H100", versions_of(H100) | {"torch": "2.5.0"}, frozenset({"gpu-1"}), 1, 80.0),
        Hardware("node1", "gpu", "NVIDIA H100", versions_of(H100), frozenset({"gpu-1", "gpu-2"}), 3, 70.0),
        Hardware("node0", "cpu", "EPYC", SOFTWARE, frozenset({"node0"}), 1, 160.0),
    )


def test_times_are_those_of_the_costs(lab):
    study_id = lab.plant(3)
    done = lab.claim(study_id, register(lab, 1, "node1", "cuda:0", gpu(1)))
    lab.finish(done)
    lost = lab.claim(study_id, register(lab, 2, "node2", "cuda:0", gpu(2)))
    lab.expire(lost)
    with lab.database.begin() as connection:
        times = sa.update(AttemptRow).where(AttemptRow.id == done.attempt_id)
        connection.execute(times.values(started_at=1000.0, ended_at=1050.0))
        times = sa.update(AttemptRow).where(AttemptRow.id == lost.attempt_id)
        connection.execute(times.values(started_at=1000.0))
        connection.execute(sa.update(WorkerRow).where(WorkerRow.id == lost.worker_id).values(last_seen=1030.0))
    assert [one.seconds for one in read_hardware(lab.database, STUDY)] == [50.0, 30.0]
    assert read_costs(lab.database)[study_id].gpu.used == 80.0


def test_workers_that_told_nothing_have_unknown_hardware(lab):
    study_id = lab.plant(1)
    for number, (device, facts) in enumerate((("cuda:0", {"torch": "2.4"}), ("cuda:1", {"torch": "2.4"}), ("cpu", {}))):
        attempt(lab, study_id, register(lab, number, "node1", device, facts))
    assert read_hardware(lab.database, STUDY) == (
        Hardware("node1", "gpu", None, {"torch": "2.4"}, frozenset({"node1 cuda:0", "node1 cuda:1"}), 2, 20.0),
        Hardware("node1", "cpu", None, {}, frozenset({"node1"}), 1, 10.0),
    )


def test_what_a_process_says_of_its_next_device_is_not_said_of_the_one_before(lab):
    study_id = lab.plant(1)
    attempt(lab, study_id, register(lab, 1, "node1", "cuda:0", gpu(1)))
    attempt(lab, study_id, register(lab, 1, "node1", "cpu", {**SOFTWARE, "device_name": "EPYC"}))
    assert read_hardware(lab.database, STUDY) == (
        Hardware("node1", "gpu", None, SOFTWARE, frozenset({"node1 cuda:0"}), 1, 10.0),
        Hardware("node1", "cpu", "EPYC", SOFTWARE, frozenset({"node1"}), 1, 10.0),
    )


def test_who_only_closes_points_is_no_hardware(lab):
    study_id = lab.plant(1)
    attempt(lab, study_id, register(lab, 1, "node1", "none", SOFTWARE))
    assert read_hardware(lab.database, STUDY) == ()


def test_a_worker_that_is_gone_from_the_table_is_unknown(prepared_sqlite, make_lab):
    lab = make_lab(prepared_sqlite)
    study_id = lab.plant(1)
    attempt(lab, study_id, register(lab, 1, "node1", "cuda:0", gpu(1)))
    # No command deletes workers, and the database forbids it while attempts name them, unless it is told not to.
    with closing(sqlite3.connect(prepared_sqlite.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("DELETE FROM lmf_workers")
    assert read_hardware(lab.database, STUDY) == (
        Hardware("node1", "gpu", None, {}, frozenset({"node1 cuda:0"}), 1, 10.0),
    )


@pytest.mark.parametrize("direction", ["to postgresql", "to sqlite"])
def test_a_copied_study_keeps_its_hardware(prepared_sqlite, prepared_postgres, make_lab, direction):
    labs = [make_lab(prepared_sqlite), make_lab(prepared_postgres)]
    source, target = labs if direction == "to postgresql" else labs[::-1]
    attempt(source, source.plan(1), register(source, 1, "node1", "cuda:0", gpu(1)))
    copy_study(source.database, target.database, STUDY)
    found = read_hardware(target.database, STUDY)
    assert found == read_hardware(source.database, STUDY)
    assert [one.name for one in found] == ["NVIDIA H100"]
