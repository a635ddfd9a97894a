"""What runs in the browser: tables that sort, and figures that are unpacked and drawn.

Nothing here builds markup of text: nodes are moved, and plotly is given JSON.
"""

from __future__ import annotations

PRINT_WIDTH_PIXELS = 640
"""How wide figures are on paper."""

PLOTLY_ID = "packed-plotly"
DATA_ID = "page-data"

_SORTING = """
(function () {
  "use strict";
  // A figure, also as the first of a cell, as in 61.25 ± 0.40, 3 of 5, 12 %, 1,024 and 0.61 [0.58, 0.64].
  const figure = "[<≤≈~]?\\\\s*([-−+]?(?:\\\\d[\\\\d,]*(?:\\\\.\\\\d+)?|\\\\.\\\\d+)(?:e[-+]?\\\\d+)?)";
  const number = new RegExp("^" + figure + "(?=$|\\\\s*[%±(\\\\[]|\\\\s+(?:of|to)\\\\b)", "i");
  const nothing = ["", "–"];
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function keys(rows, column) {
    const texts = rows.map(function (row) {
      const cell = row.cells[column];
      return (cell.dataset.sort ?? cell.textContent).trim();
    });
    const numbers = texts.map(function (text) {
      const found = number.exec(text);
      return found === null ? null : Number(found[1].replaceAll(",", "").replace("−", "-"));
    });
    const isMissing = texts.map(function (text) { return nothing.includes(text); });
    const areNumbers = numbers.every(function (value, index) { return value !== null || isMissing[index]; });
    return texts.map(function (text, index) { return isMissing[index] ? null : areNumbers ? numbers[index] : text; });
  }

  function compare(one, other) {
    return typeof one === "number" ? one - other : collator.compare(one, other);
  }

  function prepare(table) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const heads = Array.from(table.tHead.rows[0].cells);
    if (rows.length < 2) { return; }
    heads.forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", function () {
        const before = head.getAttribute("aria-sort");
        for (const other of heads) { other.removeAttribute("aria-sort"); }
        if (before === "descending") { body.append(...rows); return; }
        const sign = before === null ? 1 : -1;
        head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
        const values = keys(rows, column);
        const order = rows.map(function (_, index) { return index; }).sort(function (a, b) {
          const [one, other] = [values[a], values[b]];
          if (one === null || other === null) { return (one === null) - (other === null) || a - b; }
          return sign * compare(one, other) || a - b;
        });
        body.append(...order.map(function (index) { return rows[index]; }));
      });
    });
  }

  for (const table of document.querySelectorAll(".scroll > table")) { prepare(table); }
  const watch = new ResizeObserver(function (entries) {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) { target.tabIndex = 0; } else { target.removeAttribute("tabindex"); }
    }
  });
  for (const scroll of document.querySelectorAll(".scroll")) { watch.observe(scroll); }
})();
"""

_DRAWING = """
(function () {
  "use strict";
  const body = document.body;
  const places = new Map();
  for (const place of document.querySelectorAll("div.plot")) { places.set(place.id, place); }
  const waiting = new Set(places.keys());
  const widths = new Map();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const options = { responsive: false, displaylogo: false, displayModeBar: false };
  const later = window.requestIdleCallback ?? function (work) { setTimeout(work, 0); };
  const NARROW = 480;
  const LINE = 19;
  let page = null;
  let printing = false;

  async function unpack(id) {
    const letters = atob(document.getElementById(id).textContent);
    const bytes = Uint8Array.from(letters, function (letter) { return letter.charCodeAt(0); });
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  function legendLines(figure, room) {
    // Plotly sets entries side by side where all fit, else in columns as wide as the widest.
    const named = figure.data.filter(function (trace) { return trace.name && trace.showlegend !== false; });
    const widths = named.map(function (trace) { return 50 + 7 * trace.name.length; });
    const all = widths.reduce(function (sum, one) { return sum + one; }, 0);
    return all <= room ? 1 : Math.ceil(widths.length / Math.max(1, Math.floor(room / Math.max(...widths))));
  }

  function fit(figure, width) {
    const layout = figure.layout;
    layout.width = width;
    if (width < NARROW) {
      layout.margin = { ...layout.margin, l: Math.min(layout.margin?.l ?? 44, 44), r: 8 };
      layout.font = { ...layout.font, size: 11 };
    }
    if (layout.showlegend !== false && layout.legend?.orientation === "h") {
      const lines = legendLines(figure, width - (layout.margin?.l ?? 80) - (layout.margin?.r ?? 80));
      layout.height += LINE * Math.max(0, lines - 1);
    }
  }

  function draw(id) {
    const place = places.get(id);
    const palette = page.palettes[dark.matches && !printing ? "dark" : "light"];
    const figure = JSON.parse(page.figures[id], function (key, value) {
      const name = typeof value === "string" && value.startsWith("var(--") ? value.slice(6, -1) : null;
      return name !== null && Object.hasOwn(palette, name) ? palette[name] : value;
    });
    const width = printing ? page.print_width : place.clientWidth;
    if (width > 0) { fit(figure, width); }
    widths.set(id, width);
    Plotly.react(place, figure.data, figure.layout, options);
    waiting.delete(id);
    body.dataset.drawn = waiting.size === 0 ? "all" : String(places.size - waiting.size);
  }

  function redraw() { for (const id of places.keys()) { draw(id); } }

  function drawNext() {
    const [id] = waiting;
    if (id !== undefined) { draw(id); later(drawNext); }
  }

  function follow(entries) {
    requestAnimationFrame(function () {
      for (const { target } of entries) {
        if (!printing && widths.has(target.id) && target.clientWidth > 0
            && target.clientWidth !== widths.get(target.id)) { draw(target.id); }
      }
    });
  }

  async function start() {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("this browser is too old to unpack them");
    }
    const [code, data] = await Promise.all([unpack("PLOTLY_ID"), unpack("DATA_ID")]);
    const script = document.createElement("script");
    script.textContent = code;
    document.head.append(script);
    script.remove();
    page = JSON.parse(data);
    const seen = new IntersectionObserver(function (entries) {
      for (const entry of entries) {
        if (entry.isIntersecting && waiting.has(entry.target.id)) { draw(entry.target.id); }
      }
    }, { rootMargin: "50%" });
    const sizes = new ResizeObserver(follow);
    for (const place of places.values()) { seen.observe(place); sizes.observe(place); }
    dark.addEventListener("change", redraw);
    window.addEventListener("beforeprint", function () {
      for (const fold of document.querySelectorAll("details")) { fold.open = true; }
      printing = true;
      redraw();
    });
    window.addEventListener("afterprint", function () { printing = false; redraw(); });
    if (waiting.size === 0) { body.dataset.drawn = "all"; }
    later(drawNext);
  }

  start().catch(function (error) {
    const notice = document.createElement("p");
    notice.className = "warn";
    notice.setAttribute("role", "status");
    notice.textContent = "The figures cannot be drawn: " + error.message + "; the tables hold the same numbers.";
    (document.querySelector("main") ?? body).prepend(notice);
    body.dataset.drawn = "failed";
    console.error(error);
  });
})();
"""

SCRIPT = _SORTING + _DRAWING.replace("PLOTLY_ID", PLOTLY_ID).replace("DATA_ID", DATA_ID)
"""All of the page's own script."""
