"""The report: what one or several studies came to, on one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from study.reporting import curves, figures, tables
from study.reporting.leakage import Leakage, has_leaks, leakage_line, leakage_sentence
from study.reporting.markup import figure_id, figures_html, page_html, table_html
from study.reporting.picture import Picture
from study.reporting.rows import EpochRow, StudyData, class_counts, epoch_rows, point_rows
from study.reporting.statistics import StudySummary, summarize
from study.reporting.text import (
    counted,
    factor,
    moment,
    percent,
    percent_spread,
    safe,
    score_figure,
    score_name,
    score_unit,
)

Place = Callable[..., str]
"""Takes pictures, puts them on the page and gives the HTML of their places."""


def report_page(studies: Sequence[StudyData], *, now: float | None = None) -> str:
    """The report of some studies as one HTML document that needs no network.

    Args:
        studies: at least one study with its epochs and attempts.
        now: the moment of writing in Unix seconds; by default the clock's.
    """
    summaries = [summarize(data.study, point_rows(data.study, data.epochs)) for data in studies]
    pictures: dict[str, Picture] = {}
    sections = []
    for number, (data, summary) in enumerate(zip(studies, summaries, strict=True), start=1):
        if len(studies) > 1:
            first = ' class="first"' if number == 1 else ""
            sections.append(f'<h2 id="study-{number}"{first}>{safe(data.study.name)}</h2>')
        sections.append(_study_section(f"study-{number}", data, summary, pictures))
    names = ", ".join(data.study.name for data in studies)
    title = names if len(studies) == 1 else f"{len(studies)} studies"
    written = f"Written {moment(time.time() if now is None else now)} by lmf {version('lmf')}."
    head = f'<h1>{safe(title)}</h1>\n<p class="quiet">{safe(written)}</p>'
    if len(studies) > 1:
        head += _overview(summaries)
    return page_html(f"lmf report: {names}", "\n".join([head, *sections]), pictures)


def figure_page(picture: Picture) -> str:
    """One picture under its title as an HTML document that needs no network."""
    return page_html(picture.title, figures_html("figure", [picture]), {figure_id("figure", picture): picture})


def _overview(summaries: Sequence[StudySummary]) -> str:
    links = " · ".join(
        f'<a href="#study-{number}">{safe(summary.study.name)}</a>' for number, summary in enumerate(summaries, start=1)
    )
    return _section(
        "Best α and β of each study",
        "One row a study, as in the paper's Table 6; test scores of two rows compare only where dataset and split are "
        "the same.",
        f"{table_html(tables.overview(summaries))}<nav><p>{links}</p></nav>",
    )


def _study_section(prefix: str, data: StudyData, summary: StudySummary, pictures: dict[str, Picture]) -> str:
    epochs = epoch_rows(summary.rows, data.epochs)
    study = summary.study

    def place(*shown: Picture) -> str:
        pictures.update({figure_id(prefix, picture): picture for picture in shown})
        return figures_html(prefix, shown)

    parts = [
        f"<p>{safe(study.dataset)} with {safe(study.model)}. {_progress(summary)}{_pruning(summary)}</p>",
        _answer(summary),
    ]
    if any(setting.pairs for setting in summary.settings):
        parts.append(_settings(summary, place(figures.setting_means(summary))))
    if summary.pairs:
        parts.append(_single_points(summary, place))
    parts += [_curves(summary, epochs, place), _classes(summary, place), _points(summary), _how(data)]
    return "\n".join(parts)


def _section(title: str, sentence: str, content: str, note: str = "") -> str:
    return f"<section><h3>{safe(title)}</h3>\n<p>{safe(sentence)}</p>\n{note}{content}</section>"


def _note(leakage: Leakage, text: str) -> str:
    """What is said of leaks, below a section's sentence: loud where there are any."""
    kind = "warn" if has_leaks(leakage) else "quiet"
    return f'<p class="{kind}">{safe(text)}</p>\n' if text else ""


def _short_note(summary: StudySummary) -> str:
    return _note(summary.study.leakage, leakage_line(summary.study.leakage))


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{safe(title)}</summary>\n<h4>{safe(title)}</h4>{content}</details>"


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


