"""Whether predicted probabilities can be believed, and by how much one temperature improves them.

The confidence of an image is the probability of its most probable class ("top label"); it is calibrated when of all
images with confidence c a share c is classified right. C. Guo et al., On Calibration of Modern Neural Networks,
ICML 2017, is the source of the expected calibration error (Eq. 3) and of temperature scaling (Eq. 9).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.reporting.predictions import Predictions

BINS = 15
TEMPERATURES = (0.05, 20.0)
"""Between which bounds a temperature is looked for."""
LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""What a probability of 0 counts as in a logarithm: the least that the trainer's float32 tells from 0."""

_AT_BOUND = 1e-3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose confidence lies in one interval.

    Attributes:
        low: the interval's lower end, which belongs to the bin below; only 0 belongs to the first.
        high: its upper end.
        count: how many images there are.
        confidence: their mean confidence, None without images.
        accuracy: the share of them that is classified right, None without images.
        accuracy_low: lower end of the accuracy's Wilson interval at 95 percent, None without images.
        accuracy_high: upper end of it.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None


@dataclass(frozen=True)
class CalibrationScores:
    """How well probabilities fit what came.

    Attributes:
        ece: expected calibration error, a fraction.
        brier: Brier score of all classes together, in [0, 2].
        nll: mean negative log-likelihood, in nats.
        accuracy: share of images that is classified right.
        confidence: mean confidence; above the accuracy, the model is too sure of itself.
        bins: what the error is made of, by rising confidence.
    """

    ece: float
    brier: float
    nll: float
    accuracy: float
    confidence: float
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class Calibration:
    """A trial's calibration on test, before and after a temperature that was fitted on validation.

    Attributes:
        temperature: above 1 it makes the model less sure of itself, below 1 surer.
        fitted: False where validation has no best temperature within `TEMPERATURES`, as where every image is
            classified right; the temperature then is the bound that was run into.
        before: as the model was trained.
        after: with the temperature.
        val_images: images that it was fitted on.
        test_images: images that the scores are of.
    """

    temperature: float
    fitted: bool
    before: CalibrationScores
    after: CalibrationScores
    val_images: int
    test_images: int


def calibrate(val: Predictions, test: Predictions, bins: int = BINS) -> Calibration:
    """Score a trial's calibration on test, as it is and with the temperature that fits validation best.

    Args:
        val: its predictions on validation.
        test: its predictions on test.
        bins: into how many bins of equal width confidences are put.
    """
    temperature, fitted = fit_temperature(val.probabilities, val.truth)
    return Calibration(
        temperature=temperature,
        fitted=fitted,
        before=calibration_scores(test.probabilities, test.truth, bins),
        after=calibration_scores(with_temperature(test.probabilities, temperature), test.truth, bins),
        val_images=len(val.truth),
        test_images=len(test.truth),
    )


def calibration_scores(probabilities: Floats, truth: NDArray[np.int64], bins: int = BINS) -> CalibrationScores:
    """Score predicted probabilities.

    Args:
        probabilities: shape ``(N, K)``, N at least 1.
        truth: the images' classes, shape ``(N,)``.
        bins: into how many bins of equal width confidences are put.
    """
    rows = reliability_bins(probabilities, truth, bins)
    return CalibrationScores(
        ece=expected_calibration_error(rows),
        brier=brier_score(probabilities, truth),
        nll=negative_log_likelihood(probabilities, truth),
        accuracy=float(np.mean(probabilities.argmax(axis=1) == truth)),
        confidence=float(probabilities.max(axis=1).mean()),
        bins=rows,
    )


def reliability_bins(probabilities: Floats, truth: NDArray[np.int64], bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """The images by their confidence, in bins of equal width over [0, 1] that are closed above.

    Args:
        probabilities: shape ``(N, K)``.
        truth: the images' classes, shape ``(N,)``.
        bins: how many bins.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=confidence, minlength=bins)
    hits = np.bincount(place, weights=right, minlength=bins)
    return tuple(
        _bin(float(edges[i]), float(edges[i + 1]), int(counts[i]), float(sums[i]), round(hits[i])) for i in range(bins)
    )


def expected_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """The distance between accuracy and mean confidence of a bin, averaged over the images (Guo et al. Eq. 3).

    Args:
        bins: the bins, which hold at least one image together.
    """
    total = sum(row.count for row in bins)
    distances = (
        row.count * abs(row.accuracy - row.confidence)
        for row in bins
        if row.accuracy is not None and row.confidence is not None
    )
    return math.fsum(distances) / total


def brier_score(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    """Mean over the images of the squared distance between probabilities and truth, summed over the classes.

    Brier's own form for several classes: 0 is perfect, 2 is sure and wrong.
    """
    target = np.zeros_like(probabilities)
    target[np.arange(len(truth)), truth] = 1
    return float(((probabilities - target) ** 2).sum(axis=1).mean())


def negative_log_likelihood(probabilities: Floats, truth: NDArray[np.int64]) -> float:
    """Mean of −log of the true class's probability, in nats; 0 counts as `LEAST_PROBABILITY`."""
    mine = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(mine, LEAST_PROBABILITY, 1)).mean())


def with_temperature(probabilities: Floats, temperature: float) -> Floats:
    """The probabilities that logits give which are divided by a temperature (Guo et al. Eq. 9).

    Logits are known up to a constant an image, which softmax does not feel: log p. The order of the classes stays.

    Args:
        probabilities: shape ``(N, K)``; 0 counts as `LEAST_PROBABILITY`.
        temperature: above 0.
    """
    scaled = _log(probabilities) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: Floats, truth: NDArray[np.int64]) -> tuple[float, bool]:
    """The temperature with the least negative log-likelihood.

    Args:
        probabilities: those of validation, shape ``(N, K)``, N at least 1.
        truth: the images' classes, shape ``(N,)``.

    Returns:
        The temperature, and whether it lies within `TEMPERATURES` and not at one of their ends.
    """
    from scipy.optimize import minimize_scalar

    logits = _log(probabilities)
    mine = logits[np.arange(len(truth)), truth]

    def loss(log_temperature: float) -> float:
        temperature = math.exp(log_temperature)
        scaled = logits / temperature
        highest = scaled.max(axis=1)
        sums = np.log(np.exp(scaled - highest[:, None]).sum(axis=1)) + highest
        return float((sums - mine / temperature).mean())

    low, high = (math.log(bound) for bound in TEMPERATURES)
    found = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x)
    # Where nothing depends on the temperature, as with equal probabilities, any would do.
    if abs(loss(low) - loss(high)) < 1e-12 and abs(loss(found) - loss(low)) < 1e-12:
        return 1.0, False
    return math.exp(found), low + _AT_BOUND < found < high - _AT_BOUND


def _log(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.clip(probabilities, LEAST_PROBABILITY, 1)))


def _bin(low: float, high: float, count: int, sum_of_confidence: float, right: int) -> ReliabilityBin:
    from scipy.stats import binomtest

    if count == 0:
        return ReliabilityBin(low, high, 0, None, None, None, None)
    accuracy = right / count
    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    # Rounding must not part an accuracy of 0 or 1 from the end of its interval.
    ends = min(accuracy, float(interval.low)), max(accuracy, float(interval.high))
    return ReliabilityBin(low, high, count, sum_of_confidence / count, accuracy, *ends)
