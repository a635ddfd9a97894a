"""What the points of a study say together: the score of each (α, β), each setting's mean, the best.

A point (α, β) is once in every mean: with several seeds its score is the mean over its complete seeds. It counts in
every setting that it belongs to, so α = β = 1 counts in all three. The best is the one with the best mean on
validation; test scores are only ever reported.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from study.reporting.rows import PointRow, SplitScores, point_rows
from study.settings import SETTINGS

if TYPE_CHECKING:
    from storage.queries import StudyRecord

SETTING_NUMBERS = {name: number for number, name in enumerate(SETTINGS, start=1)}
STATES = ("complete", "running", "waiting", "failed", "pruned")


@dataclass(frozen=True)
class Spread:
    """Mean of some values and how far they lie from it.

    Attributes:
        count: how many values there are.
        mean: their mean, None where there is none.
        average_deviation: mean absolute deviation from the mean, None where there is no value.
        lowest: the least value.
        highest: the greatest value.
        standard_deviation: of the sample, None below two values.
    """

    count: int
    mean: float | None
    average_deviation: float | None
    lowest: float | None
    highest: float | None
    standard_deviation: float | None = None


class _Seeds:
    """What the complete seeds of one (α, β), or of one loss, say together."""

    rows: tuple[PointRow, ...]

    def spread(self, split: str, name: str) -> Spread:
        """A score on `val` or `test` over the complete seeds that have it."""
        return spread_of(row.score(split, name) for row in self.rows)

    def score(self, split: str, name: str) -> float | None:
        """Mean of a score on `val` or `test` over the complete seeds that have it, or None."""
        return self.spread(split, name).mean

    def f1_per_class(self, split: str) -> tuple[float, ...]:
        """F1 of each class on `val` or `test`, each the mean over the complete seeds."""
        scores = self.split_scores(split)
        return tuple(math.fsum(values) / len(scores) for values in zip(*(s.f1_per_class for s in scores), strict=True))

    def per_class(self, split: str, name: str) -> tuple[float | None, ...]:
        """A score of each class on `val` or `test`, each the mean over the complete seeds that have it.

        Args:
            split: `val` or `test`.
            name: one of `CLASS_SCORES`.
        """
        by_class = zip(*(scores.per_class(name) for scores in self.split_scores(split)), strict=True)
        return tuple(spread_of(values).mean for values in by_class)

    def split_scores(self, split: str) -> tuple[SplitScores, ...]:
        """The scores on `val` or `test` of each complete seed, by trial number."""
        scores = (row.val if split == "val" else row.test for row in self.rows)
        return tuple(score for score in scores if score is not None)

    def best_row(self, select: str) -> PointRow:
        """The complete seed with the best validation score; ties go to the lowest trial number.

        Args:
            select: the score that chooses, one of `SCORES`.
        """
        return min(self.rows, key=lambda row: (_descending(row.score("val", select)), _trial(row)))


@dataclass(frozen=True)
class Pair(_Seeds):
    """One (α, β) with all its seeds.

    Attributes:
        alpha: weight of the LDAM half.
        beta: weight of the focal half.
        settings: the settings that it belongs to.
        seeds: seeds that are planned for it, in ascending order.
        rows: its complete points, by trial number; its score is their mean.
    """

    alpha: float
    beta: float
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[PointRow, ...]

    @property
    def factors(self) -> tuple[float, float]:
        """α and β."""
        return self.alpha, self.beta


@dataclass(frozen=True)
class LossSummary(_Seeds):
    """One of the losses that a study compares, with all its seeds.

    Attributes:
        loss: the loss's name.
        alpha: weight of LMF's LDAM half; None for a loss without it.
        beta: weight of LMF's focal half; None for a loss without it.
        seeds: seeds that are planned for it, in ascending order.
        rows: its complete points, by trial number; its score is their mean.
    """

    loss: str
    alpha: float | None
    beta: float | None
    seeds: tuple[int, ...]
    rows: tuple[PointRow, ...]


@dataclass(frozen=True)
class SettingSummary:
    """What one of the paper's settings came to.

    Attributes:
        name: `joint` (α = β), `beta` (α = 1) or `alpha` (β = 1).
        number: its number in the paper.
        planned: how many (α, β) it has.
        pairs: those with a complete seed, in order of the value that varies.
        val: validation macro F1 over `pairs`.
        test: test macro F1 over `pairs`.
        best: the pair that validation chooses.
    """

    name: str
    number: int
    planned: int
    pairs: tuple[Pair, ...]
    val: Spread
    test: Spread
    best: Pair | None

    def spread(self, split: str) -> Spread:
        """Macro F1 on `val` or `test`."""
        return self.val if split == "val" else self.test


@dataclass(frozen=True)
class StudySummary:
    """What a study came to so far.

    Attributes:
        study: the study's record.
        select: the validation score that chooses.
        rows: all points, by trial number.
        pairs: each (α, β) with at least one complete seed.
        settings: the settings that the study has, in the paper's order.
        best: the pair that validation chooses, None before there is one, and in a comparison of losses, which is given
            its pair.
        losses: what a comparison of losses compares, in the order of its description; empty for a study of α and β.
    """

    study: StudyRecord
    select: str
    rows: tuple[PointRow, ...]
    pairs: tuple[Pair, ...]
    settings: tuple[SettingSummary, ...]
    best: Pair | None
    losses: tuple[LossSummary, ...] = ()

    @cached_property
    def states(self) -> dict[str, int]:
        """How many points are in each of `STATES`; those that a search is still to choose are waiting."""
        counts = Counter(row.state for row in self.rows)
        counts["waiting"] += self.study.unchosen
        return {state: counts[state] for state in STATES}

    @cached_property
    def pruning(self) -> Pruning | None:
        """What pruning saved, None where no point was pruned."""
        return pruning_of(self.study)

    @property
    def unfinished(self) -> int:
        """How many points are still to be trained."""
        return self.states["waiting"] + self.states["running"]

    @property
    def specificity(self) -> float | None:
        """At which specificity the sensitivity of its points is stated, None where none has such a score."""
        return next((row.specificity for row in self.rows if row.specificity is not None), None)

    @cached_property
    def best_row(self) -> PointRow | None:
        """The best pair's best seed, None before there is one."""
        return self.best.best_row(self.select) if self.best else None

    @cached_property
    def ranking(self) -> tuple[Pair, ...]:
        """All pairs that have the choosing score, the best first."""
        return _ranked(self.pairs, self.select)


