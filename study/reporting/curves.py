"""Pictures of a study's epochs, as plotly figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
import plotly.graph_objects as go

from study.reporting.loss_figures import loss_name
from study.reporting.marks import mark
from study.reporting.picture import Picture, empty_figure, in_percent, label, short
from study.reporting.rows import EpochRow, PointRow
from study.reporting.statistics import StudySummary
from study.reporting.text import factor, percent

MOST_CURVES = 150
"""So many points' learning curves are drawn one by one; of more, a reader sees only how they are spread."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_BANDS = ((5, 95, 0.14, "9 of 10 other points"), (25, 75, 0.40, "half of the other points"))


def score_curves(summary: StudySummary, epochs: Sequence[EpochRow]) -> Picture:
    """Validation macro F1 by epoch: every point faint, the best trial's on top.

    Of more than `MOST_CURVES` points, the median of each epoch is drawn in their place, and between which scores half
    and nine tenths of those lie that came so far.
    """
    figure = empty_figure("epoch", "validation macro F1, %")
    best = [row for row in epochs if _is_best(row.point, summary)]
    others = [row for row in epochs if not _is_best(row.point, summary)]
    if len({row.point.point for row in others}) > MOST_CURVES:
        _add_bands(figure, others)
    elif others:
        x, y, text = _broken_lines(others)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": "var(--faint)", "width": 1},
            name="other points" if best else "points",
            text=text,
            hoverinfo="text",
        )
    if best:
        x, y, text = _broken_lines(best)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line={"color": "var(--val)", "width": 2.5},
            marker={"size": 4},
            name=f"best: {_point_text(best[0].point)}",
            text=text,
            hoverinfo="text",
        )
    return Picture("curves", "Validation macro F1 by epoch", figure)


def curves_by_loss(summary: StudySummary, epochs: Sequence[EpochRow]) -> Picture:
    """Validation macro F1 by epoch of each compared loss: the mean over the seeds that came so far.

    Args:
        summary: the statistics of a comparison of losses.
        epochs: the epochs of its points.
    """
    figure = empty_figure("epoch", "validation macro F1, %")
    for number, one in enumerate(summary.losses):
        by_epoch: dict[int, list[float]] = defaultdict(list)
        for row in epochs:
            score = row.val["macro_f1"]
            same = (row.point.loss, row.point.alpha, row.point.beta) == (one.loss, one.alpha, one.beta)
            if same and score is not None:
                by_epoch[row.epoch].append(score)
        numbers = sorted(by_epoch)
        if not numbers:
            continue
        figure.add_scatter(
            x=numbers,
            y=[in_percent(sum(by_epoch[epoch]) / len(by_epoch[epoch])) for epoch in numbers],
            mode="lines+markers",
            line={"color": mark(number)["color"], "width": 2, "dash": _DASHES[number % len(_DASHES)]},
            marker=mark(number, 6),
            name=label(loss_name(one, summary.losses)),
            customdata=[len(by_epoch[epoch]) for epoch in numbers],
            hovertemplate="epoch %{x}: %{y:.2f} %, seeds: %{customdata}",
        )
    return Picture("curves", "Validation macro F1 by epoch, mean over seeds", figure)


def loss_curves(best: Sequence[EpochRow]) -> Picture:
    """Training and validation loss of one trial by epoch.

    Args:
        best: the trial's epochs.
    """
    figure = empty_figure("epoch", "loss")
    for split, name, values in (
        ("test", "training", [row.train_loss for row in best]),
        ("val", "validation", [row.val_loss for row in best]),
    ):
        figure.add_scatter(
            x=[row.epoch for row in best],
            y=[short(value) for value in values],
            mode="lines+markers",
            line={"color": "var(--accent)" if split == "test" else "var(--val)", "width": 2},
            marker={"size": 4},
            name=name,
            hoverinfo="x+y+name",
        )
    return Picture("losses", "Loss of the best trial by epoch", figure)


