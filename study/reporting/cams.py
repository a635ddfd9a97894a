"""Grad-CAM as it is kept with a study's points, read for a page; what computed it is not needed."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.explaining.choice import chosen_trial_numbers, column_name, kind_text
from study.explaining.document import DOCUMENT_FILE, Box, ExplainedImage, PointDocument

if TYPE_CHECKING:
    from storage.artifacts import Artifacts
    from storage.database import Database

MOST_CHARACTERS = 1_200_000
"""How much the pictures of one study may take on a page, as they are written there."""


@dataclass(frozen=True)
class CamColumn:
    """One of the trials that are compared.

    Attributes:
        name: what it is called, such as `LMF (α = 0.9, β = 1.1)`.
        trial: its number.
        seed: its seed.
    """

    name: str
    trial: int
    seed: int


@dataclass(frozen=True)
class CamCell:
    """One image as one trial sees it.

    Attributes:
        picture: the image under the map, JPEG.
        predicted: the class that the trial predicted.
        probability: of the predicted class.
        truth_probability: of the image's class.
        explained: the class that the map explains.
        is_right: whether the prediction is.
        is_empty: nothing speaks for the explained class, so that the map is 0 everywhere.
    """

    picture: bytes
    predicted: str
    probability: float
    truth_probability: float
    explained: str
    is_right: bool
    is_empty: bool


@dataclass(frozen=True)
class CamRow:
    """One image.

    Attributes:
        image: its name.
        kind: who gets it right, in words.
        truth: its class.
        picture: the image, JPEG.
        boxes: boxes in it.
        cells: as each trial sees it, in the order of the columns.
    """

    image: str
    kind: str
    truth: str
    picture: bytes
    boxes: tuple[Box, ...]
    cells: tuple[CamCell, ...]


@dataclass(frozen=True)
class CamSheet:
    """Grad-CAM of a study.

    Attributes:
        study: the study.
        columns: the trials, the one that the others are compared with first.
        rows: the images.
        left_out: how many images are not here, as the page would grow too large.
        rule: how images were chosen.
        explains: `predicted` or `true`: which class the maps explain.
        layer: the layer.
        places: height and width of its map.
        model: the model.
        size: side of the pictures in pixels.
        versions: of the libraries that took part.
        remarks: what a reader has to know, one line each.
    """

    study: str
    columns: tuple[CamColumn, ...]
    rows: tuple[CamRow, ...]
    left_out: int
    rule: str
    explains: str
    layer: str
    places: tuple[int, int]
    model: str
    size: int
    versions: Mapping[str, str]
    remarks: tuple[str, ...]


def read_cams(
    database: Database, artifacts: Artifacts, study: str, *, most_characters: int = MOST_CHARACTERS
) -> CamSheet | None:
    """Read what `lmf gradcam` kept of a study.

    Args:
        database: holds the study.
        artifacts: where files of trials are.
        study: its name.
        most_characters: how much the pictures may take on the page; the last images are left out where they take more.

    Returns:
        None where nothing is kept, or what is kept cannot be read in full.

    Raises:
        StorageError: the database cannot be read, or there is no such study.
    """
    from storage.files_of_points import read_files
    from storage.queries import read_study

    files = {point: names for point, names in read_files(database, study).items() if DOCUMENT_FILE in names}
    found = []
    for names in files.values():
        content = _read(artifacts, names[DOCUMENT_FILE])
        document = None if content is None else PointDocument.from_json(content)
        if document is None:
            return None
        found.append((document, names))
    found.sort(key=lambda entry: entry[0].column)
    documents = [document for document, _ in found]
    if not _belong_together(documents):
        return None
    rows = []
    for number in range(len(documents[0].images)):
        row = _row(artifacts, found, number)
        if row is None:
            return None
        rows.append(row)
    kept = _fitting(rows, most_characters)
    first = documents[0]
    remarks = [remark for document in documents for remark in document.remarks]
    current = chosen_trial_numbers(read_study(database, study))
    if current and current != [document.trial for document in documents]:
        remarks.append("other trials are the best by now; `lmf gradcam` computes it anew")
    return CamSheet(
        study=study,
        columns=tuple(CamColumn(_name(document), document.trial, document.seed) for document in documents),
        rows=tuple(rows[:kept]),
        left_out=len(rows) - kept,
        rule=first.rule,
        explains=first.explains,
        layer=first.layer,
        places=first.places,
        model=first.model,
        size=first.size,
        versions=first.versions,
        remarks=tuple(dict.fromkeys(remarks)),
    )


def as_data_uri(picture: bytes) -> str:
    """A JPEG as a page can hold it."""
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"


def _belong_together(documents: list[PointDocument]) -> bool:
    """Whether these are all the documents of one run."""
    return (
        bool(documents)
        and [document.column for document in documents] == list(range(documents[0].columns))
        and len({(document.mark, len(document.images)) for document in documents}) == 1
    )


def _row(artifacts: Artifacts, found: list[tuple[PointDocument, dict[str, str]]], number: int) -> CamRow | None:
    first, first_files = found[0]
    image = first.images[number]
    picture = _read(artifacts, first_files.get(image.image_picture))
    cells = [_cell(artifacts, document.images[number], names) for document, names in found]
    if picture is None or None in cells:
        return None
    return CamRow(
        image=image.image,
        kind=kind_text(image.kind, first.reference, first.columns),
        truth=image.truth,
        picture=picture,
        boxes=image.boxes,
        cells=tuple(cell for cell in cells if cell is not None),
    )


def _cell(artifacts: Artifacts, image: ExplainedImage, names: Mapping[str, str]) -> CamCell | None:
    picture = _read(artifacts, names.get(image.picture))
    if picture is None:
        return None
    return CamCell(
        picture=picture,
        predicted=image.predicted,
        probability=image.probability,
        truth_probability=image.truth_probability,
        explained=image.explained,
        is_right=image.is_right,
        is_empty=image.is_empty,
    )


def _fitting(rows: list[CamRow], most_characters: int) -> int:
    """How many rows fit."""
    total = 0
    for number, row in enumerate(rows):
        total += sum(len(as_data_uri(picture)) for picture in (row.picture, *(cell.picture for cell in row.cells)))
        if total > most_characters:
            return number
    return len(rows)


def _name(document: PointDocument) -> str:
    return column_name(document.loss, document.alpha, document.beta)


def _read(artifacts: Artifacts, artifact_id: str | None) -> bytes | None:
    from optuna.artifacts.exceptions import ArtifactNotFound

    if artifact_id is None:
        return None
    try:
        with artifacts.store.open_reader(artifact_id) as body:
            content: bytes = body.read()
            return content
    except (ArtifactNotFound, ValueError):
        return None
    except artifacts.errors:
        return None
