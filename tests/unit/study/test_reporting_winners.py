from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from study.reporting.confusion_scores import balanced_accuracy, confusions, macro_f1
from study.reporting.holm import holm
from study.reporting.resampling import swap_test
from study.reporting.statistics import summarize
from study.reporting.winners import find_neighbours, find_winner, image_p, winner_of


def groups_of(rows, shared=True):
    names = [(round(0.5 + 0.1 * index, 1), 1.0) for index in range(len(rows))]
    return {
        name: {seed if shared else 100 * index + seed: value for seed, value in enumerate(row)}
        for index, (name, row) in enumerate(zip(names, rows, strict=True))
    }


def test_holm_is_what_its_definition_says():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.04, 0.01]) == pytest.approx([0.04, 0.02])
    assert len(holm([])) == 0


def test_two_points_with_their_own_seeds_are_compared_by_the_t_test():
    rows = [[0.80, 0.82, 0.81, 0.83], [0.84, 0.86, 0.83, 0.88]]
    winner = find_winner(groups_of(rows, shared=False))
    assert winner.best == (0.6, 1.0)
    assert winner.p == pytest.approx(stats.ttest_ind(*rows).pvalue)
    assert winner.degrees == 6
    assert (winner.crowned, winner.shared_seeds) == (True, False)
    assert winner.seed_sd == pytest.approx(math.sqrt(np.var(rows, axis=1, ddof=1).mean()))


def test_two_points_with_the_same_seeds_are_compared_by_the_paired_t_test():
    rows = [[0.70, 0.82, 0.61, 0.93], [0.71, 0.84, 0.62, 0.96]]
    winner = find_winner(groups_of(rows))
    assert winner.p == pytest.approx(stats.ttest_rel(*rows).pvalue)
    assert (winner.crowned, winner.shared_seeds, winner.degrees) == (True, True, 3)


def test_with_unequal_numbers_of_seeds_the_closest_is_so_by_standard_errors():
    rows = [[0.90, 0.92, 0.91, 0.89], [0.885], [0.880, 0.881, 0.882, 0.879]]
    winner = find_winner(groups_of(rows))
    residual = [value - np.mean(row) for row in rows for value in row]
    variance = sum(value**2 for value in residual) / 6
    p = []
    for row in rows[1:]:
        error = math.sqrt(variance * (1 / 4 + 1 / len(row)))
        p.append(2 * stats.t.sf((np.mean(rows[0]) - np.mean(row)) / error, 6))
    assert p[0] > p[1]
    assert winner.p == pytest.approx(p[0])
    assert winner.closest.factors == (0.6, 1.0)
    assert winner.against((0.7, 1.0)).p == pytest.approx(p[1])
    assert winner.against((0.7, 1.0)).p_corrected == pytest.approx(max(2 * p[1], p[0] if p[1] > p[0] else 2 * p[1]))
    assert winner.against(winner.best) is None


def test_without_a_winner_holm_says_which_may_be_the_best():
    random = np.random.default_rng(4)
    rows = np.array([0.9, 0.899, 0.897, 0.80, 0.70])[:, None] + 0.004 * random.normal(size=(5, 5))
    winner = find_winner(groups_of(rows))
    means = rows.mean(axis=1)
    assert not winner.crowned
    rest = rows - rows.mean(axis=1, keepdims=True) - rows.mean(axis=0) + rows.mean()
    error = math.sqrt((rest**2).sum() / 16 * 2 / 5)
    others = [index for index in range(5) if index != means.argmax()]
    p = [2 * stats.t.sf((means.max() - means[index]) / error, 16) for index in others]
    corrected = holm(p)
    expected = {(round(0.5 + 0.1 * i, 1), 1.0) for i, value in zip(others, corrected, strict=True) if value > 0.05}
    assert set(winner.indistinct) == expected | {winner.best}
    assert 2 <= len(expected) + 1 < 5
    assert winner.indistinct[0] == winner.best
    alphas = [factors[0] for factors in winner.indistinct]
    assert (winner.alphas, winner.betas) == ((min(alphas), max(alphas)), (1.0, 1.0))


