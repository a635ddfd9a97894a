"""A table of image and label, images anywhere below one folder."""

from __future__ import annotations

import csv
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from trainer.data.dataset import ImageDataset, LabelledFile, dataset_of_files, first_few
from trainer.data.images import is_image_name
from trainer.data.tree import FoundImage, Tree, check_inside, resolve_folder, walk
from trainer.errors import DataError

IMAGE_COLUMNS = ("image", "image_id", "filename", "file", "path")
LABEL_COLUMNS = ("label", "dx", "class", "target", "diagnosis")


def open_table(table: Path, root: Path, title: str, group: str | None = None) -> ImageDataset:
    """Find the images that a table names.

    The table is UTF-8 text with a header, separated by commas, semicolons or tabs. An image cell holds a path below
    `root`, the end of such a path, or only the file's name, each with or without the suffix. Labels are kept as text
    (`1` and `01` are two classes). Images that no row names are passed over, and links to folders are not followed.

    Args:
        table: the table's file.
        root: the folder below which the images lie.
        title: the dataset's short name.
        group: read groups from the column of this name, or of this name and ``_id``; an image whose cell is empty is
            a group of its own.

    Raises:
        DataError: the table or folder cannot be read, a column is missing, there are fewer than two classes, or rows
            lack a cell, name an image that is missing, ambiguous, named before, or out of the folder. All bad rows are
            counted and the first are named.
    """
    rows = _read_rows(table, group)
    finder = _Finder(walk(resolve_folder(root)))
    problems: list[str] = []
    found: dict[str, tuple[_Row, LabelledFile]] = {}
    for row in rows:
        try:
            image = finder.find(row)
            earlier = found.get(image.name)
            if earlier:
                raise DataError(_named_again(image.name, row, earlier[0]))
        except DataError as error:
            problems.append(f"line {row.line}: {error}")
            continue
        own_group = None if group is None else row.group or f"image {image.name}"
        found[image.name] = (row, LabelledFile(image.name, image.path, row.label, own_group))
    if problems:
        rows_text = "1 row" if len(problems) == 1 else f"{len(problems):,} rows"
        raise DataError(f"{table}: {rows_text} of {len(rows):,} cannot be used: {first_few(problems, separator='; ')}")
    files = [file for _, file in found.values()]
    return dataset_of_files(title, table, files)


@dataclass(frozen=True)
class _Row:
    line: int
    image: str
    label: str
    group: str


def _read_rows(table: Path, group: str | None) -> list[_Row]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as handle:
            header_line = handle.readline()
            handle.seek(0)
            delimiter = max(",;\t", key=header_line.count)
            reader = csv.reader(handle, delimiter=delimiter, strict=True)
            lines = [(reader.line_num, [_clean(cell) for cell in cells]) for cells in reader]
    except OSError as error:
        raise DataError(f"label table {table}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"label table {table}: is not UTF-8 text; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"label table {table}: is no well-formed CSV: {error}") from None
    lines = [(line, cells) for line, cells in lines if any(cells)]
    if any("\0" in cell for _, cells in lines for cell in cells):
        raise DataError(f"label table {table}: is not UTF-8 text; save it as CSV in UTF-8")
    if not lines:
        raise DataError(f"label table {table}: is empty; expected a header and a row for each image")
    header = [name.lower() for name in lines[0][1]]
    image_at = _column(header, IMAGE_COLUMNS, "image", table)
    label_at = _column(header, LABEL_COLUMNS, "label", table)
    group_at = None if group is None else _column(header, (group.lower(), f"{group.lower()}_id"), "group", table)
    if len(lines) == 1:
        raise DataError(f"label table {table}: has a header but no rows")
    return [
        _Row(line, _cell(cells, image_at), _cell(cells, label_at), "" if group_at is None else _cell(cells, group_at))
        for line, cells in lines[1:]
    ]


def _clean(cell: str) -> str:
    return unicodedata.normalize("NFC", cell.strip())


def _column(header: Sequence[str], names: Sequence[str], role: str, table: Path) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise DataError(
        f"label table {table}: has no {role} column; expected one of {', '.join(names)}, found {first_few(header, 12)}"
    )


def _cell(cells: Sequence[str], position: int) -> str:
    return cells[position] if position < len(cells) else ""


def _named_again(name: str, row: _Row, earlier: _Row) -> str:
    if row.label == earlier.label:
        return f"{name} is named again after line {earlier.line}, with the same label; remove one row"
    return f"{name} is labelled {row.label!r}, but {earlier.label!r} on line {earlier.line}; decide for one"


class _Finder:
    """From an image cell to the one file that it means."""

    def __init__(self, tree: Tree) -> None:
        self._root = tree.root
        self._by_name: dict[str, list[FoundImage]] = defaultdict(list)
        for image in tree.images:
            name = PurePosixPath(image.name)
            self._by_name[_key(name)].append(image)
            self._by_name[name.stem].append(image)

    def find(self, row: _Row) -> FoundImage:
        """The image of a row; a `DataError` says what is wrong with the row, without its line."""
        if not row.image:
            raise DataError("the image cell is empty")
        if not row.label:
            raise DataError(f"the label of {row.image} is empty")
        windows = PureWindowsPath(row.image)
        asked = PurePosixPath(windows.as_posix())
        if windows.drive or windows.root:
            raise DataError(f"{row.image} is an absolute path; write it as seen from the data folder {self._root}")
        if ".." in asked.parts:
            raise self._leaves(row.image)
        candidates = self._by_name.get(_key(asked), [])
        matches = [image for image in candidates if image.name == str(asked)] or [
            image for image in candidates if _ends_like(PurePosixPath(image.name), asked)
        ]
        if not matches:
            if not (self._root / asked).resolve().is_relative_to(self._root):
                raise self._leaves(row.image)
            raise DataError(f"no image {row.image} below {self._root}")
        if len(matches) > 1:
            both = first_few([image.name for image in matches], 3)
            raise DataError(f"{row.image} may mean {both}; write the path below {self._root}")
        check_inside(matches[0], self._root)
        return matches[0]

    def _leaves(self, cell: str) -> DataError:
        return DataError(f"{cell} leaves the data folder {self._root}; write a path below it, without .. or links")


def _key(path: PurePosixPath) -> str:
    return path.stem + path.suffix.lower() if is_image_name(path.name) else path.name


def _ends_like(path: PurePosixPath, asked: PurePosixPath) -> bool:
    if not is_image_name(asked.name):
        path = path.with_suffix("")
    tail = path.parts[-len(asked.parts) :]
    return tail[:-1] == asked.parts[:-1] and _key(PurePosixPath(tail[-1])) == _key(asked)
