"""The page's style sheet: light and dark, wide and narrow screens, paper."""

from __future__ import annotations

from study.reporting.assets import DARK, LIGHT


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
h4, figcaption { font-size: 0.95rem; margin: 0.5rem 0 0; font-weight: 600; }
p { margin: 0.25rem 0 0.75rem; max-width: 52rem; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.skip { position: absolute; left: 0.5rem; top: -10rem; padding: 0.5rem 1rem; background: var(--surface); z-index: 2; }
.skip:focus { top: 0.5rem; }
.contents ul { display: flex; flex-wrap: wrap; gap: 0.15rem 1.25rem; margin: 0.75rem 0; padding: 0; list-style: none; }
.contents li { min-height: 1.5rem; }
.quiet { color: var(--muted); }
.warn { color: var(--warn); font-weight: 600; }
.answer { display: flex; flex-wrap: wrap; gap: 0.75rem; margin: 0.75rem 0; }
.answer div { background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 0.6rem 1rem; }
.answer b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.answer span { color: var(--muted); font-size: 0.85rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0.5rem 1.5rem; }
.figures > figure { margin: 0; min-width: 0; }
div.plot { min-height: 340px; overflow: hidden; }
img { max-width: 100%; }
pre { overflow-x: auto; white-space: pre-wrap; font-size: 0.86rem; background: var(--surface); padding: 0.6rem 1rem; }
.scroll { overflow-x: auto; margin: 0.5rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.86rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.28rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; unicode-bidi: isolate; font-weight: 400; }
thead th { white-space: normal; vertical-align: bottom; color: var(--muted); font-weight: 600; min-width: 3.5rem; }
th.text, td.text { text-align: left; }
td.wide { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
th.name, td.name { white-space: normal; max-width: 18rem; overflow-wrap: break-word; }
tr.marked > * { background: var(--mark); }
th button { font: inherit; color: inherit; text-align: inherit; background: none; border: 0; margin: -0.28rem -0.3rem;
  padding: 0.28rem 0.3rem; width: calc(100% + 0.6rem); min-height: 1.75rem; cursor: pointer; }
th button:hover { color: var(--accent); }
th button::after { content: "\\A0\\2195"; content: "\\A0\\2195" / ""; font-weight: 400; }
[aria-sort="ascending"] button::after { content: "\\A0\\2191"; content: "\\A0\\2191" / ""; font-weight: 700; }
[aria-sort="descending"] button::after { content: "\\A0\\2193"; content: "\\A0\\2193" / ""; font-weight: 700; }
[aria-sort] button { color: var(--accent); }
details { margin: 0.5rem 0 1rem; }
summary { cursor: pointer; color: var(--accent); }
h2.section { font-size: 1.2rem; margin: 1.75rem 0 0.25rem; padding-top: 0; border-top: none; }
details > h3, details > h4 { display: none; }
@media screen and (max-width: 40rem) {
  body { padding: 0.75rem 0.9rem 2rem; }
  .scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: var(--back); }
  .scroll tr.marked > :first-child { background: var(--mark); }
  .scroll :is(th, td).name:first-child { max-width: 7.5rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-before: page; border-top: none; padding-top: 0; margin-top: 0; }
  h2.first, h2.section { break-before: auto; }
  h2.section { margin-top: 1.5rem; break-after: avoid; }
  h3, h4, figcaption, section > p { break-after: avoid; }
  figure, tr, .answer div { break-inside: avoid; }
  thead { display: table-header-group; }
  .figures { display: block; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.15rem 0.3rem; }
  .scroll:not(.dense) { break-inside: avoid; }
  .dense table { font-size: 6.5pt; }
  .dense th, .dense td { padding: 0.1rem 0.2rem; }
  thead th, td.wide { min-width: 0; }
  tr.marked > * { background: none; font-weight: 700; }
  th button { all: unset; }
  th button::after { content: none !important; }
  summary, nav, .skip { display: none; }
  details > h3, details > h4 { display: block; }
}
"""
