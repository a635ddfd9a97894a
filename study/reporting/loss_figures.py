"""A picture of the losses that one study compares, with their seeds and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.paper import names
from study.reporting.figures import SPLIT_NAMES
from study.reporting.marks import LEGEND_BELOW, name_places
from study.reporting.picture import Picture, empty_figure, in_percent, label
from study.reporting.statistics import LossSummary, Spread, StudySummary, spread_of
from study.reporting.text import counted, factor, percent

_SHIFT = 0.14


@dataclass(frozen=True)
class LossRow:
    """One loss of a comparison on one split.

    Attributes:
        name: the loss, with α and β where several of one name are compared.
        seeds: macro F1 of each complete seed.
        spread: their mean and average deviation.
        interval: the mean's interval, None where none was given.
    """

    name: str
    seeds: tuple[float, ...]
    spread: Spread
    interval: tuple[float, float] | None


def loss_name(loss: LossSummary, among: Sequence[LossSummary]) -> str:
    """A loss as a reader knows it, with α and β where several of that name are compared.

    Args:
        loss: the loss.
        among: all that are compared.
    """
    if loss.alpha is None or sum(other.loss == loss.loss for other in among) == 1:
        return names.loss_name(loss.loss)
    return f"{names.loss_name(loss.loss)} α {factor(loss.alpha)}, β {factor(loss.beta)}"


def loss_rows(
    summary: StudySummary, split: str = "test", intervals: Mapping[str, tuple[float, float]] | None = None
) -> tuple[LossRow, ...]:
    """One row for each loss with a complete seed, in the order of the study's description.

    Args:
        summary: the study's statistics.
        split: `val` or `test`.
        intervals: lower and upper end of the mean's interval, as fractions, by the row's name.
    """
    rows = []
    for loss in summary.losses:
        values = [row.score(split, "macro_f1") for row in loss.rows]
        seeds = tuple(value for value in values if value is not None)
        if seeds:
            name = loss_name(loss, summary.losses)
            rows.append(LossRow(name, seeds, spread_of(seeds), (intervals or {}).get(name)))
    return tuple(rows)


def loss_scores(rows: Sequence[LossRow], split: str = "test") -> Picture:
    """Macro F1 of each loss: the mean with its interval, and the single seeds beside it.

    Args:
        rows: the losses, in the order in which they are shown.
        split: `val` or `test`, for the titles.
    """
    figure = empty_figure("", f"{SPLIT_NAMES[split]} macro F1, %")
    figure.add_scatter(
        x=list(range(len(rows))),
        y=[in_percent(row.spread.mean) for row in rows],
        error_y={
            "array": [in_percent(_arms(row)[1]) for row in rows],
            "arrayminus": [in_percent(_arms(row)[0]) for row in rows],
            "visible": any(row.interval for row in rows),
            "thickness": 2,
            "width": 7,
        },
        mode="markers",
        marker={"color": f"var(--{split})", "size": 11, "symbol": "diamond"},
        name="mean and its interval" if any(row.interval for row in rows) else "mean",
        text=[_loss_hover(row) for row in rows],
        hoverinfo="text",
    )
    points = [(place, row, seed) for place, row in enumerate(rows) for seed in row.seeds if len(row.seeds) > 1]
    if points:
        figure.add_scatter(
            x=[place + _SHIFT for place, _, _ in points],
            y=[in_percent(seed) for _, _, seed in points],
            mode="markers",
            marker={"color": "var(--muted)", "size": 6, "symbol": "circle-open"},
            name="single seeds",
            text=[f"{label(row.name)}<br>one seed: {percent(seed)} %" for _, row, seed in points],
            hoverinfo="text",
        )
    name_places(figure, [row.name for row in rows])
    figure.update_layout(legend=LEGEND_BELOW)
    return Picture(f"loss-scores-{split}", f"Losses compared by {SPLIT_NAMES[split]} macro F1", figure)


def loss_sentence(rows: Sequence[LossRow], split: str = "test") -> str:
    """What to read from a comparison: the order of the means. What can be told apart is for tests to say.

    Args:
        rows: the losses on one split.
        split: `val` or `test`.
    """
    ranked = sorted(rows, key=lambda row: -(row.spread.mean or 0.0))
    if not ranked:
        return "No loss is complete yet."
    text = f"{ranked[0].name} has the highest mean {SPLIT_NAMES[split]} macro F1, {percent(ranked[0].spread.mean)} %"
    if len(ranked) == 1:
        return f"{text}; no other loss is complete yet."
    rest = ", ".join(f"{row.name} with {percent(row.spread.mean)} %" for row in ranked[1:])
    text += f", before {rest}"
    if min(len(row.seeds) for row in ranked) == 1:
        return f"{text}; with one seed, nothing is known of the noise."
    return f"{text}."


def _arms(row: LossRow) -> tuple[float, float]:
    """How far the interval reaches below and above the mean; 0 where there is none."""
    if row.interval is None or row.spread.mean is None:
        return 0.0, 0.0
    return row.spread.mean - row.interval[0], row.interval[1] - row.spread.mean


def _loss_hover(row: LossRow) -> str:
    interval = f"<br>interval {percent(row.interval[0])} to {percent(row.interval[1])} %" if row.interval else ""
    return f"{label(row.name)}<br>mean {percent(row.spread.mean)} % of {counted(len(row.seeds), 'seed')}{interval}"
