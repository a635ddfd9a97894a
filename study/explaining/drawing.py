"""Pictures of Grad-CAM: an image, and the image under its map, small enough for a page."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from plotly.colors import get_colorscale

from study.explaining.document import Box

SMALLEST_SIDE, LARGEST_SIDE = 160, 224
MOST_BYTES = 20_000

_COLOURS = "Inferno"
"""Brightness rises along it, so that it can be read in grey and by the colour-blind."""
_COVER = 0.65
_QUALITIES = (88, 80, 70, 60, 45, 30, 15)
_BOX, _BOX_EDGE = (0, 230, 118), (0, 0, 0)
_GAP, _LINE = 6, 15


def shown_side(size: int) -> int:
    """The side of the pictures of images of a size, in pixels."""
    return min(max(size, SMALLEST_SIDE), LARGEST_SIDE)


def draw_image(pixels: NDArray[np.uint8], boxes: Sequence[Box] = ()) -> Image.Image:
    """An image in the size in which it is shown, with its boxes.

    Args:
        pixels: uint8, shape ``(size, size, 3)``.
        boxes: boxes to draw.
    """
    picture = _resized(pixels)
    _draw_boxes(picture, boxes)
    return picture


def draw_overlay(pixels: NDArray[np.uint8], cam: NDArray[np.float32], boxes: Sequence[Box] = ()) -> Image.Image:
    """An image under its map: the higher the map, the more of it is covered by a brighter colour.

    Args:
        pixels: uint8, shape ``(size, size, 3)``.
        cam: float32 in [0, 1], shape ``(size, size)``.
        boxes: boxes to draw.
    """
    below = _resized(pixels)
    values = np.asarray(Image.fromarray(cam).resize(below.size, Image.Resampling.BILINEAR)).clip(0, 1)[..., None]
    mixed = (1 - _COVER * values) * np.asarray(below, dtype=np.float32) + _COVER * values * _coloured(values[..., 0])
    picture = Image.fromarray(mixed.round().astype(np.uint8))
    _draw_boxes(picture, boxes)
    return picture


def as_jpeg(picture: Image.Image, most_bytes: int = MOST_BYTES) -> bytes:
    """A picture as JPEG, as good as fits."""
    content = b""
    for quality in _QUALITIES:
        body = BytesIO()
        picture.save(body, "JPEG", quality=quality, optimize=True)
        content = body.getvalue()
        if len(content) <= most_bytes:
            break
    return content


def draw_sheet(
    heads: Sequence[str], rows: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]]
) -> Image.Image:
    """All pictures on one sheet: a row an image, a column a trial, a line of text above and below.

    Args:
        heads: what stands above each column.
        rows: the pictures, all of one size, as many a row as there are heads.
        captions: what stands below each of them.
    """
    side = rows[0][0].width
    height = side + _LINE + _GAP
    sheet = Image.new("RGB", (len(heads) * (side + _GAP) + _GAP, len(rows) * height + _LINE + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for column, head in enumerate(heads):
        draw.text((_GAP + column * (side + _GAP), 2), _fitting(head, side, font), fill="black", font=font)
    for number, (pictures, texts) in enumerate(zip(rows, captions, strict=True)):
        for column, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            left, top = _GAP + column * (side + _GAP), _LINE + _GAP + number * height
            sheet.paste(picture, (left, top))
            draw.text((left, top + side + 1), _fitting(text, side, font), fill="black", font=font)
    return sheet


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """A text as far as it fits, with `?` for what the font of such pictures lacks."""
    known = text.replace("α", "a").replace("β", "b").encode("latin-1", errors="replace").decode("latin-1")
    known = "".join(character if character.isprintable() else "?" for character in known)
    if font.getlength(known) <= width:
        return known
    while known and font.getlength(f"{known}...") > width:
        known = known[:-1]
    return f"{known}..."


def _resized(pixels: NDArray[np.uint8]) -> Image.Image:
    """The image in its shown size; small ones keep their pixels visible."""
    side = shown_side(pixels.shape[0])
    way = Image.Resampling.NEAREST if side > pixels.shape[0] else Image.Resampling.LANCZOS
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), way)


def _coloured(values: NDArray[np.float32]) -> NDArray[np.float32]:
    stops = get_colorscale(_COLOURS)
    places = [stop for stop, _ in stops]
    channels = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for _, colour in stops], dtype=np.float32)
    return np.stack([np.interp(values, places, channels[:, channel]) for channel in range(3)], axis=-1).astype(
        np.float32
    )


def _draw_boxes(picture: Image.Image, boxes: Sequence[Box]) -> None:
    """Green frames with a dark edge, which shows on bright and on dark ground."""
    draw = ImageDraw.Draw(picture)
    most = picture.width - 1
    for box in boxes:
        left, top = round(box.x * most), round(box.y * most)
        right, bottom = round(min(box.x + box.width, 1) * most), round(min(box.y + box.height, 1) * most)
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_BOX_EDGE, width=4)
        draw.rectangle((left, top, right, bottom), outline=_BOX, width=2)
