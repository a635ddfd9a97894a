"""The paper's tables for a user's own studies, with the published figures beside theirs where there are any.

A study that compares losses gives a row a loss. A study of α and β gives one row, LMF with its best pair, and only
where no comparison of the same dataset and model is among the studies.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from study.paper import names, published
from study.paper.consistency import inconsistencies
from study.paper.published import METRICS
from study.reporting.ranking import rank_table
from study.reporting.statistics import LossSummary, StudySummary
from study.reporting.tables import Table
from study.reporting.text import NONE, counted, factor, percent, score_name


@dataclass(frozen=True)
class Block:
    """What one study says of the losses on its dataset, with one model.

    Attributes:
        summary: the study.
        dataset: the paper's dataset that it is of, None for another.
        title: how tables name it.
        losses: the losses, in the order in which they are to stand.
    """

    summary: StudySummary
    dataset: str | None
    title: str
    losses: tuple[LossSummary, ...]

    @property
    def scores(self) -> dict[str, published.Scores]:
        """What the paper published for this dataset and model, by loss."""
        return published.scores(self.dataset, self.summary.study.model) if self.dataset else {}

    @property
    def classes(self) -> dict[str, published.ClassScores]:
        """What the paper published for the classes of this dataset with this model, by class."""
        return published.class_scores(self.dataset, self.summary.study.model) if self.dataset else {}


def blocks_by_model(summaries: Iterable[StudySummary]) -> dict[str, tuple[Block, ...]]:
    """The studies with a complete point, by the name of their model: the paper's first, each in the paper's order.

    Args:
        summaries: the studies in the order in which they are to stand where the paper has none.
    """
    found = [summary for summary in summaries if any(one.rows for one in _losses(summary))]
    compared = {_place(summary) for summary in found if summary.losses}
    found = [summary for summary in found if summary.losses or _place(summary) not in compared]
    by_model: dict[str, list[StudySummary]] = {}
    for summary in sorted(found, key=lambda one: _order(names.MODELS, names.paper_model(one.study.model))):
        by_model.setdefault(names.model_name(summary.study.model), []).append(summary)
    return {model: _blocks(members) for model, members in by_model.items()}


def split_sizes(summaries: Iterable[StudySummary]) -> Table:
    """Table 1: images in each part of each split, with the published numbers where a dataset is one of the paper's."""
    rows: dict[tuple[str, str], tuple[str, ...]] = {}
    found = sorted(summaries, key=lambda one: _order(names.DATASETS, _dataset(one)))
    paper = any(_dataset(summary) for summary in found)
    for summary in found:
        dataset = _dataset(summary)
        counts = [summary.study.counts.get(part) for part in ("train", "val", "test")]
        cells = [NONE if count is None else str(sum(count)) for count in counts]
        known = published.split_sizes(dataset) if dataset else None
        if paper:
            cells += [str(size) for size in (known.train, known.val, known.test)] if known else [NONE] * 3
        title = names.dataset_name(dataset) if dataset else summary.study.dataset
        rows.setdefault((title, summary.study.split_fingerprint), (title, *cells))
    parts = ("training", "validation", "test")
    return Table(("dataset", *parts, *(_in_paper(part) for part in parts if paper)), tuple(rows.values()))


def loss_scores(blocks: Sequence[Block], *, whole: bool = False, with_paper: bool = True) -> Table:
    """Tables 2 to 4 for one model: test scores in percent, a row a loss, the best of each dataset and column marked.

    With several complete seeds a score is their mean, ± the sample standard deviation. Rows whose macro F1 is the best
    are marked as a whole too.

    Args:
        blocks: the model's, from `blocks_by_model`.
        whole: also give the losses that the paper has and the study has not.
        with_paper: set the published scores beside ours where there are any.
    """
    paper = with_paper and any(block.scores for block in blocks)
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    marked: set[int] = set()
    for block in blocks:
        start = len(rows)
        ours: list[list[float | None]] = []
        theirs: list[list[float | None]] = []
        for title, loss, summary in _lines(block, whole):
            known = block.scores.get(loss)
            ours.append([summary.score("test", name) if summary else None for name in METRICS])
            theirs.append([known.get(name) if known else None for name in METRICS])
            cells = [_with_deviation(_values(summary, name) if summary else []) for name in METRICS]
            cells += [percent(value) for value in theirs[-1] if paper]
            rows.append((block.title, title, *cells))
        marks = _best_of_columns(ours, start, 2) | (
            _best_of_columns(theirs, start, 2 + len(METRICS)) if paper else set()
        )
        best |= marks
        marked |= {row for row, column in marks if column == 1 + len(METRICS)}
    headings = [score_name(name) for name in METRICS]
    columns = ("dataset", "loss", *headings, *(_in_paper(name) for name in headings if paper))
    return Table(columns, tuple(rows), text_columns=2, marked=frozenset(marked), best=frozenset(best))