def test_a_winner_is_told_from_all_others():
    rows = np.array([0.70, 0.695, 0.80])[:, None] + 0.004 * np.random.default_rng(4).normal(size=(3, 5))
    winner = find_winner(groups_of(rows))
    assert winner.crowned
    assert winner.indistinct == (winner.best,)
    assert all(rival.told for rival in winner.rivals)
    assert (winner.alphas, winner.betas) == ((0.7, 0.7), (1.0, 1.0))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([[0.5], [0.9]], "every point has one seed"),
        ([[0.5, 0.6, 0.7]], "only one point is complete"),
        ([[0.5, 0.5], [0.9, 0.9]], "the seeds change nothing"),
        ([[0.1 + 0.2, 0.3], [0.9, 0.9]], "the seeds change nothing"),
        ([[0.5, 0.6], [0.7, 0.8]], "each seed shifts all points equally"),
    ],
)
def test_without_noise_to_measure_by_there_is_no_winner(rows, reason):
    winner = find_winner(groups_of(rows))
    assert not winner.crowned
    assert (winner.p, winner.rivals, winner.indistinct, winner.alphas) == (None, (), (), None)
    assert winner.closest is None
    assert reason in winner.reason
    assert winner.sentence() == f"No winner can be named: {winner.reason}."


def test_nothing_gives_nothing():
    winner = find_winner({})
    assert (winner.best, winner.crowned, winner.points) == (None, False, 0)
    assert winner.sentence() == "There is no winner, since no point is complete."


def test_of_equal_means_the_first_is_the_best_and_is_not_crowned():
    winner = find_winner(groups_of([[0.5, 0.7], [0.7, 0.5], [0.1, 0.2]]))
    assert (winner.best, winner.p, winner.crowned) == ((0.5, 1.0), 1.0, False)
    assert winner.closest.difference == 0.0


def test_ten_thousand_points_are_compared_at_once():
    random = np.random.default_rng(0)
    groups = {(float(i), 1.0): dict(enumerate(row)) for i, row in enumerate(random.normal(size=(10_000, 5)))}
    winner = find_winner(groups)
    assert (winner.points, winner.degrees, len(winner.rivals)) == (10_000, 9_999 * 4, 9_999)
    assert not winner.crowned


def test_the_sentences_of_a_winner_and_of_none():
    apart = find_winner(groups_of([[0.70, 0.71, 0.72], [0.80, 0.81, 0.83], [0.6, 0.62, 0.62]]))
    assert apart.sentence() == (
        "α = 0.6, β = 1.0 is the best of 3 points beyond the seeds' noise: its mean validation macro F1 is "
        f"10.33 points above that of α = 0.5, β = 1.0, which comes closest (p {'< 0.001' if apart.p < 0.001 else ''}). "
        "Chance in the validation images is not in this."
    )
    close = find_winner(groups_of([[0.80, 0.81, 0.82], [0.80, 0.815, 0.83], [0.50, 0.52, 0.52]]))
    text = close.sentence("balanced_accuracy")
    assert text.startswith(
        "No winner can be named: α = 0.6, β = 1.0 has the best mean, but 1 of the 2 other points cannot be told from "
        "it; its mean validation balanced accuracy is 0.50 points above that of α = 0.5, β = 1.0"
    )
    assert text.endswith(
        "What may be the best has α from 0.5 to 0.6 and β = 1.0. Chance in the validation images is not in this."
    )
    two = find_winner(groups_of([[0.80, 0.81, 0.82], [0.80, 0.815, 0.83]])).sentence()
    assert "but the only other point cannot be told from it" in two
    assert two.endswith(", which is all that was tried.")


APART = [[0.70, 0.71, 0.72], [0.80, 0.81, 0.83], [0.6, 0.62, 0.62]]
TRUTH = np.repeat([0, 1], [80, 20])


