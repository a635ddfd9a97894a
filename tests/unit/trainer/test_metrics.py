"""Scores against scikit-learn, hand-worked cases, and what cannot be scored."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from trainer.config import SELECTORS, Recipe
from trainer.errors import DataError, DivergedError, RecipeError
from trainer.metrics import Scores, score

NEED_EVERY_CLASS = ("macro_auc", "macro_average_precision", "sensitivity_at_specificity")
PER_CLASS = ("auc_per_class", "average_precision_per_class", "sensitivity_at_specificity_per_class")


def predictions(
    classes: int, images: int = 200, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Softmax rows that know something of the targets, the targets, and the predicted classes."""
    random = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(classes), random.integers(0, classes, images - classes)])
    logits = random.normal(size=(images, classes))
    logits[np.arange(images), targets] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), targets, probabilities.argmax(axis=1)


def two_classes(probabilities: list[float], targets: list[int], specificity: float = 0.95) -> Scores:
    """Scores of two classes, given each image's probability of class 1."""
    second = np.array(probabilities)
    return score(np.stack([1 - second, second], axis=1), np.array(targets), specificity)


def sensitivity_by_loops(probabilities: list[float], in_class: list[bool], specificity: Fraction) -> float:
    """Every threshold in turn, counted image by image and compared as whole fractions."""
    best = Fraction(0)
    rest = in_class.count(False)
    for threshold in [*probabilities, math.inf]:
        found = [probability >= threshold for probability in probabilities]
        true_negatives = sum(not f and not c for f, c in zip(found, in_class, strict=True))
        if Fraction(true_negatives, rest) >= specificity:
            right = sum(f and c for f, c in zip(found, in_class, strict=True))
            best = max(best, Fraction(right, in_class.count(True)))
    return float(best)


def auc_by_loops(probabilities: list[float], in_class: list[bool]) -> float:
    """How often an image of the class has a higher probability than one of the rest; equal ones count a half."""
    own = [probability for probability, c in zip(probabilities, in_class, strict=True) if c]
    others = [probability for probability, c in zip(probabilities, in_class, strict=True) if not c]
    return sum((a > b) + (a == b) / 2 for a in own for b in others) / (len(own) * len(others))


def average_precision_by_loops(probabilities: list[float], in_class: list[bool]) -> float:
    """Each threshold's precision, weighted by the recall that it adds."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(probabilities), reverse=True):
        found = [c for probability, c in zip(probabilities, in_class, strict=True) if probability >= threshold]
        area += (sum(found) / in_class.count(True) - recall) * sum(found) / len(found)
        recall = sum(found) / in_class.count(True)
    return area


def kappa_by_loops(confusion: tuple[tuple[int, ...], ...]) -> float:
    images = sum(map(sum, confusion))
    agreed = sum(confusion[k][k] for k in range(len(confusion))) / images
    by_chance = sum(sum(row) * sum(column) for row, column in zip(confusion, zip(*confusion, strict=True), strict=True))
    return (agreed - by_chance / images**2) / (1 - by_chance / images**2)


def mcc_by_loops(confusion: tuple[tuple[int, ...], ...]) -> float:
    """Gorodkin's correlation of K categories, as his sums over three indices."""
    classes = range(len(confusion))
    above = sum(
        confusion[k][k] * confusion[m][l] - confusion[l][k] * confusion[k][m]
        for k in classes
        for l in classes  # noqa: E741
        for m in classes
    )
    rows = [sum(row) for row in confusion]
    columns = [sum(column) for column in zip(*confusion, strict=True)]
    below = [sum(of * (sum(sums) - of) for of in sums) for sums in (rows, columns)]
    return above / math.sqrt(below[0] * below[1])


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_equals_scikit_learn(classes: int) -> None:
    probabilities, targets, predicted = predictions(classes)
    scores = score(probabilities, targets)
    assert scores.accuracy == metrics.accuracy_score(targets, predicted)
    assert scores.precision == pytest.approx(metrics.precision_score(targets, predicted, average="macro"))
    assert scores.recall == pytest.approx(metrics.recall_score(targets, predicted, average="macro"))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
    assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(targets, predicted))
    assert scores.f1_per_class == tuple(metrics.f1_score(targets, predicted, average=None))
    assert np.array_equal(scores.confusion, metrics.confusion_matrix(targets, predicted))
    whole = probabilities[:, 1] if classes == 2 else probabilities
    assert scores.macro_auc == pytest.approx(metrics.roc_auc_score(targets, whole, multi_class="ovr"), abs=1e-6)
    assert len(set(scores.f1_per_class)) == classes
    one_hot = np.eye(classes, dtype=int)[targets]
    assert scores.auc_per_class == pytest.approx(metrics.roc_auc_score(one_hot, probabilities, average=None))
    precisions = metrics.average_precision_score(one_hot, probabilities, average=None)
    assert scores.average_precision_per_class == pytest.approx(precisions)
    assert scores.macro_average_precision == pytest.approx(precisions.mean())
    curves = [metrics.roc_curve(targets == k, probabilities[:, k], drop_intermediate=False) for k in range(classes)]
    sensitivities = [rates[1 - others >= 0.95 - 1e-9].max() for others, rates, _ in curves]
    assert scores.sensitivity_at_specificity_per_class == pytest.approx(sensitivities)
    assert scores.sensitivity_at_specificity == pytest.approx(np.mean(sensitivities))
    assert scores.mcc == metrics.matthews_corrcoef(targets, predicted)
    assert scores.kappa == metrics.cohen_kappa_score(targets, predicted)
    for name in PER_CLASS:
        assert len(set(getattr(scores, name))) == classes, name


