from __future__ import annotations

import math

import numpy as np
import pytest

from study.reporting.calibration import (
    LEAST_PROBABILITY,
    TEMPERATURES,
    brier_score,
    calibrate,
    calibration_scores,
    fit_temperature,
    negative_log_likelihood,
    reliability_bins,
    with_temperature,
)
from study.reporting.predictions import Predictions


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def simulate(images=4000, classes=5, seed=7, temperature=1.0):
    """Classes drawn from softmax(logits), and what a model says whose logits are `temperature` times as large."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (images, classes))
    truth = (softmax(logits).cumsum(axis=1) > generator.random((images, 1))).argmax(axis=1)
    return softmax(temperature * logits), truth


def ece_by_loop(probabilities, truth, bins=15):
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        members = [
            (max(row), list(row).index(max(row)) == label)
            for row, label in zip(probabilities.tolist(), truth.tolist(), strict=True)
            if low < max(row) <= high
        ]
        if members:
            confidence = sum(c for c, _ in members) / len(members)
            accuracy = sum(right for _, right in members) / len(members)
            total += len(members) / len(truth) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize(("temperature", "bins"), [(1.0, 15), (2.5, 15), (0.4, 10)])
def test_the_error_is_that_of_a_plain_loop(temperature, bins):
    probabilities, truth = simulate(700, temperature=temperature)
    scores = calibration_scores(probabilities, truth, bins)
    assert scores.ece == pytest.approx(ece_by_loop(probabilities, truth, bins), abs=1e-12)
    assert len(scores.bins) == bins
    assert sum(row.count for row in scores.bins) == 700


def test_a_worked_example():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    truth = np.array([0, 1, 1, 1])
    scores = calibration_scores(probabilities, truth, 2)
    # All four are in the upper bin: mean confidence 0.775, three of four right.
    assert scores.ece == pytest.approx(0.025)
    assert scores.accuracy == 0.75
    assert scores.confidence == pytest.approx(0.775)
    assert scores.brier == pytest.approx((0.02 + 1.62 + 0.32 + 0.18) / 4)
    assert scores.nll == pytest.approx(-math.log(0.9 * 0.1 * 0.6 * 0.7) / 4)


def test_reliability_is_scikit_learns():
    from sklearn.calibration import calibration_curve

    probabilities, truth = simulate(900, temperature=2)
    rows = [row for row in reliability_bins(probabilities, truth) if row.count]
    right = probabilities.argmax(axis=1) == truth
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=15)
    assert [row.accuracy for row in rows] == pytest.approx(accuracy)
    assert [row.confidence for row in rows] == pytest.approx(confidence)


def test_scores_are_scikit_learns():
    from sklearn.metrics import brier_score_loss, log_loss

    probabilities, truth = simulate(500)
    assert negative_log_likelihood(probabilities, truth) == pytest.approx(log_loss(truth, probabilities))
    two = np.column_stack([1 - probabilities[:, 0], probabilities[:, 0]])
    assert brier_score(two, (truth == 0) * 1) == pytest.approx(2 * brier_score_loss(truth == 0, two[:, 1]))


def test_a_bin_is_closed_above_and_its_interval_is_wilsons():
    # 0.6 is an edge of 5 bins; 0.8 of the next.
    probabilities = np.array([[0.6, 0.4], [0.8, 0.2], [0.8, 0.2], [0.61, 0.39]])
    truth = np.array([0, 0, 1, 0])
    rows = reliability_bins(probabilities, truth, 5)
    assert [row.count for row in rows] == [0, 0, 1, 3, 0]
    row = rows[3]
    assert row.accuracy == pytest.approx(2 / 3)
    z, n, p = 1.959964, 3, 2 / 3
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert row.accuracy_low == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-5)
    assert row.accuracy_high == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-5)
    assert (rows[0].confidence, rows[0].accuracy, rows[0].accuracy_low, rows[0].accuracy_high) == (None,) * 4


def test_what_is_calibrated_has_a_small_error_and_what_is_too_sure_a_large_one():
    calibrated = calibration_scores(*simulate(20_000))
    assert calibrated.ece < 0.015
    sure = calibration_scores(*simulate(20_000, temperature=3))
    assert sure.ece > 0.1
    assert sure.confidence > sure.accuracy


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_a_known_temperature_is_found(temperature):
    probabilities, truth = simulate(20_000, temperature=temperature)
    found, fitted = fit_temperature(probabilities, truth)
    assert fitted
    assert found == pytest.approx(temperature, rel=0.04)


def test_a_temperature_from_validation_mends_the_error_on_test():
    (val, val_truth), (test, test_truth) = (simulate(5000, seed=seed, temperature=3) for seed in (1, 2))
    found = calibrate(Predictions("val", val_truth, val), Predictions("test", test_truth, test))
    assert found.fitted
    assert found.temperature == pytest.approx(3, rel=0.08)
    assert found.before.ece == calibration_scores(test, test_truth).ece > 0.1
    assert found.after.ece < 0.03
    assert found.after.nll < found.before.nll
    assert found.after.accuracy == found.before.accuracy
    assert (found.val_images, found.test_images) == (5000, 5000)
    # Test has no say in it.
    other = calibrate(Predictions("val", val_truth, val), Predictions("test", (test_truth + 1) % 5, test))
    assert other.temperature == found.temperature


def test_a_temperature_divides_logits():
    logits = np.random.default_rng(3).normal(0, 3, (50, 4))
    np.testing.assert_allclose(with_temperature(softmax(logits), 2.5), softmax(logits / 2.5), atol=1e-12)
    np.testing.assert_allclose(with_temperature(softmax(logits), 1.0), softmax(logits), atol=1e-12)


def test_all_right_has_no_best_temperature():
    probabilities, _ = simulate(200)
    found, fitted = fit_temperature(probabilities, probabilities.argmax(axis=1))
    assert not fitted
    assert found == pytest.approx(TEMPERATURES[0], rel=0.01)


def test_worse_than_chance_has_none_either():
    probabilities = np.tile([0.7, 0.3], (100, 1))
    found, fitted = fit_temperature(probabilities, np.ones(100, dtype=np.int64))
    assert not fitted
    assert found == pytest.approx(TEMPERATURES[1], rel=0.01)


def test_nor_has_a_model_that_knows_nothing():
    probabilities = np.full((10, 4), 0.25)
    assert fit_temperature(probabilities, np.arange(10) % 4) == (1.0, False)


def test_one_class_and_certainty_do_no_harm():
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    same = np.zeros(3, dtype=np.int64)
    found = calibrate(Predictions("val", same, probabilities), Predictions("test", same, probabilities))
    assert found.before.ece == pytest.approx(1 / 3)
    assert found.before.brier == pytest.approx(2 / 3)
    assert found.before.nll == pytest.approx(-math.log(LEAST_PROBABILITY) / 3)
    assert np.isfinite(found.after.nll)
    assert found.after.nll <= found.before.nll
    only = calibration_scores(np.ones((4, 1)), np.zeros(4, dtype=np.int64))
    assert (only.ece, only.brier, only.nll, only.accuracy) == (0, 0, 0, 1)
