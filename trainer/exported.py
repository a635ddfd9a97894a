"""A trained model in a folder of its own: its weights, and all that predicting with it takes.

The folder needs neither the database nor the images of the study that it comes from. `trainer.inference` predicts with
it.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.config import AUTO, Recipe
from trainer.errors import ModelError, RecipeError, one_line
from trainer.results import weights_digest

FORMAT = 1
"""Version of the folder's layout; a reader refuses any other."""

DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
MARKS_FILE = "image-marks.txt"
FILES = (DESCRIPTION_FILE, WEIGHTS_FILE, CARD_FILE, MARKS_FILE)
"""All files that a model's folder may hold."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each colour channel, on the [0, 1] scale."""

_KIND = "lmf model"
_SEAL = "sha256"
_CHANNELS = 3
_AGAIN = "copy it again, or export the model again with `lmf export STUDY --model DIR`"


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What is to be known of a model to predict with it, and where it comes from.

    Attributes:
        recipe: how it was trained; its `model`, `image_size`, `exact`, `precision` and `threads` say how to predict.
        classes: names of its classes, in the order of its outputs.
        statistics: what pixels are normalised with, or None where they are only scaled to [0, 1].
        temperature: what logits are divided by for calibrated probabilities, above 0; None where it is not known.
        weights_sha256: `trainer.results.weights_digest` of its weights.
        marks_sha256: SHA-256 of the file of image marks, hexadecimal; None where the folder has none.
        origin: where it comes from, as JSON can hold it: study, loss, seed, scores and so on.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    statistics: Statistics | None
    temperature: float | None
    weights_sha256: str
    marks_sha256: str | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The document of `model.json`, sealed with the SHA-256 of all that is in it."""
        document = {
            "kind": _KIND,
            "format": FORMAT,
            "model": self.recipe.model,
            "classes": list(self.classes),
            "image_size": self.recipe.image_size,
            "preprocessing": _preprocessing(self.recipe, self.statistics),
            "temperature": self.temperature,
            "weights_sha256": self.weights_sha256,
            "marks_sha256": self.marks_sha256,
            "recipe": self.recipe.to_dict(),
            "origin": dict(self.origin),
        }
        return document | {_SEAL: _seal(document)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ModelDescription:
        """The inverse of `to_dict`.

        Raises:
            ModelError: a part is missing, of another type, or not as it was sealed; the message lacks the file's name.
        """
        if document.get("kind") != _KIND:
            raise ModelError("describes no model of lmf")
        if document.get("format") != FORMAT:
            raise ModelError(
                f"is of format {document.get('format')!r}, while this lmf reads {FORMAT}; use the version of lmf that "
                "wrote it, or export the model again"
            )
        sealed = {name: value for name, value in document.items() if name != _SEAL}
        if document.get(_SEAL) != _seal(sealed):
            raise ModelError(f"was changed or damaged after it was written; {_AGAIN}")
        try:
            recipe = Recipe.from_dict(document["recipe"])
            normalisation = document["preprocessing"]["normalise"]
            described = cls(
                recipe=recipe,
                classes=tuple(document["classes"]),
                statistics=normalisation and (tuple(normalisation["mean"]), tuple(normalisation["std"])),
                temperature=document["temperature"],
                weights_sha256=document["weights_sha256"],
                marks_sha256=document["marks_sha256"],
                origin=document["origin"],
            )
            problems = described.problems()
        except (KeyError, TypeError, AttributeError, RecipeError) as error:
            raise ModelError(f"was written by another version of lmf ({one_line(error)}); use that one") from None
        if problems:
            raise ModelError(f"cannot be used: {'; '.join(problems)}; {_AGAIN}")
        return described

    def problems(self) -> list[str]:
        """Everything that keeps this model from being used, one line each; empty where nothing does."""
        lines = self.recipe.problems()
        if self.recipe.precision == AUTO:
            lines.append("precision: value is 'auto', expected the one that it was trained in")
        if len(set(self.classes)) < 2 or len(set(self.classes)) < len(self.classes):
            lines.append(f"classes: value is {list(self.classes)!r}, expected at least 2 names, all different")
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature > 0):
            lines.append(f"temperature: value is {self.temperature!r}, expected a number above 0")
        if self.statistics is not None and any(len(values) != _CHANNELS for values in self.statistics):
            lines.append(f"normalise: value is {self.statistics!r}, expected {_CHANNELS} means and deviations")
        return lines


def write_model(folder: Path, description: ModelDescription, state: Mapping[str, Tensor]) -> None:
    """Write a model's weights and description into a folder that is there.

    Args:
        folder: where to.
        description: the model; its `weights_sha256` is that of `state`.
        state: its weights, on the CPU.

    Raises:
        ModelError: the weights are other ones, or the description is unusable.
        OSError: a file cannot be written.
    """
    found = weights_digest(state)
    problems = description.problems()
    if found != description.weights_sha256:
        problems.append(f"weights: their SHA-256 is {found}, expected {description.weights_sha256}")
    if problems:
        raise ModelError(f"model {description.recipe.model} cannot be exported: {'; '.join(problems)}")
    text = json.dumps(description.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)
    (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")
    weights = folder / WEIGHTS_FILE
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    # safetensors lets only its owner read a file; whoever may read the folder may read this one as well.
    shutil.copymode(folder / DESCRIPTION_FILE, weights)


def read_description(folder: Path) -> ModelDescription:
    """Read what a folder says of its model.

    Raises:
        ModelError: the folder holds no model, or its description is damaged or of another version.
    """
    path = folder / DESCRIPTION_FILE
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such folder; expected one that `lmf export STUDY --model DIR` wrote")
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: holds no {DESCRIPTION_FILE}; expected a folder that `lmf export STUDY --model DIR` wrote"
        ) from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path}: is damaged: it is no JSON document; {_AGAIN}") from None
    if not isinstance(document, dict):
        raise ModelError(f"{path}: describes no model of lmf")
    try:
        return ModelDescription.from_dict(document)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def read_weights(folder: Path, description: ModelDescription) -> dict[str, Tensor]:
    """Read a model's weights, on the CPU.

    Raises:
        ModelError: the file is missing, damaged, or holds other weights than the description names.
    """
    path = folder / WEIGHTS_FILE
    state = load_weights(path)
    found = weights_digest(state)
    if found != description.weights_sha256:
        raise ModelError(
            f"{path}: holds other weights than {DESCRIPTION_FILE} names (SHA-256 {found[:12]} instead of "
            f"{description.weights_sha256[:12]}); {_AGAIN}"
        )
    return state


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file; {_AGAIN}") from None
    except Exception as error:  # a damaged file raises errors of the library's own, of struct and of the system
        raise ModelError(f"{path}: cannot be read: {one_line(error)}; {_AGAIN}") from None


def _preprocessing(recipe: Recipe, statistics: Statistics | None) -> dict[str, Any]:
    """How an image file becomes the network's input, in words and figures; `normalise` is read again."""
    return {
        "decode": "the first frame, turned upright as its EXIF orientation says; RGB: grey becomes three equal "
        "channels, 16 bits a channel are cut to their upper 8, transparency is dropped",
        "reduced_jpeg": not recipe.exact,
        "resize": f"the whole image stretched to {recipe.image_size} x {recipe.image_size}, bilinear with antialiasing",
        "scale": "divided by 255, to [0, 1]",
        "normalise": statistics and {"mean": list(statistics[0]), "std": list(statistics[1])},
        "layout": "float32, (N, 3, height, width), channels last in memory",
        "precision": recipe.precision,
    }


def _seal(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
