from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from lmf_testing.report_view import page_figures

from study.reporting.gallery import NAMES
from study.reporting.packing import packed_plotly
from study.reporting.page import report_page
from study.reporting.rows import StudyData

HOSTILE = """</script><script>alert(1)</script><img src=x onerror='alert(2)'>"&lt;b&gt;"""
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What a browser makes of a page: elements, text by element, and the contents of scripts."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.styles, self.text, self.open = [], [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.figures = page_figures(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)
        elif self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def points(records):
    return [
        records.point(1.0, 1.0, 0.50, 0.40),
        records.point(0.5, 0.5, 0.60, 0.70),
        records.point(1.0, 0.5, 0.80, 0.3123),
        records.point(0.5, 1.0, 0.70, 0.60),
    ]


@pytest.fixture
def page(records, points):
    def make(**others):
        return Page(report_page([records.data(records.study(**{"points": points} | others))], now=0.0))

    return make


def test_the_page_needs_no_network(records, points):
    source = report_page([records.data(records.study(points))])
    shown = Page(source)
    for tag, attributes in shown.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "srcset", "action", "data", "poster"):
            assert name not in attributes
        assert attributes.get("href", "#").startswith("#")
    policy = [a["content"] for _, a in shown.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].startswith("default-src 'none';")
    assert "http" not in policy[0]
    assert "@import" not in source
    assert not re.search(r"url\(|https?://", source)


def test_plotly_is_there_once_for_several_studies(records, points):
    data = records.data(records.study(points))
    source = report_page([data, replace(data, study=replace(data.study, name="other"))])
    assert source.count(packed_plotly()) == 1
    assert len(source) < len(packed_plotly()) + 200_000


def test_the_answer_is_the_best_on_validation_with_its_test_scores(page):
    words = page().words
    assert "of 4 points they have the best validation macro F1, one training, with seed 23" in words
    assert "1.0 α, weight of the LDAM half 0.5 β, weight of the focal half 31.23 % macro F1 on test 2 trial" in words
    assert "Next comes α = 0.5, β = 1.0 with a validation macro F1 of 70.00 % against 80.00 %." in words
    assert "4 of 4 points complete." in words


def test_every_figure_has_its_place_and_every_place_its_figure(page):
    shown = page()
    places = [attributes["id"] for _, attributes in shown.elements if attributes.get("class") == "plot"]
    assert len(places) == len(set(places))
    assert set(places) == set(shown.figures)
    assert places == [f"study-1-{name}" for name in NAMES if name not in ("loss-scores-test", "confusion-2")]
    assert "test: mean ± average deviation" in [trace["name"] for trace in shown.figures["study-1-settings"]["data"]]


def test_the_page_suits_phones_dark_screens_and_paper(page):
    shown = page()
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in shown.elements
    styles = [" ".join(text.split()) for text in shown.styles]
    assert any("@media screen and (prefers-color-scheme: dark) { :root {" in style for style in styles)
    assert any("@media print" in style for style in styles)
    tables = [index for index, (tag, _) in enumerate(shown.elements) if tag == "table"]
    assert tables
    assert all("scroll" in shown.elements[index - 1][1]["class"] for index in tables)


def test_hostile_names_are_text_and_nothing_else(records):
    points = [
        records.point(1.0, 0.5, 0.8),
        records.point(1.0, 0.6, state="failed", message=HOSTILE),
        records.point(None, None, loss=HOSTILE, trial_number=None),
    ]
    study = records.study(
        points,
        name=HOSTILE,
        dataset=HOSTILE,
        model=HOSTILE,
        class_names=(HOSTILE, "var(--test)"),
        fingerprint=HOSTILE,
        spec={"recipe": {HOSTILE: HOSTILE}},
    )
    attempt = records.attempt(points[0], worker=HOSTILE, host=HOSTILE, device=HOSTILE, message=HOSTILE)
    data = StudyData(study, tuple(records.epoch(point, 1) for point in points), (attempt,))

    shown = Page(report_page([data, data]))

    assert [tag for tag, _ in shown.elements if tag == "img"] == []
    assert len(shown.scripts) == 3
    assert not any(name.startswith("on") for _, attributes in shown.elements for name in attributes)
    assert shown.words.count(HOSTILE) > 15
    drawn = json.dumps(shown.figures)
    assert "<img" not in drawn
    assert "&lt;img" in drawn


