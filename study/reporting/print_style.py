"""A figure as a journal prints it: one column wide, small type, and told apart in grey as well as in colour.

Colours that stand beside each other in our figures differ in brightness here. Where two traces of a figure would still
look alike in grey, the later one gets another dash, symbol or pattern.
"""

from __future__ import annotations

import json
import re
from typing import Any

from study.reporting.picture import HEIGHT_PIXELS, Picture

WIDTH_MILLIMETRES = 85.0
PIXELS_PER_MILLIMETRE = 96 / 25.4
WIDTH_PIXELS = round(WIDTH_MILLIMETRES * PIXELS_PER_MILLIMETRE)
LEAST_CONTRAST = 1.5
"""Two colours whose contrast (WCAG 2) is at least this are told apart in grey."""

PAPER = {
    "back": "#ffffff",
    "surface": "#ffffff",
    "text": "#000000",
    "muted": "#3c3c3c",
    "line": "#cccccc",
    "mark": "#ffffff",
    "warn": "#000000",
    "faint": "rgba(60, 60, 60, 0.30)",
    "accent": "#1b4f8f",
    "test": "#1b4f8f",
    "val": "#d27000",
    "joint": "#35246f",
    "beta": "#3f9f7c",
    "alpha": "#a8235a",
}
FONT_FAMILY = "Arial, Helvetica, 'Liberation Sans', 'DejaVu Sans', sans-serif"
FONT_PIXELS = 10.0
"""7.5 pt, at 96 pixels an inch."""
SMALL_PIXELS = 9.4
"""7 pt, the least."""

_PLOT_PIXELS = 225
_LEGEND_LINE_PIXELS = 15
_LEAST_LINE_PIXELS = 1.0
_LEAST_MARK_PIXELS = 4.0
_MARK_SCALE = 0.7
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "circle-open", "diamond-open", "square-open")
_PATTERNS = ("", "/", "x", ".", "\\", "-", "+")


def printed(picture: Picture) -> dict[str, Any]:
    """The figure as plotly's JSON, in the size, colours and type of print; its title is left to the caption."""
    figure: dict[str, Any] = painted(json.loads(picture.figure.to_json()), PAPER)
    layout = figure["layout"]
    traces = figure["data"]
    lines = _legend_lines(traces) if layout.get("showlegend", True) else 0
    height = layout.get("height") or HEIGHT_PIXELS
    layout |= {
        "width": WIDTH_PIXELS,
        "height": round(_PLOT_PIXELS * height / HEIGHT_PIXELS + _LEGEND_LINE_PIXELS * lines),
        "paper_bgcolor": PAPER["back"],
        "plot_bgcolor": PAPER["back"],
        "font": {"family": FONT_FAMILY, "size": FONT_PIXELS, "color": PAPER["text"]},
        "margin": {"l": 42, "r": 6, "t": max(6, layout.get("margin", {}).get("t", 6) - 6), "b": 34, "pad": 0},
    }
    layout.pop("title", None)
    _shrink_type(layout)
    for key in [key for key in layout if re.fullmatch(r"[xy]axis\d*", key)]:
        axis = layout[key]
        axis |= {"color": PAPER["text"], "tickfont": {"size": SMALL_PIXELS}, "linecolor": PAPER["muted"]}
        axis |= {"gridwidth": 0.5, "linewidth": 0.75}
        if isinstance(axis.get("title"), dict):
            axis["title"] |= {"standoff": 4, "font": {"size": FONT_PIXELS}}
    layout["legend"] = layout.get("legend", {}) | {"font": {"size": SMALL_PIXELS}, "itemwidth": 30}
    for trace in traces:
        _strengthen(trace)
    _tell_apart(traces)
    return figure


def painted(value: Any, palette: dict[str, str]) -> Any:
    """Plotly's JSON with a palette's colours in place of their names."""
    if isinstance(value, dict):
        return {key: painted(item, palette) for key, item in value.items()}
    if isinstance(value, list):
        return [painted(item, palette) for item in value]
    if isinstance(value, str) and value.startswith("var(--"):
        return palette.get(value[6:-1], value)
    return value


def are_told_apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two traces differ without their hue: by kind, brightness, symbol, dash or pattern."""
    if _kind(one) != _kind(other):
        return True
    if any(look(one) != look(other) for look in (_symbol, _dash, _pattern)):
        return True
    brightness = [_brightness(_color(trace), trace.get("opacity", 1.0)) for trace in (one, other)]
    if None in brightness:
        return True
    light, dark = sorted((value for value in brightness if value is not None), reverse=True)
    return (light + 0.05) / (dark + 0.05) >= LEAST_CONTRAST


def named_traces(figure: dict[str, Any]) -> list[dict[str, Any]]:
    """The traces of plotly's JSON that a legend names."""
    return [trace for trace in figure["data"] if trace.get("name") and trace.get("showlegend") is not False]


