"""A study's description: what is trained, on what, and which points are tried.

A description is what is stored with the study and what every worker goes by. How it is put together from flags and
a study file is in `study.spec_input`; what may change when a study is run again is in `study.extension`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from storage.search_plan import GRID, NO_PRUNER, point_key
from study.errors import StudyError
from study.settings import DEFAULT_GRID, SETTINGS, repeats, setting_points
from trainer.config import Recipe

STUDIED_LOSS = "lmf"
"""The loss whose alpha and beta a study tries."""

PAPER_LOSSES = ("cce", "focal", "ldam", "bwcce", STUDIED_LOSS)
"""The losses that the paper compares."""

COMPARISON_EPOCHS = 100
"""Epochs of the paper's comparison of losses; its study of alpha and beta has fewer."""

PLAIN_FACTORS = (1.0, 1.0)
"""Alpha and beta of LMF where nobody says any and no study has found any."""

DEFAULT_SEED = 23
"""The paper's seed, for training and for the split."""

DEFAULT_SEEDS: tuple[int, ...] = (DEFAULT_SEED,)

LARGEST_SEED = 2**32 - 1
"""The largest seed that every random generator in use takes."""

DEFAULT_TRIALS = 31
"""As many points as the paper's grid has."""

MOST_TRIALS = 100_000

SEARCH_FIGURES = ("search", "trials", "pruner")
"""What describes a search; a description from before there were searches lacks them."""

LOSS_FIGURES = ("losses", "alpha", "beta", "factors_from")
"""What describes a comparison of losses; a description from before there were comparisons lacks them."""

MACHINE_FIGURES = ("precision", "threads")
"""Figures of the recipe that depend on the machine, so that it may choose them where the user does not."""

