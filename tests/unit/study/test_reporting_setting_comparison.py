from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from math import factorial

import numpy as np
import pytest
from scipy import stats

from study.reporting.holm import holm
from study.reporting.setting_comparison import (
    compare_settings,
    friedman_blocks_needed,
    friedman_p,
    least_sign_flip_p,
    sign_flip_p,
)
from study.reporting.statistics import summarize
from study.settings import DEFAULT_GRID, SETTINGS, setting_points


def study_of(records, score, grid=DEFAULT_GRID, settings=SETTINGS, seeds=(23,)):
    """A study whose test scores are `score(setting, value, seed)`; the shared point scores nonsense."""
    points = []
    for seed in seeds:
        for point in setting_points(settings, grid):
            (*_, setting) = point.settings if len(point.settings) == 1 else ("none",)
            value = point.beta if setting == "beta" else point.alpha
            test = 0.01 if setting == "none" else score(setting, value, seed)
            points.append(records.point(point.alpha, point.beta, 0.5, test, seed=seed, settings=point.settings))
    return summarize(records.study(points))


@pytest.mark.parametrize("count", [2, 5, 10])
def test_sign_flips_are_those_of_a_plain_loop(count):
    differences = np.random.default_rng(count).normal(0.5, 1, count)
    observed = differences.mean()
    means = [np.mean(np.array(signs) * differences) for signs in product([1, -1], repeat=count)]
    above, below = np.mean(np.array(means) >= observed - 1e-12), np.mean(np.array(means) <= observed + 1e-12)
    assert sign_flip_p(differences) == pytest.approx(min(1, 2 * min(above, below)))


def test_the_least_p_of_sign_flips():
    assert sign_flip_p([1.0, 2.0, 3.0, 4.0]) == least_sign_flip_p(4) == 0.125
    assert sign_flip_p([1.0]) == least_sign_flip_p(1) == 1.0
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0
    assert least_sign_flip_p(10) == pytest.approx(2 / 1024)
    assert sign_flip_p(list(np.arange(1.0, 31.0))) == pytest.approx(least_sign_flip_p(30)) == pytest.approx(2e-4)


def test_settings_are_compared_value_by_value_without_the_shared_point(records):
    random = np.random.default_rng(8)
    scores = {(s, v): 0.7 + 0.01 * random.normal() for s in SETTINGS for v in DEFAULT_GRID}
    summary = study_of(records, lambda setting, value, seed: scores[setting, value])
    found = compare_settings(summary)
    assert [(one.first, one.second) for one in found.pairs] == [
        ("joint", "beta"),
        ("joint", "alpha"),
        ("beta", "alpha"),
    ]
    assert {one.values for one in found.pairs} == {10}
    values = [value for value in DEFAULT_GRID if value != 1.0]
    raw = []
    for one in found.pairs:
        rest = np.array([scores[one.first, value] - scores[one.second, value] for value in values])
        assert one.difference == pytest.approx(rest.mean())
        flips = np.array(list(product([1, -1], repeat=10))) @ rest / 10
        raw.append(2 * min(np.mean(flips >= rest.mean() - 1e-12), np.mean(flips <= rest.mean() + 1e-12)))
        assert one.p == pytest.approx(min(1, raw[-1]))
    assert [one.p_corrected for one in found.pairs] == pytest.approx(list(holm(np.minimum(1, raw))))
    table = [[scores[setting, value] for setting in SETTINGS] for value in values]
    assert found.overall_p == friedman_p(table)
    assert (found.blocks, found.seeds, found.split) == (10, 1, "test")
    assert found.sentence().startswith(
        "The settings cannot be told apart by macro F1 on test (without the shared point α = β = 1): the largest mean "
        "difference, "
    )
    assert f" after Holm's correction). Nor can all together (p = {found.overall_p:.2f}, Friedman's" in found.sentence()
    assert "with one seed, a difference may be this seed's" in found.sentence()


def test_a_setting_that_is_better_everywhere_is_told_from_the_others(records):
    random = np.random.default_rng(9)
    summary = study_of(
        records,
        lambda setting, value, seed: 0.7 + 0.02 * (setting == "beta") + 0.001 * random.normal(),
        seeds=(23, 24),
    )
    found = compare_settings(summary)
    assert [one.told for one in found.pairs] == [True, False, True]
    assert found.pairs[0].p_corrected == pytest.approx(3 * 2 / 1024)
    text = found.sentence()
    assert text.startswith("By macro F1 on test (without the shared point α = β = 1), α = 1 is better than α = β by 2.")
    assert "; α = 1 is better than β = 1 by " in text
    assert (
        "; the others cannot be told apart. Together they differ by more than chance (p < 0.001, Friedman's test over "
        "10 values)."
    ) in text
    assert "one seed" not in text


def test_a_setting_at_a_value_is_the_mean_over_its_seeds(records):
    summary = study_of(
        records,
        lambda setting, value, seed: 0.5 + (0.1 * (seed - 23) if setting == "joint" else 0.0),
        grid=(0.5, 0.7),
        settings=("joint", "beta"),
        seeds=(23, 24, 25),
    )
    (pair,) = compare_settings(summary).pairs
    assert pair.difference == pytest.approx(0.1)
    assert pair.values == 2


