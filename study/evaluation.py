"""What `lmf evaluate` does: an exported model scored on labelled images that it need not know."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.class_names import ClassMatch, match_classes
from study.datasets import DataQuery, find_data, refuse_bad_labels, view_data
from study.errors import StudyError
from study.images import available_cores
from study.predicting import BadImage
from study.reporting.calibration import CalibrationScores, calibration_scores
from study.reporting.confusion_scores import CONFUSION_SCORES, Figures
from study.reporting.resampling import score_interval
from study.reporting.typeset import defused
from trainer.data.dataset import ImageDataset
from trainer.data.fingerprint import content_fingerprint
from trainer.data.image_marks import ImageMark, read_marks
from trainer.errors import DataError
from trainer.exported import MARKS_FILE, ModelDescription
from trainer.inference import ExportedModel, Predicted, Unusable, predict_images
from trainer.metrics import Scores, score

OVER_CLASSES = ("macro_f1", "precision", "recall")
"""Scores that are means over the classes; here over those that have images."""

CLASS_SCORES = {"auc": "auc_per_class", "average_precision": "average_precision_per_class"}

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's scores on a dataset.

    Attributes:
        description: the model.
        dataset: the dataset's name.
        part: the part of its split that was scored; None for all of it.
        match: which of the dataset's classes is which of the model's.
        left_out: images of classes that the model does not know, by class; they are in no score.
        failed: images that cannot be used; they are in no score either.
        images: names of the images that were scored.
        labelled: their classes as the dataset names them.
        truth: int64 index of their class among the model's, shape ``(N,)``.
        raw: the network's own probabilities, float64, shape ``(N, K)``.
        calibrated: those with the model's temperature; None where it has none.
        scores: what `trainer.metrics` gives of `raw`, over all K classes of the model.
        own_images: how many of the images are the model's own, by part; None where that cannot be told.
        warnings: what makes the scores worth less, one line each.
    """

    description: ModelDescription
    dataset: str
    part: str | None
    match: ClassMatch
    left_out: Mapping[str, int]
    failed: tuple[BadImage, ...]
    images: tuple[str, ...]
    labelled: tuple[str, ...]
    truth: NDArray[np.int64]
    raw: NDArray[np.float64]
    calibrated: NDArray[np.float64] | None
    scores: Scores
    own_images: Mapping[str, int] | None
    warnings: tuple[str, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Images of each class of the model."""
        return tuple(np.bincount(self.truth, minlength=len(self.description.classes)).tolist())

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes of the model that no image is of."""
        return tuple(name for name, count in zip(self.description.classes, self.counts, strict=True) if not count)


def evaluate(
    model: ExportedModel,
    folder: Path,
    query: DataQuery,
    *,
    mapping: Sequence[str] = (),
    part: str | None = None,
    batch_size: int | None = None,
    progress: Tell,
    tell_bad: Callable[[BadImage], None],
) -> Evaluation:
    """Score a model on a dataset.

    An image that cannot be used costs the scores of no other one: it is told of at once, and left out.

    Args:
        model: what predicts.
        folder: its folder.
        query: which dataset is meant, and how it is split where `part` asks for that.
        mapping: what `study.class_names.match_classes` is told of classes with other names.
        part: `train`, `val` or `test` of the dataset's split; None for all images.
        batch_size: images at a time; None for as many as in the test of the model's training.
        progress: told of slow work: what is done, how much of it, and of how much.
        tell_bad: told at once of each image that cannot be used.

    Raises:
        StudyError: the request contradicts itself, classes cannot be matched, the dataset cannot be split, or none of
            the images can be used.
        DataError: nothing can be made of the data, or the model's marks of its own images are damaged.
    """
    description = model.description
    if part is None and (query.group is not None or query.split_seed is not None or query.split_file is not None):
        raise StudyError("--group, --split-seed and --split-file say which images are in a part; name it with --part")
    found = find_data(query)
    refuse_bad_labels(found)
    dataset = found.dataset
    match = match_classes(dataset.class_names, description.classes, mapping)
    chosen = np.arange(len(dataset))
    if part is not None:
        view = view_data(query, found)
        if view.split is None:
            raise StudyError(f"--part {part}: {dataset.name} cannot be split: {view.no_split}")
        chosen = getattr(view.split, part)
    known = np.array([target is not None for target in match.targets])[dataset.labels[chosen]]
    left_out = _count_by_name(dataset, chosen[~known])
    chosen = chosen[known]
    if not len(chosen):
        raise StudyError(
            f"{dataset.name}: no image is of a class that the model knows ({', '.join(description.classes)}); "
            "--map THEIRS=OURS says which class is which"
        )
    recognise = _own_images(description, folder, dataset)
    predicted, failed = _predict(model, dataset, chosen, batch_size, progress, tell_bad)
    chosen = np.array([one.index for one in predicted], dtype=np.int64)
    labels = dataset.labels[chosen]
    truth = np.array([match.targets[label] for label in labels.tolist()], dtype=np.int64)
    raw = np.stack([one.raw for one in predicted]).astype(np.float64)
    calibrated = None
    if description.temperature is not None:
        calibrated = np.stack([one.calibrated for one in predicted if one.calibrated is not None]).astype(np.float64)
    own_images = recognise([one.mark for one in predicted])
    return Evaluation(
        description=description,
        dataset=dataset.name,
        part=part,
        match=match,
        left_out=left_out,
        failed=failed,
        images=tuple(dataset.image_names[index] for index in chosen.tolist()),
        labelled=tuple(dataset.class_names[label] for label in labels.tolist()),
        truth=truth,
        raw=raw,
        calibrated=calibrated,
        scores=score(raw, truth, description.recipe.specificity),
        own_images=own_images,
        warnings=tuple(_warnings(own_images, len(chosen), description)),
    )


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """The scores as the document of `lmf evaluate --json`; fractions, all over the classes that have images."""
    description, scores = evaluation.description, evaluation.scores
    values = _over_present(evaluation)
    return {
        "model": {
            "study": description.origin.get("study"),
            "trial": description.origin.get("trial"),
            "weights_sha256": description.weights_sha256,
            "temperature": description.temperature,
        },
        "dataset": evaluation.dataset,
        "part": evaluation.part,
        "images": len(evaluation.images),
        "scores": values,
        "intervals": _intervals(evaluation),
        "classes": [_class(evaluation, index) for index in range(len(description.classes))],
        "absent_classes": list(evaluation.absent),
        "left_out": [{"class": name, "images": count} for name, count in evaluation.left_out.items()],
        "failed": [{"image": one.image, "reason": one.reason} for one in evaluation.failed],
        "confusion": [list(row) for row in scores.confusion],
        "calibration": {
            "before": _calibration(calibration_scores(evaluation.raw, evaluation.truth)),
            "after": None
            if evaluation.calibrated is None
            else _calibration(calibration_scores(evaluation.calibrated, evaluation.truth)),
        },
        "own_images": None if evaluation.own_images is None else dict(evaluation.own_images),
        "warnings": list(evaluation.warnings),
    }


def evaluation_table(evaluation: Evaluation) -> str:
    """What was predicted as CSV: a row an image, with calibrated probabilities where the model has a temperature.

    Names that a spreadsheet would compute are `study.reporting.typeset.defused`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = evaluation.description.classes
    writer.writerow(["image", "labelled", "class", "predicted", *(f"p({name})" for name in classes)])
    shown = evaluation.raw if evaluation.calibrated is None else evaluation.calibrated
    best = evaluation.raw.argmax(axis=1).tolist()
    for index, name in enumerate(evaluation.images):
        shares = (f"{value:.7g}" for value in shown[index].tolist())
        names = (name, evaluation.labelled[index], classes[int(evaluation.truth[index])], classes[best[index]])
        writer.writerow([*map(defused, names), *shares])
    return text.getvalue()


def _predict(
    model: ExportedModel,
    dataset: ImageDataset,
    chosen: NDArray[np.int64],
    batch_size: int | None,
    progress: Tell,
    tell_bad: Callable[[BadImage], None],
) -> tuple[list[Predicted], tuple[BadImage, ...]]:
    results = predict_images(
        model,
        dataset,
        chosen.tolist(),
        batch_size=batch_size,
        workers=available_cores(),
        progress=partial(progress, "predicting images"),
    )
    good: list[Predicted] = []
    bad: list[BadImage] = []
    for result in results:
        if isinstance(result, Unusable):
            bad.append(BadImage(dataset.image_names[result.index], result.reason))
            tell_bad(bad[-1])
        else:
            good.append(result)
    if not good:
        raise StudyError(f"{dataset.name}: none of the {len(chosen):,} images can be used; expected image files")
    return good, tuple(bad)


def _count_by_name(dataset: ImageDataset, indices: NDArray[np.int64]) -> dict[str, int]:
    counts = np.bincount(dataset.labels[indices], minlength=len(dataset.class_names)).tolist()
    return {name: count for name, count in zip(dataset.class_names, counts, strict=True) if count}


def _own_images(
    description: ModelDescription, folder: Path, dataset: ImageDataset
) -> Callable[[Sequence[ImageMark]], dict[str, int] | None]:
    """What tells how many images are the model's own, by part; `unknown` where only the whole dataset is known again.

    All that may fail of it is done here, before the images are predicted.
    """
    if description.marks_sha256 is not None:
        return read_marks(folder / MARKS_FILE, description.marks_sha256).count
    is_own = _is_own_dataset(description, dataset)
    return lambda marks: {"unknown": len(marks)} if is_own else None


def _is_own_dataset(description: ModelDescription, dataset: ImageDataset) -> bool:
    images = description.origin.get("images", {})
    if len(dataset) != sum(map(sum, images.values())) or dataset.class_names != description.classes:
        return False
    try:
        return content_fingerprint(dataset, workers=available_cores()) == description.origin.get("fingerprint")
    except DataError:  # an image that cannot be read now was read when the model was trained
        return False


def _warnings(own: Mapping[str, int] | None, total: int, description: ModelDescription) -> list[str]:
    if own is None:
        return ["whether images are the model's own could not be told, since its folder has no marks of them"]
    split = description.origin.get("split", {})
    told = [f"--{name.replace('_', '-')} {split[key]}" for name, key in _SPLIT_FLAGS if split.get(key) is not None]
    how = f"; --part test {' '.join(told)} leaves them out where the dataset is the model's own" if told else ""
    lines = {
        "train": f"of the {total:,} images were in the model's training: scores on them say nothing of others{how}",
        "val": f"of the {total:,} images chose the model's epoch and factors: scores on them are too good",
        "test": f"of the {total:,} images were in the model's own test: this is no external validation",
        "unknown": f"of the {total:,} images are those of the model's own study: this is no external validation",
    }
    return [f"{count:,} {lines[part]}" for part, count in own.items()]


_SPLIT_FLAGS = (("split_seed", "seed"), ("group", "group"))


def _over_present(evaluation: Evaluation) -> dict[str, float | None]:
    """The scores by name; those that are means over classes, over the classes that have images."""
    scores = evaluation.scores
    values: dict[str, float | None] = {
        name: getattr(scores, name) for name in ("accuracy", "balanced_accuracy", "mcc", "kappa", "specificity")
    }
    present = [index for index, count in enumerate(evaluation.counts) if count]
    share = len(evaluation.counts) / len(present)
    # A class without images adds 0 to each of these sums.
    means = {name: getattr(scores, name) * share for name in OVER_CLASSES}
    for name, per_class in (
        ("macro_auc", scores.auc_per_class),
        ("macro_average_precision", scores.average_precision_per_class),
        ("sensitivity_at_specificity", scores.sensitivity_at_specificity_per_class),
    ):
        known = [value for value in (per_class[index] for index in present) if value is not None]
        means[name] = sum(known) / len(known) if known else None
    return means | values


def _intervals(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """95 % intervals over images, each drawn within its class, of the scores that a confusion matrix gives."""
    count = len(evaluation.counts)
    share = count / sum(1 for images in evaluation.counts if images)
    predictions = evaluation.raw.argmax(axis=1)[None, :]

    def over_present(name: str, confusion: Figures) -> Figures:
        found: Figures = CONFUSION_SCORES[name](confusion) * (share if name in OVER_CLASSES else 1.0)
        return found

    found = {
        name: score_interval(evaluation.truth, predictions, count, partial(over_present, name))
        for name in CONFUSION_SCORES
    }
    return {name: {"low": interval.low, "high": interval.high} for name, interval in found.items()}


def _class(evaluation: Evaluation, index: int) -> dict[str, Any]:
    scores = evaluation.scores
    row = scores.confusion[index]
    images, right, predicted = sum(row), row[index], sum(line[index] for line in scores.confusion)
    return {
        "name": evaluation.description.classes[index],
        "theirs": [name for name, target in evaluation.match.pairs if target == index],
        "images": images,
        "predicted": predicted,
        "right": right,
        "f1": scores.f1_per_class[index] if images else None,
        "precision": right / predicted if predicted else None,
        "recall": right / images if images else None,
        **{name: getattr(scores, attribute)[index] for name, attribute in CLASS_SCORES.items()},
    }


def _calibration(found: CalibrationScores) -> dict[str, float]:
    return {"ece": found.ece, "nll": found.nll, "brier": found.brier, "confidence": found.confidence}
