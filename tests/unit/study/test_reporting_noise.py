from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from study.reporting.noise import measure_noise, p_text, points_text, seed_groups, variance_share
from study.reporting.statistics import summarize

# Shrout & Fleiss 1979, table 2: six targets in rows, four judges in columns.
RATINGS = ((9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7))


def shared(rows):
    return {(1.0, float(index)): dict(enumerate(row)) for index, row in enumerate(rows)}


def unshared(rows):
    return {(1.0, float(index)): {100 * index + k: v for k, v in enumerate(row)} for index, row in enumerate(rows)}


def test_published_correlations_and_intervals_are_met():
    """ICC(2,1) = 0.29 in [0.019, 0.761], F = 11.03; ICC(1,1) = 0.17 in [-0.133, 0.723], F = 1.79."""
    two = variance_share(shared(RATINGS))
    assert two.share == pytest.approx(0.290, abs=5e-4)
    assert two.interval == pytest.approx((0.019, 0.761), abs=5e-4)
    assert two.p == pytest.approx(stats.f.sf(11.03, 5, 15), rel=0.01)
    assert (two.exact, two.shared_seeds) == (False, True)

    one = variance_share(unshared(RATINGS))
    assert one.share == pytest.approx(0.166, abs=5e-4)
    assert one.interval == pytest.approx((0.0, 0.723), abs=5e-4)
    assert one.p == pytest.approx(stats.f_oneway(*RATINGS).pvalue)
    assert (one.exact, one.shared_seeds) == (True, False)
    assert (one.points, one.trainings, one.seeds) == (6, 24, (4, 4))


def test_the_one_way_interval_is_that_of_the_f_ratio():
    rows = np.random.default_rng(1).normal(size=(12, 3)) + np.arange(12)[:, None]
    found = variance_share(unshared(rows))
    ratio = stats.f_oneway(*rows).statistic
    low, high = ratio / stats.f.ppf(0.975, 11, 24), ratio * stats.f.ppf(0.975, 24, 11)
    assert found.share == pytest.approx((ratio - 1) / (ratio + 2))
    assert found.interval == pytest.approx(((low - 1) / (low + 2), (high - 1) / (high + 2)))
    assert found.seed_sd == pytest.approx(math.sqrt(np.var(rows, axis=1, ddof=1).mean()))


def test_with_missing_seeds_the_mean_number_of_seeds_is_that_of_the_moments():
    rows = [[0.8, 0.82, 0.81], [0.7, 0.72], [0.9], [0.75, 0.78, 0.74]]
    found = variance_share(shared(rows))
    test = stats.f_oneway(*[row for row in rows])
    mean_count = (9 - (9 + 4 + 1 + 9) / 9) / 3
    assert found.p == pytest.approx(test.pvalue)
    assert found.share == pytest.approx((test.statistic - 1) / (test.statistic - 1 + mean_count))
    assert (found.exact, found.shared_seeds, found.seeds) == (False, False, (1, 3))


def test_a_seed_that_favours_all_points_alike_is_not_charged_to_alpha_and_beta():
    random = np.random.default_rng(5)
    points, seeds = random.normal(size=(200, 1)), 3 * random.normal(size=(1, 5))
    rows = points + seeds + 0.3 * random.normal(size=(200, 5))
    common = np.var(seeds, ddof=1)
    found = variance_share(shared(rows))
    assert found.share == pytest.approx(1 / (1 + common + 0.09), rel=0.2)
    assert found.p < 1e-6


def test_the_interval_holds_the_true_share_as_often_as_it_says(tell):
    for name, layout, seed_sd in (("one-way", unshared, 0.0), ("shared seeds", shared, 0.7)):
        random, held = np.random.default_rng(11), 0
        true = 1 / (1 + seed_sd**2 + 1)
        for _ in range(400):
            rows = random.normal(size=(31, 1)) + seed_sd * random.normal(size=(1, 5)) + random.normal(size=(31, 5))
            low, high = variance_share(layout(rows)).interval
            held += low <= true <= high
        tell(f"interval of the variance share, {name}", f"holds the truth in {held} of 400 simulations, expected 380")
        assert held >= 365


