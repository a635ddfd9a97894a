"""The report: what one or several studies came to, on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version

from study.reporting.composing import Composer, Report
from study.reporting.markup import figure_id, figures_html, page_html
from study.reporting.picture import Picture
from study.reporting.rows import StudyData, epoch_rows, point_rows
from study.reporting.sections.answer import answer_section
from study.reporting.sections.classes import calibration_section, classes_section, gradcam_section
from study.reporting.sections.losses import losses_section
from study.reporting.sections.points import plane_section, points_section, settings_section
from study.reporting.sections.run import how_section, table_section
from study.reporting.sections.several import several_sections
from study.reporting.sections.training import curves_section, halves_section
from study.reporting.statistics import StudySummary, summarize
from study.reporting.text import counted, moment, safe


def report_page(studies: Sequence[StudyData], *, now: float | None = None) -> str:
    """The report of some studies as one HTML document that needs no network; see `make_report`."""
    return make_report(studies, now=now).html


def make_report(studies: Sequence[StudyData], *, now: float | None = None, patient_data: bool = True) -> Report:
    """The report of some studies, with its figures and tables.

    Args:
        studies: at least one study with its epochs and attempts.
        now: the moment of writing in Unix seconds; by default the clock's.
        patient_data: show images and file names, and messages, which may hold some.
    """
    summaries = [summarize(data.study, point_rows(data.study, data.epochs)) for data in studies]
    page = Composer("report", shows_patient_data=patient_data)
    names = ", ".join(data.study.name for data in studies)
    title = names if len(studies) == 1 else f"{len(studies)} studies"
    written = f"Written {moment(time.time() if now is None else now)} by lmf {version('lmf')}."
    parts = [f'<h1>{safe(title)}</h1>\n<p class="quiet">{safe(written)}</p>']
    if len(studies) > 1:
        parts += several_sections(studies, summaries, page)
    contents = list(page.sections)
    for number, (data, summary) in enumerate(zip(studies, summaries, strict=True), start=1):
        place = f"study-{number}"
        if len(studies) > 1:
            first = ' class="first"' if number == 1 else ""
            parts.append(f'<h2 id="{place}"{first}>{safe(data.study.name)}</h2>')
        part = page.part(place, level=3 if len(studies) > 1 else 2)
        parts += _study_sections(data, summary, part)
        contents += [(place, data.study.name)] if len(studies) > 1 else part.sections
    html = page_html(f"lmf report: {names}", "\n".join(filter(None, parts)), page.pictures, contents=contents)
    return Report(html, page.pictures, tuple(page.tables.values()))


def figure_page(picture: Picture) -> str:
    """One picture under its title as an HTML document that needs no network."""
    return page_html(picture.title, figures_html("figure", [picture]), {figure_id("figure", picture): picture})


def _study_sections(data: StudyData, summary: StudySummary, page: Composer) -> list[str]:
    study = summary.study
    epochs = epoch_rows(summary.rows, data.epochs)
    parts = [f"<p>{safe(study.dataset)} with {safe(study.model)}. {_progress(summary)}{_pruning(summary)}</p>"]
    if summary.losses:
        parts.append(losses_section(data, summary, page))
    else:
        parts += [
            answer_section(data, summary, page),
            settings_section(summary, page),
            plane_section(summary, page),
            points_section(summary, page),
        ]
    return [
        *parts,
        halves_section(summary, epochs, page),
        curves_section(summary, epochs, page),
        classes_section(summary, page),
        calibration_section(data, summary, page),
        gradcam_section(data, page),
        table_section(summary, page),
        how_section(data, summary, page),
    ]


def _progress(summary: StudySummary) -> str:
    counts = summary.states
    text = f"{counts['complete']} of {counted(summary.study.total, 'point')} complete"
    rest = [f"{counts[state]} {state}" for state in counts if state != "complete" and counts[state]]
    if rest:
        text += f" ({', '.join(rest)})"
    if summary.unfinished:
        return (
            f'<span class="warn">Unfinished: {safe(text)}; what follows is of the complete ones and may change.</span>'
        )
    if counts["failed"]:
        return f'<span class="warn">{safe(text)}; what did not complete is in no mean.</span>'
    return safe(f"{text}.")


def _pruning(summary: StudySummary) -> str:
    pruning = summary.pruning
    if pruning is None:
        return ""
    return safe(
        f" {pruning.points} of {counted(summary.study.total, 'point')} pruned: {counted(pruning.epochs, 'epoch')} "
        f"trained instead of {pruning.unpruned_epochs}; a pruned point keeps its learning curve and is in no mean."
    )
