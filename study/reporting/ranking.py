"""Losses across datasets and models: average ranks, and whether they are more than chance."""

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


@dataclass(frozen=True)
class RankDifference:
    """The reference against another loss over all blocks.

    Attributes:
        loss: the other loss.
        wins: blocks in which the reference is better.
        losses: blocks in which the other is.
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
    """Losses ranked within blocks of equal dataset and model.

    Attributes:
        ranks: average rank of each loss, 1 the best, in rising order; empty without a complete block.
        blocks: how many blocks have every loss.
        left_out: how many blocks lack one.
        overall_p: of Friedman's test; None with fewer than three losses or fewer than `friedman_blocks` blocks.
        friedman_blocks: blocks that Friedman's test needs to reach `level`; 0 with fewer than three losses.
        reference: the loss that the others are compared with, None where it is not among them.
        differences: the reference against each other loss; empty with fewer than `wilcoxon_blocks` blocks.
        wilcoxon_blocks: blocks that Wilcoxon's tests need to reach `level` after Holm's correction.
        level: chance of any false difference.
    """

    ranks: tuple[tuple[str, float], ...]
    blocks: int
    left_out: int
    overall_p: float | None
    friedman_blocks: int
    reference: str | None
    differences: tuple[RankDifference, ...]
    wilcoxon_blocks: int
    level: float

    def sentences(self) -> tuple[str, ...]:
        """What they say, in plain words."""
        if not self.blocks or len(self.ranks) < 2:
            return ("There is no dataset and model yet for which two losses are complete.",)
        order = ", ".join(f"{loss_name(loss)} {rank:.2f}" for loss, rank in self.ranks)
        said = [f"Average ranks over {counted(self.blocks, 'pair')} of dataset and model, 1 the best: {order}."]
        if self.left_out:
            said.append(f"{counted(self.left_out, 'pair')} that lack{'s' * (self.left_out == 1)} a loss left out.")
        if self.overall_p is not None:
            verdict = "differ by more than chance" if self.overall_p <= self.level else "cannot be told apart by rank"
            said.append(f"The losses {verdict} (Friedman's test, {p_text(self.overall_p)}).")
        elif self.friedman_blocks:
            said.append(f"Whether that is chance takes at least {self.friedman_blocks} such pairs to say.")
        if self.reference is None:
            return tuple(said)
        if not self.differences:
            said.append(
                f"Comparing {loss_name(self.reference)} with each other loss by Wilcoxon's test takes at least "
                f"{self.wilcoxon_blocks} such pairs; there {'is' if self.blocks == 1 else 'are'} {self.blocks}."
            )
        said += [self._difference_text(one) for one in self.differences]
        return tuple(said)

    def _difference_text(self, one: RankDifference) -> str:
        reference, other = loss_name(self.reference or ""), loss_name(one.loss)
        counts = f"ahead in {one.wins}, behind in {one.losses}; {p_text(one.p_corrected)}"
        if one.p_corrected > self.level:
            return f"{reference} and {other} cannot be told apart over these pairs ({reference} {counts})."
        return f"{reference} is {'better' if one.wins > one.losses else 'worse'} than {other} ({counts})."


def rank_losses(scores: Mapping[str, Mapping[str, float]], reference: str = "lmf", level: float = LEVEL) -> LossRanks:
    """Rank losses within each block, the highest score first, ties averaged, and test the ranks.

    Friedman's test is over all losses; Wilcoxon's signed-rank test, by its exact distribution, is between the reference
    and each other loss, corrected by Holm. Neither is made where there are too few blocks to reach `level` at all.

    Args:
        scores: a score for each block (a dataset with a model) and loss; blocks that lack a loss are left out.
        reference: the loss to compare the others with.
        level: chance of any false difference.
    """
    losses = list(dict.fromkeys(loss for block in scores.values() for loss in block))
    whole = [[block[loss] for loss in losses] for block in scores.values() if len(block) == len(losses)]
    table = np.array(whole, np.float64).reshape(len(whole), len(losses))
    means = _average_ranks(table)
    others = [loss for loss in losses if loss != reference]
    known = reference in losses and bool(others)
    needed = wilcoxon_blocks_needed(len(others), level) if known else 0
    differences: Sequence[RankDifference] = ()
    if known and len(whole) >= needed:
        differences = _differences(table, losses, reference)
    return LossRanks(
        ranks=tuple(sorted(zip(losses, map(float, means), strict=True), key=lambda one: one[1])) if whole else (),
        blocks=len(whole),
        left_out=len(scores) - len(whole),
        overall_p=friedman_p(whole, level),
        friedman_blocks=friedman_blocks_needed(len(losses), level) if len(losses) > 2 else 0,
        reference=reference if known else None,
        differences=tuple(differences),
        wilcoxon_blocks=needed,
        level=level,
    )


def wilcoxon_blocks_needed(comparisons: int, level: float = LEVEL) -> int:
    """How many blocks Wilcoxon's test needs so that the least of several p values can reach `level` after Holm.

    With n blocks that all have the same sign, p is 2 / 2^n.

    Args:
        comparisons: how many losses are compared with the reference, at least one.
        level: what p must be able to reach.
    """
    return math.ceil(math.log2(2 * comparisons / level))


def _average_ranks(table: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    if not len(table):
        return np.full(table.shape[1], np.nan)
    return np.asarray(rankdata(-table, axis=1).mean(axis=0))


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