@pytest.mark.parametrize("digits", [1, 2, 6])
@pytest.mark.parametrize("specificity", ["0.01", "0.3", "0.5", "0.8", "0.95", "1"])
def test_equals_plain_loops_with_and_without_ties(specificity: str, digits: int) -> None:
    probabilities, targets, _ = predictions(4, images=90, seed=digits)
    probabilities = probabilities.round(digits)
    scores = score(probabilities, targets, float(specificity))
    columns = [(probabilities[:, k].tolist(), (targets == k).tolist()) for k in range(4)]
    assert scores.specificity == float(specificity)
    expected = [sensitivity_by_loops(*column, Fraction(specificity)) for column in columns]
    assert scores.sensitivity_at_specificity_per_class == pytest.approx(expected)
    assert scores.sensitivity_at_specificity == pytest.approx(sum(expected) / 4)
    assert scores.auc_per_class == pytest.approx([auc_by_loops(*column) for column in columns])
    assert scores.macro_auc == pytest.approx(sum(auc_by_loops(*column) for column in columns) / 4)
    precisions = [average_precision_by_loops(*column) for column in columns]
    assert scores.average_precision_per_class == pytest.approx(precisions)
    assert scores.macro_average_precision == pytest.approx(sum(precisions) / 4)
    assert scores.mcc == pytest.approx(mcc_by_loops(scores.confusion))
    assert scores.kappa == pytest.approx(kappa_by_loops(scores.confusion))


def test_a_case_worked_by_hand() -> None:
    """Class 2 is never predicted, class 1 takes one image of each other class."""
    targets = np.array([0, 0, 0, 1, 2])
    probabilities = np.eye(3)[[0, 0, 1, 1, 1]]
    scores = score(probabilities, targets)
    assert scores.confusion == ((2, 1, 0), (0, 1, 0), (0, 1, 0))
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.precision == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert scores.recall == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores.balanced_accuracy == scores.recall
    assert scores.f1_per_class == pytest.approx((0.8, 0.5, 0))
    assert scores.macro_f1 == pytest.approx(1.3 / 3)
    assert scores.macro_auc == pytest.approx((5 / 6 + 3 / 4 + 1 / 2) / 3)
    assert scores.auc_per_class == pytest.approx((5 / 6, 3 / 4, 1 / 2))
    assert scores.average_precision_per_class == pytest.approx((2 / 3 + 1 / 3 * 3 / 5, 1 / 3, 1 / 5))
    assert scores.macro_average_precision == pytest.approx((13 / 15 + 1 / 3 + 1 / 5) / 3)
    assert scores.sensitivity_at_specificity_per_class == pytest.approx((2 / 3, 0, 0))
    assert scores.sensitivity_at_specificity == pytest.approx(2 / 9)
    assert scores.kappa == pytest.approx((3 / 5 - 9 / 25) / (1 - 9 / 25))
    assert scores.mcc == pytest.approx((3 * 5 - 9) / math.sqrt((25 - 13) * (25 - 11)))