def class_scores(blocks: Sequence[Block]) -> Table:
    """Table 5 for one model: training images and test F1 in percent, a row a class, the best loss of each marked.

    Args:
        blocks: the model's, from `blocks_by_model`.
    """
    columns = list(dict.fromkeys(title for block in blocks for title, _, _ in _lines(block, False)))
    paper_losses = [loss for loss in names.LOSSES if any(block.classes for block in blocks)]
    rows: list[tuple[str, ...]] = []
    best: set[tuple[int, int]] = set()
    for block in blocks:
        study, known = block.summary.study, block.classes
        train = study.counts.get("train")
        by_title = {title: summary for title, _, summary in _lines(block, False)}
        for index in sorted(range(len(study.class_names)), key=lambda at: _order(known, study.class_names[at])):
            name = study.class_names[index]
            values = [_class_values(by_title.get(title), index) for title in columns]
            theirs = [known[name].f1[loss] if name in known else None for loss in paper_losses]
            means = [statistics.fmean(of_seeds) if of_seeds else None for of_seeds in values]
            best |= {(len(rows), 3 + column) for column in _best(means)}
            best |= {(len(rows), 3 + len(columns) + column) for column in _best(theirs)}
            shown = names.class_name(name) if block.dataset else name
            images = NONE if train is None else str(train[index])
            cells = (*map(_with_deviation, values), *map(percent, theirs))
            rows.append((block.title, shown, images, *cells))
    headings = (
        "dataset",
        "class",
        "training images",
        *columns,
        *(_in_paper(names.LOSSES[loss]) for loss in paper_losses),
    )
    return Table(headings, tuple(rows), text_columns=2, best=frozenset(best))


def factors(summaries: Iterable[StudySummary], *, with_paper: bool = True) -> Table:
    """Table 6: the best α and β that validation chose, two rows a dataset and a column a model.

    Args:
        summaries: the studies; comparisons of losses, which choose neither, are left out.
        with_paper: set the published ones beside ours where there are any.
    """
    found = [summary for summary in summaries if not summary.losses]
    models = sorted(
        dict.fromkeys(names.model_name(summary.study.model) for summary in found),
        key=lambda name: _order(list(names.MODELS.values()), name),
    )
    by_row: dict[str, dict[str, StudySummary]] = {}
    datasets: dict[str, str | None] = {}
    ordered = sorted(found, key=lambda one: _order(names.DATASETS, _dataset(one)))
    doubled = Counter((_dataset_title(one), names.model_name(one.study.model)) for one in ordered)
    for summary in ordered:
        title, model = _dataset_title(summary), names.model_name(summary.study.model)
        row = f"{title} ({summary.study.name})" if doubled[title, model] > 1 else title
        by_row.setdefault(row, {})[model] = summary
        datasets[row] = _dataset(summary)
    paper = [model for model in models if with_paper and model in names.MODELS.values() and any(datasets.values())]
    rows = []
    for row, members in by_row.items():
        dataset = datasets[row]
        known = [published.factors(dataset, _alias(model)) if dataset else None for model in paper]
        for sign, name in (("α", "alpha"), ("β", "beta")):
            bests = [members[model].best if model in members else None for model in models]
            cells = [factor(getattr(best, name) if best else None) for best in bests]
            cells += [factor(getattr(one, name) if one else None) for one in known]
            rows.append((row, sign, *cells))
    return Table(("dataset", "factor", *models, *map(_in_paper, paper)), tuple(rows), text_columns=2)


def average_ranks(blocks: Iterable[Block], name: str = "macro_f1") -> Table | None:
    """How the losses rank on average over comparisons, 1 for the best; None where nothing can be ranked.

    Which losses and comparisons count is the rule of `rank_table`; equal scores share their ranks. Beside ours stand
    the ranks by the published scores over the paper's twelve datasets and models, among those of our losses that the
    paper compares.

    Args:
        blocks: all of all models; those of studies of α and β are left out.
        name: the test score, one of `METRICS`.
    """
    found = rank_table(
        {
            block.summary.study.name: {title: _score(one, name) for title, _, one in _lines(block, False)}
            for block in blocks
            if block.summary.losses
        }
    )
    if not found.comparisons:
        return None
    titles = found.losses
    ours = [float(rank) for rank in found.ranks.mean(axis=0)]
    in_paper = [loss for loss, title in names.LOSSES.items() if title in titles]
    cells = {(row.dataset, row.model, row.loss): row.get(name) for row in published.published().scores}
    places = dict.fromkeys((dataset, model) for dataset, model, _ in cells)
    theirs = mean_ranks([[cells[*place, loss] for loss in in_paper] for place in places]) if len(in_paper) > 1 else ()
    paper = dict(zip((names.LOSSES[loss] for loss in in_paper), theirs, strict=True)) if theirs else {}
    ranked = sorted(zip(ours, titles, strict=True), key=lambda pair: pair[0])
    rows = [
        (title, f"{rank:.2f}", *([f"{paper[title]:.2f}" if title in paper else NONE] if paper else []))
        for rank, title in ranked
    ]
    heading = f"mean rank of {len(titles)} over {counted(len(found.comparisons), 'comparison')}"
    others = [f"paper: mean rank of {len(in_paper)} over {len(places)}"] if paper else []
    return Table(("loss", heading, *others), tuple(rows))


