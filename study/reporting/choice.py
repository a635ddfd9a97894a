"""A picture of what choosing by validation costs: all points' test scores over their validation scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from study.reporting.marks import LEGEND_BELOW
from study.reporting.pair_rows import PairRow, chosen_row, pair_rows, point_text, shown_note, thinned
from study.reporting.picture import Picture, empty_figure, in_percent
from study.reporting.statistics import StudySummary
from study.reporting.text import counted, percent, score_name


@dataclass(frozen=True)
class Choice:
    """What validation chooses, and what looking at the test scores would have chosen.

    Attributes:
        points: how many points there are.
        chosen: the point that validation chooses.
        peeked: the one with the best test score; the chosen one where it is as good.
        gap: how much more macro F1 on test the second has, a fraction of at least 0.
        place: the chosen point's place by test score, from 1.
        correlation: Spearman's rank correlation of validation and test scores; None with fewer than three points, and
            where all are equal on one split.
    """

    points: int
    chosen: PairRow
    peeked: PairRow
    gap: float
    place: int
    correlation: float | None


def choice_of(rows: Sequence[PairRow]) -> Choice | None:
    """Compare what validation chooses with the best test score, None before anything was chosen.

    Args:
        rows: all points.
    """
    chosen = chosen_row(rows)
    if chosen is None:
        return None
    mine = chosen.mean("test")
    peeked = max(rows, key=lambda row: (row.mean("test"), row.chosen))
    place = 1 + sum(row.mean("test") > mine for row in rows)
    return Choice(len(rows), chosen, peeked, peeked.mean("test") - mine, place, _correlation(rows))


def choice(summary: StudySummary) -> Picture:
    """Test over validation macro F1 of all points; what validation chooses and the best test score are marked.

    Args:
        summary: a study's statistics.
    """
    rows = pair_rows(summary)
    found = choice_of(rows)
    shown = thinned(rows, keep=() if found is None else (found.peeked,))
    figure = empty_figure("validation macro F1, %", "test macro F1, %")
    figure.add_scatter(
        x=[in_percent(row.mean("val")) for row in shown],
        y=[in_percent(row.mean("test")) for row in shown],
        mode="markers",
        marker={"color": "var(--muted)", "size": 7 if len(shown) <= 200 else 5, "symbol": "circle-open"},
        name="points",
        customdata=[[row.alpha, row.beta] for row in shown],
        hovertemplate="α %{customdata[0]}, β %{customdata[1]}<br>validation %{x:.2f} %<br>test %{y:.2f} %"
        "<extra></extra>",
    )
    if found is not None:
        marked = [("chosen by validation", "val", "diamond", found.chosen, "bottom center")]
        if not found.peeked.chosen:
            marked.append(
                ("best on test, which only peeking finds", "test", "star-triangle-up", found.peeked, "top center")
            )
        for name, color, symbol, row, place in marked:
            figure.add_scatter(
                x=[in_percent(row.mean("val"))],
                y=[in_percent(row.mean("test"))],
                mode="markers+text",
                marker={"color": f"var(--{color})", "size": 14, "symbol": symbol},
                text=[percent(row.mean("test"))],
                textposition=place,
                textfont={"color": "var(--text)"},
                cliponaxis=False,
                name=f"{name}: {point_text(row)}",
                hoverinfo="name",
            )
    figure.update_layout(legend=LEGEND_BELOW)
    return Picture("choice", f"Validation and test scores of all points{shown_note(len(shown), len(rows))}", figure)


def choice_sentence(found: Choice | None, select: str = "macro_f1") -> str:
    """What to read from the comparison: what peeking would have found.

    Args:
        found: the comparison, None before anything was chosen.
        select: the score that validation chooses by.
    """
    if found is None:
        return "No point is complete yet."
    chosen = point_text(found.chosen)
    score = percent(found.chosen.mean("test"))
    if found.points == 1:
        return f"One point is complete, so there was nothing to choose: {chosen} with {score} % on test."
    if found.gap == 0:
        text = f"Validation chooses {chosen}, which also has the best test score, {score} %."
    else:
        peeked = point_text(found.peeked)
        text = (
            f"Validation chooses {chosen} with {score} % on test, place {found.place} of {found.points}; choosing by "
            f"the test scores would have found {percent(found.peeked.mean('test'))} % ({peeked}) and claimed "
            f"{percent(found.gap)} percentage points more than can be defended."
        )
    text += select_note(select)
    if found.correlation is None:
        return text
    return (
        f"{text} The rank correlation of both scores over {counted(found.points, 'point')} is {found.correlation:.2f}."
    )


def select_note(select: str) -> str:
    """That validation chooses by another score than a figure of macro F1 shows, after a blank; empty where it does not.

    Args:
        select: the score that validation chooses by.
    """
    if select == "macro_f1":
        return ""
    return f" Validation chooses by {score_name(select)}; the figure shows macro F1."


def _correlation(rows: Sequence[PairRow]) -> float | None:
    from scipy.stats import spearmanr

    val, test = ([row.mean(split) for row in rows] for split in ("val", "test"))
    if len(rows) < 3 or len(set(val)) == 1 or len(set(test)) == 1:
        return None
    return float(spearmanr(val, test).statistic)
