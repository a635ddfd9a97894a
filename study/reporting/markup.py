"""HTML of tables, figures and the whole page; all text goes through `safe`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from plotly.offline import get_plotlyjs

from study.reporting.assets import DARK, DRAW_SCRIPT, LIGHT, PRINT_WIDTH_PIXELS, style_sheet
from study.reporting.picture import Picture
from study.reporting.tables import Table
from study.reporting.text import safe

# The browser itself then refuses to fetch anything, should a part of the page ever ask for it.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def table_html(table: Table, *, dense: bool = False) -> str:
    """One table, which scrolls sideways by itself where the screen is narrow.

    Args:
        table: its text.
        dense: it has so many columns that it must be set small on paper.
    """
    last = len(table.columns) - 1

    def kind(column: int) -> str:
        if table.wide_last and column == last:
            return ' class="text wide"'
        if column < table.text_columns:
            return ' class="text name"'
        return ""

    head = "".join(f'<th scope="col"{kind(index)}>{safe(name)}</th>' for index, name in enumerate(table.columns))
    body = "\n".join(
        ('<tr class="marked">' if number in table.marked else "<tr>")
        + "".join(f"<td{kind(index)}>{safe(cell)}</td>" for index, cell in enumerate(row))
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    outer = "scroll dense" if dense else "scroll"
    return f'<div class="{outer}"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def figures_html(prefix: str, pictures: Sequence[Picture]) -> str:
    """Places of some figures side by side, as far as the screen is wide.

    Args:
        prefix: makes their ids unique on the page.
        pictures: the figures; `page_html` is given them by the same ids.
    """
    places = "\n".join(
        f'<figure><h4>{safe(picture.title)}</h4><div class="plot" id="{figure_id(prefix, picture)}" role="img" '
        f'aria-label="{safe(picture.title)}"></div></figure>'
        for picture in pictures
    )
    return f'<div class="figures">\n{places}\n</div>'


def figure_id(prefix: str, picture: Picture) -> str:
    """The HTML id of a figure's place."""
    return f"{prefix}-{picture.name}"


def page_html(title: str, body: str, pictures: Mapping[str, Picture]) -> str:
    """The whole document, which needs no network.

    Args:
        title: plain text for the window's title.
        body: HTML between the body's tags.
        pictures: the figures by the ids of their places.
    """
    data = {
        "palettes": {"light": LIGHT, "dark": DARK},
        "print_width": PRINT_WIDTH_PIXELS,
        "figures": {place: picture.figure.to_json() for place, picture in pictures.items()},
    }
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{safe(title)}</title>
<style>{style_sheet()}</style>
</head>
<body>
{body}
<noscript><p class="warn">The figures need JavaScript; the tables hold the same numbers.</p></noscript>
<script type="application/json" id="page-data">{_script_json(data)}</script>
<script>{get_plotlyjs()}</script>
<script>{DRAW_SCRIPT}</script>
</body>
</html>
"""


def _script_json(value: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
