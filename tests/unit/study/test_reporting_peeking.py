from __future__ import annotations

import pytest

from study.reporting.peeking import peeking
from study.reporting.statistics import summarize


def test_the_chosen_point_is_compared_with_the_best_on_test(records):
    study = records.study(
        [
            records.point(1.0, 0.5, 0.70, 0.60, seed=23),
            records.point(1.0, 0.5, 0.80, 0.64, seed=24),
            records.point(1.0, 0.7, 0.60, 0.70, seed=23),
            records.point(1.0, 0.7, 0.60, 0.72, seed=24),
            records.point(0.5, 1.0, 0.50, 0.90, seed=23),
            records.point(0.5, 1.0, 0.50, 0.10, seed=24),
        ]
    )
    found = peeking(summarize(study))
    assert (found.chosen, found.best, found.points) == ((1.0, 0.5), (1.0, 0.7), 3)
    assert (found.chosen_score, found.best_score) == pytest.approx((0.62, 0.71))
    assert found.difference == pytest.approx(0.09)
    assert found.sentence() == (
        "The point that validation chose has a test macro F1 of 62.00 %; on test, the best of 3 points is α = 1.0, "
        "β = 0.7 with 71.00 %. Choosing by test would have seemed to gain 9.00 points, which is luck as much as merit "
        "and must not be reported."
    )


def test_where_validation_chose_the_best_on_test_nothing_was_to_gain(records):
    study = records.study([records.point(1.0, 0.5, 0.7, 0.6), records.point(1.0, 0.7, 0.6, 0.6)])
    found = peeking(summarize(study))
    assert (found.best, found.difference) == ((1.0, 0.5), 0.0)
    assert "would have gained nothing" in found.sentence()


def test_the_score_is_the_one_that_chooses_unless_another_is_named(records):
    study = records.study(
        [
            records.point(1.0, 0.5, records.scores(0.5, mcc=0.5), records.scores(0.6, balanced_accuracy=0.9, mcc=0.3)),
            records.point(1.0, 0.7, records.scores(0.4), records.scores(0.8, balanced_accuracy=0.5, mcc=0.41)),
        ],
        spec={"recipe": {"select": "balanced_accuracy"}},
    )
    summary = summarize(study)
    assert peeking(summary).chosen_score == 0.9
    assert peeking(summary, "macro_f1").best == (1.0, 0.7)
    assert "MCC of 0.3000" in peeking(summary, "mcc").sentence()
    assert "gain 0.1100," in peeking(summary, "mcc").sentence()


def test_without_a_best_or_its_score_there_is_nothing_to_say(records):
    assert peeking(summarize(records.study())) is None
    unknown = records.scores(0.6) | {"macro_auc": None}
    study = records.study([records.point(1.0, 0.5, 0.7, unknown), records.point(1.0, 0.7, 0.6, 0.6)])
    assert peeking(summarize(study), "macro_auc") is None
