"""A picture of all points of a study over β/α, which is nearly all that Adam feels of α and β."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from study.reporting.figures import SPLIT_NAMES
from study.reporting.marks import LEGEND_BELOW
from study.reporting.pair_rows import (
    KINDS,
    MANY,
    PairRow,
    chosen_row,
    kind_of,
    pair_rows,
    seeds_text,
    shown_note,
    thinned,
)
from study.reporting.picture import Picture, empty_figure, in_percent, short
from study.reporting.statistics import StudySummary
from study.reporting.text import SETTING_FORMS, factor, percent

_TICKS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
_PARTS = 20
_LEAST_GROUP = 3


@dataclass(frozen=True)
class RatioGroup:
    """The points of one ratio β/α; with Adam, they differ by weight decay and chance alone.

    Attributes:
        ratio: β/α.
        points: how many there are.
        low: the least mean macro F1 among them.
        high: the greatest.
    """

    ratio: float
    points: int
    low: float
    high: float


def ratio_groups(rows: Sequence[PairRow], split: str) -> tuple[RatioGroup, ...]:
    """The ratios β/α that several points have, in ascending order.

    Args:
        rows: all points.
        split: `val` or `test`.
    """
    groups: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        groups[row.ratio].append(row.mean(split))
    return tuple(
        RatioGroup(ratio, len(scores), min(scores), max(scores))
        for ratio, scores in sorted(groups.items())
        if len(scores) > 1
    )


def running_medians(rows: Sequence[PairRow], split: str) -> tuple[tuple[float, float], ...]:
    """Median β/α and median macro F1 of each twentieth of the points, in the order of β/α.

    Args:
        rows: all points.
        split: `val` or `test`.
    """
    ordered = sorted(rows, key=lambda row: (row.ratio, row.alpha))
    ends = [len(ordered) * part // _PARTS for part in range(_PARTS + 1)]
    parts = [ordered[start:end] for start, end in pairwise(ends) if end > start]
    return tuple((median(row.ratio for row in part), median(row.mean(split) for row in part)) for part in parts)


def ratio_spread(summary: StudySummary, split: str = "val") -> Picture:
    """Macro F1 of all points over β/α, with the average deviation of their seeds and bars over points of equal ratio.

    Of more than 150 points, the running median stands for both.

    Args:
        summary: a study's statistics.
        split: `val` or `test`.
    """
    rows = tuple(row for row in pair_rows(summary) if row.alpha > 0 and row.beta > 0)
    shown = thinned(rows)
    figure = empty_figure("β / α", f"{SPLIT_NAMES[split]} macro F1, %")
    many = len(rows) > MANY
    groups = [] if many else [group for group in ratio_groups(rows, split) if group.high > group.low]
    if groups:
        figure.add_scatter(
            x=[end for group in groups for end in (group.ratio, group.ratio, None)],
            y=[end for group in groups for end in (in_percent(group.low), in_percent(group.high), None)],
            mode="lines",
            line={"color": "var(--faint)", "width": 9},
            name="range of points of equal β/α",
            hoverinfo="skip",
        )
    for kind, (symbol, name) in KINDS.items():
        members = sorted((row for row in shown if kind_of(row) == kind), key=lambda row: (row.ratio, row.alpha))
        if not members:
            continue
        spreads = [row.spread(split) for row in members]
        bars = {
            "array": [] if many else [in_percent(spread.average_deviation) for spread in spreads],
            "visible": not many and any(spread.count > 1 for spread in spreads),
            "thickness": 1,
            "width": 3,
        }
        figure.add_scatter(
            x=[row.ratio for row in members],
            y=[in_percent(spread.mean) for spread in spreads],
            error_y=bars,
            mode="markers",
            marker={
                "color": f"var(--{kind if kind in SETTING_FORMS else 'muted'})",
                "symbol": symbol if many else f"{symbol}-open",
                "size": 4 if many else 9,
                "line": {"width": 0 if many else 1.6},
            },
            name=name,
            customdata=[[row.alpha, row.beta, seeds_text(row, split)] for row in members],
            hovertemplate="α %{customdata[0]}, β %{customdata[1]}<br>%{y:.2f} %%{customdata[2]}<extra></extra>",
        )
    if many:
        medians = running_medians(rows, split)
        figure.add_scatter(
            x=[short(ratio) for ratio, _ in medians],
            y=[in_percent(score) for _, score in medians],
            mode="lines",
            line={"color": "var(--text)", "width": 2.5},
            name=f"median of each {_PARTS}th of the points",
            hovertemplate="β/α around %{x}: median %{y:.2f} %<extra></extra>",
        )
    best = chosen_row(rows)
    if best is not None:
        figure.add_scatter(
            x=[best.ratio],
            y=[in_percent(best.mean(split))],
            mode="markers",
            marker={"symbol": "circle-open", "size": 18, "color": "var(--text)", "line": {"width": 2.5}},
            name=f"best on validation: α {factor(best.alpha)}, β {factor(best.beta)}",
            hoverinfo="skip",
        )
    figure.update_xaxes(type="log", tickvals=list(_TICKS), ticktext=[f"{tick:g}" for tick in _TICKS])
    figure.update_layout(legend=LEGEND_BELOW, height=400)
    note = shown_note(len(shown), len(rows))
    return Picture(f"ratio-spread-{split}", f"All points by β / α on {SPLIT_NAMES[split]}{note}", figure)


def ratio_sentence(rows: Sequence[PairRow], split: str = "val") -> str:
    """What to read from the ratios: how far points of equal ratio lie apart, beside all points.

    Args:
        rows: all points.
        split: `val` or `test`.
    """
    groups = [group for group in ratio_groups(rows, split) if group.points >= _LEAST_GROUP]
    scores = [row.mean(split) for row in rows]
    if not groups:
        return "Fewer than three points have the same β/α, so what the ratio decides cannot be told here from chance."
    largest = max(groups, key=lambda group: (group.points, group.high - group.low, -group.ratio))
    within, overall = largest.high - largest.low, max(scores) - min(scores)
    # A search's points may all have one ratio, and then there is nothing beside it.
    share = f", {round(100 * within / overall)} % of the range of all points" if overall > 0 else ""
    return (
        f"The {largest.points} points with β/α = {largest.ratio:.4g} lie {percent(within)} percentage points "
        f"apart{share}."
    )
