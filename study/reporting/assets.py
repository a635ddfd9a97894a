"""The colours of the page, for light and dark; the style sheet is in `style`, what runs in the browser in `script`."""

from __future__ import annotations

LIGHT = {
    "back": "#ffffff",
    "surface": "#f4f6f8",
    "text": "#1c2127",
    "muted": "#57606a",
    "line": "#d5dae0",
    "mark": "#fff3cf",
    "warn": "#9a3b00",
    "faint": "rgba(87, 96, 106, 0.30)",
    "accent": "#1d5fa8",
    "test": "#1d5fa8",
    "val": "#b25a00",
    "joint": "#6a4bb0",
    "beta": "#0b7a5c",
    "alpha": "#b02a5b",
}
DARK = {
    "back": "#14171b",
    "surface": "#1e2329",
    "text": "#e4e8ec",
    "muted": "#a2abb5",
    "line": "#363d46",
    "mark": "#3d3413",
    "warn": "#ffa366",
    "faint": "rgba(162, 171, 181, 0.30)",
    "accent": "#6cb2f5",
    "test": "#6cb2f5",
    "val": "#f0a04b",
    "joint": "#b49cf5",
    "beta": "#4fc9a4",
    "alpha": "#f283a9",
}
"""The two palettes; figures and style sheet name their entries as `var(--name)`."""
