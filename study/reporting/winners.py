"""Can the best (α, β) be told from the others, and which may be the best?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from study.reporting.confusion_scores import CONFUSION_SCORES, Labels, confusions
from study.reporting.holm import LEVEL, holm
from study.reporting.noise import Factors, SeedScores, measure_noise, p_text, points_text, seed_groups
from study.reporting.resampling import PERMUTATIONS, swap_test
from study.reporting.text import counted, factor, score_name

if TYPE_CHECKING:
    from study.reporting.statistics import StudySummary

_NEAREST = 4
"""Neighbours of a point that belongs to no setting: so many of the nearest."""
_WITHOUT_IMAGES = "Chance in the validation images is not in this."
_CLOSEST_ALONE = "Chance in the validation images is in this only for the point that comes closest."


@dataclass(frozen=True)
class Rival:
    """How the best (α, β) compares with another one.

    Attributes:
        factors: the other's α and β.
        difference: mean score of the best minus the other's, at least 0, in the score's own unit.
        p: two-sided, of the t test of the two with the noise pooled over all points; not corrected.
        p_corrected: corrected for all comparisons with the best (Holm).
        told: the best can be told from it: where it is crowned, by `p`, else by `p_corrected`; never where chance in
            the validation images may make the difference.
    """

    factors: Factors
    difference: float
    p: float
    p_corrected: float
    told: bool


@dataclass(frozen=True)
class Winner:
    """The (α, β) with the best mean, and whether it is more than the luckiest.

    Attributes:
        best: its α and β; None where there is no score.
        crowned: it is the best beyond the seeds' noise, and beyond chance in the validation images where that is known.
        p: of the test that the seeds alone put it before the closest; None where nothing can be tested.
        level: what `p` and `p_images` must not exceed.
        rivals: all others, those hardest to tell from the best first; empty where nothing can be tested.
        points: how many (α, β) there are, the best included.
        seed_sd: standard deviation of what chance does to a training's score, the seeds' common effects taken out
            where `shared_seeds`; None where unknown.
        degrees: its degrees of freedom.
        shared_seeds: every (α, β) has the same seeds, whose common effects were taken out.
        reason: why nothing can be tested, in words.
        p_images: of the test that the validation images alone put it before the closest; None where that is unknown.
    """

    best: Factors | None
    crowned: bool
    p: float | None
    level: float
    rivals: tuple[Rival, ...]
    points: int
    seed_sd: float | None
    degrees: int
    shared_seeds: bool
    reason: str | None = None
    p_images: float | None = None

    @property
    def closest(self) -> Rival | None:
        """The one that is hardest to tell from the best, None where nothing can be tested."""
        return self.rivals[0] if self.rivals else None

    @property
    def indistinct(self) -> tuple[Factors, ...]:
        """All that may be the best: the best itself, then those that cannot be told from it; empty without a test."""
        if self.best is None or self.reason:
            return ()
        return (self.best, *(rival.factors for rival in self.rivals if not rival.told))

    @property
    def alphas(self) -> tuple[float, float] | None:
        """Least and greatest α of those that may be the best; None where nothing can be tested."""
        return self._range(0)

    @property
    def betas(self) -> tuple[float, float] | None:
        """Least and greatest β of those that may be the best; None where nothing can be tested."""
        return self._range(1)

    def with_images(self, p_images: float | None) -> Winner:
        """The same with what chance in the validation images does; a crown must withstand it too.

        Args:
            p_images: as `image_p` gives it for the best and `closest`; None where it is unknown, which changes nothing.
        """
        if p_images is None or not self.rivals:
            return self
        if p_images <= self.level:
            return replace(self, p_images=p_images)
        told = (False, *(rival.p_corrected <= self.level for rival in self.rivals[1:]))
        rivals = tuple(replace(rival, told=shown) for rival, shown in zip(self.rivals, told, strict=True))
        return replace(self, crowned=False, rivals=rivals, p_images=p_images)

    def against(self, factors: Factors) -> Rival | None:
        """How the best compares with one of the others, None where that cannot be tested."""
        return next((rival for rival in self.rivals if rival.factors == factors), None)

    def sentence(self, score: str = "macro_f1") -> str:
        """Whether there is a winner, in plain words.

        Args:
            score: name of the score that was compared, on validation.
        """
        if self.best is None:
            return "There is no winner, since no point is complete."
        if self.reason or self.p is None:
            return f"No winner can be named: {self.reason}."
        lead = (
            f"its mean validation {score_name(score)} is {points_text(self.rivals[0].difference, score)} above that of "
            f"{_pair_text(self.rivals[0].factors)}, which comes closest"
        )
        best, points, images = _pair_text(self.best), counted(self.points, "point"), self.p_images
        if self.crowned and images is not None:
            both = f"the noise of the seeds and of the validation images ({p_text(self.p)}, {p_text(images)})"
            return f"{best} is the best of {points} beyond {both}: {lead}."
        if self.crowned:
            text = f"{best} is the best of {points} beyond the seeds' noise: {lead} ({p_text(self.p)})."
            return f"{text} {_WITHOUT_IMAGES}"
        others = len(self.indistinct) - 1
        rest = f"{others} of the {self.points - 1} other points" if self.points > 2 else "the only other point"
        if self.p <= self.level and images is not None:
            text = (
                f"No winner can be named: {best} is the best of {points} beyond the seeds' noise, and {lead} "
                f"({p_text(self.p)}), but that may be chance in the validation images ({p_text(images)})"
            )
        else:
            kinds = p_text(self.p) if images is None else f"{p_text(self.p)}, over the images {p_text(images)}"
            text = (
                f"No winner can be named: {best} has the best mean, but {rest} cannot be told from it; {lead} ({kinds})"
            )
        text += f". What may be the best has {_range_text('α', self.alphas)} and {_range_text('β', self.betas)}"
        if others == self.points - 1:
            return f"{text}, which is all that was tried."
        return f"{text}. {_WITHOUT_IMAGES if images is None else _CLOSEST_ALONE}"

    def neighbours_sentence(self, neighbours: tuple[Factors, ...]) -> str:
        """Whether the best can be told from its neighbours, in plain words; empty where that cannot be tested.

        Args:
            neighbours: as `find_neighbours` gives them.
        """
        rivals = [rival for rival in map(self.against, neighbours) if rival]
        if not rivals:
            return ""
        same = [_pair_text(rival.factors) for rival in rivals if not rival.told]
        if len(rivals) == 1:
            return f"It {'cannot' if same else 'can'} be told from its only neighbour, {_pair_text(rivals[0].factors)}."
        if not same:
            return f"It can be told from all {len(rivals)} neighbours."
        if len(same) == len(rivals):
            return f"It cannot be told from any of its {counted(len(rivals), 'neighbour')}: {'; '.join(same)}."
        return f"Of its {counted(len(rivals), 'neighbour')} it cannot be told from {'; '.join(same)}."

    def _range(self, index: int) -> tuple[float, float] | None:
        values = [factors[index] for factors in self.indistinct]
        return (min(values), max(values)) if values else None


def find_winner(groups: Mapping[Factors, SeedScores], level: float = LEVEL, best: Factors | None = None) -> Winner:
    """Ask whether the (α, β) with the best mean is best beyond the seeds' noise.

    The best was chosen by the same scores, and it need not be paid for with a correction: the ordinary two-sided
    t test of the best against the one that is closest to it, at `level`, is valid after that choice (Gutmann & Maymin
    1987; Hung & Fithian 2019; by standard errors where the numbers of seeds differ, Goldwasser, Fithian & Hooker 2025).
    The noise is pooled over all groups, see `study.reporting.noise`; it is taken to be normal and equal everywhere.
    Where that test finds a winner, it is told from all others. Else those are told from it whose t test against it
    says so after Holm's correction over all others, and the rest may be the best.

    Args:
        groups: for each (α, β) its finite scores by seed, at least one; of equal means the first is the best.
        level: chance of naming a winner where there is none.
        best: the one with the best mean, where the caller knows which of equal means it takes.
    """
    from scipy.stats import t

    names = list(groups)
    if not names:
        return Winner(None, False, None, level, (), 0, None, 0, False, "no point is complete")
    noise = measure_noise(groups)
    place = int(np.argmax(noise.means)) if best is None else names.index(best)
    deviation = None if math.isnan(noise.variance) else math.sqrt(noise.variance)
    facts = (len(names), deviation, noise.degrees, noise.shared_seeds)
    reason = noise.missing if len(names) > 1 else "only one point is complete, so there is nothing to compare it with"
    if reason or deviation is None:
        return Winner(names[place], False, None, level, (), *facts, reason)
    others = np.delete(np.arange(len(names)), place)
    # Where the caller took one of equal means, rounding may put another before it.
    differences = np.maximum(0.0, noise.means[place] - noise.means[others])
    errors = deviation * np.sqrt(1 / noise.counts[place] + 1 / noise.counts[others])
    p = np.minimum(1.0, 2 * t.sf(differences / errors, noise.degrees))
    crowned = bool(p.max() <= level)
    rivals = _rivals([names[index] for index in others], differences, p, level, crowned)
    return Winner(names[place], crowned, float(p.max()), level, rivals, *facts)


def _rivals(
    names: list[Factors], differences: NDArray[np.float64], p: NDArray[np.float64], level: float, crowned: bool
) -> tuple[Rival, ...]:
    corrected = holm(p)
    told = np.full(len(p), True) if crowned else corrected <= level
    return tuple(
        Rival(names[index], float(differences[index]), float(p[index]), float(corrected[index]), bool(told[index]))
        for index in np.argsort(-p, kind="stable")
    )


def winner_of(summary: StudySummary, level: float = LEVEL) -> Winner:
    """The winner of a study, by the validation score that chooses in it; `best` is the summary's.

    Args:
        summary: the study.
        level: chance of naming a winner where there is none.
    """
    return find_winner(seed_groups(summary), level, summary.best.factors if summary.best else None)


def image_p(
    truth: Labels,
    best: Labels,
    closest: Labels,
    classes: int,
    score: str = "macro_f1",
    permutations: int = PERMUTATIONS,
) -> float | None:
    """Could the best be before the closest by chance in the validation images? See `resampling.swap_test`.

    That the best was chosen needs no correction here either, see `find_winner`.

    Args:
        truth: true classes of the validation images, shape `(N,)`.
        best: what the best's trainings predict for them, shape `(S, N)`.
        closest: what the closest's do, with the same seeds in the same order, shape `(S, N)`.
        classes: number of classes.
        score: name of the score that chooses.
        permutations: how many.

    Returns:
        p, two-sided; 1 where by these predictions the best is not ahead; None without a seed, and for a score that is
        not of classes alone, which needs probabilities.
    """
    measure = CONFUSION_SCORES.get(score)
    if measure is None or not len(best):
        return None
    ahead = measure(confusions(truth, best, classes)).mean() - measure(confusions(truth, closest, classes)).mean()
    return swap_test(truth, best, closest, classes, measure, permutations) if ahead > 0 else 1.0


def find_neighbours(summary: StudySummary) -> tuple[Factors, ...]:
    """The complete (α, β) next to the best: one step along each of its settings, else the nearest four.

    Args:
        summary: the study; without a best there are none.
    """
    best = summary.best
    if best is None:
        return ()
    mine = best.alpha, best.beta
    found: dict[Factors, None] = {}
    for setting in summary.settings:
        line = [(pair.alpha, pair.beta) for pair in setting.pairs]
        if mine in line:
            place = line.index(mine)
            found |= dict.fromkeys(line[max(0, place - 1) : place] + line[place + 1 : place + 2])
    if found:
        return tuple(found)
    others = [(pair.alpha, pair.beta) for pair in summary.pairs if pair is not best]
    return tuple(sorted(others, key=lambda other: (math.dist(other, mine), other))[:_NEAREST])


def _pair_text(factors: Factors) -> str:
    return f"α = {factor(factors[0])}, β = {factor(factors[1])}"


def _range_text(letter: str, bounds: tuple[float, float] | None) -> str:
    low, high = bounds or (None, None)
    return f"{letter} = {factor(low)}" if low == high else f"{letter} from {factor(low)} to {factor(high)}"
