"""Every place where the published figures do not agree with themselves, or with what the paper says of them."""

from __future__ import annotations

from study.paper.class_claims import class_claim_inconsistencies
from study.paper.inconsistency import Inconsistency
from study.paper.published import Published, published
from study.paper.score_claims import score_claim_inconsistencies
from study.paper.table_checks import table_inconsistencies


def inconsistencies(paper: Published | None = None) -> tuple[Inconsistency, ...]:
    """Where the paper disagrees with itself: its tables with each other first, then its text with its tables.

    Bold figures are not compared: the text that the figures were taken from does not show them.

    Args:
        paper: the figures; by default those that were published.
    """
    paper = published() if paper is None else paper
    return (
        *table_inconsistencies(paper),
        *score_claim_inconsistencies(paper),
        *class_claim_inconsistencies(paper),
    )
