"""One picture as a file for a paper: PNG, SVG or PDF, drawn by kaleido in a browser without a window."""

from __future__ import annotations

import importlib
import json
from typing import Any

from study.errors import StudyError
from study.reporting.assets import LIGHT
from study.reporting.picture import Picture, label
from study.reporting.print_style import painted

FORMS = ("png", "svg", "pdf")
WIDTH_PIXELS = 900
HEIGHT_PIXELS = 440
TITLE_PIXELS = 44
SCALE = 2

_NEEDS = "`pip install kaleido`, and install Chromium or Chrome; a file that ends in .html needs neither"


def still_image(picture: Picture, form: str) -> bytes:
    """Draw a picture with its title, in the light palette on white.

    Args:
        picture: what to draw.
        form: one of `FORMS`.

    Raises:
        StudyError: kaleido or a browser is missing, or the browser does not start.
    """
    try:
        kaleido = importlib.import_module("kaleido")
        draw = kaleido.calc_fig_sync
    except (ImportError, AttributeError):
        raise StudyError(f"a .{form} needs kaleido 1 and a browser: {_NEEDS}") from None
    options = {"format": form, "width": WIDTH_PIXELS, "height": HEIGHT_PIXELS, "scale": SCALE}
    try:
        # MathJax, which kaleido else fetches from the network, is for formulas; there are none.
        return bytes(draw(_on_paper(picture), opts=options, kopts={"mathjax": False}))
    except (RuntimeError, OSError) as error:
        name = type(error).__name__
        raise StudyError(f"a .{form} cannot be drawn, as the browser did not start ({name}): {_NEEDS}") from error


def _on_paper(picture: Picture) -> dict[str, Any]:
    """The figure as plotly's JSON, with colours for the palette's names, a white ground and the title."""
    figure: dict[str, Any] = painted(json.loads(picture.figure.to_json()), LIGHT)
    layout = figure["layout"]
    layout |= {"paper_bgcolor": LIGHT["back"], "width": WIDTH_PIXELS, "height": HEIGHT_PIXELS}
    layout["title"] = {"text": label(picture.title), "x": 0.02, "xanchor": "left", "font": {"size": 15}}
    layout["margin"]["t"] += TITLE_PIXELS
    return figure
