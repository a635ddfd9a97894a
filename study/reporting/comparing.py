"""Losses of one study against each other: is a difference more than chance in the seeds and in the test images?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from study.paper.names import loss_name
from study.reporting.confusion_scores import CONFUSION_SCORES, Labels
from study.reporting.holm import LEVEL, holm
from study.reporting.noise import CONFIDENCE, p_text, points_text
from study.reporting.resampling import PERMUTATIONS, RESAMPLES, ScoreInterval, difference_interval, swap_test
from study.reporting.text import counted, score_name

if TYPE_CHECKING:
    from study.reporting.statistics import StudySummary

BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "cannot be told apart", "unknown"
_EXACT = 50_000
"""So many ways to part the seeds of two losses are all looked at, up to nine seeds each; of more, so many at random."""
_RANDOM_SEED = 20_240_302
_MOST_SEEDS = 50


@dataclass(frozen=True, eq=False)
class LossRun:
    """What one loss's trainings came to on test.

    Attributes:
        loss: its name, with α and β where a study compares several pairs of LMF.
        scores: the score that is compared, by seed.
        predictions: predicted classes of all test images, shape `(N,)`, by seed; of the seeds where they are known.
    """

    loss: str
    scores: Mapping[int, float]
    predictions: Mapping[int, Labels]

    @property
    def mean(self) -> float:
        """Mean score over its seeds."""
        return math.fsum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True)
class LossComparison:
    """Two losses on the same test images.

    Attributes:
        first: one loss, the reference where there is one.
        second: the other.
        difference: mean score of `first` minus that of `second`.
        interval: the difference's 95 % interval: by bootstrap over images and seeds, or over seeds alone (Welch's)
            where predictions are unknown; None where neither can be had.
        seeds: trainings of each.
        p_seeds: that the seeds alone make the difference; None where either has one seed.
        p_images: that the test images alone make it; None where predictions are unknown.
        p: the larger of both, since a difference must be more than both kinds of chance; None where neither is known.
        p_corrected: corrected for all comparisons (Holm).
        verdict: `BETTER` or `WORSE` of `first`, where both kinds of chance were tested; `SAME`; or `UNKNOWN` where what
            is known of chance speaks for a difference and one kind is unknown, and where a loss has only one seed.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float] | None
    seeds: tuple[int, int]
    p_seeds: float | None
    p_images: float | None
    p: float | None
    p_corrected: float | None = None
    verdict: str = UNKNOWN

    def sentence(self, score: str = "macro_f1", level: float = LEVEL) -> str:
        """What it says, in plain words.

        Args:
            score: name of the score that was compared.
            level: what p must not exceed.
        """
        ahead, behind = (self.first, self.second) if self.difference >= 0 else (self.second, self.first)
        better, other = (loss_name(name) for name in (ahead, behind))
        size = f"{points_text(abs(self.difference), score)} of {score_name(score)} on test"
        facts = [self._interval_text(score)] if self.interval else []
        if self.p_corrected is not None:
            facts.append(f"{p_text(self.p_corrected)} after Holm's correction")
        known = f" ({'; '.join(facts)})" if facts else ""
        if self.verdict in (BETTER, WORSE):
            text = f"{better} is better than {other} by {size}{known}."
        elif self.verdict == SAME:
            text = f"{better} and {other} cannot be told apart: {better} is ahead by {size}{known}."
        elif self.p_seeds is not None:
            missing = (
                "the predictions for them are missing"
                if score in CONFUSION_SCORES
                else f"{score_name(score)} is not of predicted classes alone"
            )
            return (
                f"{better} is ahead of {other} by {size}{known}. That can hardly be chance in the seeds, but whether "
                f"it is chance in the test images is unknown, since {missing}; so neither is called better."
            )
        elif self.p_corrected is None:
            return (
                f"{better} is ahead of {other} by {size}{known}. With one seed and no stored predictions, nothing "
                "tells whether that is chance, so neither is called better."
            )
        else:
            images = "can hardly" if self.p_corrected <= level else "may"
            return (
                f"{better} is ahead of {other} by {size}{known}. That {images} be chance in the test images, but how "
                "much the seeds do is unknown with one seed, so neither is called better."
            )
        return text if self.p_images is not None else f"{text} Chance in the test images is not in this."

    def _interval_text(self, score: str) -> str:
        low, high = self.interval or (0.0, 0.0)
        if self.difference < 0:
            low, high = -high, -low
        return f"95 % interval {points_text(low, score).removesuffix(' points')} to {points_text(high, score)}"


