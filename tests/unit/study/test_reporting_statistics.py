from __future__ import annotations

from dataclasses import replace

import pytest

from study.reporting.statistics import spread_of, summarize
from study.settings import DEFAULT_GRID, SETTINGS, setting_points


def settings_of(summary):
    return {setting.name: setting for setting in summary.settings}


def test_average_deviation_is_the_mean_distance_from_the_mean():
    spread = spread_of([0.2, 0.4, None, 0.9])
    assert spread.count == 3
    assert spread.mean == pytest.approx(0.5)
    assert spread.average_deviation == pytest.approx((0.3 + 0.1 + 0.4) / 3)
    assert (spread.lowest, spread.highest) == (0.2, 0.9)


@pytest.mark.parametrize("values", [[], [None, None]])
def test_the_spread_of_nothing_is_nothing(values):
    spread = spread_of(values)
    assert (spread.count, spread.mean, spread.average_deviation, spread.lowest) == (0, None, None, None)


def test_each_setting_has_its_own_points_and_the_shared_one_is_in_all_three(records):
    study = records.study(
        [
            records.point(1.0, 1.0, 0.50, 0.40),
            records.point(0.5, 0.5, 0.60, 0.70),
            records.point(1.0, 0.5, 0.80, 0.30),
            records.point(1.0, 2.0, 0.20, 0.20),
            records.point(0.5, 1.0, 0.70, 0.60),
        ]
    )

    settings = settings_of(summarize(study))

    assert {name: setting.number for name, setting in settings.items()} == {"joint": 1, "beta": 2, "alpha": 3}
    assert {name: setting.val.count for name, setting in settings.items()} == {"joint": 2, "beta": 3, "alpha": 2}
    assert settings["joint"].val.mean == pytest.approx(0.55)
    assert settings["joint"].val.average_deviation == pytest.approx(0.05)
    assert settings["joint"].test.mean == pytest.approx(0.55)
    assert settings["joint"].test.average_deviation == pytest.approx(0.15)
    assert settings["beta"].val.mean == pytest.approx(0.50)
    assert settings["beta"].val.average_deviation == pytest.approx(0.20)
    assert settings["beta"].test.mean == pytest.approx(0.30)
    assert settings["beta"].test.average_deviation == pytest.approx(0.2 / 3)
    assert settings["alpha"].val.mean == pytest.approx(0.60)
    assert (settings["alpha"].best.alpha, settings["alpha"].best.beta) == (0.5, 1.0)


def test_the_papers_grid_gives_eleven_points_a_setting_of_31_trainings(records):
    points = [records.point(p.alpha, p.beta, 0.5, settings=p.settings) for p in setting_points(SETTINGS, DEFAULT_GRID)]
    summary = summarize(records.study(points))
    assert len(summary.pairs) == 31
    assert [len(setting.pairs) for setting in summary.settings] == [11, 11, 11]
    assert [[pair.beta for pair in s.pairs] for s in summary.settings][1] == list(DEFAULT_GRID)


def test_the_best_is_chosen_on_validation_and_never_on_test(records):
    study = records.study([records.point(1.0, 0.5, 0.6, 0.9), records.point(1.0, 0.7, 0.7, 0.1)])
    summary = summarize(study)
    assert (summary.best.alpha, summary.best.beta) == (1.0, 0.7)
    assert summary.best_row.trial == 1
    assert summary.best.score("test", "macro_f1") == 0.1


def test_with_several_seeds_a_point_is_their_mean_and_counts_once(records):
    study = records.study(
        [
            records.point(1.0, 0.5, 0.90, 0.60, seed=23),
            records.point(1.0, 0.7, 0.70, 0.50, seed=23),
            records.point(1.0, 0.5, 0.30, 0.40, seed=24),
            records.point(1.0, 0.7, 0.72, 0.70, seed=24),
        ]
    )

    summary = summarize(study)

    (setting,) = [setting for setting in summary.settings if setting.name == "beta"]
    assert (setting.val.count, setting.planned) == (2, 2)
    assert setting.val.mean == pytest.approx((0.60 + 0.71) / 2)
    assert setting.val.average_deviation == pytest.approx(0.055)
    assert setting.test.mean == pytest.approx((0.50 + 0.60) / 2)
    assert (summary.best.beta, summary.best_row.trial, summary.best_row.seed) == (0.7, 3, 24)
    assert summary.best.score("val", "macro_f1") == pytest.approx(0.71)
    assert summary.best.seeds == (23, 24)


def test_a_mean_is_over_the_seeds_that_are_complete(records):
    study = records.study(
        [records.point(1.0, 0.5, 0.4, 0.3, seed=23), records.point(1.0, 0.5, seed=24), records.point(1.0, 0.7)]
    )
    summary = summarize(study)
    (setting,) = summary.settings
    assert (setting.planned, setting.val.count, setting.val.mean) == (2, 1, 0.4)
    assert summary.best.seeds == (23, 24)
    assert [row.seed for row in summary.best.rows] == [23]


