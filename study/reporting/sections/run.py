"""Sections on every training and on how it was run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from study.reporting import tables
from study.reporting.composing import Composer
from study.reporting.hardware import hardware_table
from study.reporting.methods import PAPER_BIBTEX, PAPER_CITATION, methods_paragraph
from study.reporting.rows import StudyData
from study.reporting.sections.base import paragraph, short_note
from study.reporting.statistics import StudySummary
from study.reporting.text import counted, safe

MOST_ROWS = 400
"""How many rows the page's long tables have at most; `--csv` writes them all."""


def table_section(summary: StudySummary, page: Composer) -> str:
    """Every training that was planned, and what went wrong."""
    table = tables.points(summary)
    content = ""
    warnings = tables.warnings(summary)
    if warnings:
        content += page.heading("What trainings warned of")
        content += page.table("warnings", "What trainings warned of", warnings)
    messages = tables.messages(summary)
    if messages and page.shows_patient_data:
        shown, note = _shortened(messages, "message")
        content += page.heading("What went wrong") + page.table("messages", "What went wrong", shown) + note
    elif messages:
        content += paragraph(
            f"{counted(len(messages.rows), 'point')} left a message; messages may name images and are left out.",
            "quiet",
        )
    shown, note = _shortened(table, "training", table.marked)
    if content:
        content += page.heading("All points")
    content += page.table("points", "All points", shown, dense=True) + note
    return page.section(
        "The table of points",
        "Every training that was planned, by trial, with scores in percent (F1, precision and recall are means over "
        "the classes); the answer's are marked, and one that failed says why.",
        content,
        short_note(summary),
    )


def how_section(data: StudyData, summary: StudySummary, page: Composer) -> str:
    """All that another group needs to repeat the study, a methods paragraph, and what to cite."""
    recipe = tables.recipe(data, page.shows_patient_data)
    content = page.fold(
        "All figures of the study and its recipe", page.table("recipe", "The study's description", recipe)
    )
    if data.attempts:
        content += paragraph(tables.attempts_sentence(data))
        if data.hardware:
            content += page.table("hardware", "What it ran on", hardware_table(data.hardware))
        attempts = tables.attempts(data)
        if not page.shows_patient_data:
            attempts = replace(attempts, columns=attempts.columns[:-1], rows=tuple(row[:-1] for row in attempts.rows))
        shown, note = _shortened(attempts, "attempt")
        content += page.fold("All attempts", page.table("attempts", "All attempts", shown, dense=True) + note)
    content += (
        page.heading("Methods, ready to paste") + f'<p class="paste">{safe(methods_paragraph(data, summary))}</p>'
    )
    content += page.heading("Citation") + paragraph(PAPER_CITATION)
    content += f"<pre>{safe(PAPER_BIBTEX)}</pre>"
    return page.section(
        "How it was run",
        "All that another group needs to repeat this study, and how often a worker was lost on the way.",
        content,
    )


def _shortened(table: tables.Table, noun: str, kept: Sequence[int] | frozenset[int] = ()) -> tuple[tables.Table, str]:
    """A long table with its marked rows and its first ones, and a line that says what is missing."""
    if len(table.rows) <= MOST_ROWS:
        return table, ""
    chosen = sorted({*kept, *range(MOST_ROWS)})
    marked = frozenset(place for place, index in enumerate(chosen) if index in table.marked)
    short = replace(table, rows=tuple(table.rows[index] for index in chosen), marked=marked)
    left = len(table.rows) - len(chosen)
    return short, paragraph(f"{counted(left, noun)} more: `lmf report --csv` writes every row.", "quiet")
