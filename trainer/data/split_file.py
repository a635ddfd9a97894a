"""A split of the user's own, as a table of image and part."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath

import numpy as np

from trainer.data.dataset import ImageDataset, first_few
from trainer.data.label_table import read_label_table
from trainer.data.splits import PART_NAMES, Split, check_classes
from trainer.errors import DataError

IMAGE_COLUMNS = ("image", "image_id", "filename", "file", "path", "name")
PART_COLUMNS = ("split", "part", "set", "subset", "fold")

_PARTS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("val", "valid", "validation"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}


def read_split_file(path: Path, dataset: ImageDataset) -> Split:
    """Read a split from a table with a column of images and a column of `train`, `val` and `test`.

    Images are named as the dataset names them, or without folders and suffix where that is unique. Every image has
    to be in exactly one row.

    Args:
        path: the table, as `trainer.data.label_table` reads it.
        dataset: whose images it names.

    Raises:
        DataError: the file cannot be read, rows cannot be used, images have no row, or a part lacks a class. All bad
            rows are counted and the first are named.
    """
    table = read_label_table(path)
    image_at, part_at = table.column(IMAGE_COLUMNS, "image"), table.column(PART_COLUMNS, "split")
    index = {name: position for position, name in enumerate(dataset.image_names)}
    stems: dict[str, list[int]] = {}
    for name, position in index.items():
        stems.setdefault(PurePosixPath(name).stem, []).append(position)
    part_of = np.full(len(dataset), -1, dtype=np.int8)
    problems: list[str] = []
    for row in table.rows:
        image, part = row.cell(image_at), _PARTS.get(row.cell(part_at).lower())
        alike = stems.get(PurePosixPath(image).stem, [])
        position = index.get(image, alike[0] if len(alike) == 1 else -1)
        if position < 0:
            reason = f"{image} may mean {len(alike)} images" if alike else f"{dataset.name} has no image {image!r}"
            problems.append(f"line {row.line}: {reason}")
        elif part is None:
            problems.append(f"line {row.line}: {row.cell(part_at)!r} is no part; expected {', '.join(PART_NAMES)}")
        elif part_of[position] >= 0:
            problems.append(f"line {row.line}: {image} is named again")
        else:
            part_of[position] = part
    if problems:
        rows = "1 row" if len(problems) == 1 else f"{len(problems):,} rows"
        raise DataError(f"split file {path}: {rows} cannot be used: {first_few(problems, separator='; ')}")
    missing = [dataset.image_names[position] for position in np.flatnonzero(part_of < 0).tolist()]
    if missing:
        number = "1 image has" if len(missing) == 1 else f"{len(missing):,} images have"
        raise DataError(f"split file {path}: {number} no row: {first_few(missing)}; add rows for them")
    split = Split.of_parts(part_of)
    check_classes(
        split, dataset.labels, dataset.class_names, f"split file {path}: too few images of", "move some there"
    )
    return split


def split_file_text(dataset: ImageDataset, split: Split) -> str:
    """A split as the text of a table that `read_split_file` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "split"])
    parts = sorted((index, name) for name in PART_NAMES for index in getattr(split, name).tolist())
    writer.writerows([dataset.image_names[index], name] for index, name in parts)
    return text.getvalue()
