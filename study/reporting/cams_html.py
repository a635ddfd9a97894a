"""Grad-CAM on a page: a row an image, a column a trial, with all that the colours say in words as well."""

from __future__ import annotations

from study.reporting.cams import CamCell, CamRow, CamSheet, as_data_uri
from study.reporting.text import counted, safe

TITLE = "Fig 3: where the models look (Grad-CAM)"
SENTENCE = (
    "Look whether a model's colours lie on what a doctor would look at, most of all where it is right: one that looks "
    "elsewhere is right for another reason. A map tells where a layer answers, not why; none proves a loss better."
)

_GRID = (
    "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(9rem,45%),1fr));gap:.5rem .75rem;align-items:start"
)
_ROW = "margin:0 0 1rem;break-inside:avoid"
_FIGURE = "margin:0;min-width:0;break-inside:avoid"
_PICTURE = "display:block;width:100%;height:auto"
_CAPTION = "font-size:.8rem;font-weight:400;line-height:1.35"


def cams_html(sheet: CamSheet) -> str:
    """The grid of images and maps, with how it was made; headings and the sentence above it are the page's.

    All text of users goes through `safe`, and all pictures are within the page.

    Args:
        sheet: what to show, as `study.reporting.cams.read_cams` gives it.
    """
    rows = "\n".join(_row(sheet, number, row) for number, row in enumerate(sheet.rows, start=1))
    parts = [f'<p class="quiet">{safe(_reading(sheet))}</p>']
    parts += [f'<p class="warn">{safe(_sentence(remark))}</p>' for remark in sheet.remarks]
    parts.append(f'<div class="cams">\n{rows}\n</div>')
    if sheet.left_out:
        parts.append(f"<p>{safe(_left_out(sheet))}</p>")
    parts.append(f'<p class="quiet">{safe(sheet.rule)} {safe(_making(sheet))}</p>')
    return "\n".join(parts)


def _row(sheet: CamSheet, number: int, row: CamRow) -> str:
    title = f"{number}. {row.truth}: {row.kind}"
    labels = ", ".join(dict.fromkeys(box.label for box in row.boxes if box.label))
    boxes = f"; {counted(len(row.boxes), 'frame')}{f' ({labels})' if labels else ''}" if row.boxes else ""
    cells = [
        _figure(
            row.picture,
            f"Test image {number} of the class {row.truth}{boxes}.",
            sheet.size,
            f"<b>{safe(row.truth)}</b> (true class){safe(boxes)}<br>{safe(row.image)}",
        )
    ]
    for column, cell in zip(sheet.columns, row.cells, strict=True):
        verdict = "right" if cell.is_right else "wrong"
        alternative = f"The same image under the map of {column.name} for the class {cell.explained}; {verdict}."
        cells.append(_figure(cell.picture, alternative, sheet.size, _caption(column.name, cell, sheet.explains)))
    return f'<div style="{_ROW}"><h4>{safe(title)}</h4>\n<div style="{_GRID}">{"".join(cells)}</div></div>'


def _caption(name: str, cell: CamCell, explains: str) -> str:
    """What is told of one map; `✓` and `✗` only repeat what the word says."""
    mark = "✓ right" if cell.is_right else "✗ wrong"
    lines = [f"<b>{safe(name)}</b>", f"{mark}: {safe(cell.predicted)}, {_percent(cell.probability)}"]
    if not cell.is_right:
        lines.append(f"true class: {_percent(cell.truth_probability)}")
    if explains == "true":
        lines.append(f"map for {safe(cell.explained)}")
    if cell.is_empty:
        lines.append(f"nothing in the layer speaks for {safe(cell.explained)}")
    return "<br>".join(lines)


def _figure(picture: bytes, alternative: str, size: int, caption: str) -> str:
    return (
        f'<figure style="{_FIGURE}"><img style="{_PICTURE}" width="{size}" height="{size}" '
        f'src="{as_data_uri(picture)}" alt="{safe(alternative)}">'
        f'<figcaption style="{_CAPTION}">{caption}</figcaption></figure>'
    )


def _reading(sheet: CamSheet) -> str:
    which = "the class that the model predicts" if sheet.explains == "predicted" else "the image's own class"
    text = (
        f"Each map explains {which}: the brighter its colour, the more of what speaks for that class comes from there; "
        "a place without colour says nothing for it. Each map is scaled to its own maximum, so brightness does not "
        "compare between maps."
    )
    if any(row.boxes for row in sheet.rows):
        text += " Green frames are boxes that were drawn by hand."
    return text


def _making(sheet: CamSheet) -> str:
    trials = "; ".join(f"{column.name}: trial {column.trial}, seed {column.seed}" for column in sheet.columns)
    versions = ", ".join(f"{name} {number}" for name, number in sheet.versions.items())
    height, width = sheet.places
    return (
        f"Grad-CAM of the layer {sheet.layer} of {sheet.model} ({height} x {width} places, enlarged), computed in fp32 "
        f"with {versions}. {trials}."
    )


def _left_out(sheet: CamSheet) -> str:
    total = len(sheet.rows) + sheet.left_out
    return f"{counted(sheet.left_out, 'image')} of {total} left out here, since the page would grow too large."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
