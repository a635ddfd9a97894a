"""What a study's description says of its search; loads nothing heavy, so that readers and the command line can ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GRID = "grid"
"""The search that chooses nothing: every point is planned at once."""

SEARCHES = (GRID, "tpe", "gp", "random")
NO_PRUNER = "none"
PRUNERS = (NO_PRUNER, "median", "percentile", "hyperband")


@dataclass(frozen=True)
class SearchPlan:
    """How a study chooses its points one by one.

    Attributes:
        kind: one of `SEARCHES`, but for `GRID`.
        trials: the budget: how many points there may be, whatever becomes of them.
        pruner: one of `PRUNERS`.
        epochs: epochs of a point that is not pruned.
        seed: the one seed, of every training and of the search.
    """

    kind: str
    trials: int
    pruner: str
    epochs: int
    seed: int

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> SearchPlan | None:
        """The search of a stored description; None where its points are a grid.

        Args:
            spec: the description as it is stored with the study.
        """
        if spec.get("search", GRID) == GRID:
            return None
        return cls(
            kind=spec["search"],
            trials=int(spec["trials"]),
            pruner=spec["pruner"],
            epochs=int(spec["recipe"]["epochs"]),
            seed=int(spec["seeds"][0]),
        )


def kept_value(value: float) -> float:
    """A factor as precise as a point's key shows it: ten significant digits."""
    return float(_text(value))


def point_key(loss: str, alpha: float | None, beta: float | None, seed: int) -> str:
    """What identifies a point within its study: `lmf a=1 b=0.5 seed=23`, or `cce seed=23` where it has no factors."""
    factors = [f"{name}={_text(value)}" for name, value in (("a", alpha), ("b", beta)) if value is not None]
    return " ".join([loss, *factors, f"seed={seed}"])


def _text(value: float) -> str:
    return f"{value:.10g}"
