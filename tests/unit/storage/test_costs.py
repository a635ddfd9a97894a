"""What studies cost, against attempts and epochs whose times are known."""

from __future__ import annotations

import sqlalchemy as sa

from storage.costs import DeviceTime, StudyCost, read_costs
from storage.schema import AttemptRow, PointRow, WorkerRow


def set_times(lab, attempt_id, started_at, ended_at=None, last_seen=None):
    """Give an attempt its times, and its worker the one at which it was last seen."""
    with lab.database.begin() as connection:
        row = sa.update(AttemptRow).where(AttemptRow.id == attempt_id)
        connection.execute(row.values(started_at=started_at, ended_at=ended_at))
        if last_seen is not None:
            worker = sa.select(AttemptRow.worker_id).where(AttemptRow.id == attempt_id).scalar_subquery()
            connection.execute(sa.update(WorkerRow).where(WorkerRow.id == worker).values(last_seen=last_seen))


def test_nothing_was_trained(lab):
    lab.plant(2)
    assert read_costs(lab.database) == {}


def test_what_was_done_in_peace_is_used_and_not_lost(lab):
    study_id = lab.plant(1)
    lease = lab.claim(study_id, lab.worker("cuda:0"))
    lab.ledger.begin_training(lease, 0)
    lab.ledger.record_epochs(lease, [lab.epoch(1, seconds=30.0)])
    lab.finish(lease)
    set_times(lab, lease.attempt_id, 1000.0, 1100.0)
    assert read_costs(lab.database) == {study_id: StudyCost(gpu=DeviceTime(100.0, 0.0))}


def test_a_lost_worker_costs_what_no_epoch_on_record_shows(lab):
    study_id = lab.plant(1)
    lost = lab.claim(study_id, lab.worker("cuda:0"))
    lab.ledger.begin_training(lost, 0)
    lab.ledger.record_epochs(lost, [lab.epoch(1, seconds=30.0), lab.epoch(2, seconds=30.0)])
    lab.expire(lost)
    set_times(lab, lost.attempt_id, 1000.0, None, 1080.0)
    assert read_costs(lab.database)[study_id].gpu == DeviceTime(80.0, 20.0), "nobody has noticed yet"
    heir = lab.claim(study_id, lab.worker("cuda:1"))
    set_times(lab, heir.attempt_id, 2000.0, 2050.0)
    assert read_costs(lab.database)[study_id].gpu == DeviceTime(130.0, 20.0)
    # The checkpoint was of the first epoch: the second is trained again.
    lab.ledger.begin_training(heir, 1)
    assert read_costs(lab.database)[study_id].gpu == DeviceTime(130.0, 50.0)


def test_an_epoch_that_two_lost_workers_trained_counts_as_lost_once(lab):
    study_id = lab.plant(1)
    for started_at in (1000.0, 2000.0):
        lost = lab.claim(study_id, lab.worker("cuda:0"))
        lab.ledger.begin_training(lost, 0)
        lab.ledger.record_epochs(lost, [lab.epoch(1, seconds=30.0)])
        lab.expire(lost)
        set_times(lab, lost.attempt_id, started_at, None, started_at + 40.0)
    # 10 s after each epoch, and the epoch of the first, which the second trained again.
    assert read_costs(lab.database)[study_id].gpu == DeviceTime(80.0, 50.0)


def test_what_a_worker_does_elsewhere_costs_the_point_nothing_that_it_left(lab):
    study_id = lab.plant(1)
    lease = lab.claim(study_id, lab.worker("cuda:0"))
    set_times(lab, lease.attempt_id, 1000.0, None, 9000.0)
    with lab.database.begin() as connection:
        connection.execute(sa.update(PointRow).values(lease_expires=1060.0))
    assert read_costs(lab.database)[study_id].gpu == DeviceTime(60.0, 60.0)


def test_a_point_that_is_held_costs_until_now(lab):
    study_id = lab.plant(1)
    lease = lab.claim(study_id, lab.worker("cpu"))
    set_times(lab, lease.attempt_id, 1000.0)
    cost = read_costs(lab.database)[study_id]
    assert cost.gpu == DeviceTime()
    assert cost.cpu.used > 1e9
    assert cost.cpu.lost == 0.0


def test_studies_and_kinds_of_devices_are_told_apart(lab):
    studies = {name: lab.plant(1, name) for name in ("a", "b")}
    for study, device, seconds in (("a", "cuda:0", 10.0), ("a", "cpu", 20.0), ("b", "cpu", 40.0)):
        lease = lab.claim(studies[study], lab.worker(device))
        lab.ledger.release(lease)
        set_times(lab, lease.attempt_id, 0.0, seconds)
    costs = read_costs(lab.database)
    assert costs[studies["a"]] == StudyCost(DeviceTime(10.0, 0.0), DeviceTime(20.0, 0.0))
    assert costs[studies["b"]] == StudyCost(cpu=DeviceTime(40.0, 0.0))
