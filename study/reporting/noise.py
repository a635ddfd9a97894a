"""How much of the difference between trainings is the seed's: the noise that every comparison is measured by.

Scores come as groups: for each (α, β) its scores by seed. Where all groups have the same seeds, a seed may favour all
of them alike (it decides the order of images and the new layers' first weights), so its mean effect is taken out:
randomised blocks. Otherwise the groups are a one-way layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from study.reporting.text import COEFFICIENTS, counted, score_name

if TYPE_CHECKING:
    from study.reporting.statistics import StudySummary

Factors = tuple[float, float]
"""α and β."""
SeedScores = Mapping[int, float]
"""Scores by seed."""

CONFIDENCE = 0.95
_LEAST_RELATIVE_SD = 1e-12
"""Seeds that differ by less, against the scores' size, differ by rounding alone."""


@dataclass(frozen=True, eq=False)
class SeedNoise:
    """What is left of the scores' variance within groups.

    Attributes:
        means: mean score of each group, shape `(G,)`.
        counts: seeds of each group, shape `(G,)`.
        shared_seeds: every group has the same seeds, at least two of them, and the seeds' mean effects are taken out.
        variance: the variance that remains, pooled over the groups; NaN without degrees of freedom, 0 where the seeds
            change nothing, or shift all groups equally.
        degrees: its degrees of freedom.
        within: the pooled variance within groups, the seeds' mean effects included; NaN where no group has two seeds.
        seed_square: mean square of the seeds' mean effects; NaN without shared seeds.
    """

    means: NDArray[np.float64]
    counts: NDArray[np.int64]
    shared_seeds: bool
    variance: float
    degrees: int
    within: float
    seed_square: float

    @property
    def group_square(self) -> float:
        """Mean square between groups, at least two of them."""
        grand = float(np.average(self.means, weights=self.counts))
        return float((self.counts * (self.means - grand) ** 2).sum()) / (len(self.means) - 1)

    @property
    def missing(self) -> str | None:
        """Why nothing can be compared with this noise, in words; None where something can."""
        if self.counts.max(initial=0) <= 1:
            return "every point has one seed, so how much a score owes to chance is unknown; more seeds would tell"
        if self.degrees < 1:
            return "there are too few points and seeds to tell the seeds' noise from the points' differences"
        if self.variance == 0 and self.within > 0:
            return "each seed shifts all points equally, so how much their differences owe to chance cannot be judged"
        if self.variance == 0:
            return "the seeds change nothing in these scores, so how much they owe to chance cannot be judged"
        return None


def measure_noise(groups: Mapping[Factors, SeedScores]) -> SeedNoise:
    """Pool the seeds' noise over all groups.

    Args:
        groups: for each (α, β) its finite scores by seed, at least one; in any order.
    """
    counts = np.array([len(scores) for scores in groups.values()], np.int64)
    members = np.repeat(np.arange(len(counts)), counts)
    values = np.array([value for scores in groups.values() for value in scores.values()], np.float64)
    means = np.bincount(members, values, len(counts)) / counts if len(counts) else np.empty(0)
    rest = values - means[members]
    floor = (_LEAST_RELATIVE_SD * float(np.abs(values).max(initial=0))) ** 2
    within_degrees = len(values) - len(counts)
    within = _mean_square(rest, within_degrees, floor)
    seeds = {frozenset(scores) for scores in groups.values()}
    if len(seeds) != 1 or len(counts) < 2 or len(*seeds) < 2:
        return SeedNoise(means, counts, False, within, within_degrees, within, math.nan)
    number = {seed: index for index, seed in enumerate(sorted(*seeds))}
    blocks = np.array([number[seed] for scores in groups.values() for seed in scores])
    effects = np.bincount(blocks, rest, len(number)) / len(counts)
    degrees = within_degrees - (len(number) - 1)
    variance = _mean_square(rest - effects[blocks], degrees, floor)
    seed_square = _mean_square(np.repeat(effects, len(counts)), len(number) - 1, floor)
    return SeedNoise(means, counts, True, variance, degrees, within, seed_square)


def _mean_square(rest: NDArray[np.float64], degrees: int, floor: float) -> float:
    if degrees < 1:
        return math.nan
    square = float(rest @ rest) / degrees
    return square if square > floor else 0.0


@dataclass(frozen=True)
class VarianceShare:
    """The share of the scores' variance between trainings that α and β explain; the rest is the seeds'.

    Attributes:
        share: intraclass correlation, in [0, 1]; None where it cannot be told.
        interval: its 95 % interval, None where it cannot be told.
        exact: the interval is exact for normal noise; else an approximation.
        p: of the F test that α and β change nothing, or None.
        seed_sd: standard deviation between trainings of the same (α, β), in the score's own unit; None where no
            (α, β) has two seeds.
        points: how many (α, β) there are.
        trainings: how many scores there are.
        seeds: the least and the greatest number of seeds that an (α, β) has.
        shared_seeds: every (α, β) has the same seeds.
        reason: why `share` is None, in words.
    """

    share: float | None
    interval: tuple[float, float] | None
    exact: bool
    p: float | None
    seed_sd: float | None
    points: int
    trainings: int
    seeds: tuple[int, int]
    shared_seeds: bool
    reason: str | None = None

    def sentence(self, score: str = "macro_f1") -> str:
        """What it says, in plain words.

        Args:
            score: name of the score that it is of.
        """
        if self.share is None:
            return f"How much of the differences is due to α and β cannot be told: {self.reason}."
        text = f"α and β explain {100 * self.share:.0f} % of the variance of {score_name(score)} between trainings"
        if self.interval:
            low, high = (f"{100 * bound:.0f}" for bound in self.interval)
            text += f" ({'' if self.exact else 'approximate '}95 % interval {low} to {high} %)"
        text += f", the seeds the other {100 - round(100 * self.share)} %"
        if self.seed_sd is not None:
            text += f"; with α and β fixed, a seed moves it by {points_text(self.seed_sd, score)} (standard deviation)"
        if self.p is not None:
            verdict = "is more than chance" if self.p < 1 - CONFIDENCE else "may be chance alone"
            text += f". That the {counted(self.points, 'point')} differ at all {verdict} (F test, {p_text(self.p)})"
        return text + "."