def test_ties_go_to_the_lowest_trial_number_whatever_the_order_of_points(records):
    points = [records.point(1.0, beta, 0.5) for beta in (0.5, 0.6, 0.7)]
    summary = summarize(records.study(reversed(points)))
    assert (summary.best.beta, summary.best_row.trial) == (0.5, 0)

    seeds = [records.point(1.0, 2.0, 0.8, seed=seed) for seed in (1, 2)]
    assert summarize(records.study(reversed(seeds))).best_row.seed == 1


def test_the_studys_own_score_chooses(records):
    study = records.study(
        [
            records.point(1.0, 0.5, records.scores(0.9, balanced_accuracy=0.5)),
            records.point(1.0, 0.7, records.scores(0.6, balanced_accuracy=0.8)),
        ],
        spec={"recipe": {"select": "balanced_accuracy"}},
    )
    summary = summarize(study)
    assert summary.select == "balanced_accuracy"
    assert summary.best.beta == 0.7
    assert summary.settings[0].best.beta == 0.7
    assert summary.settings[0].val.mean == pytest.approx(0.75)
    assert summarize(replace(study, spec={})).best.beta == 0.5


def test_a_point_without_the_choosing_score_counts_in_means_but_is_never_the_best(records):
    without = records.scores(0.9, macro_auc=None)
    points = [records.point(1.0, 0.5, without), records.point(1.0, 0.7, records.scores(0.5, macro_auc=0.6))]
    spec = {"recipe": {"select": "macro_auc"}}

    summary = summarize(records.study(points, spec=spec))
    assert summary.best.beta == 0.7
    assert summary.settings[0].val.count == 2

    alone = summarize(records.study(points[:1], spec=spec))
    assert alone.best is None
    assert alone.best_row is None
    assert alone.settings[0].best is None


def test_failed_points_and_other_losses_are_in_no_mean(records):
    failed = replace(records.point(1.0, 0.5, 0.99), state="failed")
    baseline = replace(records.point(None, None, 0.98), loss="cce")
    summary = summarize(records.study([failed, baseline, records.point(1.0, 0.7, 0.5)]))
    assert [(pair.alpha, pair.beta) for pair in summary.pairs] == [(1.0, 0.7)]
    assert summary.settings[0].planned == 2
    assert summary.best.beta == 0.7


def test_a_point_outside_the_settings_can_be_the_best(records):
    study = records.study([records.point(0.8, 1.7, 0.9), records.point(1.0, 0.7, 0.5)])
    summary = summarize(study)
    assert (summary.best.alpha, summary.best.beta) == (0.8, 1.7)
    assert [setting.name for setting in summary.settings] == ["beta"]
    assert summary.settings[0].val.count == 1


def test_states_are_counted(records):
    states = ("complete", "complete", "failed", "waiting", "running", "running", "pruned")
    points = [records.point(val=0.5 if state == "complete" else None, state=state) for state in states]
    summary = summarize(records.study(points))
    assert summary.states == {"complete": 2, "running": 2, "waiting": 1, "failed": 1, "pruned": 1}
    assert summary.unfinished == 3


def test_a_study_without_a_complete_point_has_settings_without_means(records):
    summary = summarize(records.study([records.point(0.5, 1.0)]))
    assert summary.best is None
    assert summary.ranking == ()
    (setting,) = summary.settings
    assert (setting.name, setting.planned, setting.val.mean, setting.test.mean) == ("alpha", 1, None, None)


def test_f1_of_each_class_is_the_mean_over_the_seeds(records):
    points = [
        records.point(1.0, 0.5, 0.5, records.scores(f1_per_class=[0.9, 0.1]), seed=1),
        records.point(1.0, 0.5, 0.5, records.scores(f1_per_class=[0.7, 0.0]), seed=2),
    ]
    best = summarize(records.study(points)).best
    assert best.f1_per_class("test") == pytest.approx((0.8, 0.05))


def test_scores_of_each_class_are_means_over_the_seeds_that_have_them(records):
    points = [
        records.point(1.0, 0.5, 0.5, records.scores(auc_per_class=[0.9, None]), seed=1),
        records.point(1.0, 0.5, 0.5, records.scores(auc_per_class=[0.7, None]), seed=2),
        records.point(1.0, 0.5, 0.5, records.older_scores(), seed=3),
    ]
    best = summarize(records.study(points)).best
    assert best.per_class("test", "auc") == (pytest.approx(0.8), None)
    assert best.per_class("val", "auc") == pytest.approx((0.92, 0.88))
    assert best.per_class("test", "average_precision") == pytest.approx((0.93, 0.77))


def test_the_stated_specificity_is_that_of_the_first_point_that_has_one(records):
    points = [records.point(), records.point(val=records.older_scores()), records.point(1.0, 0.5, 0.5)]
    assert summarize(records.study(points)).specificity == 0.95
    assert summarize(records.study(points[:2])).specificity is None


def test_a_coefficient_may_choose_also_where_it_is_negative(records):
    points = [
        records.point(1.0, beta, records.scores(mcc=mcc)) for beta, mcc in ((0.5, -0.4), (0.7, -0.1), (0.9, -0.2))
    ]
    summary = summarize(records.study(points, spec={"recipe": {"select": "mcc"}}))
    assert [pair.beta for pair in summary.ranking] == [0.7, 0.9, 0.5]
