"""A study's trained model in a folder to take home: weights, preprocessing, classes, calibration and a model card."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from storage.artifacts import Artifacts
from storage.database import Database
from storage.outcomes import Outcomes
from storage.queries import PointRecord, StudyRecord, read_parts, read_study
from study.errors import StudyError
from study.home import Home
from study.model_card import card_text
from study.plan import stored_spec
from study.reporting.calibration import Calibration, calibrate
from study.reporting.predictions import FILE_NAME, read_predictions
from study.reporting.statistics import select_score, summarize
from study.reporting.text import counted
from study.spec import StudySpec
from study.worker import library_versions
from trainer.config import WEIGHT_SOURCES, Recipe
from trainer.data.catalog import find_source
from trainer.data.image_marks import marks_text
from trainer.data.splits import Split
from trainer.errors import ModelError, TrainerError
from trainer.exported import (
    CARD_FILE,
    DESCRIPTION_FILE,
    FILES,
    MARKS_FILE,
    ModelDescription,
    load_weights,
    read_description,
    read_weights,
    write_model,
)
from trainer.inference import build_network
from trainer.models import input_statistics
from trainer.results import weights_digest


@dataclass(frozen=True)
class ExportedTo:
    """What `export_model` did.

    Attributes:
        folder: where the model is now.
        point: the point that it is of.
        notes: what the user should know of it, one line each.
    """

    folder: Path
    point: PointRecord
    notes: tuple[str, ...]


def export_model(database: Database, home: Home, name: str, folder: Path, trial: int | None = None) -> ExportedTo:
    """Write the model of one trial of a study into a folder, whole or not at all.

    Args:
        database: holds the study.
        home: where artifacts and decoded images are.
        name: the study.
        folder: where to; what is there is replaced if it is a model's folder, or empty.
        trial: the trial's number; None for the one that validation chooses.

    Raises:
        StudyError: there is no such trial, its weights are not kept, or the folder is another one or cannot be written.
        StorageError: the study or a file of it cannot be read.
        ModelError: the weights are damaged, or timm cannot build the model here.
    """
    refuse_other_folder(folder)
    record = read_study(database, name)
    point = choose_point(record, trial)
    best = _best_point(record)
    artifacts = Artifacts.open(home.artifacts)
    spec = stored_spec(record.spec)
    notes = [f"study {name} has {counted(record.remaining, 'open point')}, so another trial may be the best in the end"]
    notes = notes if record.remaining and trial is None else []
    if trial is None and best is not None and point is not best:
        notes.append(
            f"the weights of trial {best.trial_number}, the best on validation, were not kept; trial "
            f"{point.trial_number} ({point.key}) stands for it, the best of those that were"
        )
    with _beside(folder) as draft:
        state = _fetch_weights(artifacts, record, point, draft)
        recipe = spec.recipe
        network = build_network(recipe, len(record.class_names), state)
        calibration, reason = _calibrate(database, artifacts, record, point)
        if calibration is None:
            notes.append(f"no temperature, so probabilities will be the network's own: {reason}")
        marks = _write_marks(database, home, record, spec, draft)
        if marks is None:
            notes.append(
                "the decoded images are not in the cache of this machine, so `lmf evaluate` can tell the model's own "
                "images only where it is given all of them, unchanged"
            )
        description = ModelDescription(
            recipe=_without_path(recipe),
            classes=record.class_names,
            statistics=input_statistics(network) if recipe.normalize else None,
            temperature=calibration.temperature if calibration else None,
            weights_sha256=point.scores["weights_sha256"] if point.scores else "",
            marks_sha256=marks,
            origin=_origin(record, spec, point, calibration) | {"chosen": trial is None and point is best},
        )
        write_model(draft, description, state)
        (draft / CARD_FILE).write_text(card_text(description), encoding="utf-8")
        read_weights(draft, read_description(draft))
        _publish(draft, folder)
    return ExportedTo(folder, point, tuple(notes))


def choose_point(record: StudyRecord, trial: int | None) -> PointRecord:
    """The point whose model is meant.

    Args:
        record: the study.
        trial: a trial's number; None for the one that validation chooses: of the best α and β, or of the best loss
            where losses are compared, the seed with the best score. Where its weights were not kept, another seed's
            stand for it, or else those of the best trial that were.

    Raises:
        StudyError: there is none, or its weights are not kept.
    """
    if trial is None:
        point = _best_point(record)
        if point is None:
            raise StudyError(f"study {record.name} has no complete trial yet, so there is no model to export")
        whose = f"of trial {point.trial_number}, the best on validation,"
        if point.weights is None:
            point = _best_kept(record, point) or point
    else:
        found = [point for point in record.points if point.trial_number == trial]
        if not found:
            raise StudyError(
                f"--trial: study {record.name} has no trial {trial}; `lmf study show {record.name}` lists all"
            )
        (point,) = found
        if point.state != "complete":
            raise StudyError(f"--trial: trial {trial} of study {record.name} is {point.state}; expected a complete one")
        whose = f"of trial {trial}"
    if point.weights is None:
        kept = [str(other.trial_number) for other in record.points if other.weights is not None]
        there = f"those of {', '.join(kept)} were, and --trial {kept[0]} exports one; " if kept else ""
        raise StudyError(
            f"study {record.name}: the weights {whose} were not kept; {there}to have others, train the study again "
            "under another name with --keep-weights N or all"
        )
    return point


def refuse_other_folder(folder: Path) -> None:
    """Make sure that a folder may be written, or replaced.

    Raises:
        StudyError: there is a file in its place, or it holds what no exported model has.
    """
    try:
        if not os.path.lexists(folder):
            return
        if folder.is_symlink() or not folder.is_dir():
            raise StudyError(f"--model: {folder} is no folder; name one that is new, empty, or holds an exported model")
        others = sorted(entry.name for entry in folder.iterdir() if entry.name not in FILES)
        is_ours = not others and (not any(folder.iterdir()) or (folder / DESCRIPTION_FILE).is_file())
    except OSError as error:
        raise StudyError(f"--model: {folder}: cannot be read: {error.strerror or error}; name another folder") from None
    if not is_ours:
        held = f"holds {others[0]}" if others else "holds no whole model"
        raise StudyError(
            f"--model: {folder} {held}; name a folder that is new, empty, or holds an exported model and nothing else"
        )


def _best_point(record: StudyRecord) -> PointRecord | None:
    summary = summarize(record)
    row = summary.best_row
    if summary.losses:
        able = [loss for loss in summary.losses if loss.score("val", summary.select) is not None]
        best = max(able, key=lambda loss: loss.score("val", summary.select) or 0.0, default=None)
        row = best.best_row(summary.select) if best else None
    return next((point for point in record.points if row and point.point_id == row.point), None)


def _best_kept(record: StudyRecord, best: PointRecord) -> PointRecord | None:
    """Of the points whose weights were kept, the best seed of the same loss, α and β, or else the best one."""
    rows = {row.point: row for row in summarize(record).rows}
    select = select_score(record)

    def rank(point: PointRecord) -> tuple[bool, float]:
        same = (point.loss, point.alpha, point.beta) == (best.loss, best.alpha, best.beta)
        return same, rows[point.point_id].score("val", select) or 0.0

    return max((point for point in record.points if point.weights is not None), key=rank, default=None)


def _fetch_weights(artifacts: Artifacts, record: StudyRecord, point: PointRecord, draft: Path) -> dict[str, Tensor]:
    """A point's weights from the artifact store, known to be those that were scored."""
    assert point.weights is not None
    assert point.scores is not None
    what = f"study {record.name}, trial {point.trial_number}"
    copy = draft / "fetched"
    if not artifacts.get(point.weights, copy):
        raise StudyError(
            f"{what}: its weights {point.weights} are not in {artifacts.location}; set LMF_ARTIFACTS to where the "
            "workers wrote them, or choose another trial with --trial"
        )
    try:
        state = load_weights(copy)
    except ModelError:
        raise StudyError(
            f"{what}: its weights {point.weights} in {artifacts.location} are damaged; take another trial with --trial"
        ) from None
    finally:
        copy.unlink(missing_ok=True)
    if weights_digest(state) != point.scores["weights_sha256"]:
        raise StudyError(
            f"{what}: the weights {point.weights} in {artifacts.location} are not those that were tested (the database "
            "has another SHA-256); take another trial with --trial"
        )
    return state


