"""Losses over several comparisons: average ranks, and whether they are more than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.paper.names import loss_name
from study.reporting.holm import LEVEL, holm
from study.reporting.noise import p_text
from study.reporting.setting_comparison import friedman_blocks_needed, friedman_p, sign_flip_p
from study.reporting.text import counted

_DIGITS = 12
"""Differences that agree so far are ties; beyond it they differ by rounding alone."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The scores that losses are ranked by: of losses that every comparison has, in comparisons that have them all.

    Attributes:
        losses: the losses, in the order of the first comparison; none where there are not two.
        scores: one row a comparison, one column a loss, `(B, L)`.
        comparisons: the names of the rows.
        missing_losses: the losses that some comparison does not have.
        unfinished: the comparisons that lack a score of `losses`.
    """

    losses: tuple[str, ...]
    scores: NDArray[np.float64]
    comparisons: tuple[str, ...]
    missing_losses: tuple[str, ...]
    unfinished: tuple[str, ...]

    @property
    def ranks(self) -> NDArray[np.float64]:
        """The rank of each loss in each comparison, 1 for the highest score; equal scores share the mean, `(B, L)`."""
        from scipy.stats import rankdata

        return np.asarray(rankdata(-self.scores, axis=1)) if self.scores.size else self.scores


def rank_table(scores: Mapping[str, Mapping[str, float | None]]) -> Ranked:
    """What can be ranked of several comparisons; the rule of every rank in a report.

    Args:
        scores: for each comparison the score of each of its losses, None for one that is not complete; a comparison
            without any score has not begun and does not count.
    """
    begun = {name: block for name, block in scores.items() if any(score is not None for score in block.values())}
    named = dict.fromkeys(loss for block in begun.values() for loss in block)
    losses = tuple(loss for loss in named if all(loss in block for block in begun.values()))
    missing = tuple(loss for loss in named if loss not in losses)
    if len(losses) < 2:
        return Ranked((), np.empty((0, 0)), (), missing, ())
    rows = {name: [block[loss] for loss in losses] for name, block in begun.items()}
    whole = tuple(name for name, row in rows.items() if None not in row)
    table = np.array([rows[name] for name in whole], np.float64).reshape(len(whole), len(losses))
    return Ranked(losses, table, whole, missing, tuple(name for name in rows if name not in whole))


@dataclass(frozen=True)
class RankDifference:
    """The reference against another loss over all comparisons.

    Attributes:
        loss: the other loss.
        wins: comparisons in which the reference is better.
        losses: comparisons in which the other is.
        p: of Wilcoxon's signed-rank test, two-sided.
        p_corrected: corrected for all losses (Holm).
    """

    loss: str
    wins: int
    losses: int
    p: float
    p_corrected: float


@dataclass(frozen=True)
class LossRanks:
    """Losses ranked within comparisons, each of one dataset with one model.

    Attributes:
        ranks: average rank of each loss, 1 the best, in rising order; empty without a complete comparison.
        blocks: how many comparisons are ranked.
        left_out: how many are not, since one of the ranked losses is not complete there.
        missing_losses: losses that are not ranked, since some comparison does not have them.
        overall_p: of Friedman's test; None with fewer than three losses or fewer than `friedman_blocks` comparisons.
        friedman_blocks: comparisons that Friedman's test needs to reach `level`; 0 with fewer than three losses.
        reference: the loss that the others are compared with, None where it is not among them.
        differences: the reference against each other loss; empty with fewer than `wilcoxon_blocks`
            comparisons.
        wilcoxon_blocks: comparisons that Wilcoxon's tests need to reach `level` after Holm's correction.
        level: chance of any false difference.
    """

    ranks: tuple[tuple[str, float], ...]
    blocks: int
    left_out: int
    missing_losses: tuple[str, ...]
    overall_p: float | None
    friedman_blocks: int
    reference: str | None
    differences: tuple[RankDifference, ...]
    wilcoxon_blocks: int
    level: float

    def sentences(self) -> tuple[str, ...]:
        """What they say, in plain words."""
        missing = [f"Left out, since not every comparison has them: {', '.join(map(loss_name, self.missing_losses))}."]
        missing = missing if self.missing_losses else []
        if not self.blocks:
            return ("No comparison is complete in two losses that all of them have, so there are no ranks.", *missing)
        order = ", ".join(f"{loss_name(loss)} {rank:.2f}" for loss, rank in self.ranks)
        said = [f"Average ranks over {counted(self.blocks, 'comparison')}, 1 the best: {order}.", *missing]
        if self.left_out:
            lacks = "lacks" if self.left_out == 1 else "lack"
            said.append(f"{counted(self.left_out, 'comparison')} that still {lacks} one of these losses left out.")
        if self.overall_p is not None:
            verdict = "differ by more than chance" if self.overall_p <= self.level else "cannot be told apart by rank"
            said.append(f"The losses {verdict} (Friedman's test, {p_text(self.overall_p)}).")
        elif self.friedman_blocks:
            said.append(f"Whether that is chance takes at least {self.friedman_blocks} comparisons to say.")
        if self.reference is None:
            return tuple(said)
        if not self.differences:
            said.append(
                f"Comparing {loss_name(self.reference)} with each other loss by Wilcoxon's test takes at least "
                f"{self.wilcoxon_blocks} comparisons; there {'is' if self.blocks == 1 else 'are'} {self.blocks}."
            )
        said += [self._difference_text(one) for one in self.differences]
        return tuple(said)

    def _difference_text(self, one: RankDifference) -> str:
        reference, other = loss_name(self.reference or ""), loss_name(one.loss)
        counts = f"ahead in {one.wins}, behind in {one.losses}; {p_text(one.p_corrected)}"
        if one.p_corrected > self.level:
            return f"{reference} and {other} cannot be told apart over these comparisons ({reference} {counts})."
        return f"{reference} is {'better' if one.wins > one.losses else 'worse'} than {other} ({counts})."


def rank_losses(
    scores: Mapping[str, Mapping[str, float | None]], reference: str = "lmf", level: float = LEVEL
) -> LossRanks:
    """Rank losses within each comparison, the highest score first, ties averaged, and test the ranks.

    Friedman's test is over all losses; Wilcoxon's signed-rank test, by its exact distribution, is between the reference
    and each other loss, corrected by Holm. Neither is made where there are too few comparisons to reach `level` at all.

    Args:
        scores: as `rank_table` takes them.
        reference: the loss to compare the others with.
        level: chance of any false difference.
    """
    found = rank_table(scores)
    losses, blocks = found.losses, len(found.comparisons)
    others = [loss for loss in losses if loss != reference]
    known = reference in losses and bool(others)
    needed = wilcoxon_blocks_needed(len(others), level) if known else 0
    differences: Sequence[RankDifference] = ()
    if known and blocks >= needed:
        differences = _differences(found.scores, losses, reference)
    means = map(float, found.ranks.mean(axis=0)) if blocks else ()
    return LossRanks(
        ranks=tuple(sorted(zip(losses, means, strict=True), key=lambda one: one[1])) if blocks else (),
        blocks=blocks,
        left_out=len(found.unfinished),
        missing_losses=found.missing_losses,
        overall_p=friedman_p(found.scores.tolist(), level),
        friedman_blocks=friedman_blocks_needed(len(losses), level) if len(losses) > 2 else 0,
        reference=reference if known else None,
        differences=tuple(differences),
        wilcoxon_blocks=needed,
        level=level,
    )


def wilcoxon_blocks_needed(comparisons: int, level: float = LEVEL) -> int:
    """How many comparisons Wilcoxon's test needs so that the least of several p values can reach `level` after Holm.

    With n comparisons that all have the same sign, p is 2 / 2^n.

    Args:
        comparisons: how many losses are compared with the reference, at least one.
        level: what p must be able to reach.
    """
    return math.ceil(math.log2(2 * comparisons / level))


def _differences(table: NDArray[np.float64], losses: Sequence[str], reference: str) -> list[RankDifference]:
    mine = table[:, losses.index(reference)]
    found = []
    for index, loss in enumerate(losses):
        if loss == reference:
            continue
        rest = np.round(mine - table[:, index], _DIGITS)
        rest = rest[rest != 0]
        p = _signed_rank_p(rest) if len(rest) else 1.0
        found.append(RankDifference(loss, int((rest > 0).sum()), int((rest < 0).sum()), p, p))
    corrected = holm([one.p for one in found])
    return [
        RankDifference(one.loss, one.wins, one.losses, one.p, float(p)) for one, p in zip(found, corrected, strict=True)
    ]


def _signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Wilcoxon's test by its exact distribution, which with ties is that of flipping the signs of the shared ranks."""
    from scipy.stats import rankdata, wilcoxon

    ranks = rankdata(np.abs(differences))
    if len(set(ranks)) == len(ranks):
        return float(wilcoxon(differences, method="exact").pvalue)
    return sign_flip_p(np.sign(differences) * ranks)
