"""Several tests at once: Holm's correction, which keeps the chance of any false finding below the level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""The chance of a false finding that the reports accept."""


def holm(p: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """The p values corrected for being several (Holm 1979), in the order given; each at most 1.

    Args:
        p: p values of all comparisons of one family.
    """
    raw = np.asarray(p, np.float64)
    order = np.argsort(raw, kind="stable")
    corrected = np.empty_like(raw)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)))
    return corrected
