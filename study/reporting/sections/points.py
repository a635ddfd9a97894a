"""Sections on the settings (the paper's Fig 4), the plane of α and β, and the single points."""

from __future__ import annotations

from study.paper.reading import SETTINGS_FACTS, Fact, is_figure_4, setting_agreement
from study.reporting import tables
from study.reporting.choice import choice_of, choice_sentence
from study.reporting.composing import Composer
from study.reporting.gallery import plane_pictures, point_pictures, setting_pictures
from study.reporting.pair_rows import pair_rows
from study.reporting.plane import plane_sentence
from study.reporting.ratio import ratio_sentence
from study.reporting.sections.base import bullets, paragraph, short_note
from study.reporting.setting_comparison import compare_settings
from study.reporting.statistics import StudySummary

ADAM_NOTE = (
    "Adam divides a gradient by its own size: α = β = c trains as α = β = 1 does with the weight decay divided by c. "
    "What else can change a training is β / α, and chance."
)


def settings_section(summary: StudySummary, page: Composer) -> str:
    """The paper's Fig 4 and the numbers behind it; empty where no setting has a complete point."""
    pictures = setting_pictures(summary)
    if not pictures:
        return ""
    content = page.figures(*pictures)
    content += page.table("settings", "The settings compared", tables.settings(summary))
    content += paragraph(compare_settings(summary).sentence())
    content += _beside_the_paper(summary, page)
    return page.section(
        "Fig 4: the settings compared",
        "A setting is better the higher its mean lies, and steadier the shorter its bar is (the average deviation of "
        "its points); whether settings differ by more than chance is said below.",
        content,
        short_note(summary),
    )


def _beside_the_paper(summary: StudySummary, page: Composer) -> str:
    """What the paper reads from its Fig 4, and whether these settings say the same."""
    said = [f"{fact.text} ({fact.place})" for fact in SETTINGS_FACTS]
    agreement = _agreement(summary)
    if agreement:
        said += [fact.text for fact in agreement]
        if not any(pair.told for pair in compare_settings(summary).pairs):
            said.append("The settings here cannot be told apart one from another, so their order may be chance.")
        if not is_figure_4(summary.study.dataset, summary.study.model):
            said.append("The paper's figure is of HAM-10K with EfficientNetV2, so another dataset or model may differ.")
    return page.fold("The paper's reading beside this one", bullets(said))


def _agreement(summary: StudySummary) -> tuple[Fact, ...]:
    """The paper's statements on its Fig 4 beside these settings; none unless all three are whole and in an order."""
    settings = summary.settings
    if len(settings) < 3 or any(len(one.pairs) < max(2, one.planned) for one in settings):
        return ()
    means = [one.test.mean for one in settings]
    deviations = [one.test.average_deviation for one in settings]
    if None in means or None in deviations or len(set(means)) < 3 or len(set(deviations)) < 3:
        return ()
    by_mean = sorted(settings, key=lambda one: one.test.mean or 0.0)
    steady = min(settings, key=lambda one: one.test.average_deviation or 0.0)
    return setting_agreement(by_mean[-1].name, by_mean[0].name, steady.name)


def plane_section(summary: StudySummary, page: Composer) -> str:
    """All points over α and β, and over β / α; empty where none is complete."""
    rows = pair_rows(summary)
    if not rows:
        return ""
    content = page.figures(*plane_pictures(summary))
    content += paragraph(ratio_sentence(rows)) + paragraph(ADAM_NOTE, "quiet")
    if any(len(pair.rows) > 1 for pair in summary.pairs):
        content += paragraph("Bars of single points are average deviations over their seeds.", "quiet")
    return page.section("The plane of α and β", plane_sentence(rows, summary.select), content, short_note(summary))


def points_section(summary: StudySummary, page: Composer) -> str:
    """Each point by the value that its setting varies, and what choosing by validation costs; empty without points."""
    if not summary.pairs:
        return ""
    sentence = ""
    if any(pair.settings for pair in summary.pairs):
        sentence = "A line that rises or falls steadily speaks for a value, one that jumps speaks for chance. "
    return page.section(
        "The single points",
        sentence + choice_sentence(choice_of(pair_rows(summary)), summary.select),
        page.figures(*point_pictures(summary)),
        short_note(summary),
    )
