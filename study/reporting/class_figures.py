"""A picture of F1 of each class: the paper's Table 5 as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from study.reporting.loss_figures import loss_name
from study.reporting.marks import LEGEND_BELOW, axis_name, beside, mark, name_angle
from study.reporting.picture import Picture, empty_figure, in_percent, label
from study.reporting.rows import ClassCount
from study.reporting.statistics import LossSummary, Pair, StudySummary
from study.reporting.text import counted, factor, percent

MOST_CLASSES = 40
"""Of more classes, F1 is shown of the rarest."""
LEAST_TESTED = 10
"""With fewer test images, F1 of a class is said to be of too few to tell."""


@dataclass(frozen=True)
class Contender:
    """A loss, or a point, whose F1 is shown for each class.

    Attributes:
        name: what it is, as a reader knows it.
        f1: F1 of each class, in class-index order: the mean over its seeds.
        seeds: F1 of each class for each seed.
    """

    name: str
    f1: tuple[float, ...]
    seeds: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class ClassF1Row:
    """One class for one contender.

    Attributes:
        contender: its name.
        name: the class's name.
        train: its training images, None where that is not known.
        test: its test images, None where that is not known.
        f1: F1, the mean over the seeds.
        low: the least F1 among the seeds.
        high: the greatest.
        seeds: how many seeds there are.
    """

    contender: str
    name: str
    train: int | None
    test: int | None
    f1: float
    low: float
    high: float
    seeds: int


def study_contenders(summary: StudySummary, split: str = "test") -> tuple[Contender, ...]:
    """What a study of α and β compares: its best point, α = β = 1, and the point in the middle of the ranking.

    A point that is two of these stands once, under its first name.

    Args:
        summary: the study's statistics.
        split: `val` or `test`.
    """
    ranking = summary.ranking
    named: dict[tuple[float, float], tuple[str, Pair]] = {}
    if ranking:
        named[ranking[0].factors] = ("best", ranking[0])
        for pair in ranking:
            if pair.factors == (1.0, 1.0):
                named.setdefault(pair.factors, ("α = β = 1", pair))
        middle = ranking[(len(ranking) - 1) // 2]
        named.setdefault(middle.factors, ("median point", middle))
    return tuple(
        _contender(name if pair.factors == (1.0, 1.0) and name != "best" else f"{name} ({_factors(pair)})", pair, split)
        for name, pair in named.values()
    )


def loss_contenders(summary: StudySummary, split: str = "test") -> tuple[Contender, ...]:
    """The losses that a study compares, in the order of its description; those without a complete seed are left out.

    Args:
        summary: the study's statistics.
        split: `val` or `test`.
    """
    return tuple(_contender(loss_name(loss, summary.losses), loss, split) for loss in summary.losses if loss.rows)


def class_f1_rows(counts: Sequence[ClassCount], contenders: Sequence[Contender]) -> tuple[ClassF1Row, ...]:
    """One row a class and contender, the rarest class first; classes of one size keep their order.

    Args:
        counts: the classes, in class-index order.
        contenders: what is compared.
    """
    order = sorted(range(len(counts)), key=lambda index: _train(counts[index]))
    rows = []
    for index in order:
        for contender in contenders:
            seeds = [seed[index] for seed in contender.seeds]
            count = counts[index]
            rows.append(
                ClassF1Row(
                    contender.name,
                    count.name,
                    count.train,
                    count.test,
                    contender.f1[index],
                    min(seeds),
                    max(seeds),
                    len(seeds),
                )
            )
    return tuple(rows)


def class_f1(counts: Sequence[ClassCount], contenders: Sequence[Contender], split: str = "test") -> Picture:
    """F1 of each class for each contender, the rarest class first; with several seeds, bars from least to greatest.

    Args:
        counts: the classes, in class-index order.
        contenders: what is compared; each has its mark and its place beside the others.
        split: `val` or `test`, for the titles.
    """
    rows = class_f1_rows(counts, contenders)
    order = sorted(range(len(counts)), key=lambda index: _train(counts[index]))[:MOST_CLASSES]
    name = "test" if split == "test" else "validation"
    figure = empty_figure("class and its training images", f"{name} F1, %")
    for number, contender in enumerate(contenders):
        mine = [row for row in rows if row.contender == contender.name][: len(order)]
        offset = beside(number, len(contenders))
        figure.add_scatter(
            x=[round(place + offset, 4) for place in range(len(mine))],
            y=[in_percent(row.f1) for row in mine],
            error_y={
                "array": [in_percent(row.high - row.f1) for row in mine],
                "arrayminus": [in_percent(row.f1 - row.low) for row in mine],
                "visible": any(row.seeds > 1 for row in mine),
                "thickness": 1,
                "width": 3,
            },
            mode="markers",
            marker=mark(number),
            name=label(contender.name),
            text=[_f1_hover(row) for row in mine],
            hoverinfo="text",
        )
    ticks = [f"{axis_name(counts[index].name)}<br>{_images(counts[index])}" for index in order]
    figure.update_xaxes(
        tickvals=list(range(len(order))),
        ticktext=ticks,
        tickangle=name_angle([counts[index].name for index in order]),
        range=[-0.6, max(len(order), 1) - 0.4],
        showgrid=False,
    )
    figure.update_layout(legend=LEGEND_BELOW)
    note = f", the {len(order)} rarest of {len(counts)} classes" if len(order) < len(counts) else ""
    return Picture("class-f1", f"{name.capitalize()} F1 of each class, the rarest first{note}", figure)


def class_f1_sentence(rows: Sequence[ClassF1Row], of: str | None = None, against: str | None = None) -> str:
    """What to read from it: how the rarest class fares with each contender, and where one gains and loses most.

    Each class is named with its test images, since F1 of a few of them says little.

    Args:
        rows: as `class_f1_rows` gives them.
        of: the contender whose gains and losses are told; the first where it is not given.
        against: beside which other one; the first other where it is not given.
    """
    if not rows:
        return "No point is complete yet."
    rarest = [row for row in rows if row.name == rows[0].name]
    facts = [] if rows[0].train is None else [counted(rows[0].train, "training image")]
    facts += [tested] if (tested := _tested(rows[0])) else []
    images = f" ({', '.join(facts)})" if facts else ""
    text = f"The rarest class, {rows[0].name}{images}, has F1 " + ", ".join(
        f"{percent(row.f1)} % with {row.contender}" for row in rarest
    )
    names = [row.contender for row in rarest]
    of = names[0] if of is None else of
    against = next((name for name in names if name != of), None) if against is None else against
    if against is None or len(rarest) == len(rows):
        return f"{text}."
    mine, theirs = ({row.name: row.f1 for row in rows if row.contender == name} for name in (of, against))
    gains = {name: mine[name] - theirs[name] for name in mine}
    best, worst = max(gains, key=lambda name: gains[name]), min(gains, key=lambda name: gains[name])
    by_name = {row.name: row for row in rows}
    gain, loss = (
        f"{name} ({', '.join(filter(None, (_points(gains[name]), _tested(by_name[name]))))})" for name in (best, worst)
    )
    text += f"; beside {against}, {of} "
    if gains[best] <= 0:
        return f"{text}gains on no class and loses most on {loss}."
    return f"{text}gains most on {gain} and {'loses most' if gains[worst] < 0 else 'least'} on {loss}."


def _contender(name: str, of: Pair | LossSummary, split: str) -> Contender:
    seeds = tuple(scores.f1_per_class for scores in of.split_scores(split))
    return Contender(name, of.f1_per_class(split), seeds)


def _factors(of: Pair | LossSummary) -> str:
    return f"α {factor(of.alpha)}, β {factor(of.beta)}"


def _train(count: ClassCount) -> int:
    return count.images if count.train is None else count.train


def _images(count: ClassCount) -> str:
    return f"{_train(count):,}"


def _tested(row: ClassF1Row) -> str:
    """How many test images a class has, and whether they are too few; empty where that is not known."""
    if row.test is None:
        return ""
    return f"{counted(row.test, 'test image')}{': too few to tell' if row.test < LEAST_TESTED else ''}"


def _points(gain: float) -> str:
    return f"{100 * gain:+.2f} points"


def _f1_hover(row: ClassF1Row) -> str:
    images = "" if row.train is None else f"<br>{counted(row.train, 'training image')}"
    seeds = f"<br>{row.seeds} seeds from {percent(row.low)} to {percent(row.high)} %" if row.seeds > 1 else ""
    return f"{label(row.name)}{images}<br>{label(row.contender)}: {percent(row.f1)} %{seeds}"