def _answer(summary: StudySummary) -> str:
    select = score_name(summary.select, summary.specificity)
    best, trial = summary.best, summary.best_row
    note = _note(summary.study.leakage, leakage_sentence(summary.study.leakage))
    if best is None or trial is None:
        why = (
            f"no complete point has a validation {select}, which chooses in this study"
            if summary.pairs
            else "no point with α and β is complete"
        )
        return _section("The answer", f"There is no best α and β yet: {why}.", "", note)
    complete = len(best.rows)
    seeds = (
        f"the mean of {complete} of {counted(len(best.seeds), 'seed')}"
        if len(best.seeds) > 1
        else f"one training, with seed {trial.seed}"
    )
    sentence = (
        f"Take these to train on this data: of {counted(len(summary.ranking), 'point')} they have the best "
        f"validation {select}, {seeds}; test scores played no part in the choice."
    )
    test = best.spread("test", "macro_f1")
    score = percent_spread(test.mean, test.average_deviation) if complete > 1 else percent(test.mean)
    boxes = (
        (factor(best.alpha), "α, weight of the LDAM half"),
        (factor(best.beta), "β, weight of the focal half"),
        (f"{score} %", "macro F1 on test"),
        ("–" if trial.trial is None else str(trial.trial), "trial" if complete == 1 else "its best trial"),
    )
    content = "".join(f"<div><b>{safe(value)}</b><span>{safe(label)}</span></div>" for value, label in boxes)
    return _section(
        "The answer",
        sentence,
        f'<div class="answer">{content}</div>{table_html(tables.best_scores(summary), dense=True)}'
        f'<p class="quiet">{safe(_runner_up(summary, select))}</p>',
        note,
    )


def _runner_up(summary: StudySummary, select: str) -> str:
    if len(summary.ranking) < 2:
        return "No other point is complete, so there is nothing to compare with."
    first, second = summary.ranking[:2]
    unit = score_unit(summary.select)
    scores = [score_figure(summary.select, pair.score("val", summary.select)) + unit for pair in (first, second)]
    text = (
        f"Next comes α = {factor(second.alpha)}, β = {factor(second.beta)} with a validation {select} of {scores[1]} "
        f"against {scores[0]}."
    )
    if max(len(pair.rows) for pair in (first, second)) == 1:
        text += " With one seed each, a small difference may be chance"
        text += "; more seeds (--seeds) tell." if summary.settings else "."
    return text


def _settings(summary: StudySummary, picture: str) -> str:
    return _section(
        "Fig 4: the settings compared",
        "A setting is better the higher its mean lies, and steadier the shorter its bar (the average deviation) is; "
        "where bars overlap, the settings hardly differ.",
        picture + table_html(tables.settings(summary)),
        _short_note(summary),
    )


def _single_points(summary: StudySummary, place: Place) -> str:
    pictures: list[Picture] = []
    lines = ""
    if any(pair.settings for pair in summary.pairs):
        pictures = [figures.points_by_value(summary, "test"), figures.points_by_value(summary, "val")]
        lines = "A line that rises or falls steadily speaks for a value, one that jumps speaks for chance. "
    return _section(
        "The single points",
        f"{lines}Points of equal β / α differ only through weight decay and chance, so their spread shows how large "
        "chance is.",
        place(*pictures, figures.points_by_ratio(summary)),
        _short_note(summary),
    )


def _curves(summary: StudySummary, epochs: Sequence[EpochRow], place: Place) -> str:
    if not epochs:
        return _section("Learning curves", "No epoch has ended yet.", "")
    pictures = [curves.score_curves(summary, epochs)]
    best = curves.best_epochs(summary, epochs)
    if best:
        pictures.append(curves.loss_curves(best))
    if any(row.ldam is not None and row.focal is not None for row in best):
        pictures.append(curves.half_curves(best))
    return _section(
        "Learning curves",
        "A curve that still rises at the end asks for more epochs; a validation loss that rises while the training "
        "loss falls is overfitting.",
        place(*pictures),
        _short_note(summary),
    )


def _classes(summary: StudySummary, place: Place) -> str:
    table = tables.classes(summary)
    never = [summary.study.class_names[index] for index in sorted(table.marked)]
    sentence = "The rare classes are what the loss is for: see whether their F1 holds up beside the frequent ones'."
    if never:
        sentence += f" Never predicted on test by the best trial: {', '.join(never)}."
    counts = class_counts(summary.study)
    content = place(figures.class_distribution("Images per class", counts)) if counts else ""
    content += table_html(table, dense=True)
    confusion = tables.confusion(summary)
    if confusion:
        content += _fold("Confusion matrix of the best trial on test", table_html(confusion))
    return _section("Classes", sentence, content, _short_note(summary))


def _points(summary: StudySummary) -> str:
    content = table_html(tables.points(summary), dense=True)
    messages = tables.messages(summary)
    if messages:
        content = f"<h4>What went wrong</h4>{table_html(messages)}<h4>All points</h4>{content}"
    warnings = tables.warnings(summary)
    if warnings:
        content = f"<h4>What trainings warned of</h4>{table_html(warnings)}{content}"
    return _section(
        "The table of points",
        "Every training that was planned, by trial, with scores in percent (F1, precision and recall are means over "
        "the classes); the answer's are marked, and one that failed says why.",
        content,
        _short_note(summary),
    )


def _how(data: StudyData) -> str:
    content = table_html(tables.recipe(data))
    if data.attempts:
        table = table_html(tables.attempts(data), dense=True)
        content += f"<p>{safe(tables.attempts_sentence(data))}</p>"
        content += _fold("All attempts", table)
    return _section(
        "How it was run",
        "All that another group needs to repeat this study, and how often a worker was lost on the way.",
        content,
    )
