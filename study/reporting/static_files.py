"""Every figure of a report as files for a paper: PNG, SVG and PDF, one column wide, drawn in one browser."""

from __future__ import annotations

import asyncio
import importlib
import io
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from study.errors import StudyError
from study.reporting.picture import Picture
from study.reporting.print_style import PIXELS_PER_MILLIMETRE, printed

FORMS = ("png", "svg", "pdf")
DOTS_PER_INCH = 300
TIMEOUT_SECONDS = 120.0
"""How long one figure may take, on a busy machine too."""

_NEEDS = "install Chromium or Chrome, and `pip install kaleido`"


class MissingBrowserError(StudyError):
    """There is no browser that could draw figures, or it does not start."""


def write_figures(pictures: Mapping[str, Picture], folder: Path) -> list[Path]:
    """Draw figures and write each as PNG, SVG and PDF into a folder, which is made if it is missing.

    A figure is 85 mm wide. A PNG has 300 dots an inch; a PDF holds its fonts; the text of an SVG stays text, in the
    first that the reader has of Arial, Helvetica, Liberation Sans and DejaVu Sans.

    Args:
        pictures: the figures by their files' stems.
        folder: takes the files.

    Returns:
        the files, in the order of the figures.

    Raises:
        MissingBrowserError: there is nothing to draw with.
        StudyError: a figure cannot be drawn, or a file cannot be written.
    """
    from study.reporting.files import write_bytes

    paths = []
    for name, content in draw_figures(pictures).items():
        paths.append(folder / name)
        write_bytes(paths[-1], content)
    return paths


def draw_figures(pictures: Mapping[str, Picture]) -> dict[str, bytes]:
    """Draw figures as PNG, SVG and PDF.

    Args:
        pictures: the figures by their files' stems.

    Returns:
        the contents of the files by their names.

    Raises:
        MissingBrowserError: there is nothing to draw with.
        StudyError: a figure cannot be drawn.
    """
    if not pictures:
        return {}
    jobs = list(_jobs(pictures))
    # In a thread of its own, for the caller may have an event loop that runs.
    with ThreadPoolExecutor(1) as thread:
        drawn = thread.submit(asyncio.run, _draw(jobs)).result()
    return {name: _finished(content, options) for (name, _, options), content in zip(jobs, drawn, strict=True)}


def _jobs(pictures: Mapping[str, Picture]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name of the file, figure and kaleido's options of each file."""
    for stem, picture in pictures.items():
        figure = printed(picture)
        size = {"width": figure["layout"]["width"], "height": figure["layout"]["height"]}
        for form in FORMS:
            scale = DOTS_PER_INCH / (25.4 * PIXELS_PER_MILLIMETRE) if form == "png" else 1
            yield f"{stem}.{form}", figure, {"format": form, "scale": scale, **size}


async def _draw(jobs: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[bytes]:
    kaleido = _kaleido()
    # MathJax, which kaleido else fetches from the network, is for formulas; there are none.
    try:
        browser = kaleido.Kaleido(n=1, mathjax=False, timeout=TIMEOUT_SECONDS)
        await browser.open()
    except Exception as error:
        raise MissingBrowserError(
            f"figures cannot be drawn one by one, as the browser did not start ({type(error).__name__}): {_NEEDS}"
        ) from error
    try:
        return [await _draw_one(browser, *job) for job in jobs]
    finally:
        await browser.close()


async def _draw_one(browser: Any, name: str, figure: dict[str, Any], options: dict[str, Any]) -> bytes:
    try:
        return bytes(await browser.calc_fig(figure, opts=options))
    except Exception as error:
        raise StudyError(f"{name}: cannot be drawn ({type(error).__name__})") from error


def _kaleido() -> Any:
    try:
        kaleido = importlib.import_module("kaleido")
        kaleido.Kaleido  # noqa: B018
    except (ImportError, AttributeError):
        raise MissingBrowserError(f"figures are drawn one by one by kaleido 1 and a browser: {_NEEDS}") from None
    return kaleido


def _finished(content: bytes, options: dict[str, Any]) -> bytes:
    """A file that says how large it is to be printed."""
    if options["format"] == "png":
        from PIL import Image

        with Image.open(io.BytesIO(content)) as image:
            whole = io.BytesIO()
            image.convert("RGB").save(whole, "PNG", dpi=(DOTS_PER_INCH, DOTS_PER_INCH), optimize=True)
        return whole.getvalue()
    if options["format"] == "svg":
        root, end, rest = content.decode().partition(">")
        for side in ("width", "height"):
            root = re.sub(rf'\b{side}="[\d.]+"', f'{side}="{options[side] / PIXELS_PER_MILLIMETRE:.2f}mm"', root)
        return f"{root}{end}{rest}".encode()
    return content