@dataclass(frozen=True)
class LossComparisons:
    """All comparisons of one study's losses.

    Attributes:
        score: name of the score that was compared.
        level: chance of any false difference.
        reference: the loss that all others were compared with; None where all pairs were compared.
        means: mean score of each loss, the best first.
        comparisons: the comparisons, in the order of the losses.
        seeds: the least number of seeds of two losses whose seeds are compared; 1 where none are.
        least_p: the least corrected p that the seeds of any comparison can reach; None with one seed.
        seeds_needed: with so many seeds each, one comparison of so many could come below `level`.
    """

    score: str
    level: float
    reference: str | None
    means: tuple[tuple[str, float], ...]
    comparisons: tuple[LossComparison, ...]
    seeds: int
    least_p: float | None
    seeds_needed: int

    @property
    def winner(self) -> str | None:
        """The loss that is better than every other one by these comparisons, None where none is."""
        for loss, _ in self.means[:1]:
            beaten = {(c.first, c.second)[c.first == loss] for c in self.comparisons if _better(c) == loss}
            if len(self.means) > 1 and len(beaten) == len(self.means) - 1:
                return loss
        return None

    def sentences(self) -> tuple[str, ...]:
        """What the comparisons say, in plain words: first what can be found at all, then each."""
        if not self.comparisons:
            return ("There are not two losses to compare yet.",)
        said = [comparison.sentence(self.score, self.level) for comparison in self.comparisons]
        return (*([self.reach_sentence()] if self.reach_sentence() else []), *said)

    def reach_sentence(self) -> str:
        """Whether so few seeds can show a difference at all, in plain words; empty where they can."""
        count = counted(len(self.comparisons), "comparison")
        if self.least_p is None:
            return (
                "With one seed a loss, no loss is called better: the noise of training is unknown. "
                f"{self.seeds_needed} seeds can show a difference in {count}."
            )
        if self.least_p <= self.level:
            return ""
        return (
            f"With {self.seeds} seeds a loss no difference in {count} can reach p = {self.level:g}, however large it "
            f"is; {self.seeds_needed} seeds can."
        )


def compare_losses(
    runs: Sequence[LossRun],
    truth: Labels | None = None,
    classes: int = 0,
    *,
    score: str = "macro_f1",
    reference: str | None = "lmf",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
) -> LossComparisons:
    """Compare losses on the same test images.

    Args:
        runs: the losses; those without a score are left out.
        truth: true classes of the test images, shape `(N,)`; None where predictions are unknown.
        classes: number of classes.
        score: name of the score in `runs`; images are drawn only for one of `CONFUSION_SCORES`.
        reference: every other loss is compared with it; where it is None or not among the runs, all pairs are.
        level: chance of any false difference.
        resamples: of the bootstrap.
        permutations: of the test over images.
    """
    runs = [run for run in runs if run.scores]
    named = next((run for run in runs if run.loss == reference), None)
    pairs = [(named, run) for run in runs if run is not named] if named else list(combinations(runs, 2))
    found = [_compare(first, second, truth, classes, score, resamples, permutations) for first, second in pairs]
    p = [comparison.p for comparison in found]
    corrected = iter(holm([value for value in p if value is not None]))
    judged = tuple(_judge(one, None if one.p is None else float(next(corrected)), level) for one in found)
    tested = [one.seeds for one in found if min(one.seeds) > 1]
    return LossComparisons(
        score=score,
        level=level,
        reference=named.loss if named else None,
        means=tuple(sorted(((run.loss, run.mean) for run in runs), key=lambda one: -one[1])),
        comparisons=judged,
        seeds=min(map(min, tested), default=1),
        least_p=min(1.0, min(least_p(*seeds) for seeds in tested) * len(found)) if tested else None,
        seeds_needed=_seeds_needed(len(found), level),
    )


def loss_runs(summary: StudySummary, predictions: Mapping[int, Labels], score: str = "macro_f1") -> tuple[LossRun, ...]:
    """The losses of a study that compares them, in its order; several pairs of LMF are told apart by α and β.

    Args:
        summary: the study.
        predictions: predicted classes of all test images, by the point's number (`PointRow.point`).
        score: what is compared.
    """
    from study.reporting.loss_figures import loss_name as name_of

    runs = []
    several = Counter(loss.loss for loss in summary.losses)
    for loss in summary.losses:
        scores = {row.seed: row.score("test", score) for row in loss.rows}
        runs.append(
            LossRun(
                loss.loss if several[loss.loss] == 1 else name_of(loss, summary.losses),
                {seed: value for seed, value in scores.items() if value is not None},
                {row.seed: predictions[row.point] for row in loss.rows if row.point in predictions},
            )
        )
    return tuple(runs)


