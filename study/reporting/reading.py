"""Reading all that a report needs of studies: rows of the database, and predictions from the files of trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from study.reporting.rows import StudyData
from study.reporting.statistics import StudySummary, summarize
from study.reporting.winners import winner_of

if TYPE_CHECKING:
    from storage.artifacts import Artifacts
    from storage.database import Database

MOST_PREDICTIONS = 100
"""Of how many trainings of a study the predictions are read at most."""


def read_studies(database: Database, names: Sequence[str], artifacts: Artifacts | None = None) -> tuple[StudyData, ...]:
    """Read all that a report needs, in the order of the names, each study once.

    Args:
        database: holds the studies.
        names: their names.
        artifacts: has the files of trials; without it there are no predictions and no Grad-CAM.

    Raises:
        StorageError: there is no such study, or the database cannot be read.
    """
    from storage.costs import read_costs
    from storage.hardware import read_hardware
    from storage.queries import read_attempts, read_epochs, read_study

    costs = read_costs(database)
    found = []
    for name in dict.fromkeys(names):
        study = read_study(database, name)
        cost = costs.get(study.study_id)
        data = StudyData(
            study,
            read_epochs(database, name),
            read_attempts(database, name),
            cost,
            hardware=read_hardware(database, name),
        )
        found.append(data if artifacts is None else _with_files(database, data, artifacts))
    return tuple(found)


def predicted_points(summary: StudySummary) -> tuple[int, ...]:
    """Points whose predictions a report needs: all of compared losses, else the best (α, β) and its closest rival."""
    if summary.losses:
        # Whole seeds, so that all losses are shown with the same ones.
        seeds = sorted({row.seed for one in summary.losses for row in one.rows})
        kept = set(seeds[: max(1, MOST_PREDICTIONS // len(summary.losses))])
        return tuple(row.point for one in summary.losses for row in one.rows if row.seed in kept)
    if summary.best is None:
        return ()
    closest = winner_of(summary).closest
    pairs = {pair.factors: pair for pair in summary.pairs}
    shown = [*summary.best.rows, *(pairs[closest.factors].rows if closest else ())]
    return tuple(row.point for row in shown[:MOST_PREDICTIONS])


def _with_files(database: Database, data: StudyData, artifacts: Artifacts) -> StudyData:
    from storage.files_of_points import read_files
    from study.reporting.cams import read_cams
    from study.reporting.predictions import FILE_NAME, read_predictions

    summary = summarize(data.study)
    files = read_files(database, data.study.name)
    predictions = {
        point: read_predictions(artifacts, files.get(point, {}).get(FILE_NAME), data.study, images=False)
        for point in predicted_points(summary)
    }
    return replace(data, predictions=predictions, cams=read_cams(database, artifacts, data.study.name))
