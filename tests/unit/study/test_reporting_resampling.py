from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score

from study.reporting.confusion_scores import CONFUSION_SCORES, Tally, accuracy, confusions, macro_f1
from study.reporting.resampling import difference_interval, score_interval, swap_test

CLASSES = 4
SHARES = (0.6, 0.25, 0.1, 0.05)


def predictions_of(random, truth, right, seeds=3, common=0.7):
    """Predictions that are right with a probability, and mostly alike for all seeds."""
    hard = random.random(len(truth))
    found = []
    for _ in range(seeds):
        luck = np.where(random.random(len(truth)) < common, hard, random.random(len(truth)))
        found.append(np.where(luck < right, truth, random.integers(0, CLASSES, len(truth))))
    return np.array(found)


@pytest.fixture
def random():
    return np.random.default_rng(7)


@pytest.fixture
def truth(random):
    return random.choice(CLASSES, 300, p=SHARES)


def test_scores_are_those_of_scikit_learn(random, truth):
    predicted = predictions_of(random, truth, 0.6, seeds=4)
    predicted[1][predicted[1] == 3] = 0
    found = {name: score(confusions(truth, predicted, CLASSES)) for name, score in CONFUSION_SCORES.items()}
    options = {"labels": range(CLASSES), "average": "macro", "zero_division": 0}
    for index, row in enumerate(predicted):
        assert found["accuracy"][index] == pytest.approx(accuracy_score(truth, row))
        assert found["macro_f1"][index] == pytest.approx(f1_score(truth, row, **options))
        assert found["precision"][index] == pytest.approx(precision_score(truth, row, **options))
        assert found["recall"][index] == pytest.approx(recall_score(truth, row, **options))
        assert found["balanced_accuracy"][index] == pytest.approx(balanced_accuracy_score(truth, row))


def test_a_class_without_images_counts_as_scikit_learn_counts_it():
    truth, predicted = np.array([0, 0, 1, 1]), np.array([[0, 2, 1, 1]])
    found = {name: float(score(confusions(truth, predicted, 4))[0]) for name, score in CONFUSION_SCORES.items()}
    assert found["macro_f1"] == pytest.approx(
        f1_score(truth, predicted[0], labels=range(4), average="macro", zero_division=0)
    )
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert found["recall"] == pytest.approx(1.5 / 4)


def test_weighted_images_add_up_to_the_matrices_of_repeated_images(random, truth):
    predicted = predictions_of(random, truth, 0.6)
    weights = random.integers(0, 4, (5, len(truth)))
    found = Tally(truth, predicted, CLASSES).add(weights)
    for row, of in zip(weights, found, strict=True):
        assert np.array_equal(of, confusions(np.repeat(truth, row), np.repeat(predicted, row, axis=1), CLASSES))


def test_one_training_is_resampled_as_a_plain_loop_does(random, truth):
    predicted = predictions_of(random, truth, 0.7, seeds=1)
    found = score_interval(truth, predicted, CLASSES, resamples=4000)
    drawn = []
    for _ in range(4000):
        chosen = np.concatenate([random.choice(np.flatnonzero(truth == k), (truth == k).sum()) for k in range(CLASSES)])
        drawn.append(float(macro_f1(confusions(truth[chosen], predicted[:, chosen], CLASSES))[0]))
    assert found.value == pytest.approx(f1_score(truth, predicted[0], average="macro"))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.006)
    assert (found.seeds, found.images, found.over_seeds) == (1, 300, False)


def test_accuracy_has_the_closed_forms_width():
    truth = np.repeat([0, 1], [4000, 2000])
    predicted = np.where(np.arange(6000) % 10 < 8, truth, 1 - truth)[None]
    found = score_interval(truth, predicted, 2, accuracy)
    error = 1.96 * np.sqrt(0.8 * 0.2 / 6000)
    assert (found.low, found.high) == pytest.approx((0.8 - error, 0.8 + error), abs=0.001)


def test_seeds_that_all_predict_alike_change_nothing(random, truth):
    one = predictions_of(random, truth, 0.7, seeds=1)
    single, several = score_interval(truth, one, CLASSES), score_interval(truth, np.repeat(one, 5, axis=0), CLASSES)
    assert (several.value, several.low, several.high) == pytest.approx((single.value, single.low, single.high))
    assert several.over_seeds


def test_seeds_that_differ_widen_the_interval(random, truth):
    alike = predictions_of(random, truth, 0.7, seeds=4, common=1.0)
    spread = np.array([predictions_of(random, truth, right, seeds=1)[0] for right in (0.5, 0.6, 0.8, 0.9)])
    near, far = score_interval(truth, alike, CLASSES), score_interval(truth, spread, CLASSES)
    assert far.high - far.low > 1.5 * (near.high - near.low)