def variance_share(groups: Mapping[Factors, SeedScores]) -> VarianceShare:
    """Split the variance between trainings into that of α and β and that of the seeds, by the method of moments.

    With the same seeds at every (α, β): two-way random effects, the intraclass correlation for absolute agreement of
    single scores and its approximate interval (McGraw & Wong 1996, case 2A; Shrout & Fleiss 1979, ICC(2,1)), since the
    one-way layout would charge a seed's common effect to α and β. Otherwise one-way random effects with the F
    interval, exact for equal numbers of seeds (ICC(1,1)), else Donner's approximation (1979) with the moments' mean
    number of seeds.

    Args:
        groups: for each (α, β) its finite scores by seed, at least one.
    """
    noise = measure_noise(groups)
    counts = noise.counts
    trainings = int(counts.sum())
    unknown = VarianceShare(
        share=None,
        interval=None,
        exact=False,
        p=None,
        seed_sd=None if math.isnan(noise.within) else math.sqrt(noise.within),
        points=len(counts),
        trainings=trainings,
        seeds=(int(counts.min()), int(counts.max())) if len(counts) else (0, 0),
        shared_seeds=noise.shared_seeds,
    )
    if len(counts) < 2:
        return replace(unknown, reason="only one point is complete" if len(counts) else "no point is complete")
    groups_square = noise.group_square
    if noise.within == 0:
        if math.sqrt(groups_square) <= _LEAST_RELATIVE_SD * float(np.abs(noise.means).max()):
            return replace(unknown, reason="all trainings scored the same")
        return replace(unknown, share=1.0)
    if noise.missing and noise.variance != 0:
        return replace(unknown, reason=noise.missing)
    if noise.shared_seeds:
        share, interval, p = _two_way(noise, groups_square)
        return replace(unknown, share=share, interval=interval, p=p)
    mean_count = (trainings - float((counts**2).sum()) / trainings) / (len(counts) - 1)
    share, interval, p = _one_way(groups_square, noise.within, mean_count, len(counts) - 1, noise.degrees)
    return replace(unknown, share=share, interval=interval, exact=bool(counts.min() == counts.max()), p=p)


def _one_way(
    groups_square: float, within: float, count: float, groups_degrees: int, degrees: int
) -> tuple[float, tuple[float, float], float]:
    from scipy.stats import f

    ratio = groups_square / within
    tail = (1 - CONFIDENCE) / 2
    low = ratio / f.isf(tail, groups_degrees, degrees)
    high = ratio * f.isf(tail, degrees, groups_degrees)
    share, *interval = (_unit((bound - 1) / (bound - 1 + count)) for bound in (ratio, low, high))
    return share, (interval[0], interval[1]), float(f.sf(ratio, groups_degrees, degrees))


def _two_way(noise: SeedNoise, groups_square: float) -> tuple[float, tuple[float, float] | None, float | None]:
    from scipy.stats import f

    n, k = len(noise.means), int(noise.counts[0])
    rest, seeds = noise.variance, noise.seed_square
    total = groups_square + (k - 1) * rest + k * (seeds - rest) / n
    share = (groups_square - rest) / total if total > 0 else 0.0
    if rest == 0:
        return _unit(share), None, None
    mix = k * share / (n * (1 - share))
    seeds_part, rest_part = mix * seeds, (1 + mix * (n - 1)) * rest
    degrees = (seeds_part + rest_part) ** 2 / (seeds_part**2 / (k - 1) + rest_part**2 / ((n - 1) * (k - 1)))
    tail = (1 - CONFIDENCE) / 2
    low_f, high_f = f.isf(tail, n - 1, degrees), f.isf(tail, degrees, n - 1)
    others = k * seeds + (k * n - k - n) * rest
    low = n * (groups_square - low_f * rest) / (low_f * others + n * groups_square)
    high = n * (high_f * groups_square - rest) / (others + n * high_f * groups_square)
    return _unit(share), (_unit(low), _unit(high)), float(f.sf(groups_square / rest, n - 1, noise.degrees))


def _unit(value: float) -> float:
    return float(min(1.0, max(0.0, value)))


def seed_groups(summary: StudySummary, split: str = "val", name: str | None = None) -> dict[Factors, dict[int, float]]:
    """The scores by seed of each (α, β) of a study that has any, the validation-best (α, β) first.

    Args:
        summary: the study.
        split: `val` or `test`.
        name: the score; by default the one that chooses in this study.
    """
    score = name or summary.select
    groups = {}
    for pair in summary.ranking:
        found = {row.seed: row.score(split, score) for row in pair.rows}
        known = {seed: value for seed, value in found.items() if value is not None}
        if known:
            groups[pair.alpha, pair.beta] = known
    return groups


def points_text(difference: float, score: str = "macro_f1") -> str:
    """A difference of two scores as a reader sees it: `1.20 points` of a percentage, `0.0120` of a coefficient."""
    return f"{difference:.4f}" if score in COEFFICIENTS else f"{100 * difference:.2f} points"


def p_text(p: float) -> str:
    """A p value as a reader sees it: `p = 0.032`, `p < 0.001`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.3f}"
