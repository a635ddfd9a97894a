from __future__ import annotations

import re
import unicodedata

import pytest
from axe_playwright_python.sync_playwright import Axe
from lmf_testing.browser import BROWSER, chromium
from lmf_testing.report_view import rgb, view_report
from pypdf import PdfReader

from study.reporting import curves
from study.reporting.assets import DARK, LIGHT
from study.reporting.files import write_report
from study.reporting.markup import page_html
from study.reporting.page import report_page

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH (Debian: chromium)")

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
PALETTES = {"light": LIGHT, "dark": DARK}
VIEWS = [(size, scheme) for size in SIZES for scheme in PALETTES]
TITLES = "places => places.map(place => place.textContent)"


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def studies(records, monkeypatch):
    """Two studies with all there is to show, the first with several seeds, a failure and more curves than are drawn."""
    monkeypatch.setattr(curves, "MOST_CURVES", 5)
    pairs = [(0.5, 0.5), (1.0, 1.0), (2.0, 2.0), (1.0, 0.5), (1.0, 2.0), (0.5, 1.0), (2.0, 1.0)]
    points = [
        records.point(*pair, 0.5 + index / 100, 0.48 + index / 100, seed=seed)
        for seed in (23, 24)
        for index, pair in enumerate(pairs)
    ]
    failed = records.point(1.0, 0.7, state="failed", attempts=2, message="loss is NaN in epoch 3")
    first = records.study([*points, failed])
    other = records.study(points[:5], name="other", dataset="odir5k", study_id=2)
    return [records.data(study) for study in (first, other)]


@pytest.fixture
def report(studies, tmp_path):
    return write_report(studies, tmp_path / "report.html")


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_every_figure_is_drawn_and_nothing_is_to_complain_of(browser, report, size, scheme):
    width, height = SIZES[size]
    with view_report(browser, report, width=width, height=height, scheme=scheme) as view:
        assert view.wait_until_drawn() == "all"
        figures = view.figures()
        assert len(figures) > 8
        for figure in figures:
            assert figure["traces"] > 0, figure
            assert figure["marks"] > 0, figure
            assert 0 < figure["width"] <= figure["room"], figure
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        content = re.sub(r"<(style|script).*?</\1>", "", view.page.content(), flags=re.DOTALL)
        assert rgb(PALETTES[scheme]["test"]) in content
        assert "var(--" not in content
        assert (view.complaints, view.requests, view.dialogs) == ([], [], [])


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_axe_finds_nothing(browser, report, size, scheme):
    width, height = SIZES[size]
    with view_report(browser, report, width=width, height=height, scheme=scheme) as view:
        view.wait_until_drawn()
        view.page.eval_on_selector_all("details", "folds => folds.forEach(fold => { fold.open = true; })")
        found = Axe().run(view.page)
        assert found.violations_count == 0, found.generate_report()
        ran = {rule["id"] for rule in found.response["passes"]}
        assert {"color-contrast", "role-img-alt", "heading-order", "landmark-one-main", "region"} <= ran


def test_figures_follow_the_window_the_colour_scheme_and_unfolding(browser, report):
    with view_report(browser, report) as view:
        view.wait_until_drawn()
        wide = view.figures()[0]["width"]
        view.page.set_viewport_size({"width": 390, "height": 844})
        assert _settled(view, lambda: view.figures()[0]["width"] < wide)
        assert all(0 < figure["width"] <= figure["room"] <= 390 for figure in view.figures())
        view.page.emulate_media(color_scheme="dark")
        assert _settled(view, lambda: rgb(DARK["test"]) in view.page.content())


def _settled(view, check, rounds=100):
    for _ in range(rounds):
        if check():
            return True
        view.page.wait_for_timeout(50)
    return False


def test_on_paper_every_figure_and_table_is_there_in_light_colours(browser, report, tmp_path):
    with view_report(browser, report, scheme="dark") as view:
        view.wait_until_drawn()
        titles = [" ".join(title.split()) for title in view.page.eval_on_selector_all("figcaption", TITLES)]
        view.page.pdf(path=tmp_path / "report.pdf", format="A4", margin=dict.fromkeys(("top", "left"), "15mm"))
        assert _settled(view, lambda: rgb(DARK["test"]) in view.page.content()), "drawn for the screen again"
        assert view.complaints == []
    pages = PdfReader(tmp_path / "report.pdf").pages
    text = unicodedata.normalize("NFKC", " ".join(" ".join(page.extract_text() for page in pages).split()))
    for title in titles:
        assert title in text
    assert "All attempts" in text
    assert "↕" not in text
    assert "Skip to" not in text


def test_a_browser_that_cannot_unpack_figures_says_so(browser, report):
    with view_report(browser, report, script="delete window.DecompressionStream") as view:
        assert view.wait_until_drawn() == "failed"
        notice = view.page.inner_text("main > p[role=status]")
        assert notice == (
            "The figures cannot be drawn: this browser is too old to unpack them; the tables hold the same numbers."
        )
        assert view.page.locator("table").count() > 3


def test_without_scripts_the_page_says_what_is_missing(browser, report):
    with view_report(browser, report, java_script_enabled=False) as view:
        assert "The figures need JavaScript; the tables hold the same numbers." in view.page.inner_text("main")
        assert view.page.locator("th button").count() == 0


def test_a_foreign_script_does_not_run_even_if_it_were_markup(browser, studies, tmp_path):
    source = report_page(studies)
    foreign = "<script>document.title = 'taken over'</script><img src=x onerror=\"document.title = 'taken over'\">"
    path = tmp_path / "report.html"
    path.write_text(source.replace("</main>", f"{foreign}</main>"), encoding="utf-8")
    with view_report(browser, path) as view:
        view.wait_until_drawn()
        assert view.page.title().startswith("lmf report")
        assert any("Content Security Policy" in complaint for complaint in view.complaints)


def test_a_page_without_figures_is_one_all_the_same(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page_html("nothing", "<h1>nothing</h1>", {}), encoding="utf-8")
    with view_report(browser, path) as view:
        assert view.wait_until_drawn() == "all"
        assert view.figures() == []
        assert view.complaints == []