def test_with_few_values_it_says_that_nothing_can_be_told(records):
    summary = study_of(records, lambda setting, value, seed: 0.6 if setting == "beta" else 0.5, grid=(0.5, 0.7, 2.0))
    found = compare_settings(summary)
    assert not any(one.told for one in found.pairs)
    assert found.sentence().count("With so few values no difference can reach p = 0.05.") == 1


def test_only_values_that_both_have_are_compared(records):
    points = [
        records.point(0.5, 0.5, 0.5, 0.9),
        records.point(0.7, 0.7, 0.5, 0.8),
        records.point(1.0, 0.5, 0.5, 0.6),
        records.point(1.0, 2.0, 0.5, 0.1),
        records.point(2.0, 1.0),
    ]
    found = compare_settings(summarize(records.study(points)))
    assert [(one.values, one.p is None) for one in found.pairs] == [(1, False), (0, True), (0, True)]
    assert found.pairs[0].difference == pytest.approx(0.3)
    assert (found.overall_p, found.blocks) == (None, 0)


def test_a_search_has_no_settings_to_compare(records):
    found = compare_settings(summarize(records.study([records.point(0.8, 0.9, 0.5, 0.5)])))
    assert (found.pairs, found.overall_p, found.sentence()) == ((), None, "")


def test_all_together_may_differ_where_no_two_can_be_told_apart(records):
    """The order is the same at all of four values, and four values cannot bring a pair below p = 0.125."""
    order = {"joint": 0.5, "beta": 0.6, "alpha": 0.7}
    values = (0.5, 0.7, 1.5, 2.0)
    same = compare_settings(study_of(records, lambda setting, value, seed: order[setting] + value / 100, grid=values))
    assert not any(one.told for one in same.pairs)
    assert same.overall_p == pytest.approx(6 / 6**4)
    text = same.sentence()
    assert text.startswith("Two by two, the settings cannot be told apart by macro F1 on test (without")
    assert (
        " Together they differ by more than chance (p = 0.005, Friedman's test over 4 values), but which one does "
        "cannot be said."
    ) in text


def test_one_pair_may_be_told_where_ranks_alone_tell_nothing(records):
    found = compare_settings(study_of(records, lambda setting, value, seed: 0.5 + (setting == "beta") / 10))
    assert [one.told for one in found.pairs] == [True, False, True]
    assert " By rank alone all together cannot be told apart (p = 0.20, " in replace(found, overall_p=0.2).sentence()


@pytest.mark.parametrize("shape", [(4, 3), (5, 3), (3, 4), (2, 5)])
@pytest.mark.parametrize("ties", [False, True])
def test_friedman_with_few_blocks_is_that_of_all_rankings(shape, ties):
    random = np.random.default_rng(sum(shape))
    scores = random.integers(0, 3, shape).astype(float) if ties else random.normal(size=shape)
    ranks = stats.rankdata(scores, axis=1)
    observed = (ranks.sum(axis=0) ** 2).sum()
    sums = [np.sum(orders, axis=0) for orders in product(*(list(permutations(row)) for row in ranks))]
    expected = np.mean((np.array(sums) ** 2).sum(axis=1) >= observed - 1e-9)
    assert friedman_p(scores.tolist()) == pytest.approx(expected)


def test_friedman_has_the_published_values_of_small_samples():
    """Friedman's statistic of four blocks and three columns is at least 6.5 with p = 0.042."""
    scores = [[1, 2, 3], [1, 2, 3], [1, 2, 3], [2, 1, 3]]
    assert stats.friedmanchisquare(*np.array(scores).T).statistic == pytest.approx(6.5)
    assert friedman_p(scores) == pytest.approx(0.042, abs=5e-4)
    assert friedman_p([[1, 2, 3]] * 4) == pytest.approx(0.0046, abs=5e-5)


def test_friedman_with_many_blocks_is_the_chi_squared_approximation():
    scores = np.random.default_rng(3).normal(size=(40, 6))
    assert friedman_p(scores.tolist()) == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)


@pytest.mark.parametrize(("columns", "needed"), [(3, 3), (4, 2), (5, 2), (7, 2), (11, 2)])
def test_friedman_needs_as_many_blocks_as_equal_orders_take(columns, needed):
    assert friedman_blocks_needed(columns) == needed
    ordered = [list(range(columns))] * needed
    assert friedman_p(ordered) <= 0.05
    if columns < 9:
        assert friedman_p(ordered) == pytest.approx(factorial(columns) ** (1 - needed))
    assert friedman_p(ordered[1:]) is None


def test_friedman_with_ties_two_columns_and_nothing():
    assert friedman_p([[0.5, 0.5, 0.5]] * 6) == 1.0
    assert friedman_p([[0.5, 0.6]] * 20) is None
    assert friedman_p([]) is None


def test_settings_that_do_the_same_are_not_told_apart(records, tell):
    random, false, studies = np.random.default_rng(20_240_006), 0, 100
    for _ in range(studies):
        summary = study_of(records, lambda setting, value, seed: 0.7 + 0.01 * random.normal())
        false += any(one.told for one in compare_settings(summary).pairs)
    tell("false differences of settings", f"in {false} of {studies} studies of equal settings (at most 10 allowed)")
    assert false <= 10
