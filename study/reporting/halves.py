"""Pictures of LMF's two halves over all points of a study: their shares of the gradient, and their sizes, by epoch.

Shares are counted by the norms of the weighted halves' gradients at a batch's logits: α·|g_LDAM| of it and of
β·|g_focal| together. Norms say how strongly a half pulls, not where to.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import plotly.graph_objects as go

from study.reporting.marks import LEGEND_BELOW
from study.reporting.picture import Picture, empty_figure, in_percent, short
from study.reporting.rows import EpochRow, PointRow
from study.reporting.statistics import StudySummary
from study.reporting.text import factor

MOST_LINE_MARKS = 2000
"""Up to so many epochs of all points together, each point is a line; of more, bands of quantiles are drawn."""
HALVES = ("ldam", "focal")

_HALF_NAMES = {"ldam": "α · LDAM", "focal": "β · focal"}
_HALF_LOOKS = {"ldam": ("accent", "solid"), "focal": ("beta", "dash")}
Convert = Callable[[float | None], float | None]

_DASHES = (("β < α", "dot"), ("β = α", "dash"), ("β > α", "solid"))


@dataclass(frozen=True)
class ShareRow:
    """The LDAM half's part in the gradient of one point and epoch.

    Attributes:
        point: the row of its point.
        epoch: number of the epoch, from 1.
        share: in [0, 1].
    """

    point: PointRow
    epoch: int
    share: float


@dataclass(frozen=True)
class Quantiles:
    """Some values of all points in one epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        points: how many points have a value.
        low: the least value.
        lower: a quarter of the values lie below it.
        median: half of them do.
        upper: three quarters do.
        high: the greatest value.
    """

    epoch: int
    points: int
    low: float
    lower: float
    median: float
    upper: float
    high: float


def share_rows(epochs: Iterable[EpochRow]) -> tuple[ShareRow, ...]:
    """One row for each epoch whose gradients were measured, in the order of the epochs given.

    Args:
        epochs: epochs of a study's points, those of a point together.
    """
    rows = []
    for row in epochs:
        ldam, focal = _weighted(row, row.ldam_gradient, "ldam"), _weighted(row, row.focal_gradient, "focal")
        if ldam is not None and focal is not None and ldam + focal > 0:
            rows.append(ShareRow(row.point, row.epoch, ldam / (ldam + focal)))
    return tuple(rows)


def share_quantiles(rows: Iterable[ShareRow]) -> tuple[Quantiles, ...]:
    """The shares of all points by epoch."""
    return _quantiles((row.epoch, row.share) for row in rows)


def half_quantiles(epochs: Iterable[EpochRow], half: str) -> tuple[Quantiles, ...]:
    """What one half, weighted, adds to the training loss of all points, by epoch.

    Args:
        epochs: epochs of a study's points.
        half: `ldam` or `focal`.
    """
    values = ((row.epoch, _weighted(row, row.ldam if half == "ldam" else row.focal, half)) for row in epochs)
    return _quantiles((epoch, value) for epoch, value in values if value is not None)


def gradient_shares(summary: StudySummary, rows: Sequence[ShareRow]) -> Picture:
    """The LDAM half's share of the gradient by epoch, a line a point, or bands over all points where there are many.

    Args:
        summary: the study's statistics.
        rows: the shares, those of a point together.
    """
    figure = empty_figure("epoch", "LDAM's share, %")
    best = [row for row in rows if summary.best_row is not None and row.point.point == summary.best_row.point]
    if len(rows) <= MOST_LINE_MARKS:
        mine = {row.point.point for row in best}
        for (name, dash), which in zip(_DASHES, (-1, 0, 1), strict=True):
            lines = [row for row in rows if _side(row.point) == which and row.point.point not in mine]
            if lines:
                x, y, text = _broken_lines(lines)
                figure.add_scatter(
                    x=x,
                    y=y,
                    mode="lines",
                    line={"color": "var(--muted)", "width": 1, "dash": dash},
                    opacity=0.7,
                    name=f"points with {name}",
                    text=text,
                    hovertemplate="%{text}<br>epoch %{x}: %{y:.2f} %<extra></extra>",
                )
    else:
        bands = share_quantiles(rows)
        _add_area(figure, bands, ("low", "high"), in_percent, "range of all points")
        _add_area(figure, bands, ("lower", "upper"), in_percent, "middle half of all points")
        figure.add_scatter(
            x=[row.epoch for row in bands],
            y=[in_percent(row.median) for row in bands],
            mode="lines",
            line={"color": "var(--accent)", "width": 2.5, "dash": "dash"},
            name="median of all points",
            hovertemplate="median<br>epoch %{x}: %{y:.2f} %<extra></extra>",
        )
    if best:
        figure.add_scatter(
            x=[row.epoch for row in best],
            y=[in_percent(row.share) for row in best],
            mode="lines+markers",
            line={"color": "var(--val)", "width": 2.5},
            marker={"size": 4},
            name=f"best: {_point_text(best[0].point)}",
            hovertemplate="best<br>epoch %{x}: %{y:.2f} %<extra></extra>",
        )
    figure.update_layout(legend=LEGEND_BELOW)
    return Picture("gradient-shares", "LDAM's share of the gradient by epoch", figure)


def half_ranges(epochs: Sequence[EpochRow]) -> Picture:
    """Both weighted halves of the training loss by epoch: median and range over all points, on a logarithmic axis.

    Args:
        epochs: epochs of a study's LMF points.
    """
    figure = empty_figure("epoch", "size in the training loss")
    for half in HALVES:
        color, dash = _HALF_LOOKS[half]
        # A logarithmic axis has no place for what is not above 0.
        rows = [row for row in half_quantiles(epochs, half) if row.low > 0]
        if not rows:
            continue
        _add_area(figure, rows, ("low", "high"), short, f"{_HALF_NAMES[half]}: range")
        figure.add_scatter(
            x=[row.epoch for row in rows],
            y=[short(row.median) for row in rows],
            mode="lines",
            line={"color": f"var(--{color})", "width": 2.5, "dash": dash},
            name=f"{_HALF_NAMES[half]}: median of all points",
            hovertemplate=f"{_HALF_NAMES[half]}<br>epoch %{{x}}: median %{{y:.4g}}<extra></extra>",
        )
    figure.update_yaxes(type="log", dtick=1)
    figure.update_layout(legend=LEGEND_BELOW)
    return Picture("half-ranges", "Both halves of the loss over all points", figure)


def share_sentence(summary: StudySummary, rows: Sequence[ShareRow]) -> str:
    """What to read from the shares: how much of the gradient LDAM has, and how it changes.

    Args:
        summary: the study's statistics.
        rows: the shares of all points.
    """
    if not rows:
        return "The gradients of the two halves were not measured."
    by_epoch = share_quantiles(rows)
    first, last = by_epoch[0], by_epoch[-1]
    text = f"In epoch {first.epoch} LDAM has {_shares(first)} of the gradient at the logits"
    if last.epoch > first.epoch:
        text += f", in epoch {last.epoch} {_shares(last)}"
    best = [row for row in rows if summary.best_row is not None and row.point.point == summary.best_row.point]
    if best and first.points > 1:
        text += f"; in the best trial {_percent(best[0].share)} % at first and {_percent(best[-1].share)} % at the end"
    middle = float(np.median([row.share for row in rows]))
    leader = "LDAM decides and focal corrects" if middle > 2 / 3 else "focal decides and LDAM corrects"
    return f"{text}: {leader if not 1 / 3 <= middle <= 2 / 3 else 'both halves have a say'}."


def half_sentence(epochs: Sequence[EpochRow]) -> str:
    """What to read from the halves' sizes: how many times as large LDAM is, at first and at the end.

    Args:
        epochs: epochs of a study's LMF points.
    """
    ratios: dict[int, list[float]] = defaultdict(list)
    for row in epochs:
        ldam, focal = _weighted(row, row.ldam, "ldam"), _weighted(row, row.focal, "focal")
        if ldam is not None and focal is not None and focal > 0:
            ratios[row.epoch].append(ldam / focal)
    if not ratios:
        return "The sizes of the two halves were not measured."
    first, last = min(ratios), max(ratios)
    text = f"In epoch {first} α · LDAM is {np.median(ratios[first]):.3g} times β · focal in the median of all points"
    return f"{text}, in epoch {last} {np.median(ratios[last]):.3g} times." if last > first else f"{text}."


def _weighted(row: EpochRow, value: float | None, half: str) -> float | None:
    weight = row.point.alpha if half == "ldam" else row.point.beta
    return None if value is None or weight is None else weight * value


def _quantiles(values: Iterable[tuple[int, float]]) -> tuple[Quantiles, ...]:
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for epoch, value in values:
        by_epoch[epoch].append(value)
    return tuple(
        Quantiles(epoch, len(found), *map(float, np.quantile(found, (0, 0.25, 0.5, 0.75, 1))))
        for epoch, found in sorted(by_epoch.items())
    )


def _add_area(figure: go.Figure, rows: Sequence[Quantiles], ends: tuple[str, str], convert: Convert, name: str) -> None:
    """The area between two quantiles, as one outline that is filled."""
    epochs = [row.epoch for row in rows]
    low, high = ([convert(getattr(row, end)) for row in rows] for end in ends)
    figure.add_scatter(
        x=[*epochs, *reversed(epochs)],
        y=[*high, *reversed(low)],
        mode="lines",
        line={"color": "var(--faint)", "width": 1},
        fill="toself",
        fillcolor="var(--faint)",
        name=name,
        hoverinfo="skip",
    )


def _broken_lines(
    rows: Sequence[ShareRow],
) -> tuple[list[int | None], list[float | None], list[str | None]]:
    """Curves of several points as one line with gaps."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    for _, group in groupby(rows, key=lambda row: row.point.point):
        for row in group:
            x.append(row.epoch)
            y.append(in_percent(row.share))
            text.append(_point_text(row.point))
        x.append(None)
        y.append(None)
        text.append(None)
    return x, y, text


def _side(point: PointRow) -> int:
    """-1, 0 or 1 where β is below, at or above α."""
    assert point.alpha is not None
    assert point.beta is not None
    return 0 if math.isclose(point.alpha, point.beta) else -1 if point.beta < point.alpha else 1


def _point_text(point: PointRow) -> str:
    return f"α {factor(point.alpha)}, β {factor(point.beta)}, seed {point.seed}"


def _shares(row: Quantiles) -> str:
    if row.points == 1:
        return f"{_percent(row.median)} %"
    return f"{_percent(row.median)} % in the median ({_percent(row.low)} to {_percent(row.high)} %)"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
