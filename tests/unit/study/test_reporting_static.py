from __future__ import annotations

import asyncio
import io
import itertools
import os
import re
import sys
from types import SimpleNamespace

import pytest
from lmf_testing.browser import BROWSER
from PIL import Image
from pypdf import PdfReader

from study.errors import StudyError
from study.reporting.page import make_report
from study.reporting.picture import Picture, empty_figure
from study.reporting.print_style import (
    FONT_PIXELS,
    PAPER,
    SMALL_PIXELS,
    WIDTH_PIXELS,
    are_told_apart,
    named_traces,
    printed,
)
from study.reporting.static_files import FORMS, MissingBrowserError, draw_figures, write_figures

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH (Debian: chromium)")


@pytest.fixture
def pictures(records):
    """Every figure of a report of a study with several seeds."""
    pairs = [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0), (1.0, 0.5), (1.0, 2.0), (0.5, 1.0), (2.0, 1.0)]
    points = [
        records.point(*pair, 0.5 + index / 100, 0.48 + index / 100, seed=seed)
        for seed in (23, 24)
        for index, pair in enumerate(pairs)
    ]
    return dict(make_report([records.data(records.study(points))]).pictures)


def fonts(value):
    """Sizes of all fonts within plotly's JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key.endswith("font") and isinstance(item, dict) and "size" in item:
                yield item["size"]
            yield from fonts(item)
    elif isinstance(value, list):
        for item in value:
            yield from fonts(item)


def test_every_figure_is_one_column_wide_in_small_type_and_paper_colours(pictures):
    assert len(pictures) >= 8
    for name, picture in pictures.items():
        figure = printed(picture)
        assert figure["layout"]["width"] == WIDTH_PIXELS
        assert "title" not in figure["layout"], name
        assert "var(--" not in str(figure), name
        assert all(SMALL_PIXELS <= size <= FONT_PIXELS for size in fonts(figure)), name
        for trace in figure["data"]:
            assert trace.get("line", {}).get("width", 1.0) == 0 or trace.get("line", {}).get("width", 1.0) >= 1.0, name


def test_traces_of_every_figure_are_told_apart_in_grey(pictures):
    for name, picture in pictures.items():
        for one, other in itertools.combinations(named_traces(printed(picture)), 2):
            assert are_told_apart(one, other), (name, one["name"], other["name"])


def test_type_that_a_figure_sets_itself_is_as_small():
    figure = empty_figure("x", "y")
    bar = {"title": {"text": "F1", "font": {"size": 20}}}
    figure.add_scatter(x=[1], y=[1], marker={"color": [1], "colorbar": bar}, textfont={"size": 30})
    figure.add_annotation(text="here", font={"size": 4})
    figure.update_layout(title={"text": "left out"})
    sizes = sorted(fonts(printed(Picture("x", "x", figure))))
    assert set(sizes) == {SMALL_PIXELS, FONT_PIXELS}


def alike(kind, count, **of):
    figure = empty_figure("x", "y")
    for number in range(count):
        getattr(figure, f"add_{kind}")(x=[1, 2], y=[1, 2], name=f"trace {number}", **of)
    return Picture("alike", "alike", figure)


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("scatter", {"mode": "lines", "line": {"color": "var(--test)"}}),
        ("scatter", {"mode": "markers", "marker": {"color": "var(--val)", "size": 8}}),
        ("bar", {"marker": {"color": "#777777"}}),
        ("scatter", {"mode": "lines", "fill": "toself", "fillcolor": "var(--faint)"}),
    ],
)
def test_traces_that_look_alike_get_another_dash_symbol_or_pattern(kind, of):
    picture = alike(kind, 5, **of)
    traces = named_traces(printed(picture))
    assert len(traces) == 5
    assert all(are_told_apart(*pair) for pair in itertools.combinations(traces, 2))
    assert [trace["name"] for trace in picture.figure.data] == [f"trace {number}" for number in range(5)]


def test_alike_is_alike_and_brightness_tells_apart():
    def line(color):
        return {"type": "scatter", "mode": "lines", "line": {"color": color}}

    assert not are_told_apart(line("#1d5fa8"), line("#6a4bb0"))
    assert not are_told_apart(line("#b02a5b"), line("rgb(176, 42, 91)"))
    assert are_told_apart(line(PAPER["test"]), line(PAPER["val"]))
    assert are_told_apart(line("#1d5fa8"), line("#1d5fa8") | {"mode": "markers"})
    assert are_told_apart(line("#1d5fa8"), line("#1d5fa8") | {"opacity": 0.4})
    assert are_told_apart(line(PAPER["joint"]), line(PAPER["alpha"]))
    assert are_told_apart(line(PAPER["alpha"]), line(PAPER["beta"]))


@needs_browser
def test_figures_are_files_that_a_journal_takes(pictures, tmp_path):
    chosen = {name: picture for name, picture in pictures.items() if picture.name in ("settings", "classes")}
    paths = write_figures(chosen, tmp_path / "new" / "figures")
    assert [path.name for path in paths] == [f"{name}.{form}" for name in chosen for form in FORMS]
    assert sorted(os.listdir(tmp_path / "new" / "figures")) == sorted(path.name for path in paths)
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".png":
            with Image.open(io.BytesIO(content)) as image:
                assert image.width / 300 * 25.4 == pytest.approx(85, abs=0.2)
                assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
                grey = image.convert("L").histogram()
            assert sum(grey[:100]) > 1000, "something dark is drawn"
            assert sum(grey[250:]) > sum(grey) / 2, "on white"
        elif path.suffix == ".svg":
            text = content.decode()
            assert re.match(r'<svg[^>]* width="84\.9\dmm" height="[\d.]+mm"[^>]* viewBox="0 0 321 ', text)
            assert "<text" in text
            assert "Arial" in text
            assert not re.search(r"(href|src)=\"http", text)
        else:
            (page,) = PdfReader(io.BytesIO(content)).pages
            assert float(page.mediabox.width) / 72 * 25.4 == pytest.approx(85, abs=0.2)
            assert "macro F1, %" in page.extract_text() or "images" in page.extract_text()
            embedded = list(font_files(page))
            assert embedded
            assert all(embedded), "every font is embedded"


def font_files(page):
    """Whether each font of a page comes with its glyphs."""
    for font in page["/Resources"]["/Font"].values():
        font = font.get_object()
        if font["/Subtype"] == "/Type3":
            yield "/CharProcs" in font
            continue
        carrier = font["/DescendantFonts"][0].get_object() if font["/Subtype"] == "/Type0" else font
        yield any(key in carrier["/FontDescriptor"] for key in ("/FontFile", "/FontFile2", "/FontFile3"))


@needs_browser
def test_figures_are_drawn_where_an_event_loop_runs(pictures):
    name = next(iter(pictures))

    async def within():
        return draw_figures({name: pictures[name]})

    assert asyncio.run(within())[f"{name}.pdf"].startswith(b"%PDF")


def test_no_figure_needs_no_browser(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    assert draw_figures({}) == {}


def broken(*_, **__):
    raise RuntimeError("The browser seemed to close\nimmediately")


@pytest.mark.parametrize("found", [None, SimpleNamespace(), SimpleNamespace(Kaleido=broken)])
def test_what_is_missing_is_said_in_one_line(pictures, tmp_path, monkeypatch, found):
    monkeypatch.setitem(sys.modules, "kaleido", found)
    with pytest.raises(MissingBrowserError, match="install Chromium or Chrome, and `pip install kaleido`") as caught:
        write_figures(pictures, tmp_path / "figures")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, StudyError)
    assert os.listdir(tmp_path) == []


def test_a_machine_without_a_browser_is_told_what_to_install(pictures, tmp_path, monkeypatch):
    pytest.importorskip("kaleido", reason="needs kaleido (pip install kaleido)")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-such-browser"))
    with pytest.raises(MissingBrowserError, match=r"the browser did not start \(\w+\): install Chromium or Chrome"):
        draw_figures(pictures)
