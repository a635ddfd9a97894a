"""The paper's three settings and the grid that they are tried on.

The paper (its text before Fig 4) trains eleven models a setting, with values between 0.5 and 2.0: in setting 1
both factors of the loss move together, in setting 2 only beta moves, in setting 3 only alpha. Which eleven it does
not say, beyond naming 0.5 and 0.7; `DEFAULT_GRID` holds those and every value of the paper's Table 6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

SETTINGS: tuple[str, ...] = ("joint", "beta", "alpha")
"""The paper's settings 1, 2 and 3: alpha equals beta, alpha is 1, beta is 1."""

LOWEST, HIGHEST = 0.5, 2.0
"""The range of alpha and beta that the paper recommends, both ends included."""

DEFAULT_GRID: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0)

_FIXED = 1.0


@dataclass(frozen=True)
class SettingPoint:
    """One pair of factors, and the settings in whose means it counts.

    Attributes:
        alpha: factor of the loss's LDAM half.
        beta: factor of its focal half.
        settings: names from `SETTINGS`, in that order, at least one.
    """

    alpha: float
    beta: float
    settings: tuple[str, ...]


def value_text(value: float) -> str:
    """A grid value as point keys and messages show it: 0.50 and 0.5 give `0.5`, 1.0 gives `1`."""
    return f"{value:.10g}"


def canonical_value(value: float) -> float:
    """The value that its text stands for, so that 0.7 + 0.1 and 0.8 are one point and not two."""
    return float(value_text(value))


def setting_points(settings: Sequence[str], grid: Sequence[float]) -> tuple[SettingPoint, ...]:
    """The different points of some settings; the paper's 33 are 31, since alpha = beta = 1 is in all three.

    The order does not depend on that of the arguments: all of joint, then what beta adds, then what alpha adds,
    each with rising values. A study that is cut short so has whole settings to show before parts of others.

    Args:
        settings: names from `SETTINGS`.
        grid: values for alpha and beta, each within `[LOWEST, HIGHEST]`.

    Raises:
        ValueError: a setting is unknown, or a value lies outside the range.
    """
    problems = settings_problems(settings) + grid_problems(grid)
    if problems:
        raise ValueError("; ".join(problems))
    members: dict[tuple[float, float], list[str]] = {}
    for setting in SETTINGS:
        if setting in settings:
            for pair in _pairs(setting, grid):
                members.setdefault(pair, []).append(setting)
    return tuple(SettingPoint(alpha, beta, tuple(names)) for (alpha, beta), names in members.items())


def settings_problems(settings: Sequence[str]) -> list[str]:
    """What is wrong with a list of settings, each as `settings: problem`."""
    unknown = [name for name in settings if name not in SETTINGS]
    problems = [f"settings: {name!r} is not one of {', '.join(SETTINGS)}" for name in unknown]
    problems += [f"settings: {repeat}" for repeat in repeats(settings)]
    return problems or ([] if settings else [f"settings: is empty; expected some of {', '.join(SETTINGS)}"])


def grid_problems(grid: Sequence[float]) -> list[str]:
    """What is wrong with a grid, each as `grid: problem`; the order of its values is free."""
    outside = [value for value in grid if not LOWEST <= canonical_value(value) <= HIGHEST]
    problems = [f"grid: {value_text(value)} is outside [{LOWEST}, {HIGHEST}]" for value in outside]
    problems += [f"grid: {repeat}" for repeat in repeats([value_text(value) for value in grid])]
    return problems or ([] if grid else [f"grid: is empty; expected values within [{LOWEST}, {HIGHEST}]"])


def factor_problems(name: str, value: float) -> list[str]:
    """What is wrong with one alpha or beta, as `name: problem`."""
    if LOWEST <= canonical_value(value) <= HIGHEST:
        return []
    return [f"{name}: {value_text(value)} is outside [{LOWEST}, {HIGHEST}]"]


def repeats(items: Iterable[object]) -> list[str]:
    """A line for each item that occurs more than once, such as `0.5 is given 2 times`."""
    return [f"{item} is given {count} times" for item, count in Counter(items).items() if count > 1]


def _pairs(setting: str, grid: Sequence[float]) -> Iterator[tuple[float, float]]:
    for value in sorted(canonical_value(value) for value in grid):
        if setting == "joint":
            yield value, value
        elif setting == "beta":
            yield _FIXED, value
        else:
            yield value, _FIXED