def _tell_apart(traces: list[dict[str, Any]]) -> None:
    before: list[dict[str, Any]] = []
    for trace in traces:
        if not trace.get("name") or trace.get("showlegend") is False:
            continue
        for place, choices in _looks(trace):
            if all(are_told_apart(trace, other) for other in before):
                break
            for choice in choices:
                _put(trace, place, choice)
                if all(are_told_apart(trace, other) for other in before):
                    break
        before.append(trace)


def _looks(trace: dict[str, Any]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What may be changed of a trace, and to what."""
    if trace.get("type") == "bar":
        return [(("marker", "pattern", "shape"), _PATTERNS)]
    if trace.get("fill"):
        return [(("fillpattern", "shape"), _PATTERNS)]
    mode = trace.get("mode", "")
    found: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    if "lines" in mode:
        found.append((("line", "dash"), _DASHES))
    if "markers" in mode:
        found.append((("marker", "symbol"), _SYMBOLS))
    return found


def _put(trace: dict[str, Any], place: tuple[str, ...], value: str) -> None:
    for key in place[:-1]:
        trace = trace.setdefault(key, {})
    trace[place[-1]] = value


def _strengthen(trace: dict[str, Any]) -> None:
    """Marks that fit one column, and lines that a press can print."""
    marker, line = trace.get("marker"), trace.get("line")
    if isinstance(marker, dict) and isinstance(marker.get("size"), int | float) and "sizeref" not in marker:
        marker["size"] = max(_LEAST_MARK_PIXELS, _MARK_SCALE * marker["size"])
    if isinstance(line, dict) and line.get("width"):
        line["width"] = max(_LEAST_LINE_PIXELS, 0.75 * line["width"])
    if isinstance(trace.get("textfont"), dict):
        trace["textfont"]["size"] = SMALL_PIXELS
    _shrink_type(trace)


def _shrink_type(value: Any) -> None:
    """Every font within is neither larger than the figure's nor smaller than the least; colour bars get small ones."""
    for key, item in value.items() if isinstance(value, dict) else ():
        if key == "colorbar" and isinstance(item, dict):
            item["tickfont"] = {"size": SMALL_PIXELS}
            if isinstance(item.get("title"), dict):
                item["title"]["font"] = {"size": SMALL_PIXELS}
        if key.endswith("font") and isinstance(item, dict) and isinstance(item.get("size"), int | float):
            item["size"] = min(FONT_PIXELS, max(SMALL_PIXELS, item["size"]))
        elif isinstance(item, dict):
            _shrink_type(item)
        elif isinstance(item, list):
            for part in item:
                _shrink_type(part)


def _legend_lines(traces: list[dict[str, Any]]) -> int:
    """How many lines the legend takes, by the length of its names."""
    names = [trace["name"] for trace in traces if trace.get("name") and trace.get("showlegend") is not False]
    if not names:
        return 0
    room, widths = WIDTH_PIXELS - 48, [44 + 5.2 * len(name) for name in names]
    return 1 if sum(widths) <= room else -(-len(names) // max(1, int(room // max(widths))))


def _kind(trace: dict[str, Any]) -> tuple[str, str, bool]:
    return trace.get("type", "scatter"), trace.get("mode", ""), bool(trace.get("fill"))


def _symbol(trace: dict[str, Any]) -> Any:
    marker = trace.get("marker", {})
    return (marker.get("symbol", "circle"), marker.get("size")) if "markers" in trace.get("mode", "") else None


def _dash(trace: dict[str, Any]) -> Any:
    return trace.get("line", {}).get("dash", "solid") if "lines" in trace.get("mode", "") else None


def _pattern(trace: dict[str, Any]) -> Any:
    pattern = trace.get("fillpattern") if trace.get("fill") else trace.get("marker", {}).get("pattern")
    return (pattern or {}).get("shape", "")


def _color(trace: dict[str, Any]) -> Any:
    if trace.get("fill"):
        return trace.get("fillcolor")
    return trace.get("marker", {}).get("color") or trace.get("line", {}).get("color")


def _brightness(color: Any, opacity: float) -> float | None:
    """How bright a colour is on white, from 0 to 1 (WCAG 2); None where it is none that can be read."""
    if not isinstance(color, str):
        return None
    if re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        shares = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    elif re.fullmatch(r"rgba?\([\d., ]+\)", color):
        red, green, blue, *rest = (float(part) for part in re.findall(r"[\d.]+", color))
        shares = [part / 255 for part in (red, green, blue)]
        opacity *= rest[0] if rest else 1.0
    else:
        return None
    parts = [opacity * share + 1 - opacity for share in shares]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
