"""Pictures of losses over several comparisons: means over models (the paper's Fig 1), and ranks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.paper import names
from study.reporting.figures import SPLIT_NAMES
from study.reporting.loss_figures import loss_name
from study.reporting.marks import LEGEND_BELOW, axis_name, beside, mark, name_places
from study.reporting.paper_tables import blocks_by_model
from study.reporting.picture import Picture, empty_figure, in_percent, label, short
from study.reporting.ranking import LossRanks, rank_losses, rank_table
from study.reporting.statistics import Spread, StudySummary, spread_of
from study.reporting.text import counted, percent, percent_spread


@dataclass(frozen=True)
class LossCell:
    """One loss of one comparison, which is of a dataset with a model.

    Attributes:
        study: the comparison's name; no other one has it.
        dataset: the dataset's name, with the study's behind it where several compare on it with the same model.
        model: the model's name.
        loss: the loss's name.
        score: macro F1, a fraction: the mean over seeds; None where no seed is complete.
    """

    study: str
    dataset: str
    model: str
    loss: str
    score: float | None


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
    """One loss's ranks over all comparisons.

    Attributes:
        loss: the loss's name.
        ranks: its rank in each comparison, 1 for the best; equal scores share the mean of their ranks.
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
    """The mean macro F1 of each loss of each study that compares losses, in the order of the tables.

    Args:
        summaries: the studies; those that compare no losses, or have none complete, are left out.
        split: `val` or `test`.
    """
    blocks = blocks_by_model(summary for summary in summaries if summary.losses)
    return tuple(
        LossCell(
            block.summary.study.name, block.title, model, loss_name(one, block.losses), one.score(split, "macro_f1")
        )
        for model, members in blocks.items()
        for block in members
        for one in block.losses
    )


def dataset_loss_rows(cells: Iterable[LossCell]) -> tuple[DatasetLossRow, ...]:
    """One row a dataset and loss, over its models; datasets and losses in the order in which they come.

    Args:
        cells: as `loss_cells` gives them; those without a score are left out.
    """
    groups: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    losses: dict[str, None] = {}
    for cell in cells:
        if cell.score is not None:
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
    """The ranks of the losses over all comparisons, the best mean rank first, by the rule of `rank_table`.

    Args:
        cells: as `loss_cells` gives them.
    """
    found = rank_table(_by_study(cells))
    if not found.comparisons:
        return ()
    firsts = (found.scores == found.scores.max(axis=1, keepdims=True)).sum(axis=0)
    rows = [
        RankRow(loss, tuple(map(float, ranks)), int(first))
        for loss, ranks, first in zip(found.losses, found.ranks.T, firsts, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: row.mean))


def rank_cells(cells: Iterable[LossCell]) -> LossRanks:
    """The tests of the same ranks, LMF against each other loss; see `rank_losses`.

    Args:
        cells: as `loss_cells` gives them.
    """
    return rank_losses(_by_study(cells), names.loss_name("lmf"))


def loss_ranks(rows: Sequence[RankRow]) -> Picture:
    """The mean rank of each loss over all comparisons, and how often it has which rank.

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
        rows: as `dataset_loss_rows` gives them; of a dataset only losses count that have all of its models.
    """
    by_dataset: dict[str, list[DatasetLossRow]] = defaultdict(list)
    for row in rows:
        by_dataset[row.dataset].append(row)
    found: list[str] = []
    for dataset, members in by_dataset.items():
        models = {model for row in members for model in row.models}
        able = [row for row in members if row.models.keys() == models]
        if able:
            best = max(able, key=lambda row: row.spread.mean or 0.0)
            over = f" over {len(models)} models" if len(models) > 1 else ""
            found.append(f"{best.loss}{' has the highest mean' * (not found)} on {dataset} ({_figure(best)}{over})")
    return f"{'; '.join(found)}." if found else "No loss is complete yet."


def _dataset_hover(row: DatasetLossRow) -> str:
    models = "".join(f"<br>{label(model)}: {percent(score)} %" for model, score in row.models.items())
    return f"{label(row.dataset)}, {label(row.loss)}<br>{_figure(row)}{models}"


def _figure(row: DatasetLossRow) -> str:
    """The mean with its average deviation, which one model alone has not."""
    several = row.spread.count > 1
    mean = row.spread.mean
    return f"{percent_spread(mean, row.spread.average_deviation) if several else percent(mean)} %"


def _by_study(cells: Iterable[LossCell]) -> dict[str, dict[str, float | None]]:
    scores: dict[str, dict[str, float | None]] = defaultdict(dict)
    for cell in cells:
        scores[cell.study][cell.loss] = cell.score
    return scores
