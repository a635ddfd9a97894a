"""Tables of what the numbers are worth: points and losses that cannot be told apart, and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.paper.names import loss_name
from study.reporting.noise import p_text
from study.reporting.statistics import StudySummary
from study.reporting.tables import Table, heading
from study.reporting.text import NONE, factor, percent, score_figure, score_name

if TYPE_CHECKING:
    from study.reporting.calibration import Calibration
    from study.reporting.comparing import LossComparisons
    from study.reporting.winners import Winner

MOST_RIVALS = 10
"""How many points stand beside the best in its table."""


def calibration(found: Sequence[tuple[str, Calibration]]) -> Table:
    """One row a trial: how well its probabilities fit what came, before and after a temperature.

    Args:
        found: what each trial is called, and its calibration on test.
    """
    rows = [
        (
            name,
            *(percent(value) for value in (one.before.accuracy, one.before.confidence, one.before.ece)),
            f"{one.temperature:.2f}" if one.fitted else NONE,
            percent(one.after.ece) if one.fitted else NONE,
            *(f"{value:.3f}" for value in (one.before.nll, one.after.nll, one.before.brier, one.after.brier)),
        )
        for name, one in found
    ]
    columns = (
        "trial",
        "accuracy, %",
        "mean confidence, %",
        "ECE, %",
        "temperature",
        "ECE with it, %",
        "NLL",
        "NLL with it",
        "Brier score",
        "Brier score with it",
    )
    return Table(columns, tuple(rows))


def rivals(summary: StudySummary, winner: Winner) -> Table:
    """The points that are hardest to tell from the best, the hardest first; scores are of validation.

    The p values are those that decide: of a winner each on its own, since it is tested against the closest alone, else
    corrected for all. Where chance in the validation images was tested, its p stands beside, for the closest.

    Args:
        summary: the study.
        winner: what the comparison of its points found.
    """
    by_factors = {pair.factors: pair for pair in summary.pairs}
    images = winner.p_images
    rows = []
    for rival in winner.rivals[:MOST_RIVALS]:
        pair = by_factors[rival.factors]
        by_images = [_p_figure(images if rival is winner.closest else None)] if images is not None else []
        rows.append(
            (
                factor(pair.alpha),
                factor(pair.beta),
                str(len(pair.rows)),
                score_figure(summary.select, pair.score("val", summary.select)),
                score_figure(summary.select, rival.difference),
                _p_figure(rival.p if winner.crowned else rival.p_corrected),
                *by_images,
                "yes" if rival.told else "no",
            )
        )
    score = heading(score_name(summary.select, summary.specificity), summary.select)
    columns = (
        *("α", "β", "seeds", f"validation {score}", "below the best by"),
        "p over seeds (not corrected)" if winner.crowned else "p over seeds (Holm)",
        *(["p over images"] if images is not None else []),
        "told from the best",
    )
    return Table(columns, tuple(rows), text_columns=0)


def comparisons(found: LossComparisons) -> Table:
    """One row a comparison of two losses; differences in percentage points, but for MCC and kappa."""
    rows = []
    for one in found.comparisons:
        interval = " to ".join(score_figure(found.score, end) for end in one.interval) if one.interval else NONE
        rows.append(
            (
                loss_name(one.first),
                loss_name(one.second),
                score_figure(found.score, one.difference),
                interval,
                *(NONE if p is None else f"{p:.4f}" for p in (one.p_seeds, one.p_images, one.p_corrected)),
                one.verdict,
            )
        )
    columns = (
        "loss",
        "against",
        f"difference of {heading(score_name(found.score), found.score)}",
        "95 % interval",
        "p over seeds",
        "p over images",
        "p of both (Holm)",
        "verdict",
    )
    return Table(columns, tuple(rows), text_columns=2)


def _p_figure(p: float | None) -> str:
    return NONE if p is None else p_text(p).removeprefix("p = ").removeprefix("p ")
