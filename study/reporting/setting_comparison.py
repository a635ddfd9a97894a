"""The three settings against each other: does it matter which of α and β moves?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from study.reporting.holm import LEVEL, holm
from study.reporting.noise import p_text, points_text
from study.reporting.text import SETTING_FORMS, counted, score_name

if TYPE_CHECKING:
    from study.reporting.statistics import SettingSummary, StudySummary

_EXACT_VALUES = 16
_RANDOM_FLIPS = 9_999
_RANDOM_SEED = 20_240_303
_MOST_RANKINGS = 500_000
"""So many ways to rank a block, times the sums of ranks before it, are looked at for an exact Friedman test."""
_SHARED = "without the shared point α = β = 1"
_TIE = 1e-12


@dataclass(frozen=True)
class SettingDifference:
    """Two settings, compared value by value.

    Attributes:
        first: name of one setting.
        second: name of the other.
        values: how many values of the grid both have; the shared point is none of them.
        difference: mean over the values of the first's score minus the second's; None without a value.
        p: of the sign-flip permutation test, two-sided; None without a value.
        p_corrected: corrected for all pairs of settings (Holm).
        told: they differ by more than chance.
    """

    first: str
    second: str
    values: int
    difference: float | None
    p: float | None
    p_corrected: float | None = None
    told: bool = False

    @property
    def least_p(self) -> float:
        """The least p that so many values can give."""
        return least_sign_flip_p(self.values)


@dataclass(frozen=True)
class SettingComparison:
    """The settings of a study against each other.

    Attributes:
        score: name of the score.
        split: `val` or `test`.
        level: chance of any false difference.
        pairs: each pair of settings.
        overall_p: of Friedman's test that all settings are alike; None with fewer than three settings or too few
            common values to reach `level`.
        blocks: how many values all settings have.
        seeds: the greatest number of seeds that a score is the mean of.
    """

    score: str
    split: str
    level: float
    pairs: tuple[SettingDifference, ...]
    overall_p: float | None
    blocks: int
    seeds: int

    def sentence(self) -> str:
        """What it says, in plain words; empty where there are not two settings."""
        known = [pair for pair in self.pairs if pair.difference is not None]
        if not known:
            return ""
        where = f"{score_name(self.score)} on {'validation' if self.split == 'val' else self.split} ({_SHARED})"
        told = [pair for pair in known if pair.told]
        if told:
            text = f"By {where}, {'; '.join(self._told_text(pair) for pair in told)}"
            text += "; the others cannot be told apart." if len(told) < len(known) else "."
        else:
            most = max(known, key=lambda pair: abs(pair.difference or 0.0))
            together = self.overall_p is not None and self.overall_p <= self.level
            text = (
                f"{'Two by two, the' if together else 'The'} settings cannot be told apart by {where}: the largest "
                f"mean difference, {_pair_text(most)}, is {points_text(abs(most.difference or 0.0), self.score)} "
                f"({p_text(1.0 if most.p_corrected is None else most.p_corrected)} after Holm's correction)."
            )
        text += self._overall_text(bool(told))
        if min(pair.least_p for pair in known) * len(known) > self.level:
            text += f" With so few values no difference can reach p = {self.level:g}."
        if self.seeds == 1:
            text += (
                " The grid's values stand in for repetitions here: with one seed, a difference may be this seed's, and "
                "only more seeds tell whether it holds for others."
            )
        return text

    def _overall_text(self, told: bool) -> str:
        """What the test of all settings says beside those of pairs, of which some tell a difference or none does."""
        if self.overall_p is None:
            return ""
        facts = f"({p_text(self.overall_p)}, Friedman's test over {counted(self.blocks, 'value')})"
        if self.overall_p <= self.level:
            which = "" if told else ", but which one does cannot be said"
            return f" Together they differ by more than chance {facts}{which}."
        return (
            f" By rank alone all together cannot be told apart {facts}." if told else f" Nor can all together {facts}."
        )

    def _told_text(self, pair: SettingDifference) -> str:
        difference = pair.difference or 0.0
        ahead, behind = (pair.first, pair.second) if difference > 0 else (pair.second, pair.first)
        return (
            f"{SETTING_FORMS[ahead]} is better than {SETTING_FORMS[behind]} by "
            f"{points_text(abs(difference), self.score)} on average over {counted(pair.values, 'value')} "
            f"({p_text(pair.p_corrected or 0.0)} after Holm's correction)"
        )


def compare_settings(
    summary: StudySummary, split: str = "test", name: str = "macro_f1", level: float = LEVEL
) -> SettingComparison:
    """Compare the settings of a study, each value of the grid a block.

    A setting's score at a value is the mean over the seeds of the point that has it. α = β = 1, which all settings
    share, is left out. Two settings are compared by flipping the signs of their differences in all ways, which needs
    no assumption on their distribution; the pairs are corrected by Holm, and Friedman's test is over all three.

    Args:
        summary: the study; a search has no settings and so no pairs.
        split: `val` or `test`.
        name: the score.
        level: chance of any false difference.
    """
    lines = {setting.name: _line(setting, split, name) for setting in summary.settings}
    pairs = []
    for first, second in combinations(lines, 2):
        common = sorted(lines[first].keys() & lines[second].keys())
        rest = np.array([lines[first][value] - lines[second][value] for value in common])
        pairs.append(
            SettingDifference(first, second, len(common), float(rest.mean()), sign_flip_p(rest))
            if common
            else SettingDifference(first, second, 0, None, None)
        )
    corrected = iter(holm([pair.p for pair in pairs if pair.p is not None]))
    judged = []
    for pair in pairs:
        p = None if pair.p is None else float(next(corrected))
        judged.append(replace(pair, p_corrected=p, told=p is not None and p <= level))
    shared = sorted(set.intersection(*map(set, lines.values()))) if lines else []
    scores = [[line[value] for line in lines.values()] for value in shared]
    seeds = max((len(pair.rows) for setting in summary.settings for pair in setting.pairs), default=0)
    return SettingComparison(name, split, level, tuple(judged), friedman_p(scores, level), len(shared), seeds)


def sign_flip_p(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Could these differences' mean be chance? Sign-flip permutation test, two-sided, exact up to 16 differences.

    Args:
        differences: one a block, at least one.
    """
    from scipy.stats import permutation_test

    values = np.asarray(differences, np.float64)
    if len(values) == 1 or np.abs(values).max() <= _TIE:
        return 1.0

    def mean(one: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.asarray(one.mean(axis=axis))

    result = permutation_test(
        (values,),
        mean,
        permutation_type="samples",
        n_resamples=2**_EXACT_VALUES if len(values) <= _EXACT_VALUES else _RANDOM_FLIPS,
        batch=1024,
        vectorized=True,
        rng=np.random.default_rng(_RANDOM_SEED),
    )
    return float(result.pvalue)


def least_sign_flip_p(blocks: int) -> float:
    """The least p that `sign_flip_p` can give for so many blocks."""
    return min(1.0, 2.0 ** (1 - blocks)) if blocks <= _EXACT_VALUES else 2 / (_RANDOM_FLIPS + 1)


def friedman_p(scores: Sequence[Sequence[float]], level: float = LEVEL) -> float | None:
    """Friedman's test that no column is better than another; ties share their ranks.

    Exact where all ways to rank the blocks can be looked at, as with three columns and tens of blocks or with five and
    a few; of more, by the chi-squared approximation, which is good there and would be off with few.

    Args:
        scores: blocks in rows, what is compared in columns.
        level: what p must be able to reach.

    Returns:
        p; 1 where every row is all ties; None with fewer than three columns, or with so few rows that not even equal
        order in all of them would reach `level`.
    """
    from scipy.stats import friedmanchisquare, rankdata

    if not scores or len(scores[0]) < 3 or len(scores) < friedman_blocks_needed(len(scores[0]), level):
        return None
    table = np.array(scores, np.float64)
    if np.all(table == table[:, :1]):
        return 1.0
    exact = _exact_friedman_p((2 * rankdata(table, axis=1)).astype(np.int64))
    return float(friedmanchisquare(*table.T).pvalue) if exact is None else exact


def friedman_blocks_needed(columns: int, level: float = LEVEL) -> int:
    """How many blocks Friedman's test needs to reach `level` where every block has the same order.

    Of all ways to rank n blocks of k columns, k! of (k!)^n have the same order in all.

    Args:
        columns: what is compared, at least three.
        level: what p must be able to reach.
    """
    return 1 + math.ceil(round(-math.log(level) / math.lgamma(columns + 1), 9))


def _exact_friedman_p(ranks: NDArray[np.int64]) -> float | None:
    """How often random ranks have sums that differ by as much or more; None where there are too many ways to rank.

    The sums of ranks are followed block by block, in ascending order, since no column is special.

    Args:
        ranks: twice the rank of each column in each block, shape `(B, K)`.
    """
    blocks, columns = ranks.shape
    if math.factorial(columns) > _MOST_RANKINGS:
        return None
    places = (2 * blocks * columns + 1) ** np.arange(columns, dtype=np.float64)
    sums = np.sort(ranks[:1], axis=1)
    shares: NDArray[np.float64] = np.ones(1)
    for block in ranks[1:]:
        orders = np.array(sorted(set(permutations(block.tolist()))), np.int64)
        if len(sums) * len(orders) > _MOST_RANKINGS or places[-1] > 2**40:
            return None
        reached = np.sort((sums[:, None] + orders).reshape(-1, columns), axis=1)
        _, first, which = np.unique(reached @ places.astype(np.int64), return_index=True, return_inverse=True)
        shares = np.bincount(which, np.repeat(shares / len(orders), len(orders))).astype(np.float64)
        sums = reached[first]
    observed = (ranks.sum(axis=0) ** 2).sum()
    return float(min(1.0, shares[(sums**2).sum(axis=1) >= observed].sum()))


def _line(setting: SettingSummary, split: str, name: str) -> dict[float, float]:
    """The setting's mean scores by the value that varies, without the shared point."""
    line = {}
    for pair in setting.pairs:
        score = pair.score(split, name)
        if score is not None and (pair.alpha, pair.beta) != (1.0, 1.0):
            line[pair.beta if setting.name == "beta" else pair.alpha] = score
    return line


def _pair_text(pair: SettingDifference) -> str:
    ahead, behind = (pair.first, pair.second) if (pair.difference or 0.0) >= 0 else (pair.second, pair.first)
    return f"{SETTING_FORMS[ahead]} over {SETTING_FORMS[behind]}"
