"""Many workers at one ledger at once, on both backends: each point goes to one of them."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
import sqlalchemy as sa

from storage.errors import LeaseLostError
from storage.ledger import Ledger
from storage.planning import delete_study
from storage.queries import read_attempts
from storage.schema import AttemptRow, PointRow

STUDY = "skin-small"


def at_once(lab, number, work):
    """Run `work(ledger, worker id)` in so many threads at once, each with a connection of its own."""
    databases = [lab.another() for _ in range(number)]
    workers = [lab.worker() for _ in range(number)]
    barrier = threading.Barrier(number)
    results, errors = [], []

    def run(database, worker_id):
        barrier.wait()
        try:
            results.append(work(Ledger(database), worker_id))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(databases, workers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return results


def test_sixteen_workers_claim_each_of_120_points_once(lab):
    study_id = lab.plant(120)

    def claim_all(ledger, worker_id):
        claimed = []
        while (lease := ledger.claim(study_id, worker_id, 600)) is not None:
            claimed.append(lease)
        return claimed

    shares = at_once(lab, 16, claim_all)
    leases = [lease for share in shares for lease in share]
    assert Counter(lease.key for lease in leases) == {f"p{n}": 1 for n in range(120)}
    assert len({lease.token for lease in leases}) == 120
    assert [attempt.attempt for attempt in read_attempts(lab.database, STUDY)] == [1] * 120
    for share in shares:
        assert [lease.key for lease in share] == sorted((lease.key for lease in share), key=lambda key: int(key[1:]))


def test_points_that_fail_and_are_released_meanwhile_are_closed_once(lab):
    study_id = lab.plant(24)

    def work(ledger, worker_id):
        closed = []
        until = time.monotonic() + 120
        while ledger.open_points(study_id):
            assert time.monotonic() < until, "points are stuck"
            lease = ledger.claim(study_id, worker_id, 600)
            if lease is None:
                time.sleep(0.01)
            elif len(lease.earlier_tokens) == 0:
                ledger.release(lease)
            elif len(lease.earlier_tokens) == 1:
                assert ledger.fail(lease, "out of memory", 2) is False
            else:
                ledger.finish(lease, 0.5, {"val": {}}, [], None)
                ledger.close(lease)
                closed.append(lease.key)
        return closed

    closed = [key for share in at_once(lab, 6, work) for key in share]
    assert Counter(closed) == {f"p{n}": 1 for n in range(24)}
    ends = Counter(attempt.end for attempt in read_attempts(lab.database, STUDY))
    assert ends == {"released": 24, "failed": 24, "complete": 24}


def test_one_expired_lease_goes_to_one_worker(lab):
    study_id = lab.plant(1)
    lab.expire(lab.claim(study_id))
    leases = at_once(lab, 8, lambda ledger, worker_id: ledger.claim(study_id, worker_id, 600))
    assert sum(lease is not None for lease in leases) == 1
    assert [attempt.end for attempt in read_attempts(lab.database, STUDY)] == ["lost", None]


def test_a_claim_passes_over_a_point_that_another_transaction_holds(prepared_postgres, make_lab):
    lab = make_lab(prepared_postgres)
    study_id = lab.plant(2)
    other = lab.another()
    with other.begin() as connection:
        connection.execute(sa.select(PointRow.id).where(PointRow.key == "p0").with_for_update())
        assert lab.claim(study_id).key == "p1"
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None
    assert lab.claim(study_id).key == "p0"


@pytest.mark.parametrize("end", ["release", "fail", "close", "delete"])
def test_a_late_end_and_a_takeover_do_not_wait_for_each_other(prepared_postgres, make_lab, end):
    """Both lock the point first, so that the later one waits, instead of both holding what the other needs."""
    lab = make_lab(prepared_postgres)
    study_id = lab.plant(1)
    lease = lab.claim(study_id)
    if end == "close":
        lab.ledger.finish(lease, 0.5, {"val": {}}, [], None)
    late = Ledger(lab.another())
    do = {
        "release": late.release,
        "fail": lambda lease: late.fail(lease, "NaN loss", 2),
        "close": late.close,
        "delete": lambda lease: delete_study(late.database, lab.another_mirror(), STUDY),
    }[end]
    if end == "delete":
        lab.expire(lease)
    lost = []

    def come_late():
        try:
            do(lease)
        except LeaseLostError as error:
            lost.append(error)

    thread = threading.Thread(target=come_late)
    watcher = lab.another()
    with lab.database.begin() as connection:
        # What a takeover does: the point, and then the attempt that was lost.
        connection.execute(sa.update(PointRow).where(PointRow.id == lease.point_id).values(lease_token="another"))
        thread.start()
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        until = time.monotonic() + 60
        blocked = 0
        while not blocked and time.monotonic() < until:
            with watcher.read() as reader:
                blocked = reader.scalar(waiting)
        assert blocked
        connection.execute(sa.update(AttemptRow).where(AttemptRow.id == lease.attempt_id).values(end="lost"))
    thread.join()
    assert len(lost) == (end != "delete")
    assert [attempt.end for attempt in read_attempts(lab.database, STUDY)] == ([] if end == "delete" else ["lost"])


def test_threads_of_one_process_share_its_connection(lab):
    study_id = lab.plant(30)
    workers = [lab.worker() for _ in range(4)]
    claimed = []

    def claim_all(worker_id):
        while (lease := lab.ledger.claim(study_id, worker_id, 600)) is not None:
            lab.ledger.renew(lease)
            claimed.append(lease.key)

    threads = [threading.Thread(target=claim_all, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(claimed) == {f"p{n}": 1 for n in range(30)}
    assert lab.database.engine.pool.checkedin() == 1
