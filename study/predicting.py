"""What `lmf predict` does: images and folders to predictions, and these to a table or a document."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from study.devices import list_devices
from study.errors import StudyError
from study.images import available_cores
from study.reporting.typeset import defused
from study.worker import library_versions
from trainer.data.dataset import ImageDataset, first_few
from trainer.data.images import IMAGE_SUFFIXES, decode_image, read_image_file
from trainer.data.tree import resolve_folder, walk
from trainer.errors import DataError
from trainer.exported import ModelDescription
from trainer.inference import ExportedModel, Predicted, Probabilities, Unusable, open_model, predict_images


@dataclass(frozen=True)
class ImagePrediction:
    """What is said of one image.

    Attributes:
        image: its name: the path as it was given, or below the folder that was given.
        predicted: the most probable class.
        probabilities: of each class, or of the most probable ones in falling order, by name.
    """

    image: str
    predicted: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class BadImage:
    """An image that was not predicted, and why."""

    image: str
    reason: str


@dataclass(frozen=True)
class Predictions:
    """All that `lmf predict` says.

    Attributes:
        description: the model.
        calibrated: whether probabilities are calibrated by the model's temperature.
        top: how many classes each prediction names; None for all, in the order of the model.
        images: what was predicted, in the order in which the images were given.
        bad: the images that could not be used.
    """

    description: ModelDescription
    calibrated: bool
    top: int | None
    images: tuple[ImagePrediction, ...]
    bad: tuple[BadImage, ...]


def find_images(paths: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    """The image files that are meant, each once, with the names that they are told by.

    A folder stands for all image files below it, by name; hidden ones are passed over, links to files are followed.
    Whatever is no folder is taken as an image, so that one that is missing or broken is told of with the others.

    Raises:
        DataError: a folder cannot be read, holds no image, or holds links to folders.
        StudyError: a path is empty.
    """
    if "" in paths:
        raise StudyError("IMAGES: one is an empty path; expected image files, or folders of them (. is this folder)")
    found: dict[str, Path] = {}
    for given in paths:
        path, shown = Path(given), os.fsencode(given).decode(errors="backslashreplace")
        if not path.is_dir():
            found.setdefault(shown, path)
            continue
        tree = walk(resolve_folder(path))
        if tree.linked_folders:
            raise DataError(
                f"{shown}: links to folders are not followed: {first_few(tree.linked_folders)}; name those folders too"
            )
        if not tree.images:
            raise DataError(f"{shown}: holds no image (looked for {' '.join(IMAGE_SUFFIXES)})")
        for image in tree.images:
            found.setdefault(os.path.join(shown, image.name), image.path)
    return tuple(found.items())


def open_for(folder: Path, device: str, threads: int | None) -> tuple[ExportedModel, tuple[str, ...]]:
    """Open an exported model where it shall predict.

    Args:
        folder: the model's folder.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: threads of the processor; None for as many as in training.

    Returns:
        The model, and what the user should know, one line each: what keeps its predictions from being the very ones of
        its training.

    Raises:
        StudyError: the device is not here.
        ModelError: the folder cannot be used.
    """
    model = open_model(folder, torch.device(list_devices(device)[0]), threads)
    recipe, origin = model.description.recipe, model.description.origin
    notes = []
    if model.precision != recipe.precision:
        notes.append(f"it was trained in {recipe.precision}, which this device cannot compute; it predicts in fp32")
    if recipe.compile:
        notes.append("it was trained with --compile and predicts without, so the last digits may differ")
    here = library_versions()
    planned = origin.get("versions", {})
    different = [
        f"{name} {planned[name]}, here {here[name]}"
        for name in here
        if name in planned and str(planned[name]).split(".")[:2] != here[name].split(".")[:2]
    ]
    if different:
        notes.append(f"it was trained with {', '.join(different)}; the last digits may differ")
    return model, tuple(notes)


def predict_paths(
    model: ExportedModel,
    paths: Sequence[str],
    *,
    raw: bool = False,
    top: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[str, int, int], None],
    tell_bad: Callable[[BadImage], None],
) -> Predictions:
    """Predict images and folders of images.

    Args:
        model: what predicts.
        paths: files and folders.
        raw: give the network's own probabilities, not the calibrated ones.
        top: name only so many classes of each image, at least 1; None for all.
        batch_size: images at a time; None for as many as in the test of the model's training.
        progress: told of slow work: what is done, how much of it, and of how much.
        tell_bad: told at once of each image that cannot be used.

    Raises:
        DataError: a folder cannot be read, holds no image, or holds links to folders.
        StudyError: a path is empty, none of the images can be used, or more classes are asked for than there are.
    """
    description = model.description
    if top is not None and top > len(description.classes):
        raise StudyError(f"--top: {top} is more than the {len(description.classes)} classes of the model")
    files = find_images(paths)
    dataset = _dataset(files, description.classes)
    calibrated = not raw and description.temperature is not None
    good: list[ImagePrediction] = []
    bad: list[BadImage] = []
    results = predict_images(
        model,
        dataset,
        range(len(dataset)),
        batch_size=batch_size,
        workers=available_cores(),
        progress=partial(progress, "predicting images"),
    )
    for result in results:
        name = dataset.image_names[result.index]
        if isinstance(result, Unusable):
            bad.append(BadImage(name, result.reason))
            tell_bad(bad[-1])
        else:
            chosen = chosen_probabilities(result, calibrated)
            classes = description.classes
            good.append(ImagePrediction(name, classes[result.best], _by_name(chosen, classes, top)))
    if not good:
        raise StudyError("no image can be used; expected image files, or folders of them")
    return Predictions(description, calibrated, top, tuple(good), tuple(bad))


def chosen_probabilities(result: Predicted, calibrated: bool) -> Probabilities:
    """The calibrated probabilities of an image where they are asked for, else the network's own."""
    return result.calibrated if calibrated and result.calibrated is not None else result.raw


