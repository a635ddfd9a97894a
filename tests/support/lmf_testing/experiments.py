"""The paper's experiments in small: two datasets, two models, two points and two losses each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.lease import Lease
from study.data_search import DataAtHand
from study.reproduction_plan import Experiment
from study.spec import StudySpec
from trainer.config import Recipe

COUNTS = {"train": 8, "val": 4, "test": 4}


def experiment(dataset: str, model: str, **changes: Any) -> Experiment:
    """A dataset with a model.

    Args:
        dataset: its name.
        model: its name.
        changes: of the comparison of losses.
    """
    common: dict[str, Any] = {"dataset": dataset, "title": dataset, "data": None, "model": model}
    study = StudySpec(name=f"{dataset}-{model}", recipe=Recipe(), settings=("beta",), grid=(0.5, 1.0), **common)
    losses = StudySpec(
        name=f"{dataset}-{model}-losses",
        recipe=Recipe(epochs=100),
        settings=(),
        grid=(),
        losses=("cce", "lmf"),
        factors_from=study.name,
        **common,
    )
    return Experiment(DataAtHand(dataset, Path("/data"), 2, COUNTS), study, replace(losses, **changes))


EXPERIMENTS = tuple(experiment(dataset, model) for dataset in ("a", "b") for model in ("x", "y"))


def by_beta(lease: Lease) -> float | None:
    """Of alpha and beta, the smaller beta is the better one."""
    return 0.5 if lease.beta is None else 1.0 - lease.beta / 4