def mean_ranks(scores: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean rank of each column, 1 for the highest score of a row, with equal scores sharing theirs.

    Args:
        scores: rows of as many scores; none gives none.
    """
    if not scores:
        return ()
    from scipy.stats import rankdata

    ranks = rankdata([[-score for score in row] for row in scores], axis=1)
    return tuple(float(rank) for rank in ranks.mean(axis=0))


def inconsistency_table() -> Table:
    """Where the published figures do not agree with themselves; a difference without a unit is in percentage points."""
    rows = []
    for one in inconsistencies():
        unit = {"points": ""}.get(one.unit, f" {one.unit}")
        number = f"{one.difference:+.2f}" if one.unit == "points" else f"{one.difference:+g}"
        rows.append((one.place, one.subject, one.stated, one.against, one.found, f"{number}{unit}"))
    columns = ("where", "of what", "the paper says", "against", "gives", "difference")
    return Table(columns, tuple(rows), text_columns=5)


def _losses(summary: StudySummary) -> tuple[LossSummary, ...]:
    """What a study says of losses: those that it compares, or LMF with the best pair of a study of α and β."""
    best = summary.best
    if summary.losses or best is None:
        return summary.losses
    return (LossSummary("lmf", best.alpha, best.beta, best.seeds, best.rows),)


def _blocks(summaries: Sequence[StudySummary]) -> tuple[Block, ...]:
    ordered = sorted(summaries, key=lambda one: _order(names.DATASETS, _dataset(one)))
    doubled = Counter(map(_dataset_title, ordered))
    blocks = []
    for summary in ordered:
        title = _dataset_title(summary)
        title = f"{title} ({summary.study.name})" if doubled[title] > 1 else title
        blocks.append(Block(summary, _dataset(summary), title, _losses(summary)))
    return tuple(blocks)


def _lines(block: Block, whole: bool) -> list[tuple[str, str, LossSummary | None]]:
    """The losses of a block: title, name, and what the study has of it.

    LMF is called so where it is there once, as in the paper; with several pairs of factors they tell them apart.
    """
    several = Counter(one.loss for one in block.losses)
    lines: list[tuple[str, str, LossSummary | None]] = []
    for one in block.losses:
        title = names.loss_name(one.loss)
        if several[one.loss] > 1:
            title = f"{title}, α = {factor(one.alpha)}, β = {factor(one.beta)}"
        lines.append((title, one.loss, one))
    if whole:
        lines += [(names.LOSSES[loss], loss, None) for loss in block.scores if loss not in several]
    return lines


def _values(summary: LossSummary, name: str) -> list[float]:
    scores = (row.score("test", name) for row in summary.rows)
    return [score for score in scores if score is not None]


def _score(summary: LossSummary | None, name: str) -> float | None:
    return summary.score("test", name) if summary else None


def _class_values(summary: LossSummary | None, index: int) -> list[float]:
    return [row.test.f1_per_class[index] for row in summary.rows if row.test is not None] if summary else []


def _with_deviation(values: Sequence[float]) -> str:
    """A mean in percent, ± the sample standard deviation where there are several values."""
    if not values:
        return NONE
    mean = percent(statistics.fmean(values))
    return f"{mean} ± {percent(statistics.stdev(values))}" if len(values) > 1 else mean


def _best_of_columns(rows: Sequence[Sequence[float | None]], first_row: int, first_column: int) -> set[tuple[int, int]]:
    columns = list(zip(*rows, strict=True))
    return {(first_row + row, first_column + column) for column, values in enumerate(columns) for row in _best(values)}


def _best(values: Sequence[float | None]) -> list[int]:
    """Where the highest value stands, by the digits that are shown; nowhere where there is nothing to compare."""
    shown = [None if value is None else round(100 * value, 2) for value in values]
    present = [value for value in shown if value is not None]
    return [index for index, value in enumerate(shown) if value == max(present)] if len(present) > 1 else []


def _dataset(summary: StudySummary) -> str | None:
    return names.paper_dataset(summary.study.dataset, summary.study.class_names)


def _dataset_title(summary: StudySummary) -> str:
    return names.dataset_name(_dataset(summary) or "") or summary.study.dataset


def _place(summary: StudySummary) -> tuple[str, str]:
    return summary.study.dataset, names.model_name(summary.study.model)


def _alias(model: str) -> str:
    return next(alias for alias, name in names.MODELS.items() if name == model)


def _in_paper(heading: str) -> str:
    return f"paper: {heading}"


def _order(known: Mapping[str, object] | Sequence[str], name: str | None) -> int:
    """Where something comes in the paper's order; what the paper does not have comes last."""
    order = list(known)
    return order.index(name) if name in order else len(order)
