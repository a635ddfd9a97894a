"""Tables as LaTeX, Markdown and CSV; whatever is in a cell stays text, and no credentials are in any of them."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

from study.reporting.latex_letters import latex_letter
from study.reporting.tables import Table
from study.reporting.text import without_credentials

_BOLD, _PLAIN = "\ue000", "\ue001"
"""Stand around a bold cell while tabulate escapes the rest; private characters are taken out of all text before."""

_RULES = re.compile(r"([-,'])(?=\1)")
"""Pairs that TeX's fonts join into one character, such as two hyphens into a dash."""

_LABEL = re.compile(r"[^A-Za-z0-9:._-]+")
_MARKDOWN = re.compile(r"([\\`*_\[\]|~$#!])")
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?%?(?: ± \d[\d.,]*| to [+-]?\d[\d.,]*(?:[eE][+-]?\d+)?%?)?")
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell begins with that a spreadsheet computes; the last four are their full-width forms."""


def latex_table(table: Table, *, caption: str, label: str) -> str:
    r"""A floating table for a LaTeX document that loads booktabs, ready for `\input`.

    All that is written is ASCII, with commands that pdfLaTeX has, as far as the letters are Latin or Greek. What is
    not (Arabic, Chinese) stays as it is, and a comment on top names those characters and what they need.

    Args:
        table: its text; its best cells are bold.
        caption: plain text that stands above it.
        label: what `\ref` names; characters that a label cannot have become hyphens.
    """
    from tabulate import LATEX_ESCAPE_RULES

    columns = [_flat(name) for name in table.columns]
    rows = [
        [f"{_BOLD}{_flat(cell)}{_PLAIN}" if bold else _flat(cell) for cell, bold in zip(row, marks, strict=True)]
        for row, marks in zip(table.rows, _marks(table), strict=True)
    ]
    body = _latex_letters(_laid_out(table, columns, rows, "latex_booktabs"))
    title = _latex_letters("".join(LATEX_ESCAPE_RULES.get(letter, letter) for letter in _flat(caption)))
    lines = [
        "% Needs \\usepackage{booktabs}.",
        *_foreign_note(title + body),
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{title}}}",
        f"\\label{{{_LABEL.sub('-', label)}}}",
        body,
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def markdown_table(table: Table) -> str:
    """A table in GitHub's Markdown; its best cells are bold.

    Args:
        table: its text.
    """
    columns = [_markdown(name) for name in table.columns]
    rows = [
        [f"**{_markdown(cell)}**" if bold and cell else _markdown(cell) for cell, bold in zip(row, marks, strict=True)]
        for row, marks in zip(table.rows, _marks(table), strict=True)
    ]
    return _laid_out(table, columns, rows, "pipe") + "\n"


def csv_table(table: Table) -> str:
    """A table as CSV with a header line; numbers stand as they are shown.

    A cell of text that a spreadsheet would compute is `defused`.

    Args:
        table: its text.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (table.columns, *table.rows):
        writer.writerow([defused(without_credentials(cell)) for cell in row])
    return text.getvalue()


def defused(cell: str) -> str:
    """The cell as a spreadsheet may open it: text that it would compute gets an apostrophe before it.

    That is text which begins with `=`, `+`, `-` or `@`, after blanks too; spreadsheets take the apostrophe for "this is
    text". Negative numbers and intervals between numbers stay as they are.

    Args:
        cell: the cell of a CSV file.
    """
    risky = cell.lstrip().startswith(_FORMULA) or cell.startswith(("\t", "\r", "\n"))
    return f"'{cell}" if risky and not _NUMBER.fullmatch(cell) else cell


def _marks(table: Table) -> list[list[bool]]:
    best = table.best
    return [[(row, column) in best for column in range(len(table.columns))] for row in range(len(table.rows))]


def _laid_out(table: Table, columns: Sequence[str], rows: Sequence[Sequence[str]], form: str) -> str:
    """What tabulate makes of cells that are text, which it must neither read as numbers nor reformat."""
    from tabulate import tabulate

    last = len(columns) - 1
    sides = [
        "left" if column < table.text_columns or (table.wide_last and column == last) else "right"
        for column in range(len(columns))
    ]
    filled = rows or [[""] * len(columns)]
    return tabulate([columns, *filled], headers="firstrow", tablefmt=form, disable_numparse=True, colalign=sides)


def _flat(text: str) -> str:
    """The text on one line, without credentials and without characters that are only there to control others."""
    shown = (_printable(character) for character in without_credentials(text))
    return " ".join("".join(shown).split())


def _printable(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in ("Cc", "Zl", "Zp"):
        return " "
    return "" if kind in ("Cf", "Co", "Cs", "Cn") else character


def _markdown(text: str) -> str:
    escaped = _MARKDOWN.sub(r"\\\1", _flat(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex_letters(text: str) -> str:
    """Replace what tabulate's escaping leaves: letters that are not ASCII, and what has a meaning by its place."""
    apart = _RULES.sub(r"\1{}", unicodedata.normalize("NFC", text))
    marks = {_BOLD: "\\textbf{", _PLAIN: "}"}
    return "".join(marks.get(character) or latex_letter(character) for character in apart)


def _foreign_note(text: str) -> Iterable[str]:
    foreign = sorted({character for character in text if not character.isascii()})
    if foreign:
        codes = " ".join(f"U+{ord(character):04X}" for character in foreign)
        yield f"% Not for pdfLaTeX: XeLaTeX or LuaLaTeX, with \\usepackage{{fontspec}} and a font that has {codes}."