def _calibrate(
    database: Database, artifacts: Artifacts, record: StudyRecord, point: PointRecord
) -> tuple[Calibration | None, str]:
    """The calibration of a point, or why it has none."""
    files = Outcomes(database).read(point.point_id).files or []
    artifact_id = next((file["artifact_id"] for file in files if file["filename"] == FILE_NAME), None)
    found = read_predictions(artifacts, artifact_id, record, images=False)
    if found.val is None or found.test is None:
        return None, found.reason or "there are no predictions"
    calibration = calibrate(found.val, found.test)
    if not calibration.fitted:
        return None, "no temperature fits validation best, as where every image of it is classified right"
    return calibration, ""


def _write_marks(database: Database, home: Home, record: StudyRecord, spec: StudySpec, draft: Path) -> str | None:
    """Write the marks of the study's images, where their decoded form is here; gives the file's SHA-256."""
    split = Split.from_letters(read_parts(database, record.name))
    text = marks_text(home.cache, record.fingerprint, spec.recipe.image_size, spec.recipe.exact, split)
    if text is None:
        return None
    (draft / MARKS_FILE).write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def _without_path(recipe: Recipe) -> Recipe:
    """The recipe without the folders of a weights file, which are nobody else's business."""
    if recipe.weights in WEIGHT_SOURCES:
        return recipe
    return Recipe.from_dict(recipe.to_dict() | {"weights": Path(recipe.weights).name})