def test_a_crown_withstands_the_images_too_or_is_none():
    seeds = find_winner(groups_of(APART))
    assert seeds.with_images(None) is seeds
    both = seeds.with_images(0.004)
    assert (both.crowned, both.p_images, both.rivals) == (True, 0.004, seeds.rivals)
    assert both.sentence() == (
        "α = 0.6, β = 1.0 is the best of 3 points beyond the noise of the seeds and of the validation images "
        "(p < 0.001, p = 0.004): its mean validation macro F1 is 10.33 points above that of α = 0.5, β = 1.0, which "
        "comes closest."
    )
    chance = seeds.with_images(0.3)
    assert (chance.crowned, chance.p_images, chance.best) == (False, 0.3, seeds.best)
    assert [(rival.factors, rival.told) for rival in chance.rivals] == [((0.5, 1.0), False), ((0.7, 1.0), True)]
    assert chance.indistinct == ((0.6, 1.0), (0.5, 1.0))
    assert (chance.alphas, chance.betas) == ((0.5, 0.6), (1.0, 1.0))
    assert chance.sentence() == (
        "No winner can be named: α = 0.6, β = 1.0 is the best of 3 points beyond the seeds' noise, and its mean "
        "validation macro F1 is 10.33 points above that of α = 0.5, β = 1.0, which comes closest (p < 0.001), but that "
        "may be chance in the validation images (p = 0.30). What may be the best has α from 0.5 to 0.6 and β = 1.0. "
        "Chance in the validation images is in this only for the point that comes closest."
    )


def test_images_alone_crown_nothing():
    close = find_winner(groups_of([[0.80, 0.81, 0.82], [0.80, 0.815, 0.83], [0.50, 0.52, 0.52]]))
    sure = close.with_images(0.001)
    assert (sure.crowned, sure.indistinct) == (False, close.indistinct)
    assert f"which comes closest (p = {close.p:.2f}, over the images p = 0.001)" in sure.sentence()
    unknown = find_winner(groups_of([[0.5], [0.9]]))
    assert unknown.with_images(0.001) is unknown


def test_the_p_of_images_is_that_of_swapping_them():
    random = np.random.default_rng(2)
    best, closest = (np.where(random.random((3, 100)) < right, TRUTH, 1 - TRUTH) for right in (0.95, 0.6))
    expected = swap_test(TRUTH, best, closest, 2, balanced_accuracy, 199)
    assert image_p(TRUTH, best, closest, 2, "balanced_accuracy", 199) == expected == 1 / 200
    assert image_p(TRUTH, closest, best, 2, "balanced_accuracy", 199) == 1.0
    assert image_p(TRUTH, best, closest, 2, "macro_auc", 199) is None
    assert image_p(TRUTH, best[:0], closest[:0], 2) is None


def test_points_that_differ_by_what_validation_images_suit_them_are_not_crowned(tell):
    """All do the same on images that were never drawn; each finds other images easy, and its seeds find the same."""
    random = np.random.default_rng(5)
    truth = np.repeat(range(4), [120, 40, 16, 4])
    by_seeds = by_both = 0
    for _ in range(100):
        hard = random.normal(size=len(truth))
        groups, predicted = {}, {}
        for place in range(13):
            suits = 0.7 * random.normal(size=len(truth))
            right = hard + suits + 0.4 * random.normal(size=(5, len(truth))) + 0.5 > 0
            factors = (1.0, float(place))
            predicted[factors] = np.where(right, truth, (truth + 1) % 4)
            groups[factors] = dict(enumerate(map(float, macro_f1(confusions(truth, predicted[factors], 4)))))
        winner = find_winner(groups)
        by_seeds += winner.crowned
        if winner.crowned:
            p = image_p(truth, predicted[winner.best], predicted[winner.closest.factors], 4, permutations=499)
            by_both += winner.with_images(p).crowned
    tell("false winners by what 180 images suit", f"{by_seeds} of 100 by seeds alone, {by_both} with the images' test")
    assert by_seeds >= 10
    assert by_both <= 7


def test_the_caller_may_say_which_of_equal_means_is_the_best():
    groups = {(1.0, 0.5): {1: 0.3, 2: 0.2, 3: 0.1}, (1.0, 2.0): {1: 0.1, 2: 0.2, 3: 0.3}, (2.0, 1.0): {1: 0.1, 2: 0.15}}
    for best in ((1.0, 0.5), (1.0, 2.0)):
        winner = find_winner(groups, best=best)
        assert (winner.best, winner.crowned) == (best, False)
        assert all(rival.difference >= 0 for rival in winner.rivals)


def test_means_that_differ_by_rounding_alone_leave_the_best_to_the_summary(records):
    """0.3, 0.2, 0.1 and 0.1, 0.2, 0.3 have one mean, but not in every order of adding up."""
    scores = {0.5: (0.3, 0.2, 0.1), 2.0: (0.1, 0.2, 0.3)}
    for order in ((0.5, 2.0), (2.0, 0.5)):
        points = [
            records.point(1.0, beta, value, seed=seed) for beta in order for seed, value in enumerate(scores[beta])
        ]
        summary = summarize(records.study(points))
        assert winner_of(summary).best == summary.best.factors == (1.0, order[0])