@dataclass(frozen=True)
class Pruning:
    """What ending trainings early saved.

    Attributes:
        points: points that were pruned.
        epochs: epochs that the study has trained, each once.
        spared: epochs that the pruned points were spared.
    """

    points: int
    epochs: int
    spared: int

    @property
    def unpruned_epochs(self) -> int:
        """Epochs that it would have trained by now without pruning."""
        return self.epochs + self.spared


def pruning_of(study: StudyRecord) -> Pruning | None:
    """What pruning saved in a study, None where no point was pruned."""
    pruned = [point for point in study.points if point.state == "pruned"]
    if not pruned:
        return None
    whole = int(study.spec["recipe"]["epochs"])
    return Pruning(
        points=len(pruned),
        epochs=sum(min(point.last_epoch, whole) for point in study.points),
        spared=sum(max(0, whole - point.last_epoch) for point in pruned),
    )


def spread_of(values: Iterable[float | None]) -> Spread:
    """Mean, average deviation and standard deviation of the values that are not None.

    The average deviation is that of the paper's Fig 4: the mean absolute deviation from the mean.
    """
    present = [value for value in values if value is not None]
    if not present:
        return Spread(0, None, None, None, None)
    mean = math.fsum(present) / len(present)
    deviation = math.fsum(abs(value - mean) for value in present) / len(present)
    sample = statistics.stdev(present) if len(present) > 1 else None
    return Spread(len(present), mean, deviation, min(present), max(present), sample)


def summarize(study: StudyRecord, rows: Sequence[PointRow] | None = None) -> StudySummary:
    """Draw the statistics of a study.

    Args:
        study: the study.
        rows: its points as rows, where the caller has them already.
    """
    rows = point_rows(study) if rows is None else tuple(rows)
    select = select_score(study)
    planned = _pairs(rows)
    pairs = tuple(pair for pair in planned if pair.rows)
    settings = tuple(
        _setting(name, number, planned, select)
        for name, number in SETTING_NUMBERS.items()
        if any(name in pair.settings for pair in planned)
    )
    losses = _losses(study, rows)
    best = None if losses else _best(pairs, select)
    return StudySummary(study, select, rows, pairs, settings, best, losses)


def select_score(study: StudyRecord) -> str:
    """The validation score that chooses in this study, `macro_f1` where its recipe names none."""
    return str(study.spec.get("recipe", {}).get("select", "macro_f1"))


def _pairs(rows: Iterable[PointRow]) -> tuple[Pair, ...]:
    groups: dict[tuple[float, float], list[PointRow]] = defaultdict(list)
    for row in rows:
        if row.alpha is not None and row.beta is not None:
            groups[row.alpha, row.beta].append(row)
    return tuple(
        Pair(
            alpha,
            beta,
            tuple(name for name in SETTING_NUMBERS if any(name in row.settings for row in members)),
            tuple(sorted({row.seed for row in members})),
            tuple(row for row in members if row.val is not None),
        )
        for (alpha, beta), members in groups.items()
    )


def _losses(study: StudyRecord, rows: Iterable[PointRow]) -> tuple[LossSummary, ...]:
    order = list(study.spec.get("losses", ()))
    if not order:
        return ()
    groups: dict[tuple[str, float | None, float | None], list[PointRow]] = defaultdict(list)
    for row in rows:
        groups[row.loss, row.alpha, row.beta].append(row)
    found = [
        LossSummary(
            *identity,
            tuple(sorted({row.seed for row in members})),
            tuple(row for row in members if row.val is not None),
        )
        for identity, members in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: order.index(one.loss) if one.loss in order else len(order)))


def _setting(name: str, number: int, planned: Sequence[Pair], select: str) -> SettingSummary:
    members = [pair for pair in planned if name in pair.settings]
    pairs = tuple(sorted((pair for pair in members if pair.rows), key=lambda pair: (pair.alpha, pair.beta)))
    val, test = (spread_of(pair.score(split, "macro_f1") for pair in pairs) for split in ("val", "test"))
    return SettingSummary(name, number, len(members), pairs, val, test, _best(pairs, select))


def _best(pairs: Iterable[Pair], select: str) -> Pair | None:
    return next(iter(_ranked(pairs, select)), None)


def _ranked(pairs: Iterable[Pair], select: str) -> tuple[Pair, ...]:
    able = [pair for pair in pairs if pair.score("val", select) is not None]
    return tuple(sorted(able, key=lambda p: (_descending(p.score("val", select)), _trial(p.best_row(select)))))


def _descending(score: float | None) -> float:
    return math.inf if score is None else -score


def _trial(row: PointRow) -> float:
    return math.inf if row.trial is None else row.trial
