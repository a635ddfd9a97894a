"""Pictures of rows and statistics, as plotly figures.

A colour is the name of an entry of the page's palettes, written `var(--name)`, so that one figure serves light, dark
and paper. Names that users gave are escaped: plotly reads some HTML in text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

import plotly.graph_objects as go

from study.reporting.rows import EpochRow, PointRow
from study.reporting.statistics import Pair, SettingSummary, StudySummary
from study.reporting.text import SETTING_FORMS, factor, percent, percent_spread

SYMBOLS = {"joint": "circle", "beta": "diamond", "alpha": "square"}
SPLIT_NAMES = {"test": "test", "val": "validation"}
HEIGHT_PIXELS = 340

_SPLIT_OFFSETS = {"test": -0.2, "val": 0.2}
_POINT_SHIFT = 0.12


@dataclass(frozen=True)
class Picture:
    """One figure of the page.

    Attributes:
        name: a short name in lower case, unique within a study.
        title: what it shows, in plain text.
        figure: the plotly figure.
    """

    name: str
    title: str
    figure: go.Figure


def setting_means(summary: StudySummary) -> Picture:
    """The paper's Fig 4: mean macro F1 of each setting with its average deviation, and the single points beside it."""
    figure = _figure("", "macro F1, %")
    places = {setting.name: index for index, setting in enumerate(summary.settings)}
    middle, half_width = (len(places) - 1) / 2, max(len(places), 3) / 2
    for split, name in SPLIT_NAMES.items():
        offset = _SPLIT_OFFSETS[split]
        known = [setting for setting in summary.settings if setting.spread(split).count]
        figure.add_scatter(
            x=[places[setting.name] + offset for setting in known],
            y=[_percent(setting.spread(split).mean) for setting in known],
            error_y={
                "array": [_percent(setting.spread(split).average_deviation) for setting in known],
                "thickness": 2,
                "width": 7,
            },
            mode="markers",
            marker={"color": f"var(--{split})", "size": 11, "symbol": "diamond"},
            name=f"{name}: mean ± average deviation",
            text=[_setting_hover(setting, split) for setting in known],
            hoverinfo="text",
        )
        points = [(setting, pair) for setting in known for pair in setting.pairs]
        figure.add_scatter(
            x=[places[setting.name] + offset + _POINT_SHIFT for setting, _ in points],
            y=[_percent(pair.score(split, "macro_f1")) for _, pair in points],
            mode="markers",
            marker={"color": f"var(--{split})", "size": 6, "opacity": 0.55},
            name=f"{name}: single points",
            text=[_pair_hover(pair, split) for _, pair in points],
            hoverinfo="text",
        )
    figure.update_xaxes(
        tickvals=list(places.values()),
        ticktext=[
            f"{setting.name}<br>{SETTING_FORMS[setting.name]}<br>setting {setting.number}"
            for setting in summary.settings
        ],
        tickangle=0,
        range=[middle - half_width, middle + half_width],
        showgrid=False,
    )
    return Picture("settings", "Mean macro F1 of each setting", figure)


def points_by_value(summary: StudySummary, split: str) -> Picture:
    """Macro F1 of each point over the value that its setting varies; with several seeds, mean and average deviation.

    Args:
        summary: the study's statistics.
        split: `val` or `test`.
    """
    figure = _figure("the value that the setting varies", "macro F1, %")
    for setting in summary.settings:
        spreads = [pair.spread(split, "macro_f1") for pair in setting.pairs]
        several = any(spread.count > 1 for spread in spreads)
        figure.add_scatter(
            x=[pair.beta if setting.name == "beta" else pair.alpha for pair in setting.pairs],
            y=[_percent(spread.mean) for spread in spreads],
            error_y={
                "array": [_percent(spread.average_deviation) for spread in spreads],
                "visible": several,
                "thickness": 1,
                "width": 4,
            },
            mode="lines+markers",
            line={"color": f"var(--{setting.name})", "width": 1.5},
            marker={"symbol": SYMBOLS[setting.name], "size": 8},
            name=f"{setting.name} ({SETTING_FORMS[setting.name]})",
            text=[_pair_hover(pair, split) for pair in setting.pairs],
            hoverinfo="text",
        )
    name = SPLIT_NAMES[split]
    return Picture(f"points-{split}", f"Single points on {name}", figure)


