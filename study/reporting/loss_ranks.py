"""Pictures of losses over several datasets and models: means over models (the paper's Fig 1), and ranks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.reporting.figures import SPLIT_NAMES
from study.reporting.loss_figures import loss_rows
from study.reporting.marks import LEGEND_BELOW, axis_name, beside, mark, name_places
from study.reporting.picture import Picture, empty_figure, in_percent, label, short
from study.reporting.statistics import Spread, StudySummary, spread_of
from study.reporting.text import counted, percent, percent_spread


@dataclass(frozen=True)
class LossCell:
    """One loss on one dataset with one model.

    Attributes:
        dataset: the dataset's name.
        model: the model's name.
        loss: the loss's name.
        score: macro F1, a fraction: the mean over seeds.
    """

    dataset: str
    model: str
    loss: str
    score: float


@dataclass(frozen=True)
class DatasetLossRow:
    """One loss on one dataset over several models.

    Attributes:
        dataset: the dataset's name.
        loss: the loss's name.
        models: macro F1 by model.
        spread: mean and average deviation over the models.
    """

    dataset: str
    loss: str
    models: Mapping[str, float]
    spread: Spread


@dataclass(frozen=True)
class RankRow:
    """One loss's ranks over all datasets and models.

    Attributes:
        loss: the loss's name.
        ranks: its rank for each dataset and model, 1 for the best; equal scores share the mean of their ranks.
        firsts: how often no other loss has a better score.
    """

    loss: str
    ranks: tuple[float, ...]
    firsts: int

    @property
    def mean(self) -> float:
        """The mean rank."""
        return math.fsum(self.ranks) / len(self.ranks)


def loss_cells(summaries: Iterable[StudySummary], split: str = "test") -> tuple[LossCell, ...]:
    """The mean macro F1 of each loss of each study that compares losses.

    Args:
        summaries: the studies; each is a dataset with a model.
        split: `val` or `test`.
    """
    return tuple(
        LossCell(summary.study.dataset, summary.study.model, row.name, row.spread.mean)
        for summary in summaries
        for row in loss_rows(summary, split)
        if row.spread.mean is not None
    )


def dataset_loss_rows(cells: Iterable[LossCell]) -> tuple[DatasetLossRow, ...]:
    """One row a dataset and loss, over its models; datasets and losses in the order in which they come.

    Args:
        cells: scores; a later one of the same dataset, model and loss replaces an earlier one.
    """
    groups: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    losses: dict[str, None] = {}
    for cell in cells:
        groups[cell.dataset][cell.loss][cell.model] = cell.score
        losses[cell.loss] = None
    return tuple(
        DatasetLossRow(dataset, loss, by_loss[loss], spread_of(by_loss[loss].values()))
        for dataset, by_loss in groups.items()
        for loss in losses
        if loss in by_loss
    )


def dataset_losses(rows: Sequence[DatasetLossRow], split: str = "test") -> Picture:
    """The paper's Fig 1: for each dataset, each loss's mean macro F1 over the models with its average deviation.

    Args:
        rows: as `dataset_loss_rows` gives them.
        split: `val` or `test`, for the titles.
    """
    figure = empty_figure("", f"{SPLIT_NAMES[split]} macro F1, %")
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    losses = list(dict.fromkeys(row.loss for row in rows))
    for number, loss in enumerate(losses):
        mine = [row for row in rows if row.loss == loss]
        offset = beside(number, len(losses))
        figure.add_scatter(
            x=[round(datasets.index(row.dataset) + offset, 4) for row in mine],
            y=[in_percent(row.spread.mean) for row in mine],
            error_y={
                "array": [in_percent(row.spread.average_deviation) for row in mine],
                "visible": any(row.spread.count > 1 for row in mine),
                "thickness": 1.5,
                "width": 4,
            },
            mode="markers",
            marker=mark(number),
            name=label(loss),
            text=[_dataset_hover(row) for row in mine],
            hoverinfo="text",
        )
    name_places(figure, datasets)
    figure.update_layout(legend=LEGEND_BELOW)
    return Picture("loss-datasets", "Losses by dataset: mean and average deviation over the models", figure)


def rank_rows(cells: Iterable[LossCell]) -> tuple[RankRow, ...]:
    """The ranks of the losses over all datasets and models, the best mean rank first.

    Only those datasets and models count that have a score of every loss.

    Args:
        cells: scores; a later one of the same dataset, model and loss replaces an earlier one.
    """
    from scipy.stats import rankdata

    blocks: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    losses: dict[str, None] = {}
    for cell in cells:
        blocks[cell.dataset, cell.model][cell.loss] = cell.score
        losses[cell.loss] = None
    whole = [block for block in blocks.values() if len(block) == len(losses)]
    ranks: dict[str, list[float]] = {loss: [] for loss in losses}
    for block in whole:
        for loss, rank in zip(losses, rankdata([-block[loss] for loss in losses]), strict=True):
            ranks[loss].append(float(rank))
    rows = [
        RankRow(loss, tuple(mine), sum(block[loss] == max(block.values()) for block in whole))
        for loss, mine in ranks.items()
        if mine
    ]
    return tuple(sorted(rows, key=lambda row: row.mean))


def loss_ranks(rows: Sequence[RankRow]) -> Picture:
    """The mean rank of each loss over all datasets and models, and how often it has which rank.

    Args:
        rows: as `rank_rows` gives them.
    """
    figure = empty_figure("loss and its mean rank", "rank, 1 is best")
    counts = [
        (place, row, rank, row.ranks.count(rank)) for place, row in enumerate(rows) for rank in sorted({*row.ranks})
    ]
    most = max((count for *_, count in counts), default=1)
    figure.add_scatter(
        x=[place for place, *_ in counts],
        y=[rank for _, _, rank, _ in counts],
        mode="markers+text",
        marker={
            "color": "rgba(0,0,0,0)",
            "symbol": "circle",
            "size": [round(14 + 16 * math.sqrt(count / most), 1) for *_, count in counts],
            "line": {"color": "var(--muted)", "width": 1},
        },
        text=[str(count) for *_, count in counts],
        textfont={"color": "var(--muted)"},
        name="how often it has this rank",
        hovertext=[
            f"{label(row.loss)}<br>rank {rank:g}: {count} of {len(row.ranks)}" for _, row, rank, count in counts
        ],
        hoverinfo="text",
    )
    figure.add_scatter(
        x=[place + 0.32 for place in range(len(rows))],
        y=[short(row.mean) for row in rows],
        mode="markers",
        marker={"color": "var(--accent)", "symbol": "diamond", "size": 11},
        name="mean rank",
        hovertext=[f"{label(row.loss)}<br>mean rank {row.mean:.2f}" for row in rows],
        hoverinfo="text",
    )
    name_places(figure, [row.loss for row in rows])
    figure.update_layout(legend=LEGEND_BELOW)
    figure.update_xaxes(ticktext=[f"{axis_name(row.loss)}<br>{row.mean:.2f}" for row in rows])
    figure.update_yaxes(range=[max(len(rows), 1) + 0.6, 0.4], dtick=1)
    over = counted(len(rows[0].ranks), "comparison") if rows else "no comparison"
    return Picture("loss-ranks", f"Ranks of the losses over {over}", figure)


def dataset_sentence(rows: Sequence[DatasetLossRow]) -> str:
    """What to read from the losses by dataset: which one has the highest mean where.

    Args:
        rows: as `dataset_loss_rows` gives them.
    """
    best: dict[str, DatasetLossRow] = {}
    for row in rows:
        known = best.get(row.dataset)
        if known is None or (row.spread.mean or 0.0) > (known.spread.mean or 0.0):
            best[row.dataset] = row
    if not best:
        return "No loss is complete yet."
    return (
        "The highest mean over the models has "
        + "; ".join(
            f"{row.loss} on {dataset} ({percent_spread(row.spread.mean, row.spread.average_deviation)} %)"
            for dataset, row in best.items()
        )
        + "."
    )


def rank_sentence(rows: Sequence[RankRow]) -> str:
    """What to read from the ranks: which loss has the best mean rank, and how often it is first.

    Args:
        rows: as `rank_rows` gives them.
    """
    if not rows:
        return "No dataset and model has a score of every loss yet, so there are no ranks."
    first = rows[0]
    tied = [row.loss for row in rows[1:] if math.isclose(row.mean, first.mean)]
    also = f", as has {' and '.join(tied)}" if tied else ""
    return (
        f"{first.loss} has the best mean rank, {first.mean:.2f} of {len(rows)} losses{also}, and the highest score in "
        f"{first.firsts} of {counted(len(first.ranks), 'comparison')}."
    )


def _dataset_hover(row: DatasetLossRow) -> str:
    models = "".join(f"<br>{label(model)}: {percent(score)} %" for model, score in row.models.items())
    return (
        f"{label(row.dataset)}, {label(row.loss)}<br>"
        f"{percent_spread(row.spread.mean, row.spread.average_deviation)} %{models}"
    )
