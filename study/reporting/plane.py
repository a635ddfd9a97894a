"""A picture of all points of a study over (α, β)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from study.reporting.choice import select_note
from study.reporting.marks import LEGEND_BELOW
from study.reporting.pair_rows import (
    KINDS,
    MANY,
    PairRow,
    chosen_row,
    kind_of,
    pair_rows,
    point_text,
    seeds_text,
    shown_note,
    thinned,
)
from study.reporting.picture import Picture, empty_figure, in_percent, short
from study.reporting.statistics import StudySummary
from study.reporting.text import counted, factor, percent

NEAR = 0.01
"""Points within so much macro F1 of the best are counted as near it."""

_LEAST, _MOST = 0.5, 2.0
_TICKS = (0.5, 0.75, 1.0, 1.5, 2.0)


def plane(summary: StudySummary) -> Picture:
    """All points over α and β on logarithmic axes of the same scale, coloured by macro F1 on validation.

    A point is the mean over its seeds. Marks are larger and stronger in colour the better they are, and of another
    shape for each setting; a ring is around the point that validation chooses, and the points on the line through it
    have its β/α.

    Args:
        summary: a study's statistics.
    """
    rows = pair_rows(summary)
    shown = thinned(rows)
    figure = empty_figure("α, weight of LDAM", "β, weight of focal")
    best = chosen_row(rows)
    # What the legend shows: marks without a place, as it cannot show colours of a scale.
    for kind, (symbol, name) in KINDS.items():
        if any(kind_of(row) == kind for row in shown):
            marker = {"color": "var(--muted)", "symbol": symbol, "size": 9}
            figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name)
    ends = _range([value for row in rows for value in (row.alpha, row.beta)])
    if best is not None and best.alpha > 0 and best.beta > 0:
        figure.add_scatter(
            x=[short(ends[0]), short(ends[1])],
            y=[short(ends[0] * best.ratio), short(ends[1] * best.ratio)],
            mode="lines",
            line={"color": "var(--muted)", "width": 1, "dash": "dot"},
            name=f"β/α = {best.ratio:.4g}, as the best",
            hoverinfo="name",
        )
    for kind, (symbol, _) in KINDS.items():
        members = [row for row in shown if kind_of(row) == kind]
        if not members:
            continue
        figure.add_scatter(
            x=[row.alpha for row in members],
            y=[row.beta for row in members],
            mode="markers",
            marker={
                "color": [in_percent(row.mean("val")) for row in members],
                "coloraxis": "coloraxis",
                "size": [_size(row, rows) for row in members],
                "symbol": symbol,
                "opacity": 1,
                "line": {"color": "var(--muted)", "width": 1},
            },
            showlegend=False,
            customdata=[[seeds_text(row, "val"), in_percent(row.mean("test"))] for row in members],
            hovertemplate="α %{x}, β %{y}<br>validation %{marker.color:.2f} %%{customdata[0]}"
            "<br>test %{customdata[1]:.2f} %<extra></extra>",
        )
    if best is not None:
        figure.add_scatter(
            x=[best.alpha],
            y=[best.beta],
            mode="markers",
            marker={
                "symbol": "circle-open",
                "size": 22 if len(rows) <= MANY else 16,
                "color": "var(--text)",
                "line": {"width": 2.5},
            },
            name=f"best on validation: α {factor(best.alpha)}, β {factor(best.beta)}",
            hoverinfo="skip",
        )
    scores = [row.mean("val") for row in rows] or [0.0, 1.0]
    same = max(scores) == min(scores)
    ticks = [tick for tick in _TICKS if ends[0] <= tick <= ends[1]]
    axis = {
        "type": "log",
        "range": [math.log10(end) for end in ends],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
        "constrain": "domain",
    }
    figure.update_layout(
        xaxis=axis,
        yaxis={**axis, "scaleanchor": "x", "scaleratio": 1},
        coloraxis={
            "colorscale": [[0, "var(--surface)"], [1, "var(--accent)"]],
            "cmin": in_percent(min(scores) - 0.005 * same),
            "cmax": in_percent(max(scores) + 0.005 * same),
            "colorbar": {
                "title": {"text": "validation<br>macro F1, %"},
                "thickness": 12,
                "outlinecolor": "var(--line)",
                "tickcolor": "var(--line)",
            },
        },
        height=440,
        legend=LEGEND_BELOW,
    )
    return Picture("plane", f"All points over α and β{shown_note(len(shown), len(rows))}", figure)


def plane_sentence(rows: Sequence[PairRow], select: str = "macro_f1") -> str:
    """What to read from the plane: where the best lies, and which points come near it.

    Args:
        rows: all points, as `pair_rows` gives them.
        select: the score that validation chooses by.
    """
    best = chosen_row(rows)
    if best is None:
        return "No point is complete yet."
    if len(rows) == 1:
        return f"One point is complete: {point_text(best)} with {percent(best.mean('val'))} % on validation."
    near = [row for row in rows if row is not best and abs(row.mean("val") - best.mean("val")) <= NEAR]
    text = (
        f"Validation chooses {point_text(best)} with {percent(best.mean('val'))} %, of points from "
        f"{percent(rows[-1].mean('val'))} to {percent(rows[0].mean('val'))} %.{select_note(select)} "
    )
    if not near:
        return f"{text}No other point lies within {100 * NEAR:g} percentage point of it."
    ratios = sorted(row.ratio for row in near)
    span = f"with β/α {_span(ratios[0], ratios[-1])}"
    verb = "lies" if len(near) == 1 else "lie"
    return f"{text}{counted(len(near), 'other point')} {verb} within {100 * NEAR:g} percentage point of it, {span}."


def _size(row: PairRow, rows: Sequence[PairRow]) -> float:
    """A mark's size in pixels, which grows with the score from the worst to the best."""
    low, high = (4.0, 8.0) if len(rows) > MANY else (7.0, 13.0)
    worst, best = rows[-1].mean("val"), rows[0].mean("val")
    return round(high if best == worst else low + (high - low) * (row.mean("val") - worst) / (best - worst), 1)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The ends of both axes: [0.5, 2] and what lies beyond it, with a margin."""
    positive = [value for value in values if value > 0]
    return 0.92 * min([_LEAST, *positive]), 1.09 * max([_MOST, *positive])


def _span(low: float, high: float) -> str:
    return f"= {low:.4g}" if low == high else f"from {low:.4g} to {high:.4g}"
