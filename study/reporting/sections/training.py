"""Sections on how the trainings went: learning curves, and what each half of the loss did."""

from __future__ import annotations

from collections.abc import Sequence

from study.reporting.composing import Composer
from study.reporting.gallery import curve_pictures, half_pictures
from study.reporting.halves import half_sentence, share_rows, share_sentence
from study.reporting.rows import EpochRow
from study.reporting.sections.base import paragraph, short_note
from study.reporting.statistics import StudySummary


def halves_section(summary: StudySummary, epochs: Sequence[EpochRow], page: Composer) -> str:
    """What LDAM and focal loss each did, by epoch and point; empty where nothing is known of the halves."""
    known = [row for row in epochs if row.ldam is not None and row.focal is not None]
    pictures = half_pictures(summary, epochs)
    if not pictures:
        return ""
    return page.section(
        "The halves of the loss",
        share_sentence(summary, share_rows(known)),
        page.figures(*pictures)
        + paragraph(half_sentence(known))
        + paragraph(
            "Shares are of the sum of both weighted halves' gradient norms at the logits. The halves' own values do "
            "not tell which one steers the training: LDAM's scale makes its value large.",
            "quiet",
        ),
    )


def curves_section(summary: StudySummary, epochs: Sequence[EpochRow], page: Composer) -> str:
    """Learning curves of all points, and the losses of the best."""
    pictures = curve_pictures(summary, epochs)
    if not pictures:
        return page.section("Learning curves", "No epoch has ended yet.", "")
    return page.section(
        "Learning curves",
        "A curve that still rises at the end asks for more epochs; a validation loss that rises while the training "
        "loss falls is overfitting.",
        page.figures(*pictures),
        short_note(summary),
    )