def test_no_password_reaches_the_page(records):
    secret = "postgresql+psycopg://ann:s3cret@db/lmf"
    failed = records.point(state="failed", message=f"{secret}: refused")
    study = records.study([failed], spec={"recipe": {}, "note": secret})
    source = report_page([StudyData(study, (), (records.attempt(failed, message=secret),))])
    assert "s3cret" not in source
    assert "postgresql+psycopg://***@db/lmf: refused" in source


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_study_that_has_just_begun(records, epochs):
    points = [records.point(1.0, beta, state="running") for beta in (0.5, 0.6)] + [records.point(1.0, 0.7)]
    data = StudyData(records.study(points), tuple(records.epoch(points[0], n + 1) for n in range(epochs)), ())
    shown = Page(report_page([data]))
    assert "Unfinished: 0 of 3 points complete (2 running, 1 waiting)" in shown.words
    assert "There is no best α and β yet: no point with α and β is complete." in shown.words
    assert ("No epoch has ended yet." in shown.words) == (epochs == 0)
    assert list(shown.figures) == [
        *(f"study-1-{name}" for name in ("gradient-shares", "half-ranges", "curves") * epochs),
        "study-1-classes",
    ]


def test_a_study_without_points(records):
    words = Page(report_page([records.data(records.study())])).words
    assert "0 of 0 points complete." in words


def test_an_unfinished_study_says_how_many_of_how_many(page, records):
    words = page(
        points=(records.point(1.0, 0.5, 0.5), records.point(1.0, 0.6), records.point(1.0, 0.7, state="failed"))
    ).words
    assert "Unfinished: 1 of 3 points complete (1 waiting, 1 failed)" in words
    assert "No other point is complete" in words
    assert "1 of 3" in words


def test_a_study_that_ended_with_a_failure_says_so_and_why(records, points):
    failed = records.point(1.0, 2.0, state="failed", attempts=2, message="loss is NaN in epoch 3")
    words = Page(report_page([records.data(records.study([*points, failed]))])).words
    assert "4 of 5 points complete (1 failed); what did not complete is in no mean." in words
    assert "Unfinished" not in words
    assert "What went wrong" in words
    assert "loss is NaN in epoch 3" in words


def test_a_single_setting(page, records):
    shown = page(points=(records.point(1.0, 0.5, 0.5), records.point(1.0, 0.7, 0.6)))
    assert shown.figures["study-1-settings"]["layout"]["xaxis"]["ticktext"] == ["beta<br>α = 1<br>setting 2"]
    assert "alpha" not in shown.words


def test_several_seeds(page, records):
    words = page(points=[records.point(1.0, beta, 0.5, seed=seed) for seed in (1, 2) for beta in (0.5, 0.6)]).words
    assert "of 2 points they have the best validation macro F1, the mean of 2 of 2 seeds" in words
    assert "60.00 ± 0.00 % macro F1 on test 4 its best trial" in words
    assert "No winner can be named: the seeds change nothing in these scores" in words
    assert "4 of 4 points complete." in words


def test_points_outside_the_settings_only(page, records):
    shown = page(points=(records.point(0.8, 1.7, 0.5),))
    assert "study-1-ratio-spread-val" in shown.figures
    assert "study-1-settings" not in shown.figures
    assert "0.8 α, weight of the LDAM half 1.7 β" in shown.words


def test_no_point_has_the_score_that_chooses(page, records):
    point = records.point(val=records.scores(macro_auc=None))
    words = page(points=(point,), spec={"recipe": {"select": "macro_auc"}}).words
    assert "no complete point has a validation macro AUC, which chooses in this study" in words


def test_the_score_that_chooses_is_told_in_its_own_unit(page, records):
    points = [records.point(1.0, beta, records.scores(mcc=mcc)) for beta, mcc in ((0.5, 0.62), (0.6, -0.1234))]
    words = page(points=points, spec={"recipe": {"select": "mcc"}}).words
    assert "of 2 points they have the best validation MCC, one training" in words
    assert "β = 0.6 with a validation MCC of -0.1234 against 0.6200." in words

    sensitive = page(points=points, spec={"recipe": {"select": "sensitivity_at_specificity"}}).words
    assert "β = 0.6 with a validation sensitivity at 95 % specificity of 55.00 % against 55.00 %." in sensitive


