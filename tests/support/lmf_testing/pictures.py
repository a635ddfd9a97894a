"""Looking into pictures of a report."""

from __future__ import annotations

import json
import re
from typing import Any

from study.reporting.assets import DARK, LIGHT
from study.reporting.picture import Picture

HOSTILE = "<b>var(--test)</b><script>alert(1)</script>"


def traces(picture: Picture) -> dict[str, dict[str, Any]]:
    """A picture's traces by name, as they stand on the page; those without a name are left out."""
    shown = json.loads(picture.figure.to_json())["data"]
    return {trace["name"]: trace for trace in shown if "name" in trace}


def layout(picture: Picture) -> dict[str, Any]:
    """A picture's layout, as it stands on the page."""
    found = json.loads(picture.figure.to_json())["layout"]
    assert isinstance(found, dict)
    return found


def marks(picture: Picture) -> int:
    """How many marks a picture has at most."""
    shown = json.loads(picture.figure.to_json())["data"]
    return sum(len(trace.get("x") or ()) for trace in shown)


def check_colours(picture: Picture) -> None:
    """Every colour that a picture names is in both palettes of the page."""
    named = set(re.findall(r"var\(--(\w+)\)", picture.figure.to_json()))
    assert named
    assert named <= set(LIGHT) & set(DARK)


def check_hostile(picture: Picture) -> None:
    """No markup of a user's name is left in a picture, and no name is taken for a colour."""
    text = picture.figure.to_json()
    assert "<script" not in text
    assert "\\u003cscript" not in text
    assert "<b>" not in text
    assert "\\u003cb\\u003e" not in text
    check_colours(picture)
