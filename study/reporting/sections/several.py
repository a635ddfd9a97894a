"""What several studies say together: the paper's tables for all of them, and how the losses rank over datasets."""

from __future__ import annotations

from collections.abc import Sequence

from study.paper.names import paper_dataset, paper_model
from study.paper.reading import FACTORS_FACTS, LOSS_FACTS, Fact
from study.reporting import paper_tables, tables
from study.reporting.composing import Composer
from study.reporting.loss_ranks import (
    dataset_loss_rows,
    dataset_losses,
    dataset_sentence,
    loss_cells,
    loss_ranks,
    rank_cells,
    rank_rows,
)
from study.reporting.rows import StudyData
from study.reporting.sections.base import bullets
from study.reporting.statistics import StudySummary
from study.reporting.verdict import judged_winner


def several_sections(studies: Sequence[StudyData], summaries: Sequence[StudySummary], page: Composer) -> list[str]:
    """The overview of several studies, and the paper's tables with ours and the published figures beside each other.

    Args:
        studies: at least two studies.
        summaries: their statistics, in the same order.
        page: takes the sections.
    """
    found = [_best_section(studies, summaries, page)]
    compared = [summary for summary in summaries if any(one.rows for one in summary.losses)]
    if compared:
        found.append(_losses_section(compared, page))
    found.append(_data_section(summaries, page))
    if any(_is_of_the_paper(summary) for summary in summaries):
        found.append(_inconsistencies_section(page))
    return found


def _best_section(studies: Sequence[StudyData], summaries: Sequence[StudySummary], page: Composer) -> str:
    tuned = [summary for summary in summaries if not summary.losses]
    if not tuned:
        return ""
    both = zip(studies, summaries, strict=True)
    winners = [judged_winner(data, summary) for data, summary in both if not summary.losses]
    content = page.table("overview", "Best α and β of each study", tables.overview(tuned, winners))
    if len(tuned) > 1 or any(map(_is_of_the_paper, tuned)):
        caption = "Best α and β by dataset and model, as in the paper's Table 6"
        content += page.heading("By dataset and model (Table 6)")
        content += page.table("table-6", caption, paper_tables.factors(tuned))
    if any(map(_is_of_the_paper, tuned)):
        content += _facts(FACTORS_FACTS, page)
    return page.section(
        "Best α and β of each study",
        "One row a study, as in the paper's Table 6; test scores of two rows compare only where dataset and split "
        "are the same.",
        content,
    )


def _losses_section(compared: Sequence[StudySummary], page: Composer) -> str:
    cells = loss_cells(compared)
    rows = dataset_loss_rows(cells)
    ranks = rank_rows(cells)
    content = page.figures(dataset_losses(rows), *([loss_ranks(ranks)] if ranks else []))
    blocks = paper_tables.blocks_by_model(compared)
    for number, (model, members) in enumerate(blocks.items(), start=1):
        content += page.heading(f"Test scores with {model} (Tables 2 to 4)")
        caption = f"Test scores of the losses with {model}, in percent"
        content += page.table(f"scores-{number}", caption, paper_tables.loss_scores(members, whole=True), dense=True)
        caption = f"Test F1 of each class with {model}, in percent"
        content += page.heading(f"F1 of each class with {model} (Table 5)")
        content += page.table(f"classes-{number}", caption, paper_tables.class_scores(members), dense=True)
    average = paper_tables.average_ranks([block for members in blocks.values() for block in members])
    if average:
        content += page.heading("Average ranks") + page.table("ranks", "Average ranks of the losses", average)
    content += bullets(rank_cells(cells).sentences())
    if any(_is_of_the_paper(summary) for summary in compared):
        content += _facts(LOSS_FACTS, page)
    return page.section("Losses over datasets and models (Fig 1, Tables 2 to 5)", dataset_sentence(rows), content)


def _data_section(summaries: Sequence[StudySummary], page: Composer) -> str:
    return page.section(
        "The data (Table 1)",
        "How many images each part of each split has; scores of other splits are other scores.",
        page.table("table-1", "Images in each part of the split", paper_tables.split_sizes(summaries)),
    )


def _inconsistencies_section(page: Composer) -> str:
    table = paper_tables.inconsistency_table()
    return page.section(
        "Where the published figures disagree",
        "Differences from the paper of the size of these say nothing: so far it disagrees with itself.",
        page.table("inconsistencies", "Where the published figures do not agree with themselves", table, dense=True),
    )


def _facts(facts: Sequence[Fact], page: Composer) -> str:
    return page.fold("What the paper says of it", bullets(f"{fact.text} ({fact.place})" for fact in facts))


def _is_of_the_paper(summary: StudySummary) -> bool:
    known = paper_dataset(summary.study.dataset, summary.study.class_names)
    return known is not None and paper_model(summary.study.model) is not None
