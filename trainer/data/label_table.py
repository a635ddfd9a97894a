"""Label tables: text with a header and a row for each image, as datasets ship them."""

from __future__ import annotations

import csv
import gzip
import io
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.dataset import first_few
from trainer.data.findings import Finding
from trainer.errors import DataError

_MOST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        line: the line of the file on which it ends, counted from 1.
        cells: its cells, without blanks around them.
    """

    line: int
    cells: tuple[str, ...]

    def cell(self, position: int | None) -> str:
        """The cell of a column, empty where the row is too short or there is no such column."""
        return self.cells[position] if position is not None and position < len(self.cells) else ""


@dataclass(frozen=True)
class LabelTable:
    """A label table as text.

    Attributes:
        path: the file.
        header: names of the columns as they are written.
        rows: the rows below, without empty ones; at least one.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]

    def find(self, names: Sequence[str]) -> int | None:
        """Position of the first of these columns that is there, in any case, or None."""
        lower = [name.lower() for name in self.header]
        return next((lower.index(name.lower()) for name in names if name.lower() in lower), None)

    def column(self, names: Sequence[str], role: str) -> int:
        """Position of the first of these columns that is there.

        Args:
            names: what the column may be called, in any case.
            role: what it holds, for the message.

        Raises:
            DataError: there is none.
        """
        position = self.find(names)
        if position is None:
            found = first_few(self.header, 12)
            wanted = f"expected one of {', '.join(names)}" if len(names) > 1 else f"expected {names[0]}"
            raise DataError(f"label table {self.path}: has no {role} column; {wanted}, found {found}")
        return position

    def group_columns(self, natural: Mapping[str, Sequence[str]], asked: str | None) -> dict[str, int]:
        """The columns that say what images share, by kind of group; the asked one first.

        Args:
            natural: the kinds that such a table may have, and what their columns may be called.
            asked: the kind that is asked for: a natural one, a column, or a column of that name and ``_id``.

        Raises:
            DataError: the asked one is not there.
        """
        columns: dict[str, int] = {}
        if asked is not None:
            names = natural.get(asked.lower(), (asked, f"{asked}_id"))
            columns[asked] = self.column(names, "group")
        for kind, names in natural.items():
            position = self.find(names)
            if position is not None and position not in columns.values():
                columns[kind] = position
        return columns

    def error(self, row: Row, kind: str, message: str, image: str = "") -> Finding:
        """A finding that stops a training, with file and line."""
        return Finding(kind, "error", f"{self.path.name} line {row.line}: {message}", (image,) if image else ())


def read_label_table(path: Path) -> LabelTable:
    """Read a table: UTF-8 text separated by commas, semicolons or tabs; a name that ends in ``.gz`` is unpacked.

    Raises:
        DataError: it cannot be read, is no such text, or has no row below its header.
    """
    text = _read_text(path)
    first_line = text.split("\n", 1)[0].split("\r", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [Row(reader.line_num, tuple(clean(cell) for cell in cells)) for cells in reader]
    except csv.Error as error:
        raise DataError(f"label table {path}: is no well-formed CSV: {error}") from None
    rows = [row for row in rows if any(row.cells)]
    if not rows:
        raise DataError(f"label table {path}: is empty; expected a header and a row for each image")
    if len(rows) == 1:
        raise DataError(f"label table {path}: has a header but no rows")
    return LabelTable(path, rows[0].cells, tuple(rows[1:]))


def clean(cell: str) -> str:
    """A cell on one line, without blanks around it, accents in composed form (NFC)."""
    return unicodedata.normalize("NFC", " ".join(cell.splitlines()).strip())


def one_hot_labels(
    table: LabelTable, image_at: int, class_columns: Mapping[str, int]
) -> tuple[dict[int, str], list[Finding]]:
    """Read labels from a table with a column of 0 and 1 for each class.

    Args:
        table: the table.
        image_at: the column of images.
        class_columns: each class's column.

    Returns:
        From a row's line to its class, and what is wrong with the other rows.
    """
    labels: dict[int, str] = {}
    problems: list[Finding] = []
    for row in table.rows:
        image = row.cell(image_at)
        marks = {name: _mark(row.cell(position)) for name, position in class_columns.items()}
        unclear = [name for name, mark in marks.items() if mark is None]
        chosen = [name for name, mark in marks.items() if mark]
        if not image:
            problems.append(table.error(row, "bad row", "the image cell is empty"))
        elif unclear:
            name = unclear[0]
            shown = row.cell(class_columns[name])
            problems.append(
                table.error(row, "bad label", f"{image} has {shown!r} under {name}; expected 0 or 1", image)
            )
        elif len(chosen) != 1:
            which = f"{len(chosen)} classes marked ({', '.join(chosen)})" if chosen else "no class marked"
            problems.append(table.error(row, "bad label", f"{image} has {which}; expected exactly one", image))
        else:
            labels[row.line] = chosen[0]
    return labels, problems


def _mark(cell: str) -> bool | None:
    try:
        return {0.0: False, 1.0: True}.get(float(cell))
    except ValueError:
        return None


def _read_text(path: Path) -> str:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as packed:
                raw = packed.read(_MOST_BYTES + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(_MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"label table {path}: is damaged; unpack or download it again") from None
    except OSError as error:
        raise DataError(f"label table {path}: {error.strerror or error}") from None
    if len(raw) > _MOST_BYTES:
        raise DataError(f"label table {path}: holds more than {_MOST_BYTES // 2**20} MiB; it is no label table")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"label table {path}: is not UTF-8 text; save it as CSV in UTF-8") from None
    if "\0" in text:
        raise DataError(f"label table {path}: is not UTF-8 text; save it as CSV in UTF-8")
    return text