def study_of(records, scores, seeds=3):
    return records.study(
        [
            records.point(alpha, beta, value + 0.01 * ((seed * 7 + index * 3) % 5), seed=seed)
            for seed in range(seeds)
            for index, ((alpha, beta), value) in enumerate(scores.items())
        ]
    )


def test_a_study_has_the_winner_that_its_summary_has(records):
    summary = summarize(study_of(records, {(1.0, 0.5): 0.5, (1.0, 0.7): 0.7, (0.5, 1.0): 0.9}))
    winner = winner_of(summary)
    assert winner.best == (0.5, 1.0) == (summary.best.alpha, summary.best.beta)
    assert (winner.crowned, winner.shared_seeds, winner.points) == (True, True, 3)


def test_equal_means_of_a_study_give_the_best_of_its_summary(records):
    points = [records.point(1.0, beta, 0.5 + 0.1 * seed, seed=seed) for seed in (0, 1) for beta in (0.7, 0.5)]
    summary = summarize(records.study(reversed(points)))
    assert winner_of(summary).best == (summary.best.alpha, summary.best.beta) == (1.0, 0.7)


def test_neighbours_are_one_step_along_each_setting_of_the_best(records):
    values = {(1.0, 1.0): 0.9, (0.9, 0.9): 0.5, (1.1, 1.1): 0.5, (2.0, 2.0): 0.5, (1.0, 0.5): 0.5, (1.0, 0.9): 0.6}
    values |= {(0.7, 1.0): 0.9, (2.0, 1.0): 0.5, (0.5, 1.0): 0.4}
    values[1.0, 1.0] = 0.905
    summary = summarize(study_of(records, values))
    assert (summary.best.alpha, summary.best.beta) == (1.0, 1.0)
    neighbours = find_neighbours(summary)
    assert set(neighbours) == {(0.9, 0.9), (1.1, 1.1), (1.0, 0.9), (0.7, 1.0), (2.0, 1.0)}
    assert winner_of(summary).neighbours_sentence(neighbours) == (
        "Of its 5 neighbours it cannot be told from α = 0.7, β = 1.0."
    )


def test_neighbours_in_a_search_are_the_nearest(records):
    places = {(0.9, 0.8): 0.9, (0.9, 0.7): 0.1, (0.8, 0.8): 0.1, (0.95, 0.9): 0.1, (1.5, 0.6): 0.1, (1.9, 1.7): 0.1}
    points = [
        records.point(*place, value, seed=seed, settings=()) for seed in (1, 2) for place, value in places.items()
    ]
    summary = summarize(records.study(points))
    assert set(find_neighbours(summary)) == {(0.9, 0.7), (0.8, 0.8), (0.95, 0.9), (1.5, 0.6)}


def test_the_sentence_on_neighbours_for_all_none_and_unknown(records):
    far = summarize(study_of(records, {(1.0, 0.5): 0.5, (1.0, 0.7): 0.9, (1.0, 2.0): 0.4}))
    assert winner_of(far).neighbours_sentence(find_neighbours(far)) == "It can be told from all 2 neighbours."
    near = summarize(study_of(records, {(1.0, 0.5): 0.9, (1.0, 0.7): 0.9, (1.0, 2.0): 0.4}))
    assert winner_of(near).neighbours_sentence(find_neighbours(near)).startswith("It cannot be told from")
    for lead, can in ((0.5, "can"), (0.9, "cannot")):
        pair = summarize(study_of(records, {(1.0, 0.5): lead, (1.0, 0.7): 0.9}))
        other = "0.7" if pair.best.beta == 0.5 else "0.5"
        assert winner_of(pair).neighbours_sentence(find_neighbours(pair)) == (
            f"It {can} be told from its only neighbour, α = 1.0, β = {other}."
        )
    single = summarize(study_of(records, {(1.0, 0.5): 0.5, (1.0, 0.7): 0.9}, seeds=1))
    assert winner_of(single).neighbours_sentence(find_neighbours(single)) == ""
    assert find_neighbours(summarize(records.study())) == ()