def test_an_absent_class_counts_as_zero_and_has_no_auc() -> None:
    targets = np.array([0, 0, 1, 1])
    scores = score(np.eye(3)[[0, 0, 1, 2]], targets)
    assert scores.f1_per_class == pytest.approx((1, 2 / 3, 0))
    assert scores.recall == pytest.approx(1.5 / 3)
    assert scores.balanced_accuracy == pytest.approx(1.5 / 2)
    assert scores.confusion[2] == (0, 0, 0)
    assert scores.auc_per_class == (1, pytest.approx(3 / 4), None)
    assert scores.average_precision_per_class == (1, pytest.approx(1 / 2 + 1 / 2 * 2 / 4), None)
    assert scores.sensitivity_at_specificity_per_class == (1, 1 / 2, None)
    assert scores.mcc == pytest.approx((3 * 4 - 6) / math.sqrt((16 - 8) * (16 - 6)))
    assert scores.kappa == pytest.approx((3 / 4 - 6 / 16) / (1 - 6 / 16))
    for name in NEED_EVERY_CLASS:
        assert getattr(scores, name) is None
        with pytest.raises(DataError, match=f"{name}: not defined, since a class has no image"):
            scores.selected(name)


@pytest.mark.parametrize("right", [True, False])
def test_images_of_one_class_only_have_no_curve_and_agree_by_chance(right: bool) -> None:
    probabilities = np.eye(3)[[1, 1, 1] if right else [1, 2, 0]] * 0.7 + 0.1
    scores = score(probabilities, np.array([1, 1, 1]))
    for name in PER_CLASS:
        assert getattr(scores, name) == (None, None, None)
    for name in NEED_EVERY_CLASS:
        assert getattr(scores, name) is None
    assert (scores.mcc, scores.kappa) == (0, 0)
    assert scores.accuracy == (1 if right else pytest.approx(1 / 3))


@pytest.mark.parametrize("targets", [[0, 1, 2, 2], [0, 1, 2, 1]])
def test_the_same_prediction_for_all_is_chance(targets: list[int]) -> None:
    scores = score(np.full((4, 3), [0.2, 0.5, 0.3]), np.array(targets))
    assert (scores.mcc, scores.kappa, scores.macro_auc) == (0, 0, 0.5)
    assert scores.average_precision_per_class == tuple(targets.count(k) / 4 for k in range(3))
    assert scores.sensitivity_at_specificity_per_class == (0, 0, 0)


@pytest.mark.parametrize("specificity", [0.01, 0.95, 1])
@pytest.mark.parametrize("rest", [2, 3, 13])
def test_a_perfect_model_scores_1_and_never_more(rest: int, specificity: float) -> None:
    """With nine images of a class and two or three others, the sum of the average precision is rounded above 1."""
    scores = two_classes([*np.linspace(0.9, 0.6, 9), *np.linspace(0.4, 0.1, rest)], [1] * 9 + [0] * rest, specificity)
    for name in (*SELECTORS, "accuracy", "precision", "recall"):
        assert getattr(scores, name) == pytest.approx(1), name
        assert getattr(scores, name) <= 1, name
    for name in PER_CLASS:
        assert getattr(scores, name) == pytest.approx((1, 1)), name
        assert max(getattr(scores, name)) <= 1, name


def test_worse_than_chance_is_negative_where_that_is_possible() -> None:
    scores = two_classes([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0])
    assert (scores.mcc, scores.kappa, scores.macro_auc, scores.sensitivity_at_specificity) == (-1, -1, 0, 0)
    assert scores.selected("mcc") == -1