def seeds_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Could the difference of two losses' means be chance in their seeds? Permutation test, two-sided.

    The seeds are parted anew between the losses in all ways, as if independent. Pairing by seed would be valid too,
    but swaps within five pairs cannot bring p below 0.06, whatever the difference; parting can (0.008), and where a
    seed does favour both losses alike it errs on the safe side.

    Args:
        first: one loss's scores.
        second: the other's.
    """
    from scipy.stats import permutation_test

    def difference(one: Labels, other: Labels, axis: int) -> Labels:
        return np.asarray(one.mean(axis=axis) - other.mean(axis=axis))

    result = permutation_test(
        (first, second), difference, n_resamples=_EXACT, vectorized=True, rng=np.random.default_rng(_RANDOM_SEED)
    )
    return float(result.pvalue)


def least_p(first: int, second: int) -> float:
    """The least p that `seeds_p` can give for so many seeds of two losses."""
    ways = math.comb(first + second, first)
    return min(1.0, 2 / ways if ways <= _EXACT else 2 / (_EXACT + 1))


def _seeds_needed(comparisons: int, level: float) -> int:
    seeds = range(2, _MOST_SEEDS)
    return next((n for n in seeds if max(1, comparisons) * least_p(n, n) <= level), _MOST_SEEDS)


def _compare(
    first: LossRun,
    second: LossRun,
    truth: Labels | None,
    classes: int,
    score: str,
    resamples: int,
    permutations: int,
) -> LossComparison:
    several = min(len(first.scores), len(second.scores)) > 1
    by_seed = seeds_p(list(first.scores.values()), list(second.scores.values())) if several else None
    measure = CONFUSION_SCORES.get(score)
    shared = sorted(set(first.predictions) & set(second.predictions))
    by_image = None
    interval: ScoreInterval | None = None
    if truth is not None and measure and shared:
        one, other = (np.stack([run.predictions[seed] for seed in shared]) for run in (first, second))
        by_image = swap_test(truth, one, other, classes, measure, permutations)
        if all(run.predictions.keys() == run.scores.keys() for run in (first, second)):
            whole = [np.stack(list(run.predictions.values())) for run in (first, second)]
            interval = difference_interval(truth, whole[0], whole[1], classes, measure, resamples)
    known = [p for p in (by_seed, by_image) if p is not None]
    return LossComparison(
        first=first.loss,
        second=second.loss,
        difference=first.mean - second.mean,
        interval=(interval.low, interval.high) if interval else _welch_interval(first, second) if several else None,
        seeds=(len(first.scores), len(second.scores)),
        p_seeds=by_seed,
        p_images=by_image,
        p=max(known) if known else None,
    )


def _welch_interval(first: LossRun, second: LossRun) -> tuple[float, float] | None:
    """Of the difference of means; that of `scipy.stats.ttest_ind` comes with a warning where seeds score the same."""
    from scipy.stats import t

    values = [np.array(list(run.scores.values())) for run in (first, second)]
    squares = [0.0 if np.ptp(part) == 0 else float(part.var(ddof=1)) / len(part) for part in values]
    if not any(squares):
        return None
    degrees = sum(squares) ** 2 / sum(square**2 / (len(part) - 1) for square, part in zip(squares, values, strict=True))
    reach = float(t.isf((1 - CONFIDENCE) / 2, degrees)) * math.sqrt(sum(squares))
    difference = first.mean - second.mean
    return difference - reach, difference + reach


def _judge(comparison: LossComparison, corrected: float | None, level: float) -> LossComparison:
    if comparison.p_seeds is None or corrected is None:
        return replace(comparison, p_corrected=corrected)
    if corrected > level:
        verdict = SAME
    elif comparison.p_images is None:
        verdict = UNKNOWN
    else:
        verdict = BETTER if comparison.difference > 0 else WORSE
    return replace(comparison, p_corrected=corrected, verdict=verdict)


def _better(comparison: LossComparison) -> str | None:
    return {BETTER: comparison.first, WORSE: comparison.second}.get(comparison.verdict)
