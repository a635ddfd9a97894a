"""Sections on the classes, on how far probabilities can be trusted, and on where the networks look."""

from __future__ import annotations

from dataclasses import replace

from study.reporting import evidence_tables, paper_tables, tables
from study.reporting.calibration import Calibration, calibrate
from study.reporting.cams_html import SENTENCE, TITLE, cams_html
from study.reporting.class_figures import (
    class_f1_rows,
    class_f1_sentence,
    loss_contenders,
    study_contenders,
)
from study.reporting.composing import Composer
from study.reporting.gallery import (
    MOST_TRIALS,
    best_trials,
    class_pictures,
    confusion_pictures,
    numbered,
)
from study.reporting.loss_figures import loss_name
from study.reporting.picture import Picture
from study.reporting.reliability import reliability_diagram, reliability_sentence
from study.reporting.rows import StudyData, class_counts
from study.reporting.sections.base import paragraph, short_note
from study.reporting.statistics import StudySummary


def classes_section(summary: StudySummary, page: Composer) -> str:
    """What the rare classes came to (the paper's Fig 2 and Table 5) and the confusion matrix."""
    counts = class_counts(summary.study)
    contenders = loss_contenders(summary) if summary.losses else study_contenders(summary)
    rows = class_f1_rows(counts, contenders) if contenders else ()
    table = tables.classes(summary)
    never = [summary.study.class_names[index] for index in sorted(table.marked)]
    sentence = "The rare classes are what the loss is for: see whether their F1 holds up beside the frequent ones'."
    if never:
        sentence += f" Never predicted on test by the best trial: {', '.join(never)}."
    content = page.figures(*class_pictures(summary))
    if rows:
        content += paragraph(class_f1_sentence(rows, *_spoken_of(summary)))
    if summary.losses:
        for blocks in paper_tables.blocks_by_model([summary]).values():
            caption = "Test F1 of each class, in percent (Table 5)"
            content += page.heading(caption)
            content += page.table("classes-by-loss", caption, paper_tables.class_scores(blocks), dense=True)
    else:
        content += page.table("classes", "What became of each class", table, dense=True)
    return page.section("Classes", sentence, content + _matrices(summary, page), short_note(summary))


def calibration_section(data: StudyData, summary: StudySummary, page: Composer) -> str:
    """Whether the probabilities can be believed; empty where there are no predictions."""
    shown = best_trials(summary)
    found: list[tuple[str, Calibration]] = []
    reasons = []
    for name, row in shown:
        predictions = data.predictions.get(row.point)
        if predictions and predictions.val and predictions.test:
            found.append((name, calibrate(predictions.val, predictions.test)))
        elif predictions and predictions.reason:
            reasons.append(f"{name}: {predictions.reason}.")
    if not found:
        return (
            page.section("Calibration", "There is nothing to tell it from.", paragraph(" ".join(reasons)))
            if reasons
            else ""
        )
    content = page.figures(
        *(_diagram(one, number, name, len(found)) for number, (name, one) in enumerate(found[:MOST_TRIALS], start=1))
    )
    content += page.table("calibration", "Calibration on test", evidence_tables.calibration(found))
    content += paragraph(" ".join(reasons), "quiet")
    content += paragraph(
        "The expected calibration error (ECE) is the mean distance between confidence and accuracy over 15 bins of "
        "equal width; the temperature divides the logits, was fitted on validation and changes no prediction.",
        "quiet",
    )
    return page.section("Calibration", reliability_sentence(found[0][1], of=found[0][0]), content, short_note(summary))


def gradcam_section(data: StudyData, page: Composer) -> str:
    """Where the networks look (the paper's Fig 3); empty where no Grad-CAM was made, or none may be shown."""
    if data.cams is None or not page.shows_patient_data:
        return ""
    return page.section(TITLE, SENTENCE, cams_html(data.cams))


def _spoken_of(summary: StudySummary) -> tuple[str | None, str | None]:
    """Of which contender gains and losses are told: of compared losses, of LMF beside CCE, as far as they are there."""
    named = {one.loss: loss_name(one, summary.losses) for one in summary.losses if one.rows}
    if "lmf" not in named:
        return None, None
    return named["lmf"], named.get("cce")


def _diagram(found: Calibration, number: int, name: str, count: int) -> Picture:
    picture = numbered(reliability_diagram(found), number)
    return replace(picture, title=f"Calibration of {name} on test") if count > 1 else picture


def _matrices(summary: StudySummary, page: Composer) -> str:
    names = summary.study.class_names
    content = page.figures(*confusion_pictures(summary))
    for number, (name, row) in enumerate(best_trials(summary)[:MOST_TRIALS], start=1):
        if row.test:
            title = f"Confusion matrix of {name} on test"
            table = tables.confusion(names, row.test.confusion)
            content += page.fold(f"{title}, as a table", page.table(f"confusion-{number}", title, table))
    return content
