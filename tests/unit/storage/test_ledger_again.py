"""Claims whose acknowledgement was lost, studies that are paused or cancelled, and when a lost attempt ended."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
import sqlalchemy as sa

from storage.agenda import OpenStudy, open_studies, set_study_state
from storage.errors import LeaseLostError
from storage.planning import retry_failed
from storage.queries import read_attempts
from storage.schema import CANCELLED, OPEN, PAUSED, AttemptRow, WorkerRow

STUDY = "skin-small"


class TestClaimingAgain:
    def test_the_same_token_gives_the_same_lease(self, lab):
        study_id, worker, token = lab.plant(3), lab.worker(), str(uuid.uuid4())
        first = lab.ledger.claim(study_id, worker, 60, token)
        assert lab.ledger.claim(study_id, worker, 60, token) == first
        assert first.token == token
        assert [attempt.end for attempt in read_attempts(lab.database, STUDY)] == [None]
        assert lab.claim(study_id).key == "p1", "another claim takes another point"

    def test_earlier_tokens_are_known_then_too(self, lab):
        study_id = lab.plant(1)
        lost = lab.claim(study_id)
        lab.expire(lost)
        token = str(uuid.uuid4())
        worker = lab.worker()
        first = lab.ledger.claim(study_id, worker, 60, token)
        again = lab.ledger.claim(study_id, worker, 60, token)
        assert first.earlier_tokens == again.earlier_tokens == (lost.token,)

    def test_what_another_worker_took_meanwhile_stays_with_it(self, lab):
        study_id, worker, token = lab.plant(2), lab.worker(), str(uuid.uuid4())
        first = lab.ledger.claim(study_id, worker, 60, token)
        taken = lab.lose(first, study_id)
        again = lab.ledger.claim(study_id, worker, 60, token)
        assert again.key == "p1"
        assert again.token != token, "a token is of one claim"
        lab.ledger.renew(taken)
        with pytest.raises(LeaseLostError):
            lab.ledger.renew(first)


class TestStates:
    def test_of_a_paused_study_nothing_is_claimed_and_its_leases_hear_of_it(self, lab):
        study_id = lab.plant(2)
        lease = lab.claim(study_id)
        assert lab.ledger.renew(lease) == OPEN
        assert set_study_state(lab.database, study_id, PAUSED) == OPEN
        assert lab.ledger.renew(lease) == PAUSED
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None
        lab.ledger.release(lease)
        set_study_state(lab.database, study_id, OPEN)
        assert lab.claim(study_id).key == "p0"

    def test_of_a_cancelled_study_points_come_with_their_end(self, lab):
        study_id = lab.plant(3)
        lab.complete(study_id)
        lost = lab.claim(study_id)
        set_study_state(lab.database, study_id, CANCELLED)
        lab.expire(lost)
        for key in ("p1", "p2"):
            lease = lab.claim(study_id)
            assert (lease.key, lease.outcome) == (key, "failed")
            lab.ledger.close(lease)
        points = [(point.state, point.message) for point in lab.study().points]
        assert points == [("complete", None), ("failed", "cancelled"), ("failed", "cancelled")]

    def test_scores_that_are_written_are_kept_though_the_study_is_cancelled(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.ledger.finish(lease, 0.5, {"val": {}}, [], None)
        set_study_state(lab.database, study_id, CANCELLED)
        assert lab.lose(lease, study_id).outcome == "complete"

    def test_retrying_opens_a_cancelled_study_and_no_paused_one(self, lab):
        study_id = lab.plan(2)
        set_study_state(lab.database, study_id, CANCELLED)
        lab.ledger.close(lab.claim(study_id))
        with lab.database.lock("plan"):
            assert retry_failed(lab.database, lab.mirror, study_id) == 1
        assert lab.study().state == OPEN
        set_study_state(lab.database, study_id, PAUSED)
        with lab.database.lock("plan"):
            retry_failed(lab.database, lab.mirror, study_id)
        assert lab.study().state == PAUSED

    def test_a_search_that_is_not_open_chooses_nothing(self, lab):
        study_id = lab.plan_search(2)
        search = lab.search(study_id)
        set_study_state(lab.database, study_id, PAUSED)
        assert not search.plan_next()
        assert lab.study().remaining == 2
        set_study_state(lab.database, study_id, OPEN)
        assert search.plan_next()
        set_study_state(lab.database, study_id, CANCELLED)
        assert not search.plan_next()
        assert lab.study().remaining == 1, "the point that was chosen is still to be closed"

    def test_a_cancelled_study_stays_cancelled(self, lab):
        study_id = lab.plant(1)
        set_study_state(lab.database, study_id, CANCELLED)
        assert set_study_state(lab.database, study_id, OPEN) == CANCELLED
        assert set_study_state(lab.database, study_id, PAUSED) == CANCELLED
        assert lab.study().state == CANCELLED

    def test_who_cancels_takes_no_point_of_a_study_that_is_open_again(self, lab):
        study_id, worker = lab.plant(1), lab.worker()
        assert lab.ledger.claim(study_id, worker, 60, only_cancelled=True) is None
        set_study_state(lab.database, study_id, CANCELLED)
        assert lab.ledger.claim(study_id, worker, 60, only_cancelled=True).outcome == "failed"


class TestEndsWhoseAcknowledgementWasLost:
    def test_a_point_is_closed_once(self, lab):
        study_id = lab.plant(1)
        lease = lab.complete(study_id)
        before = lab.study()
        lab.ledger.close(lease)
        assert lab.study() == before

    def test_a_failure_counts_once(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        assert not lab.ledger.fail(lease, "NaN", 2)
        assert not lab.ledger.fail(lease, "NaN", 2)
        assert lab.column("failures", lease.point_id) == 1

    def test_a_lease_that_is_given_up_costs_a_lost_attempt_and_no_failure(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.ledger.give_up(lease)
        heir = lab.claim(study_id)
        assert heir.point_id == lease.point_id
        assert [attempt.end for attempt in read_attempts(lab.database, STUDY)] == ["lost", None]
        assert lab.column("failures", lease.point_id) == 0
        assert lab.column("fruitless_losses", lease.point_id) == 1


def agenda(lab):
    """What is open, whenever it was planned."""
    return tuple(replace(study, created_at=0.0) for study in open_studies(lab.database))


class TestAgenda:
    def test_it_counts_what_is_open_and_what_is_free(self, lab):
        study_id = lab.plant(4)
        lab.complete(study_id)
        lab.claim(study_id)
        lab.expire(lab.claim(study_id))
        lab.plant(0, "empty")
        assert agenda(lab) == (OpenStudy(study_id, STUDY, OPEN, 3, 2),)
        set_study_state(lab.database, study_id, PAUSED)
        assert agenda(lab) == (OpenStudy(study_id, STUDY, PAUSED, 3, 0),)

    def test_what_a_search_is_still_to_choose_is_free(self, lab):
        study_id = lab.plan_search(3)
        lab.search(study_id).plan_next()
        lab.claim(study_id)
        assert agenda(lab) == (OpenStudy(study_id, STUDY, OPEN, 3, 2),)
        set_study_state(lab.database, study_id, CANCELLED)
        assert agenda(lab) == (OpenStudy(study_id, STUDY, CANCELLED, 1, 0),)


class TestTheEndOfALostAttempt:
    def write(self, lab, lease, started_at, last_seen):
        with lab.database.begin() as connection:
            connection.execute(sa.update(AttemptRow).values(started_at=started_at))
            connection.execute(sa.update(WorkerRow).where(WorkerRow.id == lease.worker_id).values(last_seen=last_seen))

    @pytest.mark.parametrize(("last_seen", "ended_at"), [(500.0, 500.0), (50.0, 100.0)])
    def test_it_is_when_its_worker_was_last_seen(self, lab, last_seen, ended_at):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        self.write(lab, lease, 100.0, last_seen)
        lab.lose(lease, study_id)
        assert read_attempts(lab.database, STUDY)[0].ended_at == ended_at