def test_the_best_points_scores_and_its_classes_are_shown_with_all_that_is_known(page):
    words = page().words
    assert "macro AUC, % macro average precision, % sensitivity at 95 % specificity, % MCC Cohen's κ" in words
    assert "90.00 85.00 55.00 0.4100 0.4000 validation" in words
    assert "test AUC, % test average precision, % test sensitivity at 95 % specificity, %" in words


def test_a_class_that_was_never_predicted_is_named(page, records):
    scores = records.scores(confusion=[[8, 0], [4, 0]])
    assert (
        "Never predicted on test by the best trial: MEL." in page(points=(records.point(val=0.5, test=scores),)).words
    )


def test_leaks_are_told_at_the_answer_and_wherever_scores_stand(page, leaks):
    shown = page(leakage=(leaks("lesion", 813, images=955, test_images=1502),))
    words = shown.words
    assert words.count("813 lesions are in training and in test (955 of 1,502 test images show one)") == 1
    assert words.count("--group lesion keeps lesions whole") == 1
    line = "813 lesions leak from training into test: test scores are too good."
    assert words.count(line) == 6 + 1, "six sections, and the methods paragraph"
    for section in (
        *("The answer", "Fig 4: the settings compared", "The plane of α and β", "The single points"),
        *("Learning curves", "Classes", "The table of points"),
    ):
        assert "813 lesions" in words.split(f" {section}")[-1][:600], section
    loud = [attributes for tag, attributes in shown.elements if tag == "p" and attributes.get("class") == "warn"]
    assert len(loud) == 7 + 1, "these seven, and the one for browsers without JavaScript"


def test_without_leaks_that_is_said_and_nothing_warns(page, leaks):
    shown = page(leakage=(leaks("lesion"),))
    assert shown.words.count("No lesion is in both training and test.") == 1
    unknown = page()
    assert unknown.words.count("Nothing is known of lesions or patients") == 1
    for words in (shown, unknown):
        loud = [attributes for tag, attributes in words.elements if tag == "p" and attributes.get("class") == "warn"]
        assert len(loud) == 1, "the one for browsers without JavaScript"


def test_leaks_are_told_where_there_is_no_answer_yet(page, records, leaks):
    words = page(points=(records.point(state="running"),), leakage=(leaks("patient", 1),)).words
    assert "There is no best α and β yet" in words
    assert "Test scores are too good: 1 patient is in training and in test" in words


def test_a_hostile_kind_of_group_is_text(page, leaks):
    shown = page(leakage=(leaks(HOSTILE, 3),))
    assert len(shown.scripts) == 3
    assert f"3 groups of {HOSTILE} leak" in shown.words


def test_another_loss_alone_has_points_and_curves_but_no_answer(records):
    point = replace(records.point(None, None, 0.5), loss="cce")
    study = records.study([point])
    shown = Page(report_page([StudyData(study, (records.epoch(point, 1, halves=None),), ())]))
    assert "no point with α and β is complete" in shown.words
    assert list(shown.figures) == ["study-1-curves", "study-1-classes"]


def test_without_halves_there_is_no_picture_of_them(records, points):
    data = records.data(records.study(points))
    data = replace(data, epochs=tuple(replace(epoch, halves=None) for epoch in data.epochs))
    shown = Page(report_page([data]))
    assert "study-1-losses" in shown.figures
    assert "study-1-halves" not in shown.figures


def test_several_studies_have_an_overview_that_leads_to_each(records, points):
    first = records.data(records.study(points))
    second = records.data(records.study(points[:1], name="other", dataset="odir5k"))
    shown = Page(report_page([first, second]))
    words = shown.words
    assert "2 studies" in words
    assert "Best α and β of each study" in words
    targets = [attributes["href"][1:] for tag, attributes in shown.elements if tag == "a"]
    named = [attributes["id"] for tag, attributes in shown.elements if tag == "h2" and "id" in attributes]
    assert named == ["study-1", "study-2"]
    assert targets[-2:] == ["study-1", "study-2"]
    assert set(targets) <= {attributes["id"] for _, attributes in shown.elements if "id" in attributes}
    assert {"study-1-settings", "study-2-settings"} <= set(shown.figures)


def test_every_section_says_in_a_sentence_what_to_read_from_it(page):
    shown = page()
    order = [tag for tag, _ in shown.elements]
    heads = [index for index, (tag, attributes) in enumerate(shown.elements) if attributes.get("class") == "section"]
    assert len(heads) == 9
    assert all(order[index + 1] == "p" for index in heads)