def half_curves(best: Sequence[EpochRow]) -> Picture:
    """Both weighted halves of one trial's training loss by epoch, on a logarithmic axis.

    Args:
        best: the epochs of an LMF trial.
    """
    figure = empty_figure("epoch", "size in the training loss")
    for name, color, symbol in (("ldam", "accent", "circle"), ("focal", "beta", "diamond")):
        weights = [(row.point.alpha if name == "ldam" else row.point.beta) or 0.0 for row in best]
        halves = [row.ldam if name == "ldam" else row.focal for row in best]
        figure.add_scatter(
            x=[row.epoch for row in best],
            y=[
                short(weight * half) if half is not None else None for weight, half in zip(weights, halves, strict=True)
            ],
            mode="lines+markers",
            line={"color": f"var(--{color})", "width": 2},
            marker={"size": 5, "symbol": symbol},
            name="α · LDAM" if name == "ldam" else "β · focal",
            hoverinfo="x+y+name",
        )
    figure.update_yaxes(type="log", dtick=1)
    return Picture("halves", "Both halves of the best trial's loss", figure)


def best_epochs(summary: StudySummary, epochs: Iterable[EpochRow]) -> tuple[EpochRow, ...]:
    """The epochs of the best pair's best seed."""
    return tuple(row for row in epochs if _is_best(row.point, summary))


def _add_bands(figure: go.Figure, epochs: Sequence[EpochRow]) -> None:
    """The spread of many points' curves: a band for nine tenths, one for half, and the median as a line."""
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for row in epochs:
        score = row.val["macro_f1"]
        if score is not None:
            by_epoch[row.epoch].append(100 * score)
    numbers = sorted(by_epoch)
    levels = sorted({level for low, high, *_ in _BANDS for level in (low, 50, high)})
    found = {
        epoch: dict(zip(levels, np.percentile(by_epoch[epoch], levels).tolist(), strict=True)) for epoch in numbers
    }
    for low, high, opacity, name in _BANDS:
        figure.add_scatter(
            x=[*numbers, *reversed(numbers)],
            y=[round(found[epoch][low], 2) for epoch in numbers]
            + [round(found[epoch][high], 2) for epoch in reversed(numbers)],
            mode="lines",
            line={"width": 0, "color": "var(--muted)"},
            fill="toself",
            fillcolor="var(--muted)",
            opacity=opacity,
            name=name,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=numbers,
        y=[round(found[epoch][50], 2) for epoch in numbers],
        mode="lines",
        line={"color": "var(--muted)", "width": 1.5, "dash": "dash"},
        name="their median",
        text=[
            f"epoch {epoch}, {len(by_epoch[epoch]):,} points<br>median {values[50]:.2f} %<br>"
            f"half: {values[25]:.2f} to {values[75]:.2f} %<br>9 of 10: {values[5]:.2f} to {values[95]:.2f} %"
            for epoch, values in found.items()
        ],
        hoverinfo="text",
    )


def _broken_lines(
    epochs: Sequence[EpochRow],
) -> tuple[list[int | None], list[float | None], list[str | None]]:
    """Curves of several points as one line with gaps, which stays quick with hundreds of points."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    for _, group in groupby(epochs, key=lambda row: row.point.point):
        for row in group:
            score = row.val["macro_f1"]
            x.append(row.epoch)
            y.append(in_percent(score))
            text.append(f"{_point_text(row.point)}<br>epoch {row.epoch}: {percent(score)} %")
        x.append(None)
        y.append(None)
        text.append(None)
    return x, y, text


def _is_best(point: PointRow, summary: StudySummary) -> bool:
    return summary.best_row is not None and point.point == summary.best_row.point


def _point_text(point: PointRow) -> str:
    what = f"α {factor(point.alpha)}, β {factor(point.beta)}" if point.alpha is not None else label(point.loss)
    trial = f", trial {point.trial}" if point.trial is not None else ""
    return f"{what}, seed {point.seed}{trial}"
