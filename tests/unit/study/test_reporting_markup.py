from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go
import pytest
from lmf_testing.report_view import contrast, page_figures
from plotly.offline import get_plotlyjs

from study.reporting.alternative import MOST_TRACES, alternative_text
from study.reporting.assets import DARK, LIGHT
from study.reporting.figures import class_distribution
from study.reporting.markup import contents_html, figures_html, page_html, table_html
from study.reporting.packing import pack, packed_plotly, script_hash, unpack
from study.reporting.picture import Picture, empty_figure
from study.reporting.rows import ClassCount
from study.reporting.script import SCRIPT
from study.reporting.style import style_sheet
from study.reporting.tables import Table

TABLE = Table(
    ("class", "F1", "note"), (("NV", "61.25", "a b"), ("MEL", "–", "")), marked=frozenset([1]), wide_last=True
)


@pytest.fixture
def picture():
    return class_distribution("skin", [ClassCount("NV", 70, 15, 15), ClassCount("MEL", 7, 2, 1)])


def test_a_table_has_heads_of_columns_and_rows_and_a_name_where_it_scrolls():
    html = table_html(TABLE, label="Classes <1>")
    assert html.startswith('<div class="scroll" tabindex="0" role="group" aria-label="Classes &lt;1&gt;"><table>')
    assert '<th scope="col" class="text name">class</th><th scope="col">F1</th>' in html
    assert '<tr class="marked"><th scope="row" class="text name">MEL</th><td>–</td><td class="text wide"></td>' in html
    assert 'aria-label="table by class"' in table_html(TABLE)
    assert '<div class="scroll dense" ' in table_html(TABLE, dense=True)


def test_a_figure_has_a_caption_and_an_alternative_text(picture):
    html = figures_html("study-1", [picture])
    assert "<figcaption>skin, imbalance ratio 10.0</figcaption>" in html
    assert 'class="plot" id="study-1-classes" role="img" aria-label="skin, imbalance ratio 10.0. Up: images. ' in html


def test_an_alternative_text_tells_axes_and_values_of_each_trace(picture):
    assert alternative_text(picture) == (
        "skin, imbalance ratio 10.0. Up: images. training: 70 at NV, 7 at MEL. validation: 15 at NV, 2 at MEL. "
        "test: 15 at NV, 1 at MEL."
    )
    figure = empty_figure("epoch <b>number</b>", "F1, %")
    figure.add_scatter(x=list(range(9)), y=[None, *np.arange(8.0)], name="val &lt;1&gt;")
    figure.add_scatter(x=[1], y=[None], name="empty")
    figure.add_scatter(x=[1, 0], y=[1, float("nan")])
    figure.add_bar(x=[1234.5], y=["NV"], orientation="h", name="bars")
    figure.add_heatmap(z=np.array([[1, 2], [3, np.nan]]), name="map")
    assert alternative_text(Picture("x", "Does it rise?", figure)) == (
        "Does it rise? Across: epoch number. Up: F1, %. val <1>: 8 values from 0 to 7. 1 at 1. bars: 1,234 at NV. "
        "map: 3 values from 1 to 3."
    )


def test_an_alternative_text_stays_short_and_gives_way_to_the_picture_s_own():
    many = go.Figure([go.Scatter(x=[1], y=[index], name=str(index)) for index in range(MOST_TRACES + 3)])
    assert alternative_text(Picture("x", "Many", many)).endswith(f"{MOST_TRACES - 1}: 7 at 1. And 3 more.")
    assert alternative_text(Picture("x", "Many", many, "Nothing rises.")) == "Many. Nothing rises."
    assert alternative_text(Picture("x", "Many", many, "Many points rise.")) == "Many points rise."


def test_the_page_has_one_main_part_and_leads_to_its_sections():
    page = page_html("t", "<h1>t</h1>", {}, contents=[("a-b", "A & B")])
    assert '<a class="skip" href="#content">' in page
    assert '<nav class="contents" aria-label="Contents"><ul><li><a href="#a-b">A &amp; B</a></li></ul></nav>' in page
    assert page.index('class="skip"') < page.index("<nav") < page.index('<main id="content"')
    assert contents_html([("a-b", "A & B")]) in page
    plain = page_html("t", "<h1>t</h1>", {})
    assert "<nav" not in plain.replace(style_sheet(), "")
    assert 'href="#content"' not in plain
    assert '<html lang="en">' in plain


def test_only_the_page_s_own_scripts_may_run(picture):
    page = page_html("t", "<h1>t</h1>", {"p": picture})
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"{script_hash(SCRIPT)} {script_hash(get_plotlyjs())}"
    assert "http" not in policy
    assert "unsafe-eval" not in policy
    assert f"<script>{SCRIPT}</script>" in page
    assert "</script" not in SCRIPT
    assert "<!--" not in SCRIPT


def test_what_is_packed_is_small_and_the_same_again(picture):
    assert unpack(packed_plotly()) == get_plotlyjs()
    assert unpack(pack("α β\n</script>")) == "α β\n</script>"
    assert pack("x") == pack("x")
    page = page_html("t", "<h1>t</h1>", {"p": picture})
    assert page == page_html("t", "<h1>t</h1>", {"p": picture})
    assert len(page) < len(get_plotlyjs()) / 2
    assert len(page_html("t", "<h1>t</h1>", {})) < 30_000, "without figures there is no plotly"
    assert page_figures(page)["p"]["data"][0]["x"] == ["NV", "MEL"]


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_can_be_read_on_every_ground(palette):
    for ground in ("back", "surface", "mark"):
        for text in ("text", "muted"):
            assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for mark in ("warn", "accent"):
        assert contrast(palette[mark], palette["back"]) >= 4.5
    for mark in ("test", "val", "joint", "beta", "alpha"):
        assert contrast(palette[mark], palette["back"]) >= 3.0, "marks of figures"


def test_nothing_on_the_page_moves():
    assert not re.search(r"\b(transition|animation|scroll-behavior|@keyframes)\b", style_sheet())