def predictions_table(predictions: Predictions) -> str:
    """The predictions as CSV: image, predicted class, and the probability of each class.

    Of the most probable classes alone, each has a column of its name and one of its probability. Names that a
    spreadsheet would compute are `study.reporting.typeset.defused`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if predictions.top is None:
        writer.writerow(["image", "predicted", *(f"p({name})" for name in predictions.description.classes)])
    else:
        numbers = range(1, predictions.top + 1)
        writer.writerow(["image", "predicted", *(f"{what}{n}" for n in numbers for what in ("class ", "p "))])
    for one in predictions.images:
        shares: Iterable[Any] = (f"{value:.7g}" for value in one.probabilities.values())
        if predictions.top is not None:
            shares = (cell for name, value in one.probabilities.items() for cell in (defused(name), f"{value:.7g}"))
        writer.writerow([defused(one.image), defused(one.predicted), *shares])
    return text.getvalue()


def predictions_document(predictions: Predictions) -> dict[str, Any]:
    """The predictions as the document of `lmf predict --json`."""
    description = predictions.description
    return {
        "study": description.origin.get("study"),
        "trial": description.origin.get("trial"),
        "weights_sha256": description.weights_sha256,
        "classes": list(description.classes),
        "calibrated": predictions.calibrated,
        "temperature": description.temperature,
        "predictions": [
            {"image": one.image, "predicted": one.predicted, "probabilities": dict(one.probabilities)}
            for one in predictions.images
        ],
        "failed": [{"image": one.image, "reason": one.reason} for one in predictions.bad],
    }


def _by_name(probabilities: Probabilities, classes: Sequence[str], top: int | None) -> dict[str, float]:
    """The probabilities by class; of the most probable ones, the first of equal ones comes first."""
    order = range(len(classes)) if top is None else np.argsort(-probabilities, kind="stable")[:top].tolist()
    return {classes[index]: float(probabilities[index]) for index in order}


def _dataset(files: Sequence[tuple[str, Path]], classes: tuple[str, ...]) -> ImageDataset:
    """The files as a dataset without labels."""
    paths = tuple(path for _, path in files)
    return ImageDataset(
        name="images",
        class_names=classes,
        image_names=tuple(name for name, _ in files),
        labels=np.zeros(len(files), dtype=np.int64),
        read=lambda index: read_image_file(paths[index]),
        decode=decode_image,
        files=paths,
    )
