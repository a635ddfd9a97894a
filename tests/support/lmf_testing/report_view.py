"""A report as a browser shows it: offline, with all that it complains of and asks for written down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from study.reporting.packing import unpack
from study.reporting.script import DATA_ID

DRAWN_MILLISECONDS = 60_000
# Marks are what plotly draws of data: paths, images and texts within the axes, and the sectors of a pie.
_MARKS = """places => places.map(place => ({
  id: place.id,
  traces: (place.data ?? []).filter(trace => trace.visible !== false).length,
  marks: place.querySelectorAll(
    ".overplot :is(path:not([d='']), image, text), .pielayer path, .imagelayer image"
  ).length,
  width: place.querySelector("svg.main-svg")?.getBoundingClientRect().width ?? 0,
  room: place.clientWidth,
}))"""


@dataclass
class View:
    """A page in a browser.

    Attributes:
        page: Playwright's page.
        complaints: what the console and uncaught errors said.
        requests: addresses that were asked for, but the page's own.
        dialogs: texts of the dialogs that opened.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def figures(self) -> list[dict[str, Any]]:
        """Of each figure its id, number of traces and drawn marks, its width and the room that it has, in pixels."""
        found: list[dict[str, Any]] = self.page.eval_on_selector_all("div.plot", _MARKS)
        return found

    def column(self, table: str, number: int) -> list[str]:
        """The texts of a table's column, from the top; the first has number 0."""
        cells = f"rows => rows.map(row => row.cells[{number}].textContent)"
        texts: list[str] = self.page.eval_on_selector_all(f"{table} tbody tr", cells)
        return texts

    def wait_until_drawn(self) -> str:
        """Wait until no figure is left to draw, and give what the page then says: `all` or `failed`."""
        self.page.wait_for_selector(
            "body[data-drawn=all], body[data-drawn=failed]", state="attached", timeout=DRAWN_MILLISECONDS
        )
        return str(self.page.get_attribute("body", "data-drawn"))


@contextmanager
def view_report(
    browser: Any,
    path: Path,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: str = "light",
    script: str = "",
    **of: Any,
) -> Iterator[View]:
    """Show a file without a network.

    Args:
        browser: Playwright's browser.
        path: the file.
        width: of the window, in pixels.
        height: of the window, in pixels.
        scheme: `light` or `dark`.
        script: runs before the page's own.
        of: other properties of Playwright's context.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, **of)
    try:
        if script:
            context.add_init_script(script)
        page = context.new_page()
        view = View(page)
        page.on("console", lambda message: view.complaints.append(message.text))
        page.on("pageerror", lambda error: view.complaints.append(str(error)))
        page.on("request", lambda request: view.requests.append(request.url))
        page.on("dialog", lambda dialog: (view.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        view.requests.remove(path.as_uri())
        yield view
    finally:
        context.close()


def page_figures(source: str) -> Mapping[str, dict[str, Any]]:
    """The figures within a page's text, by their ids, as plotly is given them."""
    finder = _Script(DATA_ID)
    finder.feed(source)
    return {place: json.loads(figure) for place, figure in json.loads(unpack(finder.content))["figures"].items()}


class _Script(HTMLParser):
    """The content of the script element with an id."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place, self.inside, self.content = place, False, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag == "script" and dict(attrs).get("id") == self.place

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.content += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


def rgb(color: str) -> str:
    """A colour `#rrggbb` as a browser writes it."""
    return "rgb({}, {}, {})".format(*(int(color[start : start + 2], 16) for start in (1, 3, 5)))


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2, from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """How bright `#rrggbb`, `rgb(...)` or `rgba(...)` on white is, from 0 to 1 (WCAG 2)."""
    if color.startswith("#"):
        parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    else:
        numbers = [float(part) for part in re.findall(r"[\d.]+", color)]
        opacity = numbers[3] if len(numbers) > 3 else 1.0
        parts = [opacity * part / 255 + 1 - opacity for part in numbers[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
