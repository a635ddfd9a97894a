"""The ledger, on both backends: claims, leases and their fences, failures and lost workers."""

from __future__ import annotations

import time
from contextlib import nullcontext

import pytest
import sqlalchemy as sa

from storage.database import now_seconds
from storage.errors import LeaseLostError
from storage.lease import Lease
from storage.queries import read_attempts
from storage.schema import PointRow

STUDY = "skin-small"


def ends(lab):
    """How each attempt ended, in the order of claims."""
    return [attempt.end for attempt in read_attempts(lab.database, STUDY)]


class TestClaim:
    def test_points_are_claimed_in_the_order_in_which_they_were_planned(self, lab):
        study_id = lab.plant(3)
        worker = lab.worker()
        assert [lab.claim(study_id, worker).key for _ in range(3)] == ["p0", "p1", "p2"]
        assert lab.ledger.claim(study_id, worker, 60) is None

    def test_a_lease_says_what_to_train(self, lab):
        study_id = lab.plant(2)
        worker = lab.worker()
        lab.claim(study_id, worker)
        lease = lab.claim(study_id, worker, seconds=45.0)
        assert lease == Lease(
            point_id=lab.point("p1").point_id,
            study_id=study_id,
            worker_id=worker,
            attempt_id=lease.attempt_id,
            token=lease.token,
            seconds=45.0,
            key="p1",
            generation=1,
            alpha=1.0,
            beta=0.501,
            loss="lmf",
            seed=23,
            trial_id=101,
            trial_number=1,
            last_epoch=0,
            outcome=None,
            earlier_tokens=(),
        )

    def test_every_claim_has_a_token_of_its_own(self, lab):
        study_id = lab.plant(2)
        first, second = lab.claim(study_id), lab.claim(study_id)
        assert first.token != second.token

    def test_a_claim_opens_an_attempt(self, lab):
        study_id = lab.plant(1)
        lab.claim(study_id, lab.worker("cuda:1"))
        (attempt,) = read_attempts(lab.database, STUDY)
        assert (attempt.attempt, attempt.trial_number, attempt.host, attempt.device) == (1, 0, "elsewhere", "cuda:1")
        assert (attempt.first_epoch, attempt.epochs, attempt.end, attempt.ended_at) == (0, 0, None, None)
        assert attempt.started_at == pytest.approx(lab.point("p0").started_at, abs=1.0)

    def test_the_lease_lasts_as_long_as_asked_by_the_databases_clock(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id, seconds=1000.0)
        with lab.database.read() as connection:
            left = connection.scalar(sa.select(PointRow.lease_expires - now_seconds()))
        assert 900 < left <= 1000
        assert lab.column("lease_token", lease.point_id) == lease.token

    def test_a_lease_runs_out_by_itself(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id, seconds=0.2)
        other = lab.worker()
        until = time.monotonic() + 60
        taken = None
        while taken is None and time.monotonic() < until:
            taken = lab.ledger.claim(study_id, other, 60)
        assert taken is not None
        assert taken.point_id == lease.point_id

    def test_an_expired_lease_is_taken_before_waiting_points(self, lab):
        study_id = lab.plant(4)
        first, second = lab.claim(study_id), lab.claim(study_id)
        lab.expire(second)
        assert lab.claim(study_id).key == "p1"
        lab.expire(first)
        assert lab.claim(study_id).key == "p0"
        assert lab.claim(study_id).key == "p2"

    def test_a_lease_that_lasts_is_not_taken(self, lab):
        study_id = lab.plant(1)
        lab.claim(study_id)
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None

    def test_only_points_of_the_study_are_claimed(self, lab):
        study_id = lab.plant(1)
        other = lab.plant(2, "skin-large")
        assert lab.claim(other).study_id == other
        assert lab.claim(study_id).key == "p0"
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None

    def test_a_point_without_a_trial_is_not_claimed(self, lab):
        study_id = lab.plant(1)
        with lab.database.begin() as connection:
            connection.execute(sa.update(PointRow).values(trial_id=None))
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None
        assert lab.ledger.open_points(study_id) == 1

    def test_a_closed_point_is_not_claimed(self, lab):
        study_id = lab.plant(2)
        lab.complete(study_id)
        lab.fail_for_good(lab.claim(study_id))
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None

    def test_earlier_tokens_come_latest_first(self, lab):
        study_id = lab.plant(1)
        first = lab.claim(study_id)
        second = lab.lose(first, study_id)
        third = lab.lose(second, study_id)
        assert third.earlier_tokens == (second.token, first.token)

    def test_the_first_claims_start_is_the_points_start(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        started = lab.point("p0").started_at
        time.sleep(0.02)
        lab.lose(lease, study_id)
        assert lab.point("p0").started_at == started


class TestQueue:
    def test_a_claim_reads_the_queue_in_its_order_however_long_it_is(self, lab):
        """Also where the database's statistics date from the moment at which no point had its trial yet."""
        study_id = lab.plant(3000)
        with lab.database.begin() as connection:
            connection.execute(sa.update(PointRow).values(trial_id=None))
        with lab.database.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
        with lab.database.begin() as connection:
            connection.execute(sa.update(PointRow).values(trial_id=PointRow.position))
        asked = []

        def note(connection, cursor, statement, parameters, *_):
            if statement.startswith("SELECT lmf_points"):
                asked.append((statement, parameters))

        worker = lab.worker()
        sa.event.listen(lab.database.engine, "before_cursor_execute", note)
        try:
            lab.claim(study_id, worker)
        finally:
            sa.event.remove(lab.database.engine, "before_cursor_execute", note)
        assert len(asked) == 2, "one for expired leases, one for waiting points"
        explain = "EXPLAIN QUERY PLAN" if lab.database.backend == "sqlite" else "EXPLAIN"
        with lab.database.begin() as connection:
            for statement, parameters in asked:
                plan = str(connection.exec_driver_sql(f"{explain} {statement}", parameters).all())
                assert "ix_lmf_points_queue" in plan
                assert not any(word in plan for word in ("Seq Scan", "Sort", "SCAN", "B-TREE")), plan


class TestRenew:
    def test_a_renewed_lease_lasts_from_now(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.expire(lease)
        lab.ledger.renew(lease)
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None
        with lab.database.read() as connection:
            assert 0 < connection.scalar(sa.select(PointRow.lease_expires - now_seconds())) <= 60


WRITES = {
    "renew": lambda lab, lease: lab.ledger.renew(lease),
    "begin_training": lambda lab, lease: lab.ledger.begin_training(lease, 0),
    "record_epochs": lambda lab, lease: lab.ledger.record_epochs(lease, [lab.epoch(3)]),
    "finish": lambda lab, lease: lab.ledger.finish(lease, 0.9, {"val": {}}, [], "weights"),
    "fail": lambda lab, lease: lab.ledger.fail(lease, "NaN loss", 2),
    "fail for good": lambda lab, lease: lab.ledger.fail(lease, "NaN loss", 1),
    "close": lambda lab, lease: lab.ledger.close(lease),
    "release": lambda lab, lease: lab.ledger.release(lease, "stopped"),
}


class TestFence:
    """Whoever lost a lease writes nothing more."""

    def contents(self, lab):
        with lab.database.read() as connection:
            tables = ("lmf_points", "lmf_attempts", "lmf_epochs")
            return [connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY 1, 2")).all() for table in tables]

    @pytest.mark.parametrize("write", WRITES)
    def test_nothing_is_written_after_another_worker_took_the_point(self, lab, write):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.ledger.record_epochs(lease, [lab.epoch(1)])
        taken = lab.lose(lease, study_id)
        before = self.contents(lab)
        with pytest.raises(LeaseLostError, match="the lease on point p0 was lost"):
            WRITES[write](lab, lease)
        assert self.contents(lab) == before
        lab.ledger.renew(taken)

    @pytest.mark.parametrize("write", WRITES)
    def test_nothing_is_written_after_the_point_was_closed(self, lab, write):
        study_id = lab.plant(1)
        lease = lab.complete(study_id)
        before = self.contents(lab)
        # What its own attempt has closed is closed: the acknowledgement of the first time may have been lost.
        with nullcontext() if write == "close" else pytest.raises(LeaseLostError):
            WRITES[write](lab, lease)
        assert self.contents(lab) == before

    @pytest.mark.parametrize("write", WRITES)
    def test_nothing_is_written_after_the_point_was_released(self, lab, write):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.ledger.release(lease)
        before = self.contents(lab)
        with pytest.raises(LeaseLostError):
            WRITES[write](lab, lease)
        assert self.contents(lab) == before

    def test_an_expired_lease_that_nobody_took_still_counts(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.expire(lease)
        lab.finish(lease)
        assert lab.point("p0").state == "complete"

    def test_writing_no_epochs_asks_for_no_lease(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.lose(lease, study_id)
        lab.ledger.record_epochs(lease, [])