def points_by_ratio(summary: StudySummary) -> Picture:
    """Macro F1 of all points on one axis, the ratio of β to α."""
    figure = _figure("β / α", "macro F1, %")
    pairs = sorted((pair for pair in summary.pairs if pair.alpha > 0 and pair.beta > 0), key=_ratio)
    for split, name in SPLIT_NAMES.items():
        figure.add_scatter(
            x=[_short(_ratio(pair)) for pair in pairs],
            y=[_percent(pair.score(split, "macro_f1")) for pair in pairs],
            mode="markers",
            marker={
                "color": f"var(--{split})",
                "size": 8,
                "symbol": "circle" if split == "test" else "circle-open",
            },
            name=name,
            text=[_pair_hover(pair, split) for pair in pairs],
            hoverinfo="text",
        )
    ticks = [0.25, 0.5, 0.75, 1, 1.5, 2, 4]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    return Picture("ratio", "All points by β / α", figure)


def score_curves(summary: StudySummary, epochs: Sequence[EpochRow]) -> Picture:
    """Validation macro F1 by epoch: every point faint, the best trial's on top."""
    figure = _figure("epoch", "validation macro F1, %")
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
    figure = _figure("epoch", "loss")
    for split, name, values in (
        ("test", "training", [row.train_loss for row in best]),
        ("val", "validation", [row.val_loss for row in best]),
    ):
        figure.add_scatter(
            x=[row.epoch for row in best],
            y=[_short(value) for value in values],
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
    figure = _figure("epoch", "size in the training loss")
    for name, color, symbol in (("ldam", "accent", "circle"), ("focal", "beta", "diamond")):
        weights = [(row.point.alpha if name == "ldam" else row.point.beta) or 0.0 for row in best]
        halves = [row.ldam if name == "ldam" else row.focal for row in best]
        figure.add_scatter(
            x=[row.epoch for row in best],
            y=[
                _short(weight * half) if half is not None else None
                for weight, half in zip(weights, halves, strict=True)
            ],
            mode="lines+markers",
            line={"color": f"var(--{color})", "width": 2},
            marker={"size": 5, "symbol": symbol},
            name="α · LDAM" if name == "ldam" else "β · focal",
            hoverinfo="x+y+name",
        )
    figure.update_yaxes(type="log", dtick=1)
    return Picture("halves", "Both halves of the best trial's loss", figure)


def setting_title(setting: SettingSummary) -> str:
    """A setting by our name and the paper's number."""
    return f"{setting.name} (setting {setting.number})"


def best_epochs(summary: StudySummary, epochs: Iterable[EpochRow]) -> tuple[EpochRow, ...]:
    """The epochs of the best pair's best seed."""
    return tuple(row for row in epochs if _is_best(row.point, summary))


def _figure(x_title: str, y_title: str) -> go.Figure:
    axis = {
        "color": "var(--muted)",
        "gridcolor": "var(--line)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "automargin": True,
    }
    return go.Figure(
        layout={
            "template": "none",
            "height": HEIGHT_PIXELS,
            "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": "var(--text)", "family": "system-ui, sans-serif", "size": 12},
            "hoverlabel": {
                "bgcolor": "var(--surface)",
                "font": {"color": "var(--text)"},
                "bordercolor": "var(--line)",
            },
            "legend": {"orientation": "h", "y": -0.28, "yanchor": "top", "x": 0},
            "hovermode": "closest",
            "dragmode": False,
            "showlegend": True,
            "xaxis": axis | {"title": {"text": x_title}},
            "yaxis": axis | {"title": {"text": y_title}},
        }
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
            y.append(_percent(score))
            text.append(f"{_point_text(row.point)}<br>epoch {row.epoch}: {percent(score)} %")
        x.append(None)
        y.append(None)
        text.append(None)
    return x, y, text


def _is_best(point: PointRow, summary: StudySummary) -> bool:
    return summary.best_row is not None and point.point == summary.best_row.point


def _point_text(point: PointRow) -> str:
    what = f"α {factor(point.alpha)}, β {factor(point.beta)}" if point.alpha is not None else escape(point.loss)
    trial = f", trial {point.trial}" if point.trial is not None else ""
    return f"{what}, seed {point.seed}{trial}"


def _pair_hover(pair: Pair, split: str) -> str:
    spread = pair.spread(split, "macro_f1")
    seeds = f"<br>{spread.count} seeds ± {percent(spread.average_deviation)}" if spread.count > 1 else ""
    return f"α {factor(pair.alpha)}, β {factor(pair.beta)}<br>{SPLIT_NAMES[split]} {percent(spread.mean)} %{seeds}"


def _setting_hover(setting: SettingSummary, split: str) -> str:
    spread = setting.spread(split)
    mean = percent_spread(spread.mean, spread.average_deviation)
    return f"{setting_title(setting)}<br>{SPLIT_NAMES[split]} {mean} %<br>{spread.count} of {setting.planned} points"


def _ratio(pair: Pair) -> float:
    return pair.beta / pair.alpha


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 4)


def _short(value: float | None) -> float | None:
    return value if value is None or value == 0 or not math.isfinite(value) else float(f"{value:.6g}")
