"""Readers of single values, given as a flag's text or as a value of a study file.

Each takes what was given and returns the value meant, or raises ValueError with what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal


def whole_number(given: object) -> int:
    """Read a whole number."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if isinstance(given, str):
        try:
            return int(given)
        except ValueError:
            pass
    raise _not(given, "a whole number")


def number(given: object) -> float:
    """Read a finite number."""
    value = math.nan
    if isinstance(given, int | float | str) and not isinstance(given, bool):
        try:
            value = float(given)
        except (ValueError, OverflowError):
            pass
    if not math.isfinite(value):
        raise _not(given, "a finite number")
    return value


def text(given: object) -> str:
    """Read text that is not empty."""
    if isinstance(given, str) and given.strip():
        return given.strip()
    raise _not(given, "a text")


def switch(given: object) -> bool:
    """Read true or false; a flag gives it as such."""
    if isinstance(given, bool):
        return given
    raise _not(given, "true or false")


def one_of(allowed: Sequence[str]) -> Callable[[object], str]:
    """A reader of one of some words."""

    def read(given: object) -> str:
        if isinstance(given, str) and given.strip() in allowed:
            return given.strip()
        raise _not(given, f"one of {', '.join(allowed)}")

    return read


def items(given: object) -> list[object]:
    """Take a list apart: an array, text with commas, or one value alone."""
    if isinstance(given, str):
        return list(given.split(",")) if given.strip() else []
    return given if isinstance(given, list) else [given]


def empty_place(given: object) -> str | None:
    """What is wrong with text that lists nothing between two commas, or None."""
    if isinstance(given, str) and given.strip() and not all(item.strip() for item in given.split(",")):
        return f"{given!r} has an empty place; expected items with commas between them"
    return None


def trials_per_gpu(given: object) -> int | Literal["auto"]:
    """Read how many trials share a GPU: a whole number or `auto`."""
    if given == "auto":
        return "auto"
    try:
        return whole_number(given)
    except ValueError:
        raise _not(given, "a whole number or auto") from None


def kept_weights(given: object) -> int | Literal["all", "none"]:
    """Read how many trials' weights are kept: a whole number, `all` or `none`."""
    if given == "all":
        return "all"
    if given == "none":
        return "none"
    try:
        return whole_number(given)
    except ValueError:
        raise _not(given, "a whole number, all or none") from None


def seconds_or_never(given: object) -> float | None:
    """Read a number of seconds, or `never`, which gives None."""
    if given == "never":
        return None
    try:
        return number(given)
    except ValueError:
        raise _not(given, "a number of seconds or never") from None


def _not(given: object, expected: str) -> ValueError:
    return ValueError(f"{given!r} is not {expected}")
