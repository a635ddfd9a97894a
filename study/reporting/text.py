"""Figures and names as a reader sees them; everything here gives plain text, `safe` gives HTML."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime

SCORE_NAMES = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "balanced_accuracy": "balanced accuracy",
    "macro_auc": "macro AUC",
    "macro_average_precision": "macro average precision",
    "sensitivity_at_specificity": "sensitivity at the stated specificity",
    "mcc": "MCC",
    "kappa": "Cohen's κ",
}
COEFFICIENTS = frozenset({"mcc", "kappa"})
"""Scores in [-1, 1], which are shown as they are; all others are fractions and shown in percent."""
SETTING_FORMS = {"joint": "α = β", "beta": "α = 1", "alpha": "β = 1"}
NONE = "–"

_CREDENTIALS = re.compile(r"(?<=://)[^\s/@:]*:\S*@")
_PASSWORDS = re.compile(r"(?<=password=)[^\s&'\"]+", re.IGNORECASE)


def safe(value: object) -> str:
    """Text for HTML: nothing in it is markup, and no URL in it holds a password."""
    return html.escape(without_credentials(str(value)), quote=True)


def without_credentials(text: str) -> str:
    """The text with `***` for user and password of every URL in it, and for every `password=` value."""
    return _PASSWORDS.sub("***", _CREDENTIALS.sub("***@", text))


def factor(value: float | None) -> str:
    """An α or β as the paper's Table 6 writes it: 1.0, 0.55."""
    if value is None:
        return NONE
    short = f"{value:.4g}"
    return short if "." in short or "e" in short else f"{short}.0"


def percent(value: float | None) -> str:
    """A fraction as a percentage with the paper's two digits, without the sign."""
    return NONE if value is None else f"{100 * value:.2f}"


def percent_spread(mean: float | None, average_deviation: float | None) -> str:
    """A mean and its average deviation in percent."""
    return NONE if mean is None else f"{percent(mean)} ± {percent(average_deviation)}"


def score_name(name: str, specificity: float | None = None) -> str:
    """A score's name as a reader knows it.

    Args:
        name: the score.
        specificity: at which specificity sensitivity is stated, where it is known.
    """
    if name == "sensitivity_at_specificity" and specificity is not None:
        return f"sensitivity at {100 * specificity:.10g} % specificity"
    return SCORE_NAMES.get(name, name)


def score_unit(name: str) -> str:
    """What stands behind a score's figure: a percent sign after a space, or nothing."""
    return "" if name in COEFFICIENTS else " %"


def score_figure(name: str, value: float | None, average_deviation: float | None = None) -> str:
    """A score without its unit, and its average deviation where it has one.

    Args:
        name: the score.
        value: its value or mean.
        average_deviation: of the values that the mean is of.
    """
    if value is None:
        return NONE
    figures = [value] if average_deviation is None else [value, average_deviation]
    return " ± ".join(f"{figure:z.4f}" if name in COEFFICIENTS else percent(figure) for figure in figures)


def whole(value: int | None) -> str:
    """A whole number, or a dash where there is none."""
    return NONE if value is None else str(value)


def duration(seconds: float | None) -> str:
    """A time span in its two largest units."""
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def moment(unix_seconds: float | None) -> str:
    """A moment in UTC, to the second."""
    if unix_seconds is None:
        return NONE
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 point, 2 points, 1 class, 2 classes."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
