"""What chance in the choice of test images and of seeds does to a score: bootstrap intervals and a permutation test.

The test images are one sample for all trainings, and the seeds are another. Images are drawn within their class, since
the split fixes how many of each class are tested; so no class vanishes from a resample either. Images that all
trainings classified in the same way are alike, so a resample is a draw of how often each kind of image occurs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.reporting.confusion_scores import ConfusionScore, Figures, Labels, Tally, confusions, macro_f1
from study.reporting.noise import CONFIDENCE

RESAMPLES = 2000
PERMUTATIONS = 4999
_RANDOM_SEED = 20_240_301
_CELLS = 4_000_000
"""Numbers that a batch of resamples may hold at once."""
_TIE = 1e-12


@dataclass(frozen=True)
class ScoreInterval:
    """A score, or a difference of two, with its 95 % interval.

    Attributes:
        value: the mean over the seeds, on the images as they are.
        low: lower end.
        high: upper end.
        seeds: how many trainings it is over (the fewer, for a difference).
        images: how many test images.
        over_seeds: chance in the seeds is in the interval; with one seed only that in the images is.
    """

    value: float
    low: float
    high: float
    seeds: int
    images: int
    over_seeds: bool


def score_interval(
    truth: Labels,
    predictions: Labels,
    classes: int,
    score: ConfusionScore = macro_f1,
    resamples: int = RESAMPLES,
) -> ScoreInterval:
    """Bootstrap a score over test images and seeds.

    Each resample draws images within their class, once for all seeds, and seeds with replacement; the interval holds
    the middle 95 % of the means over all seeds on the drawn images plus the drawn seeds' mean deviation from the others
    on all images. Few values drawn with replacement spread too little, so that deviation is stretched by
    sqrt(S / (S - 1)) and by t over normal quantile, after Hesterberg's expanded percentile interval (2015).
    `scipy.stats.bootstrap` draws along one axis, or samples independently; it can neither share images between seeds
    nor keep to classes.

    Args:
        truth: true classes of the test images, shape `(N,)`, in `[0, classes)`.
        predictions: what each seed's training predicted, shape `(S, N)`.
        classes: number of classes.
        score: gives a fraction.
        resamples: how many; always the same ones for the same data.
    """
    interval = _bootstrap(truth, (predictions,), classes, score, resamples)
    return ScoreInterval(
        interval.value, max(0.0, interval.low), min(1.0, interval.high), *_counts(predictions), interval.over_seeds
    )


def difference_interval(
    truth: Labels,
    first: Labels,
    second: Labels,
    classes: int,
    score: ConfusionScore = macro_f1,
    resamples: int = RESAMPLES,
) -> ScoreInterval:
    """Bootstrap the difference of two losses' scores, first minus second, as `score_interval` does one loss's.

    The images are drawn once for both; the seeds of each on its own, as they are tested.

    Args:
        truth: true classes of the test images, shape `(N,)`.
        first: predictions of one loss's trainings, shape `(S, N)`.
        second: predictions of the other's, shape `(T, N)`.
        classes: number of classes.
        score: gives a fraction.
        resamples: how many.
    """
    return _bootstrap(truth, (first, second), classes, score, resamples)


def swap_test(
    truth: Labels,
    first: Labels,
    second: Labels,
    classes: int,
    score: ConfusionScore = macro_f1,
    permutations: int = PERMUTATIONS,
) -> float:
    """Could the difference of two losses be chance in the test images? Paired permutation test, two-sided.

    If it made no difference which loss predicts an image, its predictions could be swapped. Each permutation swaps
    them for half of the images, in all seeds together, since an image that is hard is so for every seed.

    Args:
        truth: true classes of the test images, shape `(N,)`.
        first: predictions of one loss's trainings, shape `(S, N)`.
        second: predictions of the other's, with the same seeds in the same order, shape `(S, N)`.
        classes: number of classes.
        score: gives a fraction; what is compared is its mean over the seeds.
        permutations: how many; always the same ones for the same data.

    Returns:
        p, at least 1 / (permutations + 1).
    """
    start = confusions(truth, first, classes), confusions(truth, second, classes)
    observed = abs(float(score(start[0]).mean() - score(start[1]).mean()))
    differs = np.any(first != second, axis=0)
    if not differs.any():
        return 1.0
    kinds, occurs = _kinds(truth[differs], first[:, differs], second[:, differs])
    seeds = len(first)
    to_second, to_first = (Tally(kinds[0], part, classes) for part in (kinds[1 + seeds :], kinds[1 : 1 + seeds]))
    random = np.random.default_rng(_RANDOM_SEED)
    extreme = 0
    for batch in _batches(permutations, max(len(occurs), 4 * seeds * classes**2)):
        swapped = random.binomial(occurs, 0.5, (batch, len(occurs)))
        change = to_second.add(swapped) - to_first.add(swapped)
        difference = score(start[0] + change).mean(axis=1) - score(start[1] - change).mean(axis=1)
        extreme += int((np.abs(difference) >= observed - _TIE).sum())
    return (extreme + 1) / (permutations + 1)


def _bootstrap(
    truth: Labels, losses: tuple[Labels, ...], classes: int, score: ConfusionScore, resamples: int
) -> ScoreInterval:
    kinds, occurs = _kinds(truth, *losses)
    tally = Tally(kinds[0], kinds[1:], classes)
    on_all = [score(confusions(truth, loss, classes)) for loss in losses]
    random = np.random.default_rng(_RANDOM_SEED)
    drawn = []
    for batch in _batches(resamples, max(len(occurs), 2 * len(kinds) * classes**2)):
        scores = score(tally.add(_draw_images(kinds[0], occurs, batch, random)))
        parts = np.split(scores, np.cumsum([len(loss) for loss in losses])[:-1], axis=1)
        means = (
            part.mean(axis=1) + _draw_seeds(whole, batch, random) for part, whole in zip(parts, on_all, strict=True)
        )
        drawn.append(_difference(list(means)))
    value = float(_difference([np.array(part.mean()) for part in on_all]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    seeds = min(len(loss) for loss in losses)
    return ScoreInterval(value, float(low), float(high), seeds, len(truth), seeds > 1)


def _kinds(truth: Labels, *predictions: Labels) -> tuple[Labels, NDArray[np.int64]]:
    """The different images by what is true and predicted of them, `(1 + S, P)`, by true class, and their numbers."""
    kinds, occurs = np.unique(np.vstack([truth, *predictions]), axis=1, return_counts=True)
    return kinds, occurs.astype(np.int64)


def _draw_images(
    truth: Labels, occurs: NDArray[np.int64], resamples: int, random: np.random.Generator
) -> NDArray[np.int64]:
    classes, starts = np.unique(truth, return_index=True)
    parts = np.split(occurs, starts[1:]) if len(classes) else []
    return np.hstack([random.multinomial(part.sum(), part / part.sum(), resamples) for part in parts])


def _draw_seeds(scores: Figures, resamples: int, random: np.random.Generator) -> Figures:
    """Mean deviations of drawn seeds, stretched; scores `(S,)` to `(B,)`."""
    from scipy.stats import norm, t

    seeds = len(scores)
    if seeds == 1:
        return np.zeros(resamples)
    tail = (1 - CONFIDENCE) / 2
    stretch = math.sqrt(seeds / (seeds - 1)) * float(t.isf(tail, seeds - 1) / norm.isf(tail))
    chosen = random.integers(seeds, size=(resamples, seeds))
    return np.asarray(stretch * (scores - scores.mean())[chosen].mean(axis=1))


def _difference(means: list[Figures]) -> Figures:
    return means[0] if len(means) == 1 else means[0] - means[1]


def _batches(total: int, numbers_each: int) -> Iterator[int]:
    size = max(1, _CELLS // numbers_each)
    for start in range(0, total, size):
        yield min(size, total - start)


def _counts(predictions: Labels) -> tuple[int, int]:
    return len(predictions), predictions.shape[1]
