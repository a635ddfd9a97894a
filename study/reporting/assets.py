"""What makes the page look the way it does: colours, style sheet and the script that draws the figures."""

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

PRINT_WIDTH_PIXELS = 640


def style_sheet() -> str:
    """The page's CSS, for light, dark, narrow screens and paper."""
    return f"""
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
{_RULES}"""


def _variables(palette: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


_RULES = """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1.25rem 3rem; max-width: 76rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 2.5rem 0 0.25rem; padding-top: 1rem;
  border-top: 2px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.75rem 0 0.25rem; }
h4 { font-size: 0.95rem; margin: 0.5rem 0 0; font-weight: 600; }
p { margin: 0.25rem 0 0.75rem; max-width: 52rem; }
a { color: var(--accent); }
.quiet { color: var(--muted); }
.warn { color: var(--warn); font-weight: 600; }
.answer { display: flex; flex-wrap: wrap; gap: 0.75rem; margin: 0.75rem 0; }
.answer div { background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 0.6rem 1rem; }
.answer b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.answer span { color: var(--muted); font-size: 0.85rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0.5rem 1.5rem; }
.figures > figure { margin: 0; min-width: 0; }
.plot { min-height: 340px; }
.scroll { overflow-x: auto; margin: 0.5rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.28rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; unicode-bidi: isolate; }
thead th { white-space: normal; vertical-align: bottom; color: var(--muted); font-weight: 600; min-width: 3.5rem; }
th.text, td.text { text-align: left; }
td.wide { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
td.name { white-space: normal; max-width: 18rem; overflow-wrap: break-word; }
tr.marked td { background: var(--mark); }
details { margin: 0.5rem 0 1rem; }
summary { cursor: pointer; color: var(--accent); }
details h4 { display: none; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-before: page; border-top: none; padding-top: 0; margin-top: 0; }
  h2.first { break-before: auto; }
  h3, h4, section > p { break-after: avoid; }
  figure, tr, .answer div { break-inside: avoid; }
  .figures { display: block; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.15rem 0.3rem; }
  .scroll:not(.dense) { break-inside: avoid; }
  .dense table { font-size: 6.5pt; }
  .dense th, .dense td { padding: 0.1rem 0.2rem; }
  thead th, td.wide { min-width: 0; }
  tr.marked td { background: none; font-weight: 700; }
  summary, nav { display: none; }
  details h4 { display: block; }
}
"""

DRAW_SCRIPT = """
(function () {
  "use strict";
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const options = { responsive: true, displaylogo: false, displayModeBar: false };
  function draw(printing) {
    const palette = page.palettes[dark.matches && !printing ? "dark" : "light"];
    for (const [id, source] of Object.entries(page.figures)) {
      const figure = JSON.parse(source, function (key, value) {
        const name = typeof value === "string" && value.startsWith("var(--") ? value.slice(6, -1) : null;
        return name !== null && Object.hasOwn(palette, name) ? palette[name] : value;
      });
      if (printing) { figure.layout.width = page.print_width; }
      Plotly.react(document.getElementById(id), figure.data, figure.layout, options);
    }
  }
  draw(false);
  dark.addEventListener("change", function () { draw(false); });
  window.addEventListener("beforeprint", function () {
    for (const fold of document.querySelectorAll("details")) { fold.open = true; }
    draw(true);
  });
  window.addEventListener("afterprint", function () { draw(false); });
})();
"""
