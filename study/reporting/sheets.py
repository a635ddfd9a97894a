"""The rows behind the page as CSV: settings, points, epochs and classes, each of all studies of the report."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from study.reporting.leakage import headline
from study.reporting.rows import CLASS_SCORES, SCORES, SPLITS, StudyData, class_rows, epoch_rows, point_rows
from study.reporting.statistics import StudySummary, summarize
from study.reporting.text import without_credentials
from study.reporting.typeset import defused

if TYPE_CHECKING:
    from storage.queries import StudyRecord

Cell = str | int | float | None

_LEAKAGE_COLUMNS = ("leaking_val_groups", "leaking_test_groups")
_SETTING_COLUMNS = (
    "study",
    "setting",
    "paper_setting",
    "split",
    "points",
    "planned_points",
    "mean_macro_f1",
    "average_deviation",
    "lowest_macro_f1",
    "highest_macro_f1",
    "best_alpha",
    "best_beta",
    *_LEAKAGE_COLUMNS,
)
_POINT_COLUMNS = (
    "study",
    "trial",
    "point",
    "settings",
    "loss",
    "alpha",
    "beta",
    "seed",
    "state",
    "attempts",
    "lost_attempts",
    "lost_epochs",
    "epochs",
    "seconds",
    "best_epoch",
    *(f"{split}_{name}" for split in SPLITS for name in SCORES),
    "specificity",
    "message",
    *_LEAKAGE_COLUMNS,
)
_EPOCH_COLUMNS = (
    "study",
    "trial",
    "point",
    "alpha",
    "beta",
    "seed",
    "epoch",
    "train_loss",
    "val_loss",
    "lr",
    "images_per_second",
    "seconds",
    *(f"val_{name}" for name in SCORES),
    "ldam",
    "focal",
    "ldam_gradient",
    "focal_gradient",
    *_LEAKAGE_COLUMNS,
)
_CLASS_COLUMNS = (
    "study",
    "trial",
    "point",
    "alpha",
    "beta",
    "seed",
    "split",
    "class",
    "images",
    "predicted",
    "right",
    "f1",
    *CLASS_SCORES,
    "specificity",
    *_LEAKAGE_COLUMNS,
)

NAMES = ("settings", "points", "epochs", "classes")
"""The sheets that `sheets` gives."""


def sheets(studies: Sequence[StudyData], *, messages: bool = True) -> dict[str, str]:
    """The report's tables as CSV texts with a header line; an empty cell is a missing value.

    Scores are fractions, but `mcc` and `kappa` lie in [-1, 1]; sensitivity is stated at the row's `specificity`. Text
    that a spreadsheet would compute is `study.reporting.typeset.defused`.

    The last columns count the groups (lesions, patients) with images in training and also in validation or test, of
    the kind that leaks first; they are empty where no kind is known.

    Args:
        studies: the studies, each told apart by the first column.
        messages: also what points left as a message, which may name images; else that column is empty.

    Returns:
        the texts by table: `settings`, `points`, `epochs`, `classes`.
    """
    settings: list[Sequence[Cell]] = []
    points: list[Sequence[Cell]] = []
    epochs: list[Sequence[Cell]] = []
    classes: list[Sequence[Cell]] = []
    for data in studies:
        name, rows = data.study.name, point_rows(data.study, data.epochs)
        leaks = _leakage_cells(data.study)
        settings += _setting_cells(summarize(data.study, rows))
        for row in rows:
            identity = (name, row.trial, row.point)
            scores = [row.score(split, score) for split in SPLITS for score in SCORES]
            points.append(
                [
                    *identity,
                    " ".join(row.settings),
                    row.loss,
                    row.alpha,
                    row.beta,
                    row.seed,
                    row.state,
                    row.attempts,
                    row.lost_attempts,
                    row.lost_epochs,
                    row.epochs,
                    row.seconds,
                    row.best_epoch,
                    *scores,
                    row.specificity,
                    row.message if messages else None,
                    *leaks,
                ]
            )
            for result in class_rows(row, data.study.class_names):
                classes.append(
                    [
                        *(*identity, row.alpha, row.beta, row.seed, result.split, result.name),
                        *(result.images, result.predicted, result.right, result.f1),
                        *(result.auc, result.average_precision, result.sensitivity_at_specificity, row.specificity),
                        *leaks,
                    ]
                )
        for epoch in epoch_rows(rows, data.epochs):
            row = epoch.point
            epochs.append(
                [
                    *(name, row.trial, row.point, row.alpha, row.beta, row.seed, epoch.epoch),
                    *(epoch.train_loss, epoch.val_loss, epoch.lr, epoch.images_per_second, epoch.seconds),
                    *(epoch.val[score] for score in SCORES),
                    *(epoch.ldam, epoch.focal, epoch.ldam_gradient, epoch.focal_gradient, *leaks),
                ]
            )
    return {
        "settings": _csv(_SETTING_COLUMNS, settings),
        "points": _csv(_POINT_COLUMNS, points),
        "epochs": _csv(_EPOCH_COLUMNS, epochs),
        "classes": _csv(_CLASS_COLUMNS, classes),
    }


def _setting_cells(summary: StudySummary) -> list[Sequence[Cell]]:
    cells: list[Sequence[Cell]] = []
    for setting in summary.settings:
        for split in SPLITS:
            spread, best = setting.spread(split), setting.best
            cells.append(
                [
                    *(summary.study.name, setting.name, setting.number, split, spread.count, setting.planned),
                    *(spread.mean, spread.average_deviation, spread.lowest, spread.highest),
                    *((best.alpha, best.beta) if best else (None, None)),
                    *_leakage_cells(summary.study),
                ]
            )
    return cells


def _leakage_cells(study: StudyRecord) -> tuple[Cell, Cell]:
    entry = headline(study.leakage)
    return (entry["leaking_val_groups"], entry["leaking_groups"]) if entry else (None, None)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([defused(without_credentials(cell)) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()
