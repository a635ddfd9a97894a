"""What becomes of a claimed point, on both backends: its epochs, its end, and workers that are lost."""

from __future__ import annotations

import pytest

from storage.errors import LeaseLostError
from storage.ledger import MAX_FRUITLESS_LOSSES
from storage.queries import read_attempts, read_epochs

STUDY = "skin-small"


def ends(lab):
    """How each attempt ended, in the order of claims."""
    return [attempt.end for attempt in read_attempts(lab.database, STUDY)]


class TestEnds:
    def test_a_point_is_complete_with_its_scores_after_finish_and_close(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        scores = {"val": {"macro_f1": 0.75}, "test": {"macro_f1": 0.5}}
        file = {"artifact_id": "a", "filename": "predictions.csv", "mimetype": "text/csv", "encoding": None}
        lab.ledger.finish(lease, 0.75, scores, [file], "weights-id")
        point = lab.point("p0")
        assert (point.state, point.scores, point.weights) == ("running", scores, "weights-id")
        assert ends(lab) == [None]
        lab.ledger.close(lease)
        point = lab.point("p0")
        assert (point.state, point.scores, point.message) == ("complete", scores, None)
        assert point.finished_at >= point.started_at
        assert ends(lab) == ["complete"]
        outcome = lab.outcomes.read(lease.point_id)
        assert (outcome.value, outcome.scores, outcome.files, outcome.message) == (0.75, scores, [file], None)

    def test_finish_may_be_written_again(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.ledger.finish(lease, 0.75, {"val": {}}, [], None)
        lab.ledger.finish(lease, 0.75, {"val": {}}, [], None)
        lab.ledger.close(lease)
        assert lab.point("p0").state == "complete"

    def test_a_point_is_not_closed_before_its_outcome_is_written(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        with pytest.raises(AssertionError, match="after its outcome is written"):
            lab.ledger.close(lease)
        assert (lab.point("p0").state, lab.point("p0").finished_at) == ("running", None)
        assert ends(lab) == [None]

    def test_scores_that_were_written_but_not_told_are_claimed_and_not_trained_again(self, lab):
        study_id = lab.plant(2)
        lease = lab.claim(study_id)
        lab.ledger.finish(lease, 0.75, {"val": {"macro_f1": 0.75}}, [], "weights-id")
        taken = lab.lose(lease, study_id)
        assert (taken.outcome, taken.trial_id) == ("complete", lease.trial_id)
        assert lab.outcomes.read(taken.point_id).value == 0.75
        lab.ledger.close(taken)
        assert lab.point("p0").state == "complete"
        assert ends(lab) == ["lost", "complete"]

    def test_a_final_failure_that_was_not_told_is_claimed_and_not_tried_again(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        assert lab.ledger.fail(lease, "NaN loss in epoch 2", 1) is True
        taken = lab.lose(lease, study_id)
        assert taken.outcome == "failed"
        lab.ledger.close(taken)
        point = lab.point("p0")
        assert (point.state, point.message) == ("failed", "NaN loss in epoch 2")

    def test_a_pruned_point_is_claimed_and_not_trained_again_until_it_is_closed(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.ledger.begin_training(lease, 0)
        lab.ledger.record_epochs(lease, [lab.epoch(1)])
        lab.ledger.prune(lease, "pruned after epoch 1 of 3 (median)")
        assert lab.point("p0").state == "running", "Optuna is to be told first"
        taken = lab.lose(lease, study_id)
        assert (taken.outcome, taken.last_epoch) == ("pruned", 1)
        with pytest.raises(LeaseLostError):
            lab.ledger.prune(lease, "late")
        lab.ledger.close(taken)
        point = lab.point("p0")
        assert (point.state, point.message) == ("pruned", "pruned after epoch 1 of 3 (median)")
        assert (point.scores, point.last_epoch) == (None, 1)
        assert ends(lab) == ["lost", "pruned"]
        assert lab.ledger.open_points(study_id) == 0

    def test_a_failure_frees_the_point_until_it_was_the_last_one_allowed(self, lab):
        study_id = lab.plant(1)
        for number in (1, 2):
            lease = lab.claim(study_id)
            assert lab.ledger.fail(lease, f"out of memory {number}", 3) is False
            point = lab.point("p0")
            assert (point.state, point.message) == ("waiting", f"out of memory {number}")
        last = lab.claim(study_id)
        assert lab.ledger.fail(last, "out of memory 3", 3) is True
        assert lab.point("p0").state == "running", "Optuna is to be told first"
        lab.ledger.close(last)
        point = lab.point("p0")
        assert (point.state, point.message, point.scores) == ("failed", "out of memory 3", None)
        attempts = read_attempts(lab.database, STUDY)
        assert [(attempt.end, attempt.message) for attempt in attempts] == [
            ("failed", "out of memory 1"),
            ("failed", "out of memory 2"),
            ("failed", "out of memory 3"),
        ]

    def test_a_success_after_a_failure_leaves_no_message(self, lab):
        study_id = lab.plant(1)
        lab.ledger.fail(lab.claim(study_id), "out of memory", 2)
        lab.complete(study_id)
        assert (lab.point("p0").state, lab.point("p0").message) == ("complete", None)

    def test_a_released_point_is_free_at_once(self, lab):
        study_id = lab.plant(2)
        lease = lab.claim(study_id)
        lab.ledger.release(lease, "stopped as asked")
        assert lab.point("p0").state == "waiting"
        again = lab.claim(study_id)
        assert (again.key, again.earlier_tokens) == ("p0", (lease.token,))
        attempts = read_attempts(lab.database, STUDY)
        assert [(attempt.end, attempt.message) for attempt in attempts] == [
            ("released", "stopped as asked"),
            (None, None),
        ]
        assert lab.point("p0").lost_attempts == 0

    def test_open_points_are_those_not_closed(self, lab):
        study_id = lab.plant(4)
        lab.plant(2, "skin-large")
        lab.complete(study_id)
        lab.fail_for_good(lab.claim(study_id))
        lab.claim(study_id)
        assert lab.ledger.open_points(study_id) == 2


class TestEpochs:
    def begin(self, lab, first_epoch=0):
        study_id = lab.plant(2)
        lease = lab.claim(study_id)
        lab.ledger.begin_training(lease, first_epoch)
        return study_id, lease

    def recorded(self, lab):
        return {epoch.epoch: epoch for epoch in read_epochs(lab.database, STUDY)}

    def test_an_epoch_is_recorded_with_all_its_figures(self, lab):
        _, lease = self.begin(lab)
        val = {"macro_f1": 0.25, "macro_auc": None}
        lab.ledger.record_epochs(lease, [lab.epoch(1, val=val, halves={"ldam": 2.0, "focal": 0.5}, lr=1e-4)])
        (epoch,) = self.recorded(lab).values()
        assert (epoch.point_id, epoch.train_loss, epoch.val_loss) == (lease.point_id, 1.0, 1.5)
        assert (epoch.lr, epoch.images_per_second, epoch.seconds) == (1e-4, 100.0, 2.0)
        assert (epoch.val, epoch.halves) == (val, {"ldam": 2.0, "focal": 0.5})

    def test_recording_again_changes_nothing(self, lab):
        _, lease = self.begin(lab)
        lab.ledger.record_epochs(lease, [lab.epoch(1)])
        lab.ledger.record_epochs(lease, [lab.epoch(1, train_loss=9.0)])
        lab.ledger.record_epochs(lease, [lab.epoch(1), lab.epoch(2)])
        assert {number: epoch.train_loss for number, epoch in self.recorded(lab).items()} == {1: 1.0, 2: 0.5}
        (attempt,) = read_attempts(lab.database, STUDY)
        assert attempt.epochs == 2, "an epoch counts once, however often its record is written"
        assert lab.point("p0").last_epoch == 2

    def test_an_earlier_epoch_does_not_take_the_record_back(self, lab):
        _, lease = self.begin(lab)
        lab.ledger.record_epochs(lease, [lab.epoch(1), lab.epoch(2)])
        lab.ledger.record_epochs(lease, [lab.epoch(1)])
        assert lab.point("p0").last_epoch == 2

    def test_epochs_of_a_checkpoint_are_not_the_attempts_own(self, lab):
        study_id, lease = self.begin(lab)
        lab.ledger.record_epochs(lease, [lab.epoch(1)])
        second = lab.lose(lease, study_id)
        assert second.last_epoch == 1
        # The dead worker had written the checkpoint of epoch 2, and died before it recorded the epoch.
        lab.ledger.begin_training(second, 2)
        lab.ledger.record_epochs(second, [lab.epoch(1), lab.epoch(2)])
        lab.ledger.record_epochs(second, [lab.epoch(3)])
        attempts = read_attempts(lab.database, STUDY)
        assert [(attempt.first_epoch, attempt.epochs) for attempt in attempts] == [(0, 1), (2, 1)]
        assert sorted(self.recorded(lab)) == [1, 2, 3]
        assert lab.point("p0").lost_epochs == 0

    def test_epochs_without_a_reachable_checkpoint_are_counted_as_lost(self, lab):
        study_id, lease = self.begin(lab)
        lab.ledger.record_epochs(lease, [lab.epoch(1), lab.epoch(2), lab.epoch(3)])
        second = lab.lose(lease, study_id)
        lab.ledger.begin_training(second, 0)
        assert lab.point("p0").lost_epochs == 3
        assert lab.point("p0").last_epoch == 3
        lab.ledger.begin_training(second, 0)
        assert lab.point("p0").lost_epochs == 3, "the same loss counts once, however often it is written"

    def test_an_epoch_is_lost_only_where_the_attempt_before_had_it(self, lab):
        study_id, lease = self.begin(lab)
        lab.ledger.record_epochs(lease, [lab.epoch(1), lab.epoch(2), lab.epoch(3)])
        second = lab.lose(lease, study_id)
        lab.ledger.begin_training(second, 0)
        lab.ledger.record_epochs(second, [lab.epoch(1)])
        third = lab.lose(second, study_id)
        lab.ledger.begin_training(third, 1)
        assert lab.point("p0").lost_epochs == 3, "the third goes on from where the second was"
        fourth = lab.lose(third, study_id)
        fifth = lab.lose(fourth, study_id)
        lab.ledger.begin_training(fifth, 0)
        assert lab.point("p0").lost_epochs == 4, "the fourth never began, and lost nothing"


class TestLosses:
    """Workers that die; a point that kills them is given up in the end."""

    def die(self, lab, study_id, *epochs):
        lease = lab.claim(study_id)
        if epochs:
            lab.ledger.begin_training(lease, 0)
            lab.ledger.record_epochs(lease, [lab.epoch(number) for number in epochs])
        lab.expire(lease)
        return lease

    def test_a_lost_attempt_is_closed_by_the_next_claim(self, lab):
        study_id = lab.plant(1)
        self.die(lab, study_id)
        lab.claim(study_id)
        first, second = read_attempts(lab.database, STUDY)
        assert (first.end, first.message) == ("lost", "the worker's lease ran out")
        assert first.ended_at >= first.started_at
        assert (second.attempt, second.end) == (2, None)
        assert lab.point("p0").lost_attempts == 1

    def test_three_losses_in_a_row_without_an_epoch_fail_the_point(self, lab):
        study_id = lab.plant(1)
        for _ in range(MAX_FRUITLESS_LOSSES):
            assert self.die(lab, study_id).outcome is None
        last = lab.claim(study_id)
        assert last.outcome == "failed", "it is told to Optuna and not trained"
        lab.ledger.close(last)
        point = lab.point("p0")
        assert (point.state, point.attempts, point.lost_attempts) == ("failed", 4, 3)
        assert point.message == "cost 3 workers in a row without one new epoch"
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None

    def test_a_new_epoch_starts_the_count_again(self, lab):
        study_id = lab.plant(1)
        self.die(lab, study_id)
        self.die(lab, study_id)
        self.die(lab, study_id, 1)
        self.die(lab, study_id)
        assert self.die(lab, study_id).outcome is None
        assert self.die(lab, study_id).outcome is None
        assert lab.claim(study_id).outcome == "failed"

    def test_an_epoch_trained_again_is_no_new_epoch(self, lab):
        study_id = lab.plant(1)
        self.die(lab, study_id, 1, 2)
        for _ in range(MAX_FRUITLESS_LOSSES):
            assert self.die(lab, study_id, 1).outcome is None
        assert lab.claim(study_id).outcome == "failed"

    @pytest.mark.parametrize("end", ["release", "failure"])
    def test_a_worker_that_lived_starts_the_count_again(self, lab, end):
        study_id = lab.plant(1)
        self.die(lab, study_id)
        self.die(lab, study_id)
        lease = lab.claim(study_id)
        if end == "release":
            lab.ledger.release(lease)
        else:
            lab.ledger.fail(lease, "out of memory", 2)
        for _ in range(MAX_FRUITLESS_LOSSES):
            assert self.die(lab, study_id).outcome is None
        assert lab.claim(study_id).outcome == "failed"

    def test_workers_that_die_between_scores_and_close_do_not_fail_the_point(self, lab):
        study_id = lab.plant(1)
        lease = lab.claim(study_id)
        lab.ledger.finish(lease, 0.5, {"val": {}}, [], None)
        for _ in range(MAX_FRUITLESS_LOSSES + 1):
            lease = lab.lose(lease, study_id)
            assert lease.outcome == "complete"
        lab.ledger.close(lease)
        assert (lab.point("p0").state, lab.point("p0").message) == ("complete", None)

    def test_the_leases_of_a_dead_worker_end_at_once(self, lab):
        study_id = lab.plant(3)
        dead, alive = lab.worker(), lab.worker()
        lab.claim(study_id, dead)
        lab.claim(study_id, alive)
        assert lab.ledger.expire_leases(dead) == 1
        assert lab.claim(study_id).key == "p0"
        assert lab.ledger.expire_leases(dead) == 0, "what another worker took is no longer the dead one's"
        assert lab.claim(study_id).key == "p2"

    def test_a_dead_workers_finished_points_stay_closed(self, lab):
        study_id = lab.plant(1)
        worker = lab.worker()
        lab.finish(lab.claim(study_id, worker))
        assert lab.ledger.expire_leases(worker) == 0
        assert lab.ledger.claim(study_id, lab.worker(), 60) is None
