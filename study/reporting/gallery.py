"""Which figures a study has, section by section; the page and the dashboard show the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from study.reporting import curves, figures
from study.reporting.choice import choice
from study.reporting.class_figures import class_f1, loss_contenders, study_contenders
from study.reporting.confusion import confusion_matrix
from study.reporting.halves import gradient_shares, half_ranges, share_rows
from study.reporting.loss_figures import loss_name, loss_rows, loss_scores
from study.reporting.pair_rows import pair_rows
from study.reporting.picture import Picture
from study.reporting.plane import plane
from study.reporting.ratio import ratio_spread
from study.reporting.rows import EpochRow, PointRow, class_counts
from study.reporting.statistics import StudySummary
from study.reporting.text import whole

NAMES = (
    "loss-scores-test",
    "settings",
    "plane",
    "ratio-spread-val",
    "points-test",
    "points-val",
    "choice",
    "gradient-shares",
    "half-ranges",
    "halves",
    "curves",
    "losses",
    "classes",
    "class-f1",
    "confusion-1",
    "confusion-2",
)
"""Names of the figures that `study_pictures` gives, in its order."""

MOST_TRIALS = 2
"""Of so many trials a section draws figures of one trial; more losses are in the tables."""


def study_pictures(summary: StudySummary, epochs: Sequence[EpochRow]) -> list[Picture]:
    """All figures of a study that need no more than the database, in the order of the page.

    Args:
        summary: the study's statistics.
        epochs: the epochs of its points.
    """
    return [
        *loss_pictures(summary),
        *setting_pictures(summary),
        *plane_pictures(summary),
        *point_pictures(summary),
        *half_pictures(summary, epochs),
        *curve_pictures(summary, epochs),
        *class_pictures(summary),
        *confusion_pictures(summary),
    ]


def loss_pictures(summary: StudySummary, intervals: Mapping[str, tuple[float, float]] | None = None) -> list[Picture]:
    """The compared losses beside each other; none for a study of α and β.

    Args:
        summary: the study's statistics.
        intervals: lower and upper end of each mean's interval, by the loss's name.
    """
    rows = loss_rows(summary, "test", intervals)
    return [loss_scores(rows, "test")] if rows else []


def setting_pictures(summary: StudySummary) -> list[Picture]:
    """The paper's Fig 4; none where no setting has a complete point."""
    return [figures.setting_means(summary)] if any(one.pairs for one in summary.settings) else []


def plane_pictures(summary: StudySummary) -> list[Picture]:
    """All points over α and β, and over β / α; none for a comparison of losses."""
    if summary.losses or not pair_rows(summary):
        return []
    return [plane(summary), ratio_spread(summary)]


def point_pictures(summary: StudySummary) -> list[Picture]:
    """The points by the value that their setting varies, and by both scores; none for a comparison of losses."""
    if summary.losses or not summary.pairs:
        return []
    pictures = [choice(summary)] if pair_rows(summary) else []
    if any(pair.settings for pair in summary.pairs):
        return [figures.points_by_value(summary, "test"), figures.points_by_value(summary, "val"), *pictures]
    return pictures


def half_pictures(summary: StudySummary, epochs: Sequence[EpochRow]) -> list[Picture]:
    """What each half of LMF did by epoch; none where nothing is known of the halves."""
    known = [row for row in epochs if row.ldam is not None and row.focal is not None]
    if not known:
        return []
    shares = share_rows(known)
    best = curves.best_epochs(summary, known)
    pictures = [gradient_shares(summary, shares)] if shares else []
    return [*pictures, half_ranges(known), *([curves.half_curves(best)] if best else [])]


def curve_pictures(summary: StudySummary, epochs: Sequence[EpochRow]) -> list[Picture]:
    """Learning curves; none before an epoch has ended."""
    if not epochs:
        return []
    if summary.losses:
        return [curves.curves_by_loss(summary, epochs)]
    best = curves.best_epochs(summary, epochs)
    return [curves.score_curves(summary, epochs), *([curves.loss_curves(best)] if best else [])]


def class_pictures(summary: StudySummary) -> list[Picture]:
    """Images of each class (the paper's Fig 2), and its F1 (the paper's Table 5)."""
    counts = class_counts(summary.study)
    if not counts:
        return []
    contenders = loss_contenders(summary) if summary.losses else study_contenders(summary)
    drawn = [class_f1(counts, contenders)] if contenders else []
    return [figures.class_distribution("Images per class", counts), *drawn]


def confusion_pictures(summary: StudySummary) -> list[Picture]:
    """Confusion matrices of the trials that stand for the study."""
    names = summary.study.class_names
    shown = [(name, row.test.confusion) for name, row in best_trials(summary)[:MOST_TRIALS] if row.test]
    return [
        numbered(confusion_matrix(names, matrix, f"{name} on test"), number)
        for number, (name, matrix) in enumerate(shown, start=1)
    ]


def best_trials(summary: StudySummary) -> list[tuple[str, PointRow]]:
    """The trials that stand for a study: the best one, or each compared loss's, the best on validation first."""
    if not summary.losses:
        row = summary.best_row
        return [] if row is None else [(f"the best trial ({whole(row.trial)})", row)]
    rows = [(loss_name(one, summary.losses), one.best_row(summary.select)) for one in summary.losses if one.rows]
    rows.sort(key=lambda one: -(one[1].score("val", summary.select) or 0.0))
    return [(f"{name} (trial {whole(row.trial)})", row) for name, row in rows]


def numbered(picture: Picture, number: int) -> Picture:
    """A picture of which a study has several, under a name of its own."""
    return replace(picture, name=f"{picture.name}-{number}")
