"""Brings the rows of a published label table together with the image files that they name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from trainer.data.dataset import first_few
from trainer.data.findings import Finding
from trainer.data.label_table import LabelTable, Row, clean, read_label_table
from trainer.data.source import LabelledImage, Query
from trainer.data.tree import FoundImage, Tree, check_inside, resolve_folder, table_stem, walk
from trainer.errors import DataError

# "segmentation-and-classification" is the name of a dataset on Kaggle.
_PASSED_OVER = re.compile(r"(?<![a-z])(masks?|segmentations?(?!.and.)|superpixels?|test(ing)?)(?![a-z])")


@dataclass(frozen=True)
class LabelledRow:
    """A row of a label table, read.

    Attributes:
        row: the row.
        image: the image's name as the table has it, without a suffix.
        label: class name.
        groups: by kind, the group that the image belongs to.
    """

    row: Row
    image: str
    label: str
    groups: Mapping[str, str] = field(default_factory=dict)


def open_tree(query: Query, name: str, tables: Sequence[str] = ()) -> Tree:
    """All that lies below the folder of the data, but for folders of masks and of test images without labels.

    Args:
        query: its `data` is a folder, or a table in it; of the tables of that name only this one is in the tree.
        name: the dataset's name, for messages.
        tables: what the dataset's tables may be called, without a suffix, in any case.

    Raises:
        DataError: there is no such folder, it cannot be read, or `data` is a file, but none of the tables.
    """
    if query.data is None:
        raise DataError(f"{name}: nothing says where the data is; add --data DIR")
    if not (tables and os.path.isfile(query.data)):
        return walk(resolve_folder(query.data), skip=_is_passed_over)
    stem = _stem(query.data.name)
    if stem not in [table.lower() for table in tables]:
        known = ", ".join(f"{table}.csv" for table in tables)
        raise DataError(f"{query.data}: is no table of {name}, which are {known}; --data names one, or its folder")
    tree = walk(resolve_folder(query.data.parent), skip=_is_passed_over)
    kept = tuple(file for file in tree.tables if _stem(file.name) != stem or file.name == clean(query.data.name))
    return replace(tree, tables=kept)


def find_table(tree: Tree, stems: Sequence[str]) -> LabelTable | None:
    """The label table of one of these names, wherever it lies; None where there is none.

    Args:
        tree: where to look.
        stems: file names without a suffix, in any case; earlier ones are preferred.

    Raises:
        DataError: there are several that differ, or the table cannot be read.
    """
    for stem in stems:
        named = [file for file in tree.tables if _stem(file.name) == stem.lower()]
        if not named:
            continue
        for file in named:
            check_inside(file, tree.root)
        found = [read_label_table(file.path) for file in named]
        if len({(table.header, *(row.cells for row in table.rows)) for table in found}) > 1:
            both = first_few([file.name for file in named], 3)
            raise DataError(f"{tree.root}: holds different tables {both}; name one of them, or its folder, with --data")
        return found[0]
    return None


def match_rows(
    table: LabelTable,
    rows: Iterable[LabelledRow],
    tree: Tree | None,
    problems: Sequence[Finding] = (),
    *,
    prefer: Callable[[str], bool] = lambda name: False,
    spellings: Callable[[str], Sequence[str]] = lambda image: (image,),
) -> tuple[list[LabelledImage], list[Finding]]:
    """Find the file of each row.

    A name without a suffix means the image file of that name in any folder. Where copies of it lie in several folders
    the preferred one is taken, or the first if all have the same size.

    Args:
        table: where the rows come from.
        rows: what they say.
        tree: where the images lie; None to take the rows at their word.
        problems: what is wrong with the table's other rows.
        prefer: whether an image, by its path below the data folder, goes before others of its name.
        spellings: from a row's image to the names that its file may have, without suffix.

    Returns:
        The images that can be used, and what is wrong with or unusual about the others, `problems` first.

    Raises:
        DataError: there is no image file at all.
    """
    by_stem: dict[str, list[FoundImage]] = defaultdict(list)
    if tree is not None and not tree.images:
        message = f"holds {table.path.name}, but no image; --data names the folder of both"
        raise DataError(f"{tree.root}{tree.not_followed}: {message}")
    folder, candidates = _candidates(table, tree) if tree else (None, ())
    for image in candidates:
        by_stem[PurePosixPath(image.name).stem].append(image)
    images: list[LabelledImage] = []
    findings = list(problems)
    earlier: dict[str, LabelledRow] = {}
    used = {stem for finding in problems for image in finding.images for stem in spellings(image)}
    for row in rows:
        before = earlier.setdefault(row.image, row)
        if before is not row:
            findings.append(_named_again(table, row, before))
            continue
        groups = {kind: group or f"image {row.image}" for kind, group in row.groups.items()}
        if tree is None:
            images.append(LabelledImage(row.image, row.label, None, groups))
            continue
        stem = next((name for name in spellings(row.image) if name in by_stem), None)
        if stem is None:
            message = f"no image {row.image} below {folder}{tree.not_followed}"
            findings.append(table.error(row.row, "row without image", message, row.image))
            continue
        used.add(stem)
        try:
            images.append(LabelledImage(row.image, row.label, _choose(by_stem[stem], prefer, tree), groups))
        except DataError as error:
            findings.append(table.error(row.row, "unclear image", str(error), row.image))
    for stem, found in by_stem.items():
        if stem not in used:
            message = f"{found[0].name} is in no row of {table.path.name}; it is not used"
            findings.append(Finding("image without row", "warning", message, (found[0].name,)))
    return images, findings


def empty_classes(class_names: Iterable[str], images: Iterable[LabelledImage], tree: Tree) -> list[Finding]:
    """A finding for each class that has no image."""
    present = {image.label for image in images}
    return [
        Finding("empty class", "error", f"{tree.root}{tree.not_followed}: no image of the class {name}")
        for name in sorted(class_names)
        if name not in present
    ]


def _is_passed_over(name: str) -> bool:
    return _PASSED_OVER.search(name.rpartition("/")[2].lower()) is not None


def _candidates(table: LabelTable, tree: Tree) -> tuple[Path, Sequence[FoundImage]]:
    """The table's own folder and the images below it, or, where it has none, those below the folder of the data."""
    folder = table.path.parent
    beside = [image for image in tree.images if image.path.is_relative_to(folder)]
    return (folder, beside) if beside else (tree.root, tree.images)


def _stem(name: str) -> str:
    return (table_stem(name) or "").lower()


def _named_again(table: LabelTable, row: LabelledRow, before: LabelledRow) -> Finding:
    if row.label == before.label:
        message = f"{row.image} is named again after line {before.row.line}, with the same label; remove one row"
        return table.error(row.row, "row twice", message, row.image)
    message = f"{row.image} is labelled {row.label!r}, but {before.label!r} on line {before.row.line}; decide for one"
    return table.error(row.row, "label conflict", message, row.image)


def _choose(found: Sequence[FoundImage], prefer: Callable[[str], bool], tree: Tree) -> Path:
    candidates = [image for image in found if prefer(image.name)] or list(found)
    for image in candidates:
        check_inside(image, tree.root)
    if len(candidates) > 1 and len({image.path.stat().st_size for image in candidates}) > 1:
        names = first_few([image.name for image in candidates], 3)
        raise DataError(f"different files have its name: {names}; keep one of them below {tree.root}")
    return candidates[0].path
