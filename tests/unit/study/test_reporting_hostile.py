"""Names and messages that would be markup, script, links or colours somewhere: a real browser shows them as text."""

from __future__ import annotations

import unicodedata

import pytest
from lmf_testing.browser import BROWSER, chromium
from lmf_testing.report_view import page_figures, view_report

from study.reporting.figures import class_distribution
from study.reporting.files import write_report
from study.reporting.markup import contents_html, figure_id, figures_html, page_html, table_html
from study.reporting.picture import Picture
from study.reporting.rows import ClassCount
from study.reporting.tables import Table

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH (Debian: chromium)")

TAKE_OVER = "document.title=['taken','over'].join('-')"
HOSTILE = {
    "script": f"</script><script>{TAKE_OVER};alert(1)</script>",
    "handler": f'<img src=x onerror="{TAKE_OVER};alert(2)"><svg onload=alert(3)>',
    "quotes": f"' \" ` onfocus={TAKE_OVER} autofocus tabindex=1 x='",
    "comment": "<!-- <style> ]]> --!> <title> <plaintext>",
    "template": "${alert(4)} {{7*7}} %{x} \\u003cb\\u003e \\",
    "link": f'<a href="javascript:{TAKE_OVER}">x</a><a href="https://evil.example/">y</a>',
    "entities": "&lt;b&gt; &amp;amp; &#60;i&#62; &nbsp",
    "colour": "var(--test)",
    "lines": "first\nsecond\r\n\tthird",
    "bidi": "\u202emalignant\u202c \u2066left\u2069 \u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627",
    "scripts": "皮膚病変 кожа त्वचा e\u0301 \U0001f9ec",
    "number": "1e3",
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def settled(text):
    """Text as one compares it: white space is one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_untouched(view):
    """Whether the page did nothing but show itself."""
    assert view.wait_until_drawn() == "all"
    assert (view.complaints, view.requests, view.dialogs) == ([], [], [])
    assert "taken-over" not in view.page.title()
    for foreign in ("main img", "main svg[onload]", "main a[href^='javascript']", "svg a", "[onerror]", "[autofocus]"):
        assert view.page.locator(foreign).count() == 0, foreign
    return True


@needs_browser
def test_a_whole_report_shows_it_as_text(browser, records, tmp_path):
    name = " ".join(HOSTILE.values())
    points = [
        records.point(1.0, 0.5, 0.8),
        records.point(1.0, 1.0, 0.7),
        records.point(1.0, 0.6, state="failed", message=name),
        records.point(None, None, 0.5, loss=HOSTILE["script"]),
    ]
    study = records.study(
        points,
        name=name,
        dataset=HOSTILE["link"],
        model=HOSTILE["handler"],
        class_names=(HOSTILE["colour"], name),
        spec={"recipe": {name: name, "select": "macro_f1", "epochs": 2}},
    )
    path = write_report([records.data(study)], tmp_path / "report.html")
    with view_report(browser, path) as view:
        assert is_untouched(view)
        shown = settled(view.page.locator("main").inner_text())
        assert settled(name) in settled(view.page.locator("h1").inner_text())
        assert settled(name) in settled(view.page.title())
        assert shown.count(settled(name)) >= 4
        for of in ("link", "handler", "script", "colour"):
            assert settled(HOSTILE[of]) in shown.replace(settled(name), "")


@needs_browser
def test_headings_that_sort_alternative_texts_links_and_marks_are_text(browser, tmp_path):
    pictures, body, contents = {}, '<h1 id="top">tables</h1>', []
    for kind, name in HOSTILE.items():
        chart = class_distribution(name, [ClassCount(name, 70, 15, 15), ClassCount("MEL", 7, 2, 1)])
        picture = Picture(kind, chart.title, chart.figure, alt=f"{name} leads.")
        pictures[figure_id("p", picture)] = picture
        table = table_html(Table((name, "n"), ((name, "2"), ("b", "1"))), label=name)
        body += f'<section id="{kind}">{figures_html("p", [picture])}{table}</section>'
        contents.append((kind, name))
    path = tmp_path / "page.html"
    page = page_html(" ".join(HOSTILE.values()), body, pictures, contents=contents)
    path.write_text(page, encoding="utf-8", newline="")
    with view_report(browser, path) as view:
        assert is_untouched(view)
        assert list(map(settled, view.page.locator("nav a").all_inner_texts())) == [
            settled(name) for name in HOSTILE.values()
        ]
        for kind, name in HOSTILE.items():
            _check_section(view, f"section#{kind}", settled(name))
        assert is_untouched(view)


def _check_section(view, section, name):
    place = view.page.locator(section)
    button = place.locator("th button").first
    assert settled(button.text_content()) == name
    button.click()
    button.press("Enter")
    assert sorted(map(settled, view.column(f"{section} table", 0))) == sorted([name, "b"])
    assert settled(place.locator(".scroll").get_attribute("aria-label")) == name
    assert name in settled(place.locator("div.plot").get_attribute("aria-label"))
    wanted = "".join(name.split())
    drawn = place.locator("div.plot text").evaluate_all("texts => texts.map(text => text.textContent)")
    assert wanted in {"".join(settled(text).split()) for text in drawn}, drawn
    box = place.locator("div.plot .nsewdrag").first.bounding_box()
    view.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] * 0.9)
    hover = place.locator("div.plot .hovertext").first
    hover.wait_for()
    assert wanted in "".join(settled(hover.text_content()).split())


def test_nothing_that_users_named_leaves_its_place_in_the_source():
    for name in HOSTILE.values():
        chart = class_distribution(name, [ClassCount(name, 70, 15, 15)])
        source = page_html(
            name, contents_html([("x", name)]) + table_html(Table((name,), ((name,),)), label=name), {"p": chart}
        )
        assert source.count("<script") == source.count("</script>") == 3
        assert source.count("<main") == source.count("</main>") == 1
        assert set(page_figures(source)) == {"p"}
