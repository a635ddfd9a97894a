"""Pictures of a study's epochs, as plotly figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from study.reporting.picture import Picture, empty_figure, in_percent, label, short
from study.reporting.rows import EpochRow, PointRow
from study.reporting.statistics import StudySummary
from study.reporting.text import factor, percent


def score_curves(summary: StudySummary, epochs: Sequence[EpochRow]) -> Picture:
    """Validation macro F1 by epoch: every point faint, the best trial's on top."""
    figure = empty_figure("epoch", "validation macro F1, %")
    best = [row for row in epochs if _is_best(row.point, summary)]
    others = [row for row in epochs if not _is_best(row.point, summary)]
    x, y, text = _broken_lines(others)
    if x:
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
