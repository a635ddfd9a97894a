"""The points (α, β) of a study as rows of its figures: their scores, and how far their seeds lie apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from study.reporting.figures import SYMBOLS
from study.reporting.statistics import Spread, StudySummary
from study.reporting.text import SETTING_FORMS, factor, percent

MOST_POINTS = 1500
"""How many points a figure shows; of more it shows every n-th in the order of their validation score."""
MANY = 150
"""With more points than these, marks are small and seeds are not told apart."""

SEVERAL, OTHER = "several", "other"
KINDS = {
    **{name: (SYMBOLS[name], f"{name} ({form})") for name, form in SETTING_FORMS.items()},
    SEVERAL: ("star", "in several settings"),
    OTHER: ("pentagon", "in no setting"),
}
"""The mark and the name of the points of each setting, of those in several, and of those in none."""


@dataclass(frozen=True)
class PairRow:
    """One (α, β) in a figure.

    Attributes:
        alpha: weight of the LDAM half.
        beta: weight of the focal half.
        settings: the paper's settings that it belongs to.
        val: macro F1 on validation over its seeds.
        test: macro F1 on test over its seeds.
        chosen: validation chooses it.
    """

    alpha: float
    beta: float
    settings: tuple[str, ...]
    val: Spread
    test: Spread
    chosen: bool

    @property
    def ratio(self) -> float:
        """β/α to six digits, so that equal ratios are equal; infinite where α is 0."""
        return float(f"{self.beta / self.alpha:.6g}") if self.alpha else math.inf

    def spread(self, split: str) -> Spread:
        """Macro F1 on `val` or `test`."""
        return self.val if split == "val" else self.test

    def mean(self, split: str) -> float:
        """Mean macro F1 on `val` or `test`; every row has one."""
        mean = self.spread(split).mean
        assert mean is not None
        return mean


def pair_rows(summary: StudySummary) -> tuple[PairRow, ...]:
    """One row for each (α, β) with macro F1 on both splits, the best on validation first; ties by α and β."""
    rows = [
        PairRow(
            pair.alpha,
            pair.beta,
            pair.settings,
            pair.spread("val", "macro_f1"),
            pair.spread("test", "macro_f1"),
            summary.best is not None and pair.factors == summary.best.factors,
        )
        for pair in summary.pairs
    ]
    able = (row for row in rows if row.val.mean is not None and row.test.mean is not None)
    return tuple(sorted(able, key=lambda row: (-row.mean("val"), row.alpha, row.beta)))


def thinned(rows: Sequence[PairRow], most: int = MOST_POINTS, keep: Sequence[PairRow] = ()) -> tuple[PairRow, ...]:
    """Every n-th of the rows, so that at most `most` are left; the first, the last and some more stay in any case.

    Args:
        rows: the rows, in the order of their score.
        most: how many are shown, besides those that stay in any case.
        keep: rows that must stay.
    """
    step = math.ceil(len(rows) / most) or 1
    if step == 1:
        return tuple(rows)
    kept = {(row.alpha, row.beta) for row in keep}
    return tuple(
        row
        for place, row in enumerate(rows)
        if place % step == 0 or place == len(rows) - 1 or row.chosen or (row.alpha, row.beta) in kept
    )


def shown_note(shown: int, total: int) -> str:
    """What a title adds where only some of the points are shown, else nothing."""
    return "" if shown == total else f" ({shown:,} of {total:,} points, every n-th by score)"


def chosen_row(rows: Sequence[PairRow]) -> PairRow | None:
    """The row that validation chooses, None where it has none."""
    return next((row for row in rows if row.chosen), None)


def kind_of(row: PairRow) -> str:
    """Which of `KINDS` a point is."""
    return SEVERAL if len(row.settings) > 1 else row.settings[0] if row.settings else OTHER


def seeds_text(row: PairRow, split: str) -> str:
    """A line of hover text about a point's seeds, empty where it has one."""
    spread = row.spread(split)
    return "" if spread.count < 2 else f"<br>{spread.count} seeds ± {percent(spread.average_deviation)}"


def point_text(row: PairRow) -> str:
    """A point's α and β."""
    return f"α {factor(row.alpha)}, β {factor(row.beta)}"
