"""Boxes that somebody drew around what matters in images, read from a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from storage.queries import StudyRecord
from study.errors import StudyError
from study.explaining.document import MOST_IMAGES, Box
from study.home import Home
from study.images import available_cores, data_places
from study.reporting.text import counted
from study.spec import StudySpec
from trainer.data.catalog import open_dataset
from trainer.data.dataset import ImageDataset, first_few
from trainer.data.fingerprint import content_fingerprint
from trainer.data.images import is_image_name
from trainer.data.label_table import LabelTable, Row, read_label_table
from trainer.errors import DataError

COLUMNS = ("image", "x", "y", "width", "height")
LABEL = "label"
_ROUNDING = 1e-6


@dataclass(frozen=True)
class DrawnBox:
    """One row of a table of boxes.

    Attributes:
        line: its line in the file, from 1.
        image: the image as the table names it.
        x: left edge.
        y: upper edge.
        width: width.
        height: height.
        label: what it marks; empty for nothing.
    """

    line: int
    image: str
    x: float
    y: float
    width: float
    height: float
    label: str = ""


@dataclass(frozen=True)
class BoxTable:
    """Boxes by image.

    Attributes:
        path: the file.
        boxes: its rows.
        in_pixels: figures are pixels of the original image, upright; otherwise they are fractions of its sides.
    """

    path: Path
    boxes: tuple[DrawnBox, ...]
    in_pixels: bool

    def by_image(self, image_names: Collection[str]) -> dict[str, tuple[DrawnBox, ...]]:
        """The boxes of each image that is known; endings of files such as `.jpg` may differ or be left out."""
        known = _known_names(image_names)
        found: dict[str, list[DrawnBox]] = {}
        for box in self.boxes:
            name = _find_name(box.image, known)
            if name is not None:
                found.setdefault(name, []).append(box)
        return {name: tuple(boxes) for name, boxes in found.items()}

    def unknown(self, image_names: Collection[str]) -> tuple[str, ...]:
        """Images that the table names and that are not known, each once."""
        known = _known_names(image_names)
        return tuple(name for name in dict.fromkeys(box.image for box in self.boxes) if not _find_name(name, known))


@dataclass(frozen=True)
class BoxedImages:
    """What became of the images that a table of boxes names.

    Attributes:
        unknown: those that the study does not have.
        untested: how many of the study's are no test images.
        shown: how many test images are shown.
        waiting: how many test images found no room among those that were asked for.
        disputed: how many test images have no kind, since the trials beside the first disagree on them.
    """

    unknown: tuple[str, ...]
    untested: int
    shown: int
    waiting: int
    disputed: int

    def remarks(self, reference: str) -> list[str]:
        """A line for each sort of image that has boxes and is not shown.

        Args:
            reference: what the first trial is called in a sentence.
        """
        lines = []
        if self.unknown:
            lines.append(f"--boxes names images that it does not have: {first_few(self.unknown)}")
        if self.untested:
            lines.append(f"not shown, since they are no test images: {counted(self.untested, 'image')} with boxes")
        if self.waiting:
            what = counted(self.waiting, "test image")
            lines.append(f"not shown: {what} with boxes; raise --images (at most {MOST_IMAGES})")
        if self.disputed:
            what = counted(self.disputed, "test image")
            lines.append(f"not shown: {what} with boxes, on which the losses beside {reference} disagree")
        return lines


def read_boxes(path: Path) -> BoxTable:
    """Read a table with the columns `COLUMNS` and, where there is one, `label`.

    Where no figure is above 1 they are fractions of the image's sides, otherwise pixels of the original image as a
    viewer shows it.

    Raises:
        StudyError: it cannot be read, lacks a column, or a row is no box; the first such row is named.
    """
    try:
        table = read_label_table(path)
        at = {name: table.column((name,), name) for name in COLUMNS}
    except DataError as error:
        raise StudyError(f"--boxes: {str(error).removeprefix('label table ')}") from None
    label_at = table.find((LABEL,))
    boxes = tuple(_read_box(table, row, at, label_at) for row in table.rows)
    in_pixels = any(value > 1 for box in boxes for value in (box.x, box.y, box.width, box.height))
    if not in_pixels:
        for box in boxes:
            if box.x + box.width > 1 + _ROUNDING or box.y + box.height > 1 + _ROUNDING:
                raise StudyError(
                    f"--boxes: {path} line {box.line}: the box of {box.image} ends outside the image; expected "
                    "x + width and y + height of at most 1 where all figures are fractions"
                )
    return BoxTable(path, boxes, in_pixels)


def place_boxes(
    table: BoxTable, drawn: Mapping[str, Sequence[DrawnBox]], record: StudyRecord, spec: StudySpec, home: Home
) -> dict[str, tuple[Box, ...]]:
    """The boxes of some images of a study, as fractions of the images' sides.

    Whole images are stretched to the square that is trained on, so fractions stay what they are.

    Args:
        table: the boxes.
        drawn: the boxes to place, by image of the study, as `BoxTable.by_image` gives them.
        record: the study.
        spec: its description.
        home: where digests of files are remembered.

    Raises:
        StudyError: the boxes are in pixels and the original images are not here, or a box ends outside its image.
    """
    if not drawn:
        return {}
    if not table.in_pixels:
        return {name: tuple(_fractions(box, (1, 1)) for box in boxes) for name, boxes in drawn.items()}
    sizes = _original_sizes(tuple(drawn), record, spec, home)
    for name, boxes in drawn.items():
        width, height = sizes[name]
        for box in boxes:
            if box.x + box.width > width or box.y + box.height > height:
                raise StudyError(
                    f"--boxes: {table.path} line {box.line}: the box of {box.image} ends outside the image, which has "
                    f"{width} x {height} pixels"
                )
    return {name: tuple(_fractions(box, sizes[name]) for box in boxes) for name, boxes in drawn.items()}


def _fractions(box: DrawnBox, size: tuple[int, int]) -> Box:
    width, height = size
    return Box(
        min(box.x / width, 1.0),
        min(box.y / height, 1.0),
        min(box.width / width, 1.0),
        min(box.height / height, 1.0),
        box.label,
    )


def _read_box(table: LabelTable, row: Row, at: Mapping[str, int], label_at: int | None) -> DrawnBox:
    where = f"--boxes: {table.path} line {row.line}"
    image = row.cell(at["image"])
    if not image:
        raise StudyError(f"{where}: the image cell is empty")
    figures = {}
    for name in COLUMNS[1:]:
        cell = row.cell(at[name])
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        lowest = "above 0" if name in ("width", "height") else "of at least 0"
        if not math.isfinite(value) or value < 0 or (value == 0 and name in ("width", "height")):
            raise StudyError(f"{where}: {name} is {cell!r}; expected a number {lowest}")
        figures[name] = value
    return DrawnBox(row.line, image, **figures, label=row.cell(label_at))


def _original_sizes(
    images: Sequence[str], record: StudyRecord, spec: StudySpec, home: Home
) -> dict[str, tuple[int, int]]:
    """Width and height of original images, turned upright."""
    dataset = _open_planned(record, spec, home)
    index = {name: position for position, name in enumerate(dataset.image_names)}
    sizes = {}
    for name in images:
        try:
            with Image.open(BytesIO(dataset.read(index[name]))) as image:
                sizes[name] = ImageOps.exif_transpose(image).size
        except (OSError, DataError) as error:
            raise StudyError(f"--boxes: the original of {name} cannot be read: {error}; give fractions") from None
    return sizes


def _open_planned(record: StudyRecord, spec: StudySpec, home: Home) -> ImageDataset:
    """The images that the study was planned with, as files."""
    problems = []
    for name, place in data_places(spec.dataset, spec.data):
        try:
            dataset = open_dataset(name, place, drop_empty=spec.drop_empty)
            if content_fingerprint(dataset, cache_dir=home.cache, workers=available_cores()) == record.fingerprint:
                return dataset
            problems.append(f"{place or name} holds other images")
        except DataError as error:
            problems.append(str(error))
    raise StudyError(
        f"--boxes: pixels need the original images of study {record.name} ({problems[0]}); give fractions of the "
        "images' sides, or name the folder of the images with LMF_DATA"
    )


def _known_names(image_names: Collection[str]) -> dict[str, str]:
    """The name behind each way to write it; an ending that tells two images apart must be written."""
    count = Counter(map(_without_ending, image_names))
    short = {_without_ending(name): name for name in image_names if count[_without_ending(name)] == 1}
    return short | {name: name for name in image_names}


def _find_name(written: str, known: Mapping[str, str]) -> str | None:
    return known.get(written) or known.get(_without_ending(written))


def _without_ending(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if is_image_name(name) else name
