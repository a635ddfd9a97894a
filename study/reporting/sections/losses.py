"""The answer of a comparison of losses (the paper's Tables 2 to 4), and how sure the differences are."""

from __future__ import annotations

from study.paper import names
from study.reporting import evidence_tables, paper_tables
from study.reporting.comparing import LossComparisons, compare_losses, loss_runs
from study.reporting.composing import Composer
from study.reporting.gallery import loss_pictures
from study.reporting.leakage import leakage_sentence
from study.reporting.loss_figures import loss_name, loss_rows, loss_sentence
from study.reporting.methods import factors_sentence
from study.reporting.rows import StudyData
from study.reporting.sections.answer import deviation_note, test_interval
from study.reporting.sections.base import bullets, leakage_note, paragraph
from study.reporting.statistics import StudySummary
from study.reporting.text import counted


def losses_section(data: StudyData, summary: StudySummary, page: Composer) -> str:
    """The losses beside each other, with intervals, and what can be told apart."""
    note = leakage_note(summary.study.leakage, leakage_sentence(summary.study.leakage))
    done = [one for one in summary.losses if one.rows]
    if not done:
        return page.section("The losses compared", "No loss has a complete training yet.", "", note)
    found = {loss_name(one, summary.losses): test_interval(data, one.rows) for one in done}
    intervals = {name: (interval.low, interval.high) for name, interval in found.items() if interval}
    rows = loss_rows(summary, "test", intervals)
    seeds = max(len(one.rows) for one in done)
    content = page.figures(*loss_pictures(summary, intervals))
    for model, blocks in paper_tables.blocks_by_model([summary]).items():
        caption = f"Test scores of the losses with {model}, in percent"
        content += page.table(
            "losses", f"{caption}{deviation_note(seeds)}", paper_tables.loss_scores(blocks, whole=True)
        )
    if seeds > 1:
        content += paragraph(f"Our scores are means over seeds{deviation_note(seeds)}.", "quiet")
    content += paragraph(factors_sentence(summary))
    comparisons = _compare(data, summary)
    content += page.heading("What can be told apart") + bullets(_told(comparisons))
    if comparisons.comparisons:
        content += page.table(
            "comparisons", "The losses against each other on test", evidence_tables.comparisons(comparisons)
        )
        content += paragraph(
            "A difference counts only where it is more than chance both in the seeds and in the test images: p is the "
            "larger of the two permutation tests' values, corrected by Holm for all comparisons.",
            "quiet",
        )
    return page.section("The losses compared", _sentence(summary, loss_sentence(rows, "test")), content, note)


def _compare(data: StudyData, summary: StudySummary) -> LossComparisons:
    tested = {point: found.test for point, found in data.predictions.items() if found.test is not None}
    truth = next((one.truth for one in tested.values()), None)
    labels = {point: one.predicted for point, one in tested.items()}
    return compare_losses(loss_runs(summary, labels), truth, len(summary.study.class_names))


def _told(comparisons: LossComparisons) -> tuple[str, ...]:
    winner = comparisons.winner
    first = (f"{names.loss_name(winner)} is better than every other loss it was compared with.",) if winner else ()
    return (*first, *comparisons.sentences())


def _sentence(summary: StudySummary, found: str) -> str:
    seeds = max((len(one.rows) for one in summary.losses), default=0)
    return (
        f"{found} Each loss is judged by its mean over {counted(seeds, 'seed')}; of each training the epoch was chosen "
        "by validation."
    )
