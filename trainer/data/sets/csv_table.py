"""A table of image and label, images anywhere below one folder."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath, PureWindowsPath

from trainer.data.dataset import first_few
from trainer.data.findings import Finding
from trainer.data.images import is_image_name
from trainer.data.label_table import LabelTable, Row, read_label_table
from trainer.data.sets.folder import place, short_name
from trainer.data.source import DatasetSource, Found, LabelledImage, Query, build_dataset
from trainer.data.tree import FoundImage, Tree, check_inside, resolve_folder, walk
from trainer.errors import DataError

IMAGE_COLUMNS = ("image", "image_id", "filename", "file", "path")
LABEL_COLUMNS = ("label", "dx", "class", "target", "diagnosis")
GROUP_COLUMNS = {"lesion": ("lesion", "lesion_id"), "patient": ("patient", "patient_id")}
TABLE_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def find(query: Query) -> Found:
    """Find the images that a table names.

    The table is UTF-8 text with a header, separated by commas, semicolons or tabs. An image cell holds a path below
    the data folder, the end of such a path, or only the file's name, each with or without the suffix; an image is
    named as its cell says. Labels are kept as text (`1` and `01` are two classes). Images that no row names are
    passed over, and links to folders are not followed. Groups are read from columns called after lesion or patient,
    and from the one that is asked for; an image whose cell is empty is a group of its own.

    Raises:
        DataError: the table or folder cannot be read, a column is missing, or there are fewer than two classes.
    """
    path, root = _find_table(query)
    table = read_label_table(path)
    image_at, label_at = table.column(IMAGE_COLUMNS, "image"), table.column(LABEL_COLUMNS, "label")
    columns = table.group_columns(GROUP_COLUMNS, query.group)
    finder = _Finder(walk(resolve_folder(root))) if query.with_images else None
    images: list[LabelledImage] = []
    findings: list[Finding] = []
    earlier: dict[str, tuple[Row, str]] = {}
    named: set[str] = set()
    for row in table.rows:
        cell, label = row.cell(image_at), row.cell(label_at)
        try:
            asked = _read_cell(cell)
            image = finder.find(asked) if finder else None
            named.add(image.name if image else cell)
            if not label:
                raise _BadRow("bad label", f"the label of {cell} is empty")
        except _BadRow as error:
            findings.append(table.error(row, error.kind, str(error), cell))
            continue
        name = str(asked)
        file = image.name if image else name
        if file in earlier:
            findings.append(_named_again(table, row, file, label, *earlier[file]))
            continue
        earlier[file] = (row, label)
        groups = {kind: row.cell(position) or f"image {name}" for kind, position in columns.items()}
        images.append(LabelledImage(name, label, image.path if image else None, groups))
    if finder:
        for name in finder.others(named):
            message = f"{name} is in no row of {path.name}; it is not used"
            findings.append(Finding("image without row", "warning", message, (name,)))
    classes = {image.label for image in images}
    errors = [finding.message for finding in findings if finding.severity == "error"]
    if len(classes) < 2 and errors:
        raise DataError(f"{path}: too few rows can be used: {first_few(errors, separator='; ')}")
    return Found(build_dataset(_title(query), path, sorted(classes), images, query.group), tuple(findings))


class _BadRow(Exception):
    """A row cannot be used; the message says why, without its line."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Finder:
    """From an image cell to the one file that it means."""

    def __init__(self, tree: Tree) -> None:
        self._root = tree.root
        self._not_followed = tree.not_followed
        self._names = [image.name for image in tree.images]
        self._by_name: dict[str, list[FoundImage]] = defaultdict(list)
        for image in tree.images:
            name = PurePosixPath(image.name)
            self._by_name[_key(name)].append(image)
            self._by_name[name.stem].append(image)

    def find(self, asked: PurePosixPath) -> FoundImage:
        """The image that a cell means."""
        candidates = self._by_name.get(_key(asked), [])
        matches = [image for image in candidates if image.name == str(asked)] or [
            image for image in candidates if _ends_like(PurePosixPath(image.name), asked)
        ]
        if not matches:
            if not (self._root / asked).resolve().is_relative_to(self._root):
                raise _leaves(asked)
            raise _BadRow("row without image", f"no image {asked} below {self._root}{self._not_followed}")
        if len(matches) > 1:
            both = first_few([image.name for image in matches], 3)
            raise _BadRow("unclear image", f"{asked} may mean {both}; write the path below {self._root}")
        try:
            check_inside(matches[0], self._root)
        except DataError as error:
            raise _BadRow("unclear image", str(error)) from None
        return matches[0]

    def others(self, named: set[str]) -> list[str]:
        """The images that no row names."""
        return [name for name in self._names if name not in named]


def _read_cell(cell: str) -> PurePosixPath:
    if not cell:
        raise _BadRow("bad row", "the image cell is empty")
    windows = PureWindowsPath(cell)
    if windows.drive or windows.root:
        raise _BadRow("bad row", f"{cell} is an absolute path; write it as seen from the data folder")
    asked = PurePosixPath(windows.as_posix())
    if ".." in asked.parts:
        raise _leaves(asked)
    return asked


def _leaves(asked: PurePosixPath) -> _BadRow:
    return _BadRow("bad row", f"{asked} leaves the data folder; write a path below it, without .. or links")


def _named_again(table: LabelTable, row: Row, file: str, label: str, before: Row, label_before: str) -> Finding:
    if label == label_before:
        message = f"{file} is named again after line {before.line}, with the same label; remove one row"
        return table.error(row, "row twice", message, file)
    message = f"{file} is labelled {label!r}, but {label_before!r} on line {before.line}; decide for one"
    return table.error(row, "label conflict", message, file)


def _key(path: PurePosixPath) -> str:
    return path.stem + path.suffix.lower() if is_image_name(path.name) else path.name


def _ends_like(path: PurePosixPath, asked: PurePosixPath) -> bool:
    if not is_image_name(asked.name):
        path = path.with_suffix("")
    tail = path.parts[-len(asked.parts) :]
    return tail[:-1] == asked.parts[:-1] and _key(PurePosixPath(tail[-1])) == _key(asked)


def _find_table(query: Query) -> tuple[Path, Path]:
    target = place(query, "csv")
    if os.path.isdir(target):
        target = _only_table(target)
    return target, query.data if query.data is not None and os.path.isdir(query.data) else target.parent


def _only_table(folder: Path) -> Path:
    try:
        tables = sorted(entry for entry in folder.iterdir() if entry.name.lower().endswith(TABLE_ENDINGS))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None
    tables = [table for table in tables if not table.name.startswith(".")]
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise DataError(f"{folder}: expected one table (.csv or .tsv), found {found}; name it as csv:PATH")
    return tables[0]


def _title(query: Query) -> str:
    name = short_name(query, "csv")
    ending = next((ending for ending in sorted(TABLE_ENDINGS, key=len)[::-1] if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] or name


SOURCE = DatasetSource(
    name="csv",
    argument="PATH",
    summary="a table with a column of images and a column of labels, images beside it or below --data",
    find=find,
    groups=("lesion", "patient"),
    needs_data=False,
    title=_title,
)