def _origin(
    record: StudyRecord, spec: StudySpec, point: PointRecord, calibration: Calibration | None
) -> dict[str, Any]:
    """All that is to be told of a model's past, as JSON can hold it."""
    scores = point.scores or {}
    try:
        licence = find_source(spec.dataset).licence
    except TrainerError:
        licence = "unknown"
    return {
        "study": record.name,
        "dataset": record.dataset,
        "dataset_licence": "unknown" if licence == "yours" else licence,
        "model": record.model,
        "trial": point.trial_number,
        "loss": {"name": point.loss, "alpha": point.alpha, "beta": point.beta},
        "seed": point.seed,
        "seeds": list(spec.seeds),
        "select": spec.recipe.select,
        "best_epoch": scores.get("best_epoch"),
        "scores": {part: scores[part] for part in ("val", "test")},
        "calibration": _calibration_document(calibration),
        "images": {part: list(counts) for part, counts in record.counts.items()},
        "split": {"seed": spec.split_seed, "group": spec.group, "file": spec.split_file is not None},
        "fingerprint": record.fingerprint,
        "split_fingerprint": record.split_fingerprint,
        "leakage": [dict(entry) for entry in record.leakage],
        "warnings": list(point.warnings),
        "versions": dict(record.spec.get("versions", {})),
        "exported_with": {"lmf": version("lmf"), "pillow": version("pillow"), **library_versions()},
        "trained_at": point.finished_at,
        "points": {"planned": record.total, "complete": sum(one.state == "complete" for one in record.points)},
    }


def _calibration_document(calibration: Calibration | None) -> dict[str, Any] | None:
    if calibration is None:
        return None
    moments = {"before": calibration.before, "after": calibration.after}
    scores = {name: {"ece": found.ece, "nll": found.nll, "brier": found.brier} for name, found in moments.items()}
    return {**scores, "val_images": calibration.val_images, "test_images": calibration.test_images}


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """An empty folder beside another one's place, removed at the end if it is still there."""
    draft = _hidden(folder, "new")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        yield draft
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, folder: Path) -> None:
    """Move a finished folder to its place; what was there goes only when it has been moved out of the way."""
    for path in (*draft.iterdir(), draft):
        _flush(path)
    if not folder.exists() or not any(folder.iterdir()):
        os.replace(draft, folder)
        return
    refuse_other_folder(folder)
    old = _hidden(folder, "old")
    os.replace(folder, old)
    try:
        os.replace(draft, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hidden(folder: Path, what: str) -> Path:
    folder = folder.absolute()
    return folder.with_name(f".{folder.name[:60]}.{secrets.token_hex(4)}.{what}")


def _unwritable(folder: Path, error: OSError) -> StudyError:
    return StudyError(f"--model: {folder}: cannot be written: {error.strerror or error}; name another folder")