def test_the_interval_is_the_same_each_time_and_within_fractions():
    truth = np.array([0, 0, 0, 1, 1])
    predicted = np.array([[0, 0, 0, 1, 1], [1, 1, 1, 0, 0]])
    found = score_interval(truth, predicted, 2)
    assert found == score_interval(truth, predicted, 2)
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_interval_holds_the_true_score_as_often_as_it_says(tell):
    """Images and seeds drawn anew in each simulation; the truth is the mean over many of both."""
    seeds, simulations = 3, 300
    random, held = np.random.default_rng(21), 0
    truth = np.repeat(np.arange(CLASSES), (240, 100, 40, 20))

    def draw(count):
        levels = np.clip(random.normal(0.7, 0.03, count), 0, 1)
        hard = random.random(len(truth))
        luck = np.where(random.random((count, len(truth))) < 0.7, hard, random.random((count, len(truth))))
        wrong = random.integers(0, CLASSES, (count, len(truth)))
        return np.where(luck < levels[:, None], truth, wrong)

    true = np.mean([accuracy(confusions(truth, draw(10), CLASSES)).mean() for _ in range(400)])
    for _ in range(simulations):
        found = score_interval(truth, draw(seeds), CLASSES, accuracy, resamples=500)
        held += found.low <= true <= found.high
    tell("interval of a score, 3 seeds", f"holds the truth in {held} of {simulations} simulations, expected 285")
    assert 0.93 * simulations <= held <= 0.99 * simulations


def test_a_difference_of_equal_predictions_is_nothing(random, truth):
    one = predictions_of(random, truth, 0.7, seeds=1)
    found = difference_interval(truth, one, one.copy(), CLASSES)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert swap_test(truth, one, one.copy(), CLASSES) == 1.0


def test_images_are_drawn_once_for_both_losses(random, truth):
    one = predictions_of(random, truth, 0.7, seeds=1)
    other = one.copy()
    right = np.flatnonzero(one[0] == truth)[:5]
    other[0, right] = (truth[right] + 1) % CLASSES
    difference = difference_interval(truth, one, other, CLASSES, accuracy)
    alone = score_interval(truth, one, CLASSES, accuracy)
    assert difference.value == pytest.approx(5 / 300)
    assert difference.high - difference.low < 0.5 * (alone.high - alone.low)
    assert 0 < difference.low
    turned = difference_interval(truth, other, one, CLASSES, accuracy)
    assert turned.value == pytest.approx(-difference.value)


def test_the_difference_of_unequal_numbers_of_seeds(random, truth):
    one, other = predictions_of(random, truth, 0.9, seeds=4), predictions_of(random, truth, 0.5, seeds=2)
    found = difference_interval(truth, one, other, CLASSES)
    means = [macro_f1(confusions(truth, part, CLASSES)).mean() for part in (one, other)]
    assert found.value == pytest.approx(means[0] - means[1])
    assert found.low < found.value < found.high
    assert found.seeds == 2


def test_swapping_agrees_with_all_swaps():
    """Seven images in which two seeds of each loss differ: all 128 swaps in a plain loop."""
    truth = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    first = np.array([[0, 1, 2, 0, 1, 2, 0, 1, 2], [0, 1, 0, 0, 1, 2, 2, 1, 2]])
    second = np.array([[1, 1, 0, 0, 2, 2, 1, 1, 2], [0, 2, 0, 1, 1, 0, 1, 1, 2]])
    differs = np.flatnonzero((first != second).any(axis=0))
    assert len(differs) == 7

    def difference(one, other):
        return np.mean([f1_score(truth, row, average="macro", zero_division=0) for row in one]) - np.mean(
            [f1_score(truth, row, average="macro", zero_division=0) for row in other]
        )

    observed, extreme = abs(difference(first, second)), 0
    for swapped in product([False, True], repeat=len(differs)):
        one, other = first.copy(), second.copy()
        chosen = differs[list(swapped)]
        one[:, chosen], other[:, chosen] = second[:, chosen], first[:, chosen]
        extreme += abs(difference(one, other)) >= observed - 1e-12
    assert swap_test(truth, first, second, 3, permutations=20_000) == pytest.approx(extreme / 2**7, abs=0.01)


def test_swapping_one_training_by_accuracy_is_mcnemars_exact_test():
    from scipy.stats import binomtest

    truth = np.zeros(60, int)
    first, second = np.zeros((1, 60), int), np.zeros((1, 60), int)
    second[0, :15] = 1
    first[0, 15:20] = 1
    expected = binomtest(5, 20).pvalue
    assert swap_test(truth, first, second, 2, accuracy, 20_000) == pytest.approx(expected, abs=0.006)


def test_a_large_difference_has_the_least_p(random, truth):
    one, other = predictions_of(random, truth, 0.95), predictions_of(random, truth, 0.2)
    assert swap_test(truth, one, other, CLASSES, permutations=999) == 0.001
