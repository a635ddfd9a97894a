"""The verdict on a best α and β by all that is known: the seeds' noise, and chance in the validation images."""

from __future__ import annotations

import numpy as np

from study.reporting.predictions import Predictions
from study.reporting.rows import StudyData
from study.reporting.statistics import Pair, StudySummary
from study.reporting.winners import Winner, image_p, winner_of


def judged_winner(data: StudyData, summary: StudySummary) -> Winner:
    """The winner of a study, tested against chance in the validation images too where predictions are known.

    Args:
        data: the study.
        summary: its statistics.
    """
    winner = winner_of(summary)
    return winner.with_images(_images_p(data, summary, winner))


def _images_p(data: StudyData, summary: StudySummary, winner: Winner) -> float | None:
    """Could the lead of the best over its closest rival be chance in the validation images? None where unknown."""
    if summary.best is None or winner.closest is None:
        return None
    rival = next(pair for pair in summary.pairs if pair.factors == winner.closest.factors)
    mine, theirs = (_by_seed(data, pair) for pair in (summary.best, rival))
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds or any(not np.array_equal(mine[seed].truth, theirs[seed].truth) for seed in seeds):
        return None
    best, closest = (np.stack([found[seed].predicted for seed in seeds]) for found in (mine, theirs))
    return image_p(mine[seeds[0]].truth, best, closest, len(data.study.class_names), summary.select)


def _by_seed(data: StudyData, pair: Pair) -> dict[int, Predictions]:
    """What a pair's trainings predicted on validation, by seed, as far as it is known."""
    found = {row.seed: data.predictions[row.point].val for row in pair.rows if row.point in data.predictions}
    return {seed: one for seed, one in found.items() if one is not None}
