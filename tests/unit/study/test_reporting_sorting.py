from __future__ import annotations

import random

import pytest
from lmf_testing.browser import BROWSER, chromium
from lmf_testing.report_view import view_report

from study.reporting.markup import page_html, sort_value, table_html
from study.reporting.tables import Table
from study.reporting.text import duration

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH (Debian: chromium)")

COLUMNS = {
    "text": ["gamma", "Älpha", "beta", "–", "alpha10", "alpha9"],
    "percent": ["9.50", "100.00", "–", "61.25", "-0.12", "61.3"],
    "spread": ["9.50 ± 0.10", "61.20 ± 3.00", "100.00 ± 0.00", "", "61.3 ± 0.1", "–"],
    "share": ["10 of 12", "9 of 12", "0 of 3", "–", "–", "11 of 12"],
    "count": ["1,024", "98", "never", "12,000", "–", "7"],
    "time": ["2 h 5 min", "59 min", "12.5 s", "–", "1 d 3 h", "8 min"],
    "interval": ["0.61 [0.58, 0.64]", "0.7 [0.1, 0.9]", "–", "0.5 [0, 1]", "0.09 [0, 1]", "1.5e-3 [0, 1]"],
}
ASCENDING = {
    "text": ["Älpha", "alpha9", "alpha10", "beta", "gamma", "–"],
    "percent": ["-0.12", "9.50", "61.25", "61.3", "100.00", "–"],
    "spread": ["9.50 ± 0.10", "61.20 ± 3.00", "61.3 ± 0.1", "100.00 ± 0.00", "", "–"],
    "share": ["0 of 3", "9 of 12", "10 of 12", "11 of 12", "–", "–"],
    "count": ["never", "7", "98", "1,024", "12,000", "–"],
    "time": ["12.5 s", "8 min", "59 min", "2 h 5 min", "1 d 3 h", "–"],
    "interval": ["1.5e-3 [0, 1]", "0.09 [0, 1]", "0.5 [0, 1]", "0.61 [0.58, 0.64]", "0.7 [0.1, 0.9]", "–"],
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def show(browser, tmp_path):
    """Shows tables alone on a page, through `view_report`."""

    def make(*tables, **of):
        path = tmp_path / "page.html"
        body = "<h1>tables</h1>" + "".join(table_html(table, label="rows") for table in tables)
        path.write_text(page_html("tables", body, {}), encoding="utf-8")
        return view_report(browser, path, **of)

    return make


@pytest.mark.parametrize("seconds", [0.5, 59.9, 61, 3599, 7500, 47 * 3600, 200_000])
def test_a_time_span_sorts_by_its_seconds(seconds):
    shown = float(sort_value(duration(seconds)))
    assert shown == pytest.approx(seconds, abs=3600 if seconds >= 48 * 3600 else 60)


@pytest.mark.parametrize(
    "text", ["", "–", "61.25", "3 of 5", "d", "min", "a 5 s", "5 min ago", "s", "2025-06-15", " h"]
)
def test_other_text_sorts_by_itself(text):
    assert sort_value(text) is None


def test_a_word_sorts_as_the_number_that_it_stands_for():
    assert sort_value("never") == "0"
    html = table_html(Table(("class", "predicted"), (("NV", "never"), ("MEL", "3"))))
    assert '<td data-sort="0">never</td>' in html


@needs_browser
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_sorts_up_then_down_then_as_it_was(show, name):
    numbers = [str(index) for index in range(len(COLUMNS[name]))]
    table = Table((name, "row"), tuple(zip(COLUMNS[name], numbers, strict=True)), text_columns=0)
    with show(table) as view:
        head = view.page.locator("thead th").first
        button = head.get_by_role("button", name=name, exact=True)
        assert head.get_attribute("aria-sort") is None

        button.click()
        assert view.column("table", 0) == ASCENDING[name]
        assert head.get_attribute("aria-sort") == "ascending"

        button.click()
        missing = [cell for cell in ASCENDING[name] if cell in ("", "–")]
        there = [cell for cell in ASCENDING[name] if cell not in ("", "–")]
        assert view.column("table", 0) == [*reversed(there), *missing], "what is missing stays last"
        assert head.get_attribute("aria-sort") == "descending"

        button.click()
        assert view.column("table", 0) == COLUMNS[name]
        assert view.column("table", 1) == numbers, "rows move whole"
        assert head.get_attribute("aria-sort") is None
        assert view.complaints == []


@needs_browser
def test_the_keyboard_alone_sorts(show):
    with show(Table(("name", "score"), (("b", "2"), ("a", "10"), ("c", "1")))) as view:
        # A table that fits is no stop of the keyboard's, which the page finds out after its layout.
        view.page.wait_for_selector(".scroll:not([tabindex])", state="attached")
        view.page.keyboard.press("Tab")
        assert view.page.evaluate("document.activeElement.textContent") == "name"
        view.page.keyboard.press("Enter")
        assert view.column("table", 0) == ["a", "b", "c"]
        view.page.keyboard.press("Tab")
        view.page.keyboard.press("Space")
        assert view.column("table", 1) == ["1", "2", "10"]
        sorts = "heads => heads.map(head => head.getAttribute('aria-sort'))"
        assert view.page.eval_on_selector_all("thead th", sorts) == [None, "ascending"], "one column at a time"
        assert view.page.evaluate("document.activeElement.textContent") == "score", "focus stays"


@needs_browser
def test_equal_rows_keep_their_order_in_both_directions(show):
    table = Table(("state", "trial"), tuple((state, str(number)) for number, state in enumerate("abab")))
    with show(table) as view:
        button = view.page.get_by_role("button", name="state")
        button.click()
        assert view.column("table", 1) == ["0", "2", "1", "3"]
        button.click()
        assert view.column("table", 1) == ["1", "3", "0", "2"]


@needs_browser
def test_thousands_of_rows_sort_and_other_tables_stay(show):
    values = [str(value) for value in range(3000)]
    random.Random(1).shuffle(values)
    long = Table(("number", "mark"), tuple((value, f"m{value}") for value in values), marked=frozenset([5]))
    with show(long, Table(("other", "x"), (("b", "1"), ("a", "2")))) as view:
        view.page.get_by_role("button", name="number").click()
        first = "div.scroll:first-of-type table"
        assert view.column(first, 0) == [str(value) for value in range(3000)]
        assert view.page.inner_text("tr.marked td") == f"m{values[5]}"
        assert view.column("div.scroll:last-of-type table", 0) == ["b", "a"]


@needs_browser
def test_a_table_of_one_row_has_nothing_to_sort_and_a_narrow_one_nothing_to_scroll(show):
    wide = Table(tuple(f"column {number}" for number in range(30)), (("1",) * 30,))
    with show(wide, Table(("a", "b"), (("1", "2"), ("3", "4"))), width=390) as view:
        assert view.page.locator("table").first.locator("button").count() == 0
        assert view.page.locator("table").last.locator("button").count() == 2
        stops = view.page.locator(".scroll").evaluate_all("places => places.map(place => place.tabIndex)")
        assert stops == [0, -1]
        view.page.eval_on_selector(".scroll", "place => { place.scrollLeft = 300; }")
        left = view.page.locator("tbody th").first.bounding_box()["x"]
        assert left >= view.page.locator(".scroll").first.bounding_box()["x"], "the first column stays in sight"
