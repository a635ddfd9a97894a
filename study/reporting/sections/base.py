"""What all sections of a report are made of."""

from __future__ import annotations

from collections.abc import Iterable

from study.reporting.leakage import Leakage, has_leaks, leakage_line
from study.reporting.statistics import StudySummary
from study.reporting.text import safe


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text, empty for none; `kind` is a class of the style sheet, such as `quiet` or `warn`."""
    if not text:
        return ""
    return f'<p class="{kind}">{safe(text)}</p>\n' if kind else f"<p>{safe(text)}</p>\n"


def leakage_note(leakage: Leakage, text: str) -> str:
    """What is said of leaks, below a section's sentence: loud where there are any."""
    return paragraph(text, "warn" if has_leaks(leakage) else "quiet")


def short_note(summary: StudySummary) -> str:
    """The study's leaks in one line; empty where there are none, which the answer says."""
    if not has_leaks(summary.study.leakage):
        return ""
    return leakage_note(summary.study.leakage, leakage_line(summary.study.leakage))


def bullets(texts: Iterable[str]) -> str:
    """A list of plain texts; empty for none."""
    items = "".join(f"<li>{safe(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>\n" if items else ""
