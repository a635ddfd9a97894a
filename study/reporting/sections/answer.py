"""The answer of a study of α and β: the best of both, how sure that is, and what its score is worth."""

from __future__ import annotations

import numpy as np

from study.paper import published
from study.paper.names import dataset_name, model_name, paper_dataset
from study.reporting import evidence_tables, tables
from study.reporting.composing import Composer
from study.reporting.leakage import leakage_sentence
from study.reporting.noise import seed_groups, variance_share
from study.reporting.resampling import ScoreInterval, score_interval
from study.reporting.rows import PointRow, StudyData
from study.reporting.sections.base import leakage_note, paragraph
from study.reporting.statistics import StudySummary
from study.reporting.text import (
    counted,
    factor,
    percent,
    percent_spread,
    safe,
    score_figure,
    score_name,
    score_unit,
)
from study.reporting.verdict import judged_winner
from study.reporting.winners import Winner, find_neighbours


def answer_section(data: StudyData, summary: StudySummary, page: Composer) -> str:
    """The best α and β (the paper's Table 6), whether they can be told from the others, and their scores."""
    select = score_name(summary.select, summary.specificity)
    best, trial = summary.best, summary.best_row
    note = leakage_note(summary.study.leakage, leakage_sentence(summary.study.leakage))
    if best is None or trial is None:
        why = (
            f"no complete point has a validation {select}, which chooses in this study"
            if summary.pairs
            else "no point with α and β is complete"
        )
        return page.section("The answer", f"There is no best α and β yet: {why}.", "", note)
    complete = len(best.rows)
    seeds = (
        f"the mean of {complete} of {counted(len(best.seeds), 'seed')}"
        if len(best.seeds) > 1
        else f"one training, with seed {trial.seed}"
    )
    winner = judged_winner(data, summary)
    sentence = (
        f"{_advice(winner)} of {counted(len(summary.ranking), 'point')} they have the best validation {select}, "
        f"{seeds}; test scores played no part in the choice."
    )
    return page.section(
        "The answer",
        sentence,
        _boxes(data, summary, winner)
        + page.table(
            "best", f"Scores of the best α and β{deviation_note(complete)}", tables.best_scores(summary), dense=True
        )
        + paragraph(
            f"Scores are means over {complete} seeds{deviation_note(complete)}." if complete > 1 else "", "quiet"
        )
        + page.heading("How sure this is")
        + _how_sure(summary, winner)
        + _rivals(summary, winner, page)
        + ("" if winner.rivals else paragraph(_runner_up(summary, select), "quiet"))
        + paragraph(_published(summary)),
        note,
    )


def deviation_note(seeds: int) -> str:
    """What ± says in tables of scores; nothing with one seed."""
    return ", ± the sample standard deviation over seeds" if seeds > 1 else ""


def test_interval(data: StudyData, rows: tuple[PointRow, ...]) -> ScoreInterval | None:
    """The bootstrap interval of macro F1 on test over images and seeds; None where predictions are not all there.

    Args:
        data: the study.
        rows: complete points whose mean it is of, at least one.
    """
    found = [data.predictions[row.point].test if row.point in data.predictions else None for row in rows]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    predicted = np.stack([one.predicted for one in known])
    return score_interval(known[0].truth, predicted, len(data.study.class_names))


def _boxes(data: StudyData, summary: StudySummary, winner: Winner) -> str:
    best, trial = summary.best, summary.best_row
    assert best is not None
    assert trial is not None
    complete = len(best.rows)
    test = best.spread("test", "macro_f1")
    score = percent_spread(test.mean, test.standard_deviation) if complete > 1 else percent(test.mean)
    interval = test_interval(data, best.rows)
    what = "macro F1 on test"
    if interval:
        over = "images and seeds" if interval.over_seeds else "test images"
        what += f"; {percent(interval.low)} to {percent(interval.high)} % at 95 % over {over}"
    boxes = (
        (factor(best.alpha), f"α, weight of the LDAM half{_range(winner.alphas)}"),
        (factor(best.beta), f"β, weight of the focal half{_range(winner.betas)}"),
        (f"{score} %", what),
        ("–" if trial.trial is None else str(trial.trial), "trial" if complete == 1 else "its best trial"),
    )
    content = "".join(f"<div><b>{safe(value)}</b><span>{safe(label)}</span></div>" for value, label in boxes)
    return f'<div class="answer">{content}</div>'


def _range(ends: tuple[float, float] | None) -> str:
    """Between which values the best may lie, as far as seeds tell; nothing where they tell nothing."""
    if ends is None or ends[0] == ends[1]:
        return ""
    return f"; the best may be {factor(ends[0])} to {factor(ends[1])}"


def _advice(winner: Winner) -> str:
    """How strongly the best may be recommended."""
    if winner.crowned:
        return "Take these to train on this data:"
    if winner.p is None:
        return "These may be taken to train on this data, but nothing says that they are better than others:"
    others = len(winner.indistinct) - 1
    return (
        f"These may be taken to train on this data, as may {counted(others, 'other point')} that cannot be told apart:"
    )


def _how_sure(summary: StudySummary, winner: Winner) -> str:
    """Whether the best can be told from the others and from its neighbours, and what the seeds change."""
    share = variance_share(seed_groups(summary))
    sentences = (
        winner.sentence(summary.select),
        winner.neighbours_sentence(find_neighbours(summary)),
        "" if share.reason and share.reason == winner.reason else share.sentence(summary.select),
    )
    return paragraph(" ".join(filter(None, sentences)))


def _rivals(summary: StudySummary, winner: Winner, page: Composer) -> str:
    """The points that come closest to the best, and whether it can be told from them."""
    if not winner.rivals:
        return ""
    table = evidence_tables.rivals(summary, winner)
    return page.table("rivals", "Points that come closest to the best, by validation", table)


def _runner_up(summary: StudySummary, select: str) -> str:
    if len(summary.ranking) < 2:
        return "No other point is complete, so there is nothing to compare with."
    first, second = summary.ranking[:2]
    unit = score_unit(summary.select)
    scores = [score_figure(summary.select, pair.score("val", summary.select)) + unit for pair in (first, second)]
    return (
        f"Next comes α = {factor(second.alpha)}, β = {factor(second.beta)} with a validation {select} of {scores[1]} "
        f"against {scores[0]}."
    )


def _published(summary: StudySummary) -> str:
    """The paper's α and β for this dataset and model, and its score, where it has them."""
    dataset = paper_dataset(summary.study.dataset, summary.study.class_names)
    known = published.factors(dataset, summary.study.model) if dataset else None
    if dataset is None or known is None:
        return ""
    score = published.scores(dataset, summary.study.model)["lmf"].macro_f1
    return (
        f"The paper's best for {dataset_name(dataset)} with {model_name(summary.study.model)} is α = "
        f"{factor(known.alpha)}, β = {factor(known.beta)} (Table 6), with a test macro F1 of {percent(score)} %. "
        "It does not say by which images it was chosen, and its split and recipe may differ from these."
    )
