"""Scores against scikit-learn, hand-worked cases, and what cannot be scored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from trainer.errors import DataError, DivergedError
from trainer.metrics import SELECTORS, Scores, score


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


def test_an_absent_class_counts_as_zero_and_has_no_auc() -> None:
    targets = np.array([0, 0, 1, 1])
    scores = score(np.eye(3)[[0, 0, 1, 2]], targets)
    assert scores.f1_per_class == pytest.approx((1, 2 / 3, 0))
    assert scores.recall == pytest.approx(1.5 / 3)
    assert scores.balanced_accuracy == pytest.approx(1.5 / 2)
    assert scores.confusion[2] == (0, 0, 0)
    assert scores.macro_auc is None
    with pytest.raises(DataError, match="macro_auc: not defined"):
        scores.selected("macro_auc")


def test_a_tie_goes_to_the_first_class() -> None:
    assert score(np.full((2, 2), 0.5), np.array([0, 1])).confusion == ((1, 0), (1, 0))


def test_survives_json_whole() -> None:
    for targets in (np.array([0, 1, 2]), np.array([0, 1, 1])):
        scores = score(np.eye(3)[[0, 1, 1]] * 0.7 + 0.1, targets)
        assert Scores.from_dict(json.loads(json.dumps(scores.to_dict(), allow_nan=False))) == scores


def test_selectors_name_scores() -> None:
    probabilities, targets, _ = predictions(3)
    scores = score(probabilities, targets)
    chosen = [scores.selected(selector) for selector in SELECTORS]
    assert chosen == [scores.macro_f1, scores.balanced_accuracy, scores.macro_auc]


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