def test_noise_is_measured_as_a_plain_loop_does():
    rows = np.random.default_rng(2).normal(size=(7, 4)) + np.array([0, 5, -5, 1])
    noise = measure_noise(shared(rows))
    rest = 0.0
    for i in range(7):
        for j in range(4):
            rest += (rows[i][j] - rows[i].mean() - rows[:, j].mean() + rows.mean()) ** 2
    assert noise.shared_seeds
    assert noise.degrees == 6 * 3
    assert noise.variance == pytest.approx(rest / 18)
    assert noise.within == pytest.approx(np.var(rows, axis=1, ddof=1).mean())
    assert noise.group_square == pytest.approx(4 * np.var(rows.mean(axis=1), ddof=1))
    assert noise.seed_square == pytest.approx(7 * np.var(rows.mean(axis=0), ddof=1))


def test_the_order_of_seeds_does_not_matter():
    rows = shared(RATINGS)
    shuffled = {factors: dict(reversed(list(scores.items()))) for factors, scores in rows.items()}
    assert variance_share(shuffled) == variance_share(rows)


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({}, "no point is complete"),
        (shared([[0.5, 0.6]]), "only one point is complete"),
        (shared([[0.5], [0.6], [0.7]]), "every point has one seed"),
        (shared([[0.5, 0.5], [0.5, 0.5]]), "all trainings scored the same"),
    ],
)
def test_what_cannot_be_told_has_its_reason(groups, reason):
    found = variance_share(groups)
    assert (found.share, found.interval, found.p) == (None, None, None)
    assert found.reason.startswith(reason)
    assert reason in found.sentence()
    assert "cannot be told" in found.sentence()


def test_with_one_seed_the_noise_is_unknown_and_not_zero():
    found = variance_share(shared([[0.5], [0.9]]))
    assert found.seed_sd is None
    assert "unknown; more seeds would tell" in found.sentence()


def test_seeds_without_any_effect_leave_everything_to_alpha_and_beta():
    found = variance_share(shared([[0.1 + 0.2, 0.3], [0.7, 0.7]]))
    assert (found.share, found.interval, found.p, found.seed_sd) == (1.0, None, None, 0.0)


def test_seeds_that_shift_all_points_equally_leave_a_share_without_interval():
    found = variance_share(shared([[0.5, 0.6], [0.7, 0.8]]))
    assert 0 < found.share < 1
    assert (found.interval, found.p) == (None, None)
    missing = measure_noise(shared([[0.5, 0.6], [0.7, 0.8]])).missing
    assert missing.startswith("each seed shifts all points equally")
    assert "; with α and β fixed, a seed moves it by 7.07 points" in found.sentence()


def test_the_sentence_says_share_interval_and_seed():
    random = np.random.default_rng(3)
    text = variance_share(shared(0.8 + 0.01 * random.normal(size=(31, 5)))).sentence()
    assert text.startswith("α and β explain ")
    assert "approximate 95 % interval 0 to" in text
    assert "points (standard deviation)" in text
    assert "may be chance alone" in text
    apart = variance_share(shared(np.linspace(0.5, 0.9, 31)[:, None] + 0.01 * random.normal(size=(31, 5))))
    assert "is more than chance (F test, p < 0.001)" in apart.sentence()


def test_the_scores_of_a_study_come_by_point_and_seed(records):
    study = records.study(
        [
            records.point(1.0, 0.5, 0.6, 0.1, seed=23),
            records.point(1.0, 0.7, 0.8, 0.2, seed=23),
            records.point(1.0, 0.5, 0.5, 0.3, seed=24),
            records.point(1.0, 0.7, seed=24),
        ]
    )
    summary = summarize(study)
    assert seed_groups(summary) == {(1.0, 0.7): {23: 0.8}, (1.0, 0.5): {23: 0.6, 24: 0.5}}
    assert seed_groups(summary, "test") == {(1.0, 0.7): {23: 0.2}, (1.0, 0.5): {23: 0.1, 24: 0.3}}


def test_figures_are_short():
    assert [p_text(p) for p in (0.00001, 0.0324, 0.5)] == ["p < 0.001", "p = 0.032", "p = 0.50"]
    assert points_text(0.01234) == "1.23 points"
    assert points_text(0.01234, "mcc") == "0.0123"