_PATHS = ("data", "split_file")
_LISTS = ("settings", "grid", "seeds", "losses")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """The full description of a study: of alpha and beta, or of losses that are compared.

    Attributes:
        name: the study's name; letters, digits, `.`, `_` and `-`.
        dataset: the dataset as it was named, such as `ham10000` or `folder:skin`.
        title: the dataset's short name, such as `skin`.
        data: absolute path of the data, or None where the dataset needs none.
        model: the model as it was named, such as `efficientnetv2`.
        recipe: how each point is trained; its `model` is the full name that `model` stands for.
        settings: names from `study.settings.SETTINGS`, in that order.
        grid: rising values of alpha and beta.
        seeds: rising seeds; each point is trained once with each. A search has one.
        split_seed: seed of the split into training, validation and test images; None where `split_file` says it, or
            the dataset is published with a split.
        group: what keeps together images of one origin, such as `lesion`; None splits image by image.
        split_file: absolute path of a table that says which image is in which part, or None.
        drop_empty: leave out classes that have no image.
        search: how points are found, one of `storage.search_plan.SEARCHES`. A search other than `grid` chooses alpha
            and beta itself, within `settings.LOWEST` and `settings.HIGHEST`, and has neither settings nor a grid.
        trials: how many points a search has, from 1 to `MOST_TRIALS`; None for `grid`.
        pruner: which trainings of a search end early, one of `storage.search_plan.PRUNERS`.
        losses: what a comparison compares, names from `trainer.config.LOSS_NAMES`; empty for a study of alpha and beta.
            A comparison has neither settings nor a grid, and no search.
        alpha: factor of LMF's LDAM half in a comparison, within `settings.LOWEST` and `settings.HIGHEST`; None where
            LMF is not compared.
        beta: factor of its focal half, likewise.
        factors_from: where alpha and beta of a comparison come from: the study whose best they are, or words for
            another source; None where they were given, or are `PLAIN_FACTORS`.
        unasked: those of `settings`, `grid`, `seeds`, `SEARCH_FIGURES`, `LOSS_FIGURES` and `MACHINE_FIGURES` that hold
            a default nobody asked for. A study that is stored already keeps its own values for them. Neither stored nor
            part of equality.
    """

    name: str
    dataset: str
    title: str
    data: Path | None
    model: str
    recipe: Recipe
    settings: tuple[str, ...] = SETTINGS
    grid: tuple[float, ...] = DEFAULT_GRID
    seeds: tuple[int, ...] = DEFAULT_SEEDS
    split_seed: int | None = DEFAULT_SEED
    group: str | None = None
    split_file: Path | None = None
    drop_empty: bool = False
    search: str = GRID
    trials: int | None = None
    pruner: str = NO_PRUNER
    losses: tuple[str, ...] = ()
    alpha: float | None = None
    beta: float | None = None
    factors_from: str | None = None
    unasked: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def compares_lmf(self) -> bool:
        """Whether it is a comparison with LMF among its losses, which needs alpha and beta."""
        return STUDIED_LOSS in self.losses

    def with_machine_figures(self, **figures: int | str) -> StudySpec:
        """Fill in figures that this machine suggests, where the user asked for none.

        Args:
            figures: values for some of `MACHINE_FIGURES`; one that the user asked for is left as it is.
        """
        chosen: dict[str, Any] = {name: value for name, value in figures.items() if name in self.unasked}
        return replace(self, recipe=replace(self.recipe, **chosen))

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON can hold it; `from_dict` reads it back."""
        document = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "unasked"}
        document |= {name: None if document[name] is None else str(document[name]) for name in _PATHS}
        document |= {"recipe": self.recipe.to_dict()}
        return document | {name: list(document[name]) for name in _LISTS}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> StudySpec:
        """Read a stored description; one from before there were searches or comparisons is of a grid.

        Raises:
            StudyError: a part is missing or unknown, as in a description that another version stored.
            RecipeError: the recipe holds a figure that is unknown here.
        """
        known = {item.name for item in fields(cls)} - {"unasked"}
        younger = {*SEARCH_FIGURES, *LOSS_FIGURES}
        wrong = [f"{name} is missing" for name in sorted(known - set(document) - younger)]
        wrong += [f"{name} is unknown" for name in sorted(set(document) - known)]
        if wrong:
            raise StudyError(
                f"stored description of study {document.get('name', '?')}: {', '.join(wrong)}; "
                "it was written by another version of lmf, use that one"
            )
        parts = dict(document)
        parts |= {name: tuple(parts[name]) for name in _LISTS if name in parts}
        parts |= {name: None if parts[name] is None else Path(parts[name]) for name in _PATHS}
        return cls(**parts | {"recipe": Recipe.from_dict(parts["recipe"])})


@dataclass(frozen=True)
class StudyPoint:
    """One training that a study asks for.

    Attributes:
        key: what identifies the point within its study, such as `lmf a=1 b=0.5 seed=23` or `cce seed=23`.
        loss: name of the loss.
        alpha: factor of the LDAM half; None for a loss without it.
        beta: factor of the focal half; None for a loss without it.
        seed: seed of the training.
        settings: the settings in whose means the point counts.
    """

    key: str
    loss: str
    alpha: float | None
    beta: float | None
    seed: int
    settings: tuple[str, ...]


def points(spec: StudySpec) -> tuple[StudyPoint, ...]:
    """All points of a grid or a comparison, as they are best trained; of a search none, as it chooses them later.

    Every pair of factors, and every loss, comes with the first seed before any comes with the second, so that all of
    them are seen as early as can be.
    """
    if spec.search != GRID:
        return ()
    if spec.losses:
        return tuple(_compared(spec, loss, seed) for seed in sorted(spec.seeds) for loss in spec.losses)
    pairs = setting_points(spec.settings, spec.grid)
    return tuple(
        StudyPoint(
            point_key(STUDIED_LOSS, pair.alpha, pair.beta, seed),
            STUDIED_LOSS,
            pair.alpha,
            pair.beta,
            seed,
            pair.settings,
        )
        for seed in sorted(spec.seeds)
        for pair in pairs
    )


def _compared(spec: StudySpec, loss: str, seed: int) -> StudyPoint:
    alpha, beta = (spec.alpha, spec.beta) if loss == STUDIED_LOSS else (None, None)
    if loss == STUDIED_LOSS and (alpha is None or beta is None):
        raise ValueError(f"study {spec.name}: alpha and beta of {loss} are not settled yet")
    return StudyPoint(point_key(loss, alpha, beta, seed), loss, alpha, beta, seed, ())


def default_name(title: str, model: str, ending: str = "") -> str:
    """The study's name where none is given: `TITLE-MODEL` and the ending, with `-` for what a name may not hold."""
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-._") for part in (title, model)]
    return f"{parts[0] or 'data'}-{parts[1] or 'model'}"[: 120 - len(ending)] + ending


def comparison_name(title: str, model: str) -> str:
    """The name of a comparison of losses where none is given: `TITLE-MODEL-losses`."""
    return default_name(title, model, "-losses")


def name_problems(name: str) -> list[str]:
    """What is wrong with a study's name, as `study: problem`."""
    if _NAME.fullmatch(name):
        return []
    return [
        f"study: {name!r} is no name for a study; expected up to 120 letters, digits, '.', '_' and '-', "
        "a letter or digit first"
    ]


def seed_problems(name: str, seeds: Sequence[int]) -> list[str]:
    """What is wrong with seeds, each as `name: problem`.

    Args:
        name: `seeds` or `split_seed`.
        seeds: the values, in any order.
    """
    outside = [seed for seed in seeds if not 0 <= seed <= LARGEST_SEED]
    problems = [f"{name}: {seed} is outside [0, {LARGEST_SEED}]" for seed in outside]
    problems += [f"{name}: {repeat}" for repeat in repeats(seeds)]
    return problems or ([] if seeds else [f"{name}: is empty; expected whole numbers such as {DEFAULT_SEED}"])
