"""Which trials of a study are explained, and on which test images: by a rule, not by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage.queries import PointRecord, StudyRecord
from storage.schema import COMPLETE
from study.errors import StudyError
from study.paper.names import loss_name
from study.reporting.predictions import Predictions
from study.reporting.rows import finite, point_rows
from study.reporting.statistics import select_score, summarize
from study.reporting.text import factor

ALL_RIGHT, ALL_WRONG = "all-right", "all-wrong"
ONLY_FIRST_RIGHT, ONLY_FIRST_WRONG = "only-first-right", "only-first-wrong"
KINDS = (ALL_RIGHT, ONLY_FIRST_RIGHT, ONLY_FIRST_WRONG, ALL_WRONG)
"""Kinds of images by who gets them right, where the first of the compared trials is the reference."""

STUDIED_LOSS = "lmf"
PLAIN_FACTORS = (1.0, 1.0)


@dataclass(frozen=True)
class ChosenTrials:
    """The trials to explain.

    Attributes:
        points: their points, the reference first; each has its weights.
        names: what each is called, such as `LMF (α = 0.9, β = 1.1)`.
        remarks: what a reader has to know of the choice, one line each.
    """

    points: tuple[PointRecord, ...]
    names: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """What the first is called in a sentence: its loss where no other has the same, else the best trial."""
        loss = self.points[0].loss
        return "the best trial" if any(other.loss == loss for other in self.points[1:]) else loss_name(loss)


@dataclass(frozen=True)
class ChosenImage:
    """A test image to explain.

    Attributes:
        name: the image.
        truth: index of its class.
        kind: one of `KINDS`.
    """

    name: str
    truth: int
    kind: str


def choose_trials(record: StudyRecord) -> ChosenTrials:
    """The trials whose models are explained, of those whose weights are kept.

    Of a study of α and β the best trial, and beside it the plain sum of both halves, α = β = 1. Of a comparison the
    best trial of each loss, LMF first, since the others are compared with it.

    Raises:
        StudyError: the weights of no such trial are kept.
    """
    points, remarks = _best_trials(record)
    if not points:
        raise StudyError(
            f"{record.name}: {'; '.join(remarks)}; Grad-CAM needs the weights: train it with `--keep-weights 1` or "
            "more, under another name (--study) where its points are complete"
        )
    return ChosenTrials(tuple(points), tuple(map(trial_name, points)), tuple(remarks))


def chosen_trial_numbers(record: StudyRecord) -> list[int | None]:
    """Numbers of the trials that `choose_trials` takes; empty where the weights of none are kept."""
    return [point.trial_number for point in _best_trials(record)[0]]


def kind_text(kind: str, reference: str, count: int) -> str:
    """Who gets an image of a kind right, in words.

    Args:
        kind: one of `KINDS`.
        reference: what the first trial is called in a sentence.
        count: how many trials there are.
    """
    if count == 1:
        return "right" if kind == ALL_RIGHT else "wrong"
    every = "both" if count == 2 else "all"
    return {
        ALL_RIGHT: f"{every} right",
        ONLY_FIRST_RIGHT: f"only {reference} right",
        ONLY_FIRST_WRONG: f"only {reference} wrong",
        ALL_WRONG: f"{every} wrong",
    }[kind]


def rule_text(reference: str, count: int, *, boxed: bool) -> str:
    """The rule by which `choose_images` chooses, in words.

    Args:
        reference: what the first trial is called in a sentence.
        count: how many trials there are.
        boxed: images with boxes go first.
    """
    kinds = dict.fromkeys(kind_text(kind, reference, count) for kind in KINDS)
    first = "all that have boxes come first, and then the others. Among either, " if boxed else ""
    return (
        f"Test images were chosen by a rule: {first}the classes take turns, the one with the fewest training images "
        "first. A class shows the kind of image that was shown least so far, of those that it has left "
        f"({', '.join(kinds)}; on a tie in this order), and of that kind the one of whose prediction "
        f"{reference} is surest."
    )


def kinds_of_images(predictions: Sequence[Predictions]) -> dict[str, str | None]:
    """The kind of each test image, one of `KINDS`; None where the trials beside the first disagree on it.

    Args:
        predictions: what each trial predicted for the same test images, the reference first; with their names.

    Raises:
        StudyError: the trials did not predict the same images.
    """
    right = [
        dict(zip(other.images or (), (other.predicted == other.truth).tolist(), strict=True)) for other in predictions
    ]
    if any(set(found) != set(right[0]) for found in right):
        raise StudyError("the trials predicted different test images; the files of one of them are another study's")
    return {name: _kind([found[name] for found in right]) for name in right[0]}


def choose_images(
    predictions: Sequence[Predictions], train_counts: Sequence[int], count: int, boxed: frozenset[str] = frozenset()
) -> tuple[ChosenImage, ...]:
    """Choose test images by the rule of `rule_text`.

    Args:
        predictions: what each trial predicted for the same test images, the reference first; with their names.
        train_counts: training images of each class, in class-index order.
        count: how many images at most.
        boxed: names of images that have boxes; they come before all others.

    Raises:
        StudyError: the trials did not predict the same images.
    """
    order = sorted(range(len(train_counts)), key=lambda index: (train_counts[index], index))
    ranked = _surest_first(predictions)
    shown = dict.fromkeys(KINDS, 0)
    chosen: list[ChosenImage] = []
    for with_boxes in (True, False):
        waiting = _by_class_and_kind([image for image in ranked if (image.name in boxed) is with_boxes])
        while waiting:
            for truth in order:
                kinds = waiting.get(truth)
                if not kinds:
                    continue
                kind = min(kinds, key=lambda kind: (shown[kind], KINDS.index(kind)))
                chosen.append(kinds[kind].pop(0))
                if len(chosen) == count:
                    return tuple(chosen)
                shown[kind] += 1
                if not kinds[kind]:
                    del kinds[kind]
                if not kinds:
                    del waiting[truth]
    return tuple(chosen)


def _surest_first(predictions: Sequence[Predictions]) -> list[ChosenImage]:
    """All images that have a kind, those first of whose prediction the reference is surest."""
    first, kinds = predictions[0], kinds_of_images(predictions)
    rows = sorted(zip((-first.confidence).tolist(), first.images or (), first.truth.tolist(), strict=True))
    return [ChosenImage(name, truth, kind) for _, name, truth in rows if (kind := kinds[name]) is not None]


def _by_class_and_kind(images: Sequence[ChosenImage]) -> dict[int, dict[str, list[ChosenImage]]]:
    """Images by class and kind, in their order."""
    found: dict[int, dict[str, list[ChosenImage]]] = {}
    for image in images:
        found.setdefault(image.truth, {}).setdefault(image.kind, []).append(image)
    return found


def _kind(right: Sequence[bool]) -> str | None:
    """The kind of an image by who gets it right; None where the others than the first disagree."""
    first, others = right[0], right[1:]
    if len(set(others)) > 1:
        return None
    if not others or others[0] == first:
        return ALL_RIGHT if first else ALL_WRONG
    return ONLY_FIRST_RIGHT if first else ONLY_FIRST_WRONG


def _best_trials(record: StudyRecord) -> tuple[list[PointRecord], list[str]]:
    """The trials to explain, and what is to be said of them."""
    losses = list(dict.fromkeys(record.spec.get("losses") or ()))
    return _of_losses(record, losses) if losses else _of_factors(record)


def _of_losses(record: StudyRecord, losses: Sequence[str]) -> tuple[list[PointRecord], list[str]]:
    order = [*(loss for loss in losses if loss == STUDIED_LOSS), *(loss for loss in losses if loss != STUDIED_LOSS)]
    points: list[PointRecord] = []
    remarks: list[str] = []
    for loss in order:
        ranked = _ranked(record, [point for point in record.points if point.loss == loss])
        point, remark = _best_kept(ranked, loss_name(loss))
        points += [] if point is None else [point]
        remarks += [] if remark is None else [remark]
    return points, remarks


def _of_factors(record: StudyRecord) -> tuple[list[PointRecord], list[str]]:
    best = summarize(record, point_rows(record)).best_row
    ranked = _ranked(record, record.points)
    if best is not None:
        # The best pair is that of the best mean over its seeds, whatever single trial scored higher.
        ranked.sort(key=lambda point: point.point_id != best.point)
    point, remark = _best_kept(ranked, "the study")
    plain = [point for point in ranked if (point.alpha, point.beta) == PLAIN_FACTORS and point.weights is not None]
    points = [] if point is None else [point]
    if point is not None and plain and (point.alpha, point.beta) != PLAIN_FACTORS:
        points.append(plain[0])
    return points, [] if remark is None else [remark]


def _ranked(record: StudyRecord, points: Sequence[PointRecord]) -> list[PointRecord]:
    """The complete ones, the best on validation first."""
    select = select_score(record)

    def rank(point: PointRecord) -> tuple[float, int]:
        score = finite((point.scores or {})["val"].get(select))
        return (float("inf") if score is None else -score, point.trial_number or 0)

    return sorted((point for point in points if point.state == COMPLETE and point.scores), key=rank)


def _best_kept(ranked: Sequence[PointRecord], whose: str) -> tuple[PointRecord | None, str | None]:
    """The best whose weights are kept, and what is to be said where that is not the best of all."""
    if not ranked:
        return None, f"no trial of {whose} is complete yet"
    kept = next((point for point in ranked if point.weights is not None), None)
    if kept is None:
        return None, f"the weights of no trial of {whose} are kept"
    if kept is ranked[0]:
        return kept, None
    return kept, (
        f"the weights of the best trial of {whose} ({ranked[0].trial_number}) are not kept, so trial "
        f"{kept.trial_number} stands for it"
    )


def trial_name(point: PointRecord) -> str:
    """What a point's trial is called: its loss, and its factors where it has any."""
    return column_name(point.loss, point.alpha, point.beta)


def column_name(loss: str, alpha: float | None, beta: float | None) -> str:
    """A loss and its factors, as a reader knows them: `CCE`, or `LMF (α = 0.9, β = 1.1)`."""
    name = loss_name(loss)
    return name if alpha is None or beta is None else f"{name} (α = {factor(alpha)}, β = {factor(beta)})"
