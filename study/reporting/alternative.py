"""What a figure shows, in words and numbers, for whoever cannot see it."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from study.reporting.picture import Picture

MOST_TRACES = 8
"""So many of a figure's traces are told one by one."""
_SINGLE_VALUES = 6


def alternative_text(picture: Picture) -> str:
    """A figure's alternative text: its own where it has one, else its axes and the range of each of its traces.

    Returns:
        plain text that begins with the title.
    """
    title = _sentence(picture.title)
    if picture.alt:
        return picture.alt if picture.alt.startswith(picture.title) else f"{title} {picture.alt}"
    layout = picture.figure.layout
    parts = [title]
    for way, axis in (("Across", layout.xaxis), ("Up", layout.yaxis)):
        name = _plain(axis.title.text or "")
        if name:
            parts.append(f"{way}: {name}.")
    shown = [trace for trace in picture.figure.data if trace.visible is not False]
    told = [text for text in map(_trace_text, shown) if text]
    parts += told[:MOST_TRACES]
    if len(told) > MOST_TRACES:
        parts.append(f"And {len(told) - MOST_TRACES} more.")
    return " ".join(parts)


def _trace_text(trace: Any) -> str:
    """One trace: its name, and its values or how many there are and from where to where; empty where it has none."""
    across, up = getattr(trace, "x", None), getattr(trace, "y", None)
    if getattr(trace, "mode", None) == "text":
        return ""
    if getattr(trace, "z", None) is not None:
        text = _range_text(cell for row in trace.z for cell in _listed(row))
    elif getattr(trace, "orientation", None) == "h":
        text = _pairs_text(up, across)
    else:
        text = _pairs_text(across, up)
    name = _plain(trace.name or "")
    return f"{name}: {text}." if name and text else _sentence(text) if text else ""


def _pairs_text(places: Any, values: Any) -> str:
    """Values with their places where they are few, else their number and range."""
    numbers = [(place, value) for place, value in zip(_listed(places), _listed(values), strict=False) if _known(value)]
    if not numbers:
        return ""
    if len(numbers) <= _SINGLE_VALUES:
        return ", ".join(f"{_figure(value)} at {_figure(place)}" for place, value in numbers)
    return _range_text(value for _, value in numbers)


def _range_text(values: Iterable[Any]) -> str:
    known = [value for value in values if _known(value)]
    if not known:
        return ""
    return f"{len(known):,} values from {_figure(min(known))} to {_figure(max(known))}"


def _listed(values: Any) -> list[Any]:
    if values is None:
        return []
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]


def _known(value: Any) -> bool:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _figure(value: Any) -> str:
    return f"{value:,.4g}" if _known(value) else _plain(str(value))


def _plain(text: str) -> str:
    """Text of plotly as it is read: its line breaks and tags are no part of it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
