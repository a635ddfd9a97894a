"""What is kept of Grad-CAM with each point: one document, and the pictures that it names.

The documents of one run belong together and carry the same mark. Pictures of the images themselves lie with the first
point, once for all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

PREFIX = "gradcam"
"""Begins the names of all files of Grad-CAM."""
DOCUMENT_FILE = f"{PREFIX}.json"
SHEET_FILE = f"{PREFIX}-sheet.jpg"
FORMAT = 1

PREDICTED, TRUE = "predicted", "true"
EXPLAINED = (PREDICTED, TRUE)
"""Which class a map may explain: the one that the model predicts, or the image's own."""
DEFAULT_IMAGES, MOST_IMAGES = 6, 50
"""How many images are explained."""


@dataclass(frozen=True)
class Box:
    """A box around what matters in an image: edges and sides as fractions of the image's sides, in [0, 1]."""

    x: float
    y: float
    width: float
    height: float
    label: str = ""


@dataclass(frozen=True)
class ExplainedImage:
    """One image as one trial sees it.

    Attributes:
        image: its name.
        kind: one of `study.explaining.choice.KINDS`.
        truth: its class.
        predicted: the class that the trial predicted.
        probability: of the predicted class.
        truth_probability: of its true class.
        explained: the class that the map explains.
        is_empty: nothing in the layer speaks for that class, so that the map is 0 everywhere.
        picture: name of the file with the image under the map.
        image_picture: name of the file with the image, among those of the first point.
        boxes: boxes in it.
    """

    image: str
    kind: str
    truth: str
    predicted: str
    probability: float
    truth_probability: float
    explained: str
    is_empty: bool
    picture: str
    image_picture: str
    boxes: tuple[Box, ...] = ()

    @property
    def is_right(self) -> bool:
        """Whether the trial predicted its class."""
        return self.predicted == self.truth


@dataclass(frozen=True, kw_only=True)
class PointDocument:
    """What Grad-CAM told of one point.

    Attributes:
        study: the study.
        trial: the trial's number.
        loss: its loss.
        alpha: factor of LMF's LDAM half, or None.
        beta: factor of LMF's focal half, or None.
        seed: its seed.
        column: its place among the points of this run, from 0, which is the one that the others are compared with.
        columns: how many there are.
        reference: what the first of them is called in a sentence.
        rule: how the images were chosen, in words.
        explains: one of `EXPLAINED`.
        layer: name of the layer.
        places: height and width of the layer's map.
        model: the model.
        size: side of the pictures in pixels.
        versions: of the libraries that took part.
        images: the images.
        remarks: what a reader has to know of the choice of trials.
        mark: the same for all documents of one run.
    """

    study: str
    trial: int
    loss: str
    alpha: float | None
    beta: float | None
    seed: int
    column: int
    columns: int
    reference: str
    rule: str
    explains: str
    layer: str
    places: tuple[int, int]
    model: str
    size: int
    versions: Mapping[str, str]
    images: tuple[ExplainedImage, ...]
    remarks: tuple[str, ...] = ()
    mark: str = field(default="")

    def to_json(self) -> str:
        """The document as text."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> PointDocument | None:
        """Read a document; None where it is damaged or was written by another version."""
        try:
            values: dict[str, Any] = json.loads(text)
            if values.pop("format", None) != FORMAT:
                return None
            values["images"] = tuple(_image(entry) for entry in values["images"])
            values |= {"places": tuple(values["places"]), "remarks": tuple(values["remarks"])}
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


def mark_together(documents: tuple[PointDocument, ...]) -> tuple[PointDocument, ...]:
    """The documents of one run, marked as such."""
    together = "\n".join(document.to_json() for document in documents)
    mark = hashlib.sha256(together.encode()).hexdigest()[:32]
    return tuple(replace(document, mark=mark) for document in documents)


def _image(entry: Mapping[str, Any]) -> ExplainedImage:
    return ExplainedImage(**{**entry, "boxes": tuple(Box(**box) for box in entry["boxes"])})
