"""The figures of the paper's tables, by our names for its datasets, models, losses and classes.

The csv files hold them as printed, scores in percent with two digits. What is read from them are fractions, like
every score of a study, so `study.reporting.text.percent` shows both alike.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from importlib.resources import files

from study.paper.names import LOSSES, paper_model

METRICS = ("accuracy", "precision", "recall", "macro_f1")
"""The scores of Tables 2 to 4, in their order."""

CLASS_MODEL = "efficientnetv2"
"""The only model that Table 5 is of."""


@dataclass(frozen=True)
class SplitSizes:
    """A row of Table 1: how many images a dataset has in each part."""

    dataset: str
    train: int
    val: int
    test: int


@dataclass(frozen=True)
class Scores:
    """A row of Tables 2 to 4: test scores of one loss, fractions in [0, 1].

    Attributes:
        model: the short name of the model.
        dataset: the dataset.
        loss: the loss.
        accuracy: share of images that were classified right.
        precision: mean of the classes' precision.
        recall: mean of the classes' recall.
        macro_f1: mean of the classes' F1.
    """

    model: str
    dataset: str
    loss: str
    accuracy: float
    precision: float
    recall: float
    macro_f1: float

    def get(self, name: str) -> float:
        """The score of that name, one of `METRICS`."""
        value: float = getattr(self, name)
        return value


@dataclass(frozen=True)
class ClassScores:
    """A row of Table 5: one class on EfficientNetV2.

    Attributes:
        dataset: the dataset.
        name: the class by our name for it.
        train: its training images.
        f1: its test F1 by loss, fractions in [0, 1].
    """

    dataset: str
    name: str
    train: int
    f1: Mapping[str, float]


@dataclass(frozen=True)
class Factors:
    """A cell of Table 6: the α and β behind LMF's scores of Tables 2 to 4."""

    dataset: str
    model: str
    alpha: float
    beta: float


@dataclass(frozen=True)
class Quoted:
    """A figure of the tables that the running text repeats.

    Attributes:
        table: the table that has it, from 1.
        dataset: the dataset.
        model: the model.
        name: the class for Table 5, empty for Tables 2 to 4, where the figure is a macro F1.
        loss: the loss; empty for a number of training images.
        value: the figure in the text: a fraction, or a number of images.
    """

    table: int
    dataset: str
    model: str
    name: str
    loss: str
    value: float


@dataclass(frozen=True)
class Published:
    """All tables of the paper, and the figures that its text repeats."""

    splits: tuple[SplitSizes, ...]
    scores: tuple[Scores, ...]
    classes: tuple[ClassScores, ...]
    factors: tuple[Factors, ...]
    quoted: tuple[Quoted, ...] = field(default=())


@cache
def published() -> Published:
    """What the paper published, in its order."""
    f1: dict[tuple[str, str], dict[str, float]] = {}
    for row in _rows("class_f1"):
        f1.setdefault((row["dataset"], row["class"]), {})[row["loss"]] = _fraction(row["f1"])
    return Published(
        splits=tuple(
            SplitSizes(row["dataset"], int(row["train"]), int(row["val"]), int(row["test"]))
            for row in _rows("split_sizes")
        ),
        scores=tuple(
            Scores(row["model"], row["dataset"], row["loss"], *(_fraction(row[name]) for name in METRICS))
            for row in _rows("scores")
        ),
        classes=tuple(
            ClassScores(row["dataset"], row["class"], int(row["train"]), f1[row["dataset"], row["class"]])
            for row in _rows("class_images")
        ),
        factors=tuple(
            Factors(row["dataset"], row["model"], float(row["alpha"]), float(row["beta"])) for row in _rows("factors")
        ),
        quoted=tuple(
            Quoted(
                *(int(row["table"]), row["dataset"], row["model"], row["class"], row["loss"]),
                value=_fraction(row["figure"]) if row["loss"] else float(row["figure"]),
            )
            for row in _rows("quoted")
        ),
    )


def split_sizes(dataset: str) -> SplitSizes | None:
    """Table 1 for a dataset, None where the paper has none of that title."""
    return next((row for row in published().splits if row.dataset == dataset), None)


def scores(dataset: str, model: str) -> dict[str, Scores]:
    """Tables 2 to 4 for a dataset and a model, by loss in the paper's order; empty where the paper has none.

    Args:
        dataset: the dataset's title.
        model: the model by its short name or timm's.
    """
    known = paper_model(model)
    found = {row.loss: row for row in published().scores if (row.dataset, row.model) == (dataset, known)}
    return {loss: found[loss] for loss in LOSSES if loss in found}


def class_scores(dataset: str, model: str) -> dict[str, ClassScores]:
    """Table 5 for a dataset, by our name of the class in the paper's order; empty for other models and datasets.

    Args:
        dataset: the dataset's title.
        model: the model by its short name or timm's.
    """
    if paper_model(model) != CLASS_MODEL:
        return {}
    return {row.name: row for row in published().classes if row.dataset == dataset}


def factors(dataset: str, model: str) -> Factors | None:
    """Table 6 for a dataset and a model, None where the paper has none.

    Args:
        dataset: the dataset's title.
        model: the model by its short name or timm's.
    """
    known = paper_model(model)
    return next((row for row in published().factors if (row.dataset, row.model) == (dataset, known)), None)


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = files("study.paper").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def _fraction(percent: str) -> float:
    """A figure in percent as the nearest float of its fraction, so that 60.34 is exactly 0.6034 when written."""
    return float(Decimal(percent) / 100)
