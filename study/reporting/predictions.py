"""What a trial predicted for the images of validation and test, read back from the table among its files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from storage.artifacts import Artifacts
    from storage.queries import StudyRecord

FILE_NAME = "predictions.csv"
FIRST_COLUMNS = ("split", "image", "class", "predicted")
SPLITS = ("val", "test")

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one trial predicted for the images of one split.

    Attributes:
        split: `val` or `test`.
        truth: index of each image's class, int64, shape ``(N,)``, N at least 1.
        probabilities: float64 in [0, 1], shape ``(N, K)``; each row sums to 1, but for rounding in the file.
        images: the images' names in the same order; None where they were not to be kept.
    """

    split: str
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    images: tuple[str, ...] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Index of each image's most probable class, shape ``(N,)``; the first of several."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of each image's most probable class, shape ``(N,)``."""
        return np.asarray(self.probabilities.max(axis=1))


@dataclass(frozen=True, eq=False)
class TrialPredictions:
    """What one trial predicted, or why that cannot be told.

    Attributes:
        val: on validation; None where there is nothing to read.
        test: on test; None where there is nothing to read.
        reason: why both are None, in words that follow a colon; None where they are not.
    """

    val: Predictions | None
    test: Predictions | None
    reason: str | None = None


def read_predictions(
    artifacts: Artifacts, artifact_id: str | None, study: StudyRecord, *, images: bool = True
) -> TrialPredictions:
    """Read the predictions of one trial; whatever is wrong with them is a reason and no error.

    Args:
        artifacts: where files of trials are.
        artifact_id: the id of its `predictions.csv`, None where it has no such file.
        study: the trial's study, whose classes and split the table must have.
        images: also keep the images' names; without them no name leaves this function.
    """
    if artifact_id is None:
        return _none("the trial stored no predictions")
    from optuna.artifacts.exceptions import ArtifactNotFound

    try:
        with artifacts.store.open_reader(artifact_id) as body:
            content = body.read()
    except ArtifactNotFound:
        return _none("its predictions are not in the artifact store")
    except artifacts.errors as error:
        return _none(f"its predictions cannot be read ({type(error).__name__})")
    counts = {split: study.counts[split] for split in SPLITS if split in study.counts}
    try:
        return parse_predictions(content.decode("utf-8"), study.class_names, counts, images=images)
    except UnicodeDecodeError:
        return _none("its predictions are damaged: not a text file")


def parse_predictions(
    text: str,
    class_names: Sequence[str],
    counts: dict[str, tuple[int, ...]] | None = None,
    *,
    images: bool = True,
) -> TrialPredictions:
    """Read a table of predictions: a row an image, with its split, name, class, predicted class and probabilities.

    Args:
        text: the table.
        class_names: the study's classes, in class-index order.
        counts: how many images of each class each split must have, which tells a table that was cut off.
        images: also keep the images' names.
    """
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        return _none(f"its predictions are damaged: {error}")
    if not rows:
        return _none("its predictions are damaged: the table is empty")
    if not text.endswith("\n"):
        return _none("its predictions are damaged: the last row is cut off")
    if rows[0] != [*FIRST_COLUMNS, *(f"p({name})" for name in class_names)]:
        return _none("its predictions are of other classes than the study's")
    width = len(rows[0])
    by_split: dict[str, list[list[str]]] = {split: [] for split in SPLITS}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != width or row[0] not in by_split:
            return _none(f"its predictions are damaged in row {number}")
        by_split[row[0]].append(row)
    index = {name: position for position, name in enumerate(class_names)}
    found: dict[str, Predictions] = {}
    for split, members in by_split.items():
        if not members:
            return _none(f"its predictions have no {split} image")
        try:
            truth = np.array([index[row[2]] for row in members], dtype=np.int64)
            probabilities = np.array([list(map(float, row[4:])) for row in members])
        except (KeyError, ValueError):
            return _none(f"its predictions are damaged among the {split} images")
        wrong = np.abs(probabilities.sum(axis=1) - 1) > _SUM_TOLERANCE
        # A comparison with NaN is false, so what is allowed is asked for.
        if wrong.any() or not ((probabilities >= 0) & (probabilities <= 1)).all():
            return _none(f"its predictions are damaged: what stands for a {split} image is no distribution")
        if counts and split in counts and tuple(np.bincount(truth, minlength=len(index))) != tuple(counts[split]):
            return _none(f"its predictions are not of the study's {split} images: another number of them")
        names = tuple(row[1] for row in members) if images else None
        found[split] = Predictions(split, truth, probabilities, names)
    return TrialPredictions(found["val"], found["test"])


def _none(reason: str) -> TrialPredictions:
    return TrialPredictions(None, None, reason)
