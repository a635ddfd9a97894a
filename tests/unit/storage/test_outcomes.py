"""What came of points, on both backends: what Optuna is told, and whose weights are kept."""

from __future__ import annotations

import pytest

from storage.planning import NewPoint


@pytest.fixture
def study_id(lab):
    return lab.plant(6)


class TestRead:
    def test_a_failed_point_has_its_message_and_nothing_else(self, lab, study_id):
        lease = lab.claim(study_id)
        lab.ledger.fail(lease, "NaN loss", 1)
        outcome = lab.outcomes.read(lease.point_id)
        assert (outcome.value, outcome.scores, outcome.files, outcome.message) == (None, None, None, "NaN loss")

    def test_epoch_scores_are_those_on_record_that_have_the_score(self, lab, study_id):
        lease, other = lab.claim(study_id), lab.claim(study_id)
        lab.ledger.record_epochs(
            lease, [lab.epoch(1), lab.epoch(2, val={"macro_f1": 0.9, "macro_auc": None}), lab.epoch(3, val={})]
        )
        lab.ledger.record_epochs(other, [lab.epoch(1, val={"macro_f1": 0.7})])
        assert lab.outcomes.epoch_scores(lease.point_id, "macro_f1") == {1: 0.1, 2: 0.9}
        assert lab.outcomes.epoch_scores(lease.point_id, "macro_auc") == {}


class TestWeights:
    def test_better_points_are_those_that_score_higher(self, lab, study_id):
        for value in (0.5, 0.7):
            lab.complete(study_id, value)
        assert lab.outcomes.better_points_exist(study_id, "lmf", 0.4, 2)
        assert not lab.outcomes.better_points_exist(study_id, "lmf", 0.4, 3)
        assert lab.outcomes.better_points_exist(study_id, "lmf", 0.6, 1)
        assert not lab.outcomes.better_points_exist(study_id, "lmf", 0.7, 1), "an equal score is not better"
        assert lab.outcomes.better_points_exist(study_id, "lmf", 0.9, 0)

    def test_a_point_counts_as_soon_as_its_scores_are_written(self, lab, study_id):
        lease = lab.claim(study_id)
        lab.ledger.finish(lease, 0.9, {"val": {}}, [], "best")
        assert lab.outcomes.better_points_exist(study_id, "lmf", 0.5, 1)
        lab.complete(study_id, 0.5, "worse")
        assert lab.outcomes.surplus_weights(study_id, 1) == [(lab.point("p1").point_id, "worse")]

    def test_other_studies_and_failed_points_do_not_count(self, lab, study_id):
        lab.complete(lab.plant(1, "skin-large"), 0.9, "of another study")
        lab.fail_for_good(lab.claim(study_id))
        assert not lab.outcomes.better_points_exist(study_id, "lmf", 0.1, 1)
        assert lab.outcomes.surplus_weights(study_id, 0) == []

    def test_weights_beyond_the_best_are_surplus(self, lab, study_id):
        leases = [lab.complete(study_id, value, f"w{value}") for value in (0.5, 0.8, 0.6, 0.7)]
        surplus = lab.outcomes.surplus_weights(study_id, 2)
        assert surplus == [(leases[2].point_id, "w0.6"), (leases[0].point_id, "w0.5")]
        assert lab.outcomes.surplus_weights(study_id, 4) == []

    def test_of_equals_the_lowest_trial_number_is_kept(self, lab, study_id):
        leases = [lab.complete(study_id, 0.5, f"w{number}") for number in range(3)]
        assert lab.outcomes.surplus_weights(study_id, 1) == [(leases[1].point_id, "w1"), (leases[2].point_id, "w2")]

    def test_forgotten_weights_are_not_named_again(self, lab, study_id):
        leases = [lab.complete(study_id, value, f"w{value}") for value in (0.5, 0.8)]
        assert lab.point("p0").weights == "w0.5"
        lab.outcomes.forget_weights(leases[0].point_id)
        assert lab.point("p0").weights is None
        assert lab.outcomes.surplus_weights(study_id, 1) == []
        assert lab.outcomes.surplus_weights(study_id, 0) == [(leases[1].point_id, "w0.8")]

    def test_each_loss_has_a_best_of_its_own(self, lab):
        study_id = lab.plan(
            [NewPoint(f"{loss} seed={seed}", None, None, loss, seed, ()) for seed in (1, 2) for loss in ("cce", "wcce")]
        )
        values = (0.9, 0.2, 0.8, 0.3)
        leases = [lab.complete(study_id, value, f"w{value}") for value in values]
        assert [lease.key for lease in leases] == ["cce seed=1", "wcce seed=1", "cce seed=2", "wcce seed=2"]
        assert lab.outcomes.better_points_exist(study_id, "cce", 0.8, 1)
        assert not lab.outcomes.better_points_exist(study_id, "wcce", 0.3, 1), "other losses do not count"
        assert lab.outcomes.better_points_exist(study_id, "wcce", 0.2, 1)
        surplus = lab.outcomes.surplus_weights(study_id, 1)
        assert sorted(surplus) == sorted([(leases[1].point_id, "w0.2"), (leases[2].point_id, "w0.8")])
        assert lab.outcomes.surplus_weights(study_id, 2) == []
