"""One image: file bytes in, a small square of RGB pixels out."""

from __future__ import annotations

import contextlib
import stat
from io import BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from trainer.errors import DataError

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 100_000_000
MAX_FILE_BYTES = 512 * 2**20

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class BrokenImageError(DataError):
    """One image cannot be used; the message is the reason, without the file's name."""


def is_image_name(name: str) -> bool:
    """Whether a file name ends, in any case, like an image of a format that can be decoded."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def read_image_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        BrokenImageError: it cannot be read, or holds more than `MAX_FILE_BYTES`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BrokenImageError("is no file")
        if status.st_size > MAX_FILE_BYTES:
            raise BrokenImageError(f"holds {status.st_size / 2**20:,.0f} MiB, more than {MAX_FILE_BYTES / 2**20:,.0f}")
        return path.read_bytes()
    except OSError as error:
        raise BrokenImageError(f"cannot be read: {error.strerror}") from None


def decode_image(data: bytes, size: int, exact: bool = False) -> Pixels:
    """Decode an image file's bytes to a square.

    The first frame is taken and turned upright as its EXIF orientation says, so that a picture is trained on as a
    viewer shows it. Grey becomes three equal channels, 16 bits a channel are cut to their upper 8, transparency is
    dropped. The whole picture is then stretched to the square by bilinear interpolation with antialiasing. Large
    JPEGs are decoded at a half, a quarter or an eighth, to no less than the asked size.

    Args:
        data: the file's bytes; the format is told from them, not from a name.
        size: side of the square in pixels, at least 1.
        exact: decode JPEGs at their full size, which takes longer.

    Returns:
        uint8 pixels, shape ``(size, size, 3)``, red first; they may be read-only.

    Raises:
        BrokenImageError: the bytes are empty, of no known image format, damaged, cut short, of a pixel type without
            a known range, or hold more than `MAX_PIXELS`.
    """
    if not data:
        raise BrokenImageError("is empty")
    try:
        with _open(data) as image:
            _check_pixels(image)
            if not exact:
                image.draft(None, (size, size))
            image.load()
            with contextlib.suppress(Exception):
                ImageOps.exif_transpose(image, in_place=True)
            return np.asarray(_to_rgb(image).resize((size, size), Image.Resampling.BILINEAR))
    except (BrokenImageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise BrokenImageError(f"holds more than {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except UnidentifiedImageError:
        raise BrokenImageError("is no image of a known format") from None
    except Exception as error:  # a decoder fed damaged bytes may raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BrokenImageError(f"is damaged: {reason}") from None


def _open(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data), formats=_FORMATS)


def _check_pixels(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImageError(f"is {width} x {height}, more than {MAX_PIXELS / 1e6:.0f} megapixels")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BrokenImageError("has 32-bit pixels of no known range; save it with 8 or 16 bits a channel")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")