class TestSpecificity:
    def test_it_is_the_recipes_unless_stated(self) -> None:
        probabilities, targets, _ = predictions(3)
        assert score(probabilities, targets) == score(probabilities, targets, Recipe().specificity)
        assert score(probabilities, targets).specificity == 0.95

    @pytest.mark.parametrize(
        ("specificity", "sensitivity"),
        [(1, 0.25), (0.81, 0.25), (0.8, 0.5), (0.61, 0.5), (0.6, 0.75), (0.41, 0.75), (0.2, 0.75), (1e-9, 0.75)],
    )
    def test_it_is_reached_by_equality_and_never_fallen_short_of(self, specificity: float, sensitivity: float) -> None:
        """Down the ranking: one of the class, one of the rest, and so on; the last of the class is below all."""
        probabilities = [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.4, 0.3, 0.2]
        targets = [1, 0, 1, 0, 1, 0, 0, 0, 1]
        scores = two_classes(probabilities, targets, specificity)
        assert scores.sensitivity_at_specificity_per_class[1] == sensitivity

    @pytest.mark.parametrize(("rest", "wrong"), [(5, 4), (10, 9), (20, 11), (25, 8), (100, 5), (1000, 50)])
    def test_rounding_does_not_hide_a_point_that_reaches_it(self, rest: int, wrong: int) -> None:
        """Where `1 - wrong / rest` is rounded below the specificity, images still count whole."""
        probabilities = [0.9] * wrong + [0.5] + [0.1] * (rest - wrong)
        targets = [0] * wrong + [1] + [0] * (rest - wrong)
        reached = (rest - wrong) / rest
        assert two_classes(probabilities, targets, reached).sensitivity_at_specificity_per_class[1] == 1
        beyond = math.nextafter(reached, 2)
        assert two_classes(probabilities, targets, beyond).sensitivity_at_specificity_per_class[1] == 0

    def test_a_point_on_a_straight_piece_of_the_curve_counts(self) -> None:
        scores = two_classes([0.9, 0.9, 0.8, 0.8, 0.7, 0.7, 0.6, 0.6], [1, 0] * 4, 0.5)
        assert scores.sensitivity_at_specificity_per_class[1] == 0.5

    def test_images_of_equal_probability_are_found_together_or_not_at_all(self) -> None:
        assert two_classes([0.9, 0.9, 0.9, 0.1], [1, 1, 0, 0], 0.5).sensitivity_at_specificity_per_class[1] == 1
        assert two_classes([0.9, 0.9, 0.9, 0.1], [1, 1, 0, 0], 0.51).sensitivity_at_specificity_per_class[1] == 0

    @pytest.mark.parametrize("specificity", [0, -0.5, 1.01, 95, math.nan])
    def test_out_of_its_range_it_is_refused(self, specificity: float) -> None:
        with pytest.raises(RecipeError, match=r"specificity: value is .*, expected a number above 0, at most 1"):
            score(np.eye(2), np.array([0, 1]), specificity)


def test_a_tie_goes_to_the_first_class() -> None:
    assert score(np.full((2, 2), 0.5), np.array([0, 1])).confusion == ((1, 0), (1, 0))


def test_survives_json_whole() -> None:
    for targets in (np.array([0, 1, 2]), np.array([0, 1, 1])):
        scores = score(np.eye(3)[[0, 1, 1]] * 0.7 + 0.1, targets)
        assert Scores.from_dict(json.loads(json.dumps(scores.to_dict(), allow_nan=False))) == scores
        assert all(isinstance(value, int | float | list | None) for value in scores.to_dict().values())


def test_what_an_older_version_stored_can_still_be_read() -> None:
    older = {
        "accuracy": 0.75,
        "precision": 0.8,
        "recall": 0.7,
        "macro_f1": 0.72,
        "balanced_accuracy": 0.7,
        "macro_auc": None,
        "f1_per_class": [0.9, 0.54],
        "confusion": [[2, 0], [1, 1]],
    }
    scores = Scores.from_dict(json.loads(json.dumps(older)))
    assert (scores.accuracy, scores.f1_per_class, scores.confusion) == (0.75, (0.9, 0.54), ((2, 0), (1, 1)))
    assert (scores.macro_average_precision, scores.sensitivity_at_specificity, scores.specificity) == (None,) * 3
    assert (scores.mcc, scores.kappa) == (None, None)
    assert [getattr(scores, name) for name in PER_CLASS] == [(), (), ()]
    assert Scores.from_dict(scores.to_dict()) == scores


def test_selectors_name_scores() -> None:
    probabilities, targets, _ = predictions(3)
    scores = score(probabilities, targets)
    chosen = [scores.selected(selector) for selector in SELECTORS]
    assert chosen == [
        scores.macro_f1,
        scores.balanced_accuracy,
        scores.macro_auc,
        scores.macro_average_precision,
        scores.sensitivity_at_specificity,
        scores.mcc,
        scores.kappa,
    ]
    assert len(set(chosen)) == len(SELECTORS)


@pytest.mark.parametrize(
    ("probabilities", "targets", "says"),
    [
        (np.ones(3), np.array([0, 1, 1]), r"probabilities: shape is \(3,\)"),
        (np.ones((0, 3)), np.array([], dtype=int), "at least 1 image"),
        (np.ones((3, 1)), np.zeros(3, dtype=int), "2 classes"),
        (np.ones((3, 2)), np.array([0, 1]), r"targets: shape is \(2,\), expected \(3,\)"),
        (np.ones((2, 2)), np.array([0, 2]), "classes run from 0 to 2, expected 0 to 1"),
        (np.ones((2, 2)), np.array([0, -1]), "classes run from -1 to 0"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    probabilities: NDArray[np.float64], targets: NDArray[np.int64], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        score(probabilities, targets)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_model_is_named(value: float) -> None:
    with pytest.raises(DivergedError, match="diverged"):
        score(np.array([[0.5, 0.5], [value, 0.5]]), np.array([0, 1]))
