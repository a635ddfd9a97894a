"""One place where the paper disagrees with itself, and how far printed figures may differ without doing so."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from study.paper.names import dataset_name, loss_name, model_name

BELOW, ABOVE = Fraction("0.005"), Fraction("0.01")
"""How far a score may lie below and above its two printed digits, in percentage points.

The paper does not say whether it rounds or cuts off, and does both: no F1 of the 17 or 18 test images of HAM-10K's DF
rounds to the 77.41 of Table 5, while 24 / 31 = 77.419 cut off does. So a printed x stands for [x - 0.005, x + 0.01).
"""


@dataclass(frozen=True)
class Inconsistency:
    """A figure or claim of the paper that other figures of it contradict.

    Attributes:
        place: where the paper says it: a table, or a section and its subject.
        subject: of what: dataset, model, loss, class, score.
        stated: what it says.
        against: what contradicts it.
        found: what that gives.
        difference: found minus stated, or minus the nearest end of a stated range, in `unit`.
        unit: `points` (percentage points), `images` or `values`.
    """

    place: str
    subject: str
    stated: str
    against: str
    found: str
    difference: float
    unit: str = "points"


def points(fraction: float) -> Fraction:
    """A published fraction as the exact percentage that was printed."""
    return Fraction(repr(fraction)) * 100


def shown(percentage: Fraction) -> str:
    """A percentage, or a difference of two, with the paper's two digits."""
    return f"{float(percentage):.2f}"


def cell(dataset: str, *more: str, model: str = "", loss: str = "") -> str:
    """A figure's place in the tables in words: dataset, model, loss, and what else tells it apart."""
    parts = [dataset_name(dataset), model_name(model) if model else "", loss_name(loss) if loss else "", *more]
    return ", ".join(part for part in parts if part)
