"""A picture of a report, and what all of them share: the empty figure, and how figures and names are written.

A colour is the name of an entry of the page's palettes, written `var(--name)`, so that one figure serves light, dark
and paper. Names that users gave are escaped: plotly reads some HTML in text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

HEIGHT_PIXELS = 340


@dataclass(frozen=True)
class Picture:
    """One figure of the page.

    Attributes:
        name: a short name in lower case, unique within a study.
        title: what it shows, in plain text.
        figure: the plotly figure.
        alt: what it shows in words and numbers, in plain text, for whoever cannot see it; where it is empty,
            `study.reporting.alternative` makes it of the figure.
    """

    name: str
    title: str
    figure: go.Figure
    alt: str = ""


def empty_figure(x_title: str, y_title: str) -> go.Figure:
    """A figure without traces.

    Args:
        x_title: what the horizontal axis shows.
        y_title: what the vertical axis shows.
    """
    axis = {
        "color": "var(--muted)",
        "gridcolor": "var(--line)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "automargin": True,
    }
    return go.Figure(
        layout={
            "template": "none",
            "height": HEIGHT_PIXELS,
            "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": "var(--text)", "family": "system-ui, sans-serif", "size": 12},
            "hoverlabel": {
                "bgcolor": "var(--surface)",
                "font": {"color": "var(--text)"},
                "bordercolor": "var(--line)",
            },
            "legend": {"orientation": "h", "y": -0.28, "yanchor": "top", "x": 0},
            "hovermode": "closest",
            "dragmode": False,
            "showlegend": True,
            "xaxis": axis | {"title": {"text": x_title}},
            "yaxis": axis | {"title": {"text": y_title}},
        }
    )


def label(name: str) -> str:
    """A name that a user gave, as plotly shows it unchanged; it is no markup and no colour of the palettes."""
    return escape(name, quote=False).replace("var(", "var&#40;")


def in_percent(value: float | None) -> float | None:
    """A fraction as a percentage, to four digits."""
    return None if value is None else round(100 * value, 4)


def short(value: float | None) -> float | None:
    """A number to six significant digits."""
    return value if value is None or value == 0 or not math.isfinite(value) else float(f"{value:.6g}")
