"""HTML of tables, figures and the whole page; all text goes through `safe`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from plotly.offline import get_plotlyjs

from study.reporting.alternative import alternative_text
from study.reporting.assets import DARK, LIGHT
from study.reporting.packing import pack, packed_plotly, script_hash
from study.reporting.picture import Picture
from study.reporting.script import DATA_ID, PLOTLY_ID, PRINT_WIDTH_PIXELS, SCRIPT
from study.reporting.style import style_sheet
from study.reporting.tables import Table
from study.reporting.text import safe

_DURATION = re.compile(r"(?=\d)(?:(\d+) d ?)?(?:(\d+) h ?)?(?:(\d+) min ?)?(?:(\d+(?:\.\d+)?) s)?")
_UNITS_SECONDS = (86400, 3600, 60, 1)
_WORDS = {"never": "0"}
"""Words that stand for a number among numbers."""


def table_html(table: Table, *, dense: bool = False, label: str = "") -> str:
    """One table, which scrolls sideways by itself where the screen is narrow, and whose columns sort.

    Args:
        table: its text.
        dense: it has so many columns that it must be set small on paper.
        label: what it shows, for those who hear it; by default how many rows of what it has.
    """
    last = len(table.columns) - 1
    kinds = ["text wide" if table.wide_last and column == last else "" for column in range(len(table.columns))]
    kinds = [kind or ("text name" if column < table.text_columns else "") for column, kind in enumerate(kinds)]
    classes = [f' class="{kind}"' if kind else "" for kind in kinds]
    head = "".join(
        f'<th scope="col"{kind}>{safe(name)}</th>' for kind, name in zip(classes, table.columns, strict=True)
    )
    body = "\n".join(
        ('<tr class="marked">' if number in table.marked else "<tr>")
        + "".join(_cell(index, classes[index], cell, (number, index) in table.best) for index, cell in enumerate(row))
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    name = label or f"table by {table.columns[0] if table.columns else 'nothing'}"
    return (
        f'<div class="{"scroll dense" if dense else "scroll"}" tabindex="0" role="group" aria-label="{safe(name)}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def sort_value(cell: str) -> str | None:
    """What a cell sorts by where its text does not say it: the seconds of a time span, the number of a word.

    Args:
        cell: the cell's text.
    """
    if cell in _WORDS:
        return _WORDS[cell]
    found = _DURATION.fullmatch(cell) if cell.endswith((" d", " h", " min", " s")) else None
    if found is None:
        return None
    return f"{sum(unit * float(part or 0) for unit, part in zip(_UNITS_SECONDS, found.groups(), strict=True)):g}"


def _cell(column: int, kind: str, text: str, is_best: bool) -> str:
    value = sort_value(text)
    given = "" if value is None else f' data-sort="{value}"'
    shown = f"<strong>{safe(text)}</strong>" if is_best else safe(text)
    return f"<td{kind}{given}>{shown}</td>" if column else f'<th scope="row"{kind}{given}>{shown}</th>'


def figures_html(prefix: str, pictures: Sequence[Picture]) -> str:
    """Places of some figures side by side, as far as the screen is wide.

    Args:
        prefix: makes their ids unique on the page.
        pictures: the figures; `page_html` is given them by the same ids.
    """
    places = "\n".join(
        f'<figure><figcaption>{safe(picture.title)}</figcaption><div class="plot" id="{figure_id(prefix, picture)}" '
        f'role="img" aria-label="{safe(alternative_text(picture))}"></div></figure>'
        for picture in pictures
    )
    return f'<div class="figures">\n{places}\n</div>'


def figure_id(prefix: str, picture: Picture) -> str:
    """The HTML id of a figure's place."""
    return f"{prefix}-{picture.name}"


def contents_html(entries: Sequence[tuple[str, str]]) -> str:
    """A way to each part of the page.

    Args:
        entries: the parts' HTML ids and titles, at least one.
    """
    links = "".join(f'<li><a href="#{safe(place)}">{safe(title)}</a></li>' for place, title in entries)
    return f'<nav class="contents" aria-label="Contents"><ul>{links}</ul></nav>'


def page_html(
    title: str, body: str, pictures: Mapping[str, Picture], *, contents: Sequence[tuple[str, str]] = ()
) -> str:
    """The whole document, which needs no network.

    Its own two scripts are named by their hashes, so that the browser refuses any other, and any request as well.

    Args:
        title: plain text for the window's title.
        body: HTML of the page's main part.
        pictures: the figures by the ids of their places.
        contents: ids and titles of the page's parts, where it is to begin with links to them.
    """
    data = {
        "palettes": {"light": LIGHT, "dark": DARK},
        "print_width": PRINT_WIDTH_PIXELS,
        "figures": {place: picture.figure.to_json() for place, picture in pictures.items()},
    }
    before = '<a class="skip" href="#content">Skip to the content</a>\n' + contents_html(contents) if contents else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{safe(title)}</title>
<style>{style_sheet()}</style>
</head>
<body>
{before}
<main id="content" tabindex="-1">
{body}
<noscript><p class="warn">The figures need JavaScript; the tables hold the same numbers.</p></noscript>
</main>
<script type="application/octet-stream" id="{DATA_ID}">{pack(json.dumps(data, allow_nan=False))}</script>
<script type="application/octet-stream" id="{PLOTLY_ID}">{packed_plotly() if pictures else pack("")}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _policy() -> str:
    scripts = f"{script_hash(SCRIPT)} {script_hash(get_plotlyjs())}"
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {scripts}; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
