"""Grad-CAM of a study: the same test images as several trained models see them, kept as files of their points."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from storage.added_files import AddedFile, replace_added_files, show_with_study
from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError
from storage.files_of_points import read_files
from storage.queries import PointRecord, StudyRecord, read_parts, read_study
from storage.trials import TrialMirror
from study.errors import StudyError
from study.explaining.boxes import BoxedImages, BoxTable, place_boxes
from study.explaining.choice import (
    ChosenImage,
    ChosenTrials,
    choose_images,
    choose_trials,
    kinds_of_images,
    rule_text,
)
from study.explaining.document import (
    DEFAULT_IMAGES,
    DOCUMENT_FILE,
    PREDICTED,
    PREFIX,
    SHEET_FILE,
    Box,
    ExplainedImage,
    PointDocument,
    mark_together,
)
from study.explaining.drawing import as_jpeg, draw_image, draw_overlay, draw_sheet, shown_side
from study.home import Home
from study.images import load_planned_images
from study.plan import stored_spec
from study.reporting.predictions import FILE_NAME as PREDICTIONS_FILE
from study.reporting.predictions import Predictions, read_predictions
from study.reporting.text import percent
from study.spec import StudySpec
from study.worker import library_versions
from trainer.data.cache import Prepared
from trainer.errors import one_line
from trainer.gradcam import Explanation, check_captum, explain
from trainer.inference import build_network
from trainer.models import input_statistics
from trainer.process import translated_failures
from trainer.results import weights_digest

_SHEET_BYTES = 400_000
_LARGEST_DIFFERENCE = 0.05


@dataclass(frozen=True)
class GradcamOptions:
    """What was asked for.

    Attributes:
        images: how many images, from 1 to `MOST_IMAGES`.
        boxes: boxes to draw, or None.
        explains: one of `EXPLAINED`.
        layer: name of the layer, or None to find it.
        device: `cpu` or `cuda:N`.
    """

    images: int = DEFAULT_IMAGES
    boxes: BoxTable | None = None
    explains: str = PREDICTED
    layer: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class ExplainedStudy:
    """What was explained.

    Attributes:
        study: the study.
        names: what each trial is called, the one that the others are compared with first.
        documents: what is kept with each of their points.
        boxed: what became of the images that have boxes; None where no boxes were given.
        files: how many files are kept.
    """

    study: str
    names: tuple[str, ...]
    documents: tuple[PointDocument, ...]
    boxed: BoxedImages | None
    files: int


@dataclass(frozen=True, eq=False)
class _Scene:
    """The images to explain: their places among the decoded ones, and their boxes."""

    images: tuple[ChosenImage, ...]
    at: np.ndarray
    boxes: tuple[tuple[Box, ...], ...]


def explain_study(database: Database, home: Home, name: str, options: GradcamOptions) -> ExplainedStudy:
    """Compute Grad-CAM for a study and keep it as files of its points, in place of what was there.

    Args:
        database: holds the study.
        home: where files of trials and decoded images are.
        name: the study.
        options: what was asked for.

    Raises:
        StudyError: no weights are kept, or files of trials or images are not here.
        TrainerError: captum is not installed, or the model or the images cannot be used.
        StorageError: the database or the artifact store cannot be read or written.
    """
    check_captum()
    record = read_study(database, name)
    spec = stored_spec(record.spec)
    trials = choose_trials(record)
    artifacts = Artifacts.open(home.artifacts)
    predictions = _read_predictions(database, artifacts, record, trials.points)
    prepared = load_planned_images(record, read_parts(database, name), spec, home).prepared
    drawn = options.boxes.by_image(prepared.image_names) if options.boxes else {}
    chosen = choose_images(predictions, record.counts["train"], options.images, frozenset(drawn))
    if not chosen:
        raise StudyError(f"{name}: on every test image the losses beside {trials.reference} disagree; compare fewer")
    placed: dict[str, tuple[Box, ...]] = {}
    if options.boxes:
        shown = {image.name: drawn[image.name] for image in chosen if image.name in drawn}
        placed = place_boxes(options.boxes, shown, record, spec, home)
    scene = _Scene(
        chosen,
        np.array([prepared.image_names.index(image.name) for image in chosen]),
        tuple(placed.get(image.name, ()) for image in chosen),
    )
    with _scratch_folder(home.scratch) as folder:
        documents, files = _explain_all(record, spec, trials, predictions, prepared, scene, options, artifacts, folder)
        entries = replace_added_files(database, artifacts, name, PREFIX, files)
    _show_with_study(database, name, entries[trials.points[0].point_id, SHEET_FILE])
    boxed = None
    if options.boxes:
        kinds = kinds_of_images(predictions)
        tested = [image for image in drawn if image in kinds]
        disputed = sum(kinds[image] is None for image in tested)
        boxed = BoxedImages(
            unknown=options.boxes.unknown(prepared.image_names),
            untested=len(drawn) - len(tested),
            shown=len(placed),
            waiting=len(tested) - disputed - len(placed),
            disputed=disputed,
        )
    return ExplainedStudy(name, trials.names, documents, boxed, len(files))


def _read_predictions(
    database: Database, artifacts: Artifacts, record: StudyRecord, points: Sequence[PointRecord]
) -> list[Predictions]:
    """What each trial predicted for the test images."""
    files = read_files(database, record.name)
    found = []
    for point in points:
        read = read_predictions(artifacts, files.get(point.point_id, {}).get(PREDICTIONS_FILE), record)
        if read.test is None:
            raise StudyError(
                f"{record.name}: which images to explain is told by what trial {point.trial_number} predicted, but "
                f"{read.reason}; LMF_ARTIFACTS names the place of such files ({artifacts.location} now)"
            )
        found.append(read.test)
    return found


def _explain_all(
    record: StudyRecord,
    spec: StudySpec,
    trials: ChosenTrials,
    predictions: Sequence[Predictions],
    prepared: Prepared,
    scene: _Scene,
    options: GradcamOptions,
    artifacts: Artifacts,
    folder: Path,
) -> tuple[tuple[PointDocument, ...], list[AddedFile]]:
    """Explain the images by each trial, and write documents and pictures into a folder."""
    pixels = np.ascontiguousarray(prepared.images[scene.at])
    first = trials.points[0].point_id
    image_names = [f"{PREFIX}-image-{number:02}.jpg" for number in range(1, len(scene.images) + 1)]
    shown = [[draw_image(one, boxes)] for one, boxes in zip(pixels, scene.boxes, strict=True)]
    contents = {(first, file): as_jpeg(row[0]) for file, row in zip(image_names, shown, strict=True)}
    documents = []
    for column, (point, predicted) in enumerate(zip(trials.points, predictions, strict=True)):
        rows = [(predicted.images or ()).index(image.name) for image in scene.images]
        truths = [image.truth for image in scene.images]
        targets = predicted.predicted[rows].tolist() if options.explains == PREDICTED else truths
        state = _read_weights(artifacts, record, point, folder)
        explanation = _explain(spec, record, state, pixels, targets, options)
        remarks = [*trials.remarks] if column == 0 else []
        remarks += _difference(point, predicted.probabilities[rows], explanation, spec.recipe.precision)
        images = []
        for number, (image, row, target) in enumerate(zip(scene.images, rows, targets, strict=True)):
            overlay = draw_overlay(pixels[number], explanation.maps[number], scene.boxes[number])
            file = f"{PREFIX}-{number + 1:02}.jpg"
            shown[number].append(overlay)
            contents[point.point_id, file] = as_jpeg(overlay)
            likely = int(predicted.predicted[row])
            images.append(
                ExplainedImage(
                    image=image.name,
                    kind=image.kind,
                    truth=record.class_names[image.truth],
                    predicted=record.class_names[likely],
                    probability=float(predicted.probabilities[row, likely]),
                    truth_probability=float(predicted.probabilities[row, image.truth]),
                    explained=record.class_names[target],
                    is_empty=not explanation.maps[number].any(),
                    picture=file,
                    image_picture=image_names[number],
                    boxes=scene.boxes[number],
                )
            )
        documents.append(
            PointDocument(
                study=record.name,
                trial=point.trial_number or 0,
                loss=point.loss,
                alpha=point.alpha,
                beta=point.beta,
                seed=point.seed,
                column=column,
                columns=len(trials.points),
                reference=trials.reference,
                rule=rule_text(trials.reference, len(trials.points), boxed=options.boxes is not None),
                explains=options.explains,
                layer=explanation.layer.name,
                places=explanation.layer.places,
                model=spec.recipe.model,
                size=shown_side(pixels.shape[1]),
                versions=_versions(),
                images=tuple(images),
                remarks=tuple(remarks),
            )
        )
    marked = mark_together(tuple(documents))
    contents[first, SHEET_FILE] = _sheet(trials, marked, shown)
    for point, document in zip(trials.points, marked, strict=True):
        contents[point.point_id, DOCUMENT_FILE] = document.to_json().encode()
    return marked, _write_files(contents, folder)


def _explain(
    spec: StudySpec,
    record: StudyRecord,
    state: dict[str, Tensor],
    pixels: np.ndarray,
    targets: Sequence[int],
    options: GradcamOptions,
) -> Explanation:
    recipe, device = spec.recipe, torch.device(options.device)
    torch.set_num_threads(recipe.threads)
    network = build_network(recipe, len(record.class_names), state)
    statistics = input_statistics(network) if recipe.normalize else None
    with translated_failures(recipe, device):
        return explain(network, pixels, targets, device, statistics=statistics, layer=options.layer)


def _read_weights(artifacts: Artifacts, record: StudyRecord, point: PointRecord, folder: Path) -> dict[str, Tensor]:
    """The kept weights of a point, which are those that were tested."""
    path = folder / "weights.safetensors"
    where = f"{record.name}: the weights of trial {point.trial_number}"
    if point.weights is None or not artifacts.get(point.weights, path):
        raise StudyError(f"{where} are not in {artifacts.location}; LMF_ARTIFACTS names the place of such files")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise StudyError(f"{where} are damaged: {one_line(error)}; put them back from a backup") from None
    finally:
        path.unlink(missing_ok=True)
    if weights_digest(state) != (point.scores or {}).get("weights_sha256"):
        raise StudyError(f"{where} are not those that were tested (SHA-256 differs); put them back from a backup")
    return state


def _difference(point: PointRecord, tested: np.ndarray, explanation: Explanation, precision: str) -> list[str]:
    """A line where the model, computed in float32 here, predicts other probabilities than when it was tested."""
    largest = float(np.abs(tested - explanation.probabilities).max())
    if largest <= _LARGEST_DIFFERENCE:
        return []
    return [
        f"trial {point.trial_number} was tested in {precision}; computed in fp32 here, its probabilities differ by up "
        f"to {percent(largest)} percentage points"
    ]


def _versions() -> dict[str, str]:
    return {"lmf": version("lmf"), **library_versions(), "captum": version("captum")}


def _sheet(trials: ChosenTrials, documents: Sequence[PointDocument], shown: Sequence[Sequence[Image.Image]]) -> bytes:
    """All pictures in one file, for optuna-dashboard."""
    captions = []
    for number, image in enumerate(documents[0].images):
        columns = [document.images[number] for document in documents]
        verdicts = [
            f"{'right' if one.is_right else 'wrong'}: {one.predicted} {percent(one.probability)} %" for one in columns
        ]
        captions.append([f"{number + 1}: {image.truth}", *verdicts])
    return as_jpeg(draw_sheet(["image and its class", *trials.names], shown, captions), _SHEET_BYTES)


def _write_files(contents: dict[tuple[int, str], bytes], folder: Path) -> list[AddedFile]:
    """Write each point's files into a folder of its own."""
    files = []
    for (point_id, name), content in contents.items():
        path = folder / str(point_id) / name
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise StudyError(f"{path.parent}: cannot be written: {error.strerror}; make room in LMF_HOME") from None
        files.append(AddedFile(point_id, path))
    return files


def _show_with_study(database: Database, name: str, entry: dict[str, object]) -> None:
    mirror = TrialMirror.open(database)
    try:
        show_with_study(mirror, name, entry)
    finally:
        mirror.close()


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder that is removed at the end; one that a killed process leaves is removed by the next worker here."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=parent, prefix=f"{socket.gethostname()}={os.getpid()}=")
    except OSError as error:
        raise StorageError(f"{parent}: cannot make a folder for files under way: {error.strerror}") from None
    with folder as path:
        yield Path(path)
