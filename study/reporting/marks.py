"""What figures of losses, points and classes share: marks that differ in shape and colour, and names on axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from study.reporting.picture import label

LONGEST_NAME = 18
"""Longer names lose their middle on axes; they are whole under the pointer."""

LEGEND_BELOW = {"yref": "container", "y": 0, "yanchor": "bottom"}
"""A legend at the lower edge, which leaves the axis its room however many lines a narrow screen makes of it."""

_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "star", "cross", "hexagon", "x", "pentagon")
_FLAT_CHARACTERS = 36
_SLANTED_NAMES = 12
_COLORS = ("val", "accent", "joint", "beta", "alpha", "muted")


def mark(number: int, size: float = 9) -> dict[str, Any]:
    """The marker of the n-th of several things, from 0; the first 18 differ.

    Args:
        number: which of them.
        size: its size in pixels.
    """
    return {
        "color": f"var(--{_COLORS[number % len(_COLORS)]})",
        "symbol": _SYMBOLS[number % len(_SYMBOLS)],
        "size": size,
    }


def beside(number: int, of: int) -> float:
    """How far the n-th of several marks lies from its place on an axis of names, so that all lie beside each other.

    Args:
        number: which of them, from 0.
        of: how many there are.
    """
    return round((number - (of - 1) / 2) * 0.7 / of, 4)


def name_places(figure: go.Figure, names: Sequence[str]) -> None:
    """Put names on the horizontal axis, at 0, 1, 2, ...

    Args:
        figure: the figure.
        names: the names as users gave them.
    """
    figure.update_xaxes(
        tickvals=list(range(len(names))),
        ticktext=[axis_name(name) for name in names],
        tickangle=name_angle(names),
        range=[-0.6, max(len(names), 1) - 0.4],
        showgrid=False,
    )


def name_angle(names: Sequence[str]) -> int:
    """By how many degrees names on the horizontal axis are turned, so that none is dropped on a narrow screen.

    Turned the other way, plotly hides those that leave the figure at its right.

    Args:
        names: the names as users gave them.
    """
    if sum(min(len(name), LONGEST_NAME) for name in names) <= _FLAT_CHARACTERS:
        return 0
    return -45 if len(names) <= _SLANTED_NAMES else -90


def axis_name(name: str) -> str:
    """A name as it fits an axis, safe for plotly."""
    if len(name) <= LONGEST_NAME:
        return label(name)
    start = LONGEST_NAME // 2
    return label(f"{name[:start]}…{name[start + 1 - LONGEST_NAME :]}")
