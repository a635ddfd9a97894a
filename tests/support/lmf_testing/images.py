"""Small image files for tests, good and broken ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.dataset import ImageDataset
from trainer.data.images import decode_image, read_image_file


def picture(seed: int, width: int = 20, height: int = 16) -> Image.Image:
    """An RGB picture of random pixels, other for every seed."""
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    """The bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_picture(path: Path, seed: int) -> Path:
    """Write a picture in the format of the path's suffix, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)
    return path


def write_classes(root: Path, counts: Mapping[str, int], suffix: str = ".png") -> Path:
    """A folder for each class, with so many pictures."""
    seed = 0
    for name, count in counts.items():
        for number in range(count):
            seed += 1
            write_picture(root / name / f"{number:03d}{suffix}", seed)
    return root


def folder_dataset(root: Path, name: str = "skin") -> ImageDataset:
    """All files in the folders of a folder, each folder a class."""
    files = tuple(sorted(path for path in root.glob("*/*") if path.is_file()))
    classes = tuple(sorted({path.parent.name for path in files}))
    return ImageDataset(
        name=name,
        class_names=classes,
        image_names=tuple(path.relative_to(root).as_posix() for path in files),
        labels=np.array([classes.index(path.parent.name) for path in files], dtype=np.int64),
        read=lambda index: read_image_file(files[index]),
        decode=decode_image,
        files=files,
    )


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes of PNG whose header promises a grey picture of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"")) + _chunk(b"IEND", b"")


def write_broken_files(folder: Path) -> dict[str, str]:
    """One file of each kind that cannot be used.

    Returns:
        From the file's name to the start of what is to be said of it.
    """
    png, jpeg = bytearray(encode(picture(1), "PNG")), encode(picture(2, 90, 60), "JPEG")
    cut = len(png)
    png[cut // 2] ^= 0xFF
    files = {
        "bit-flip.png": (bytes(png), "is damaged"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "is damaged: "),
        "cut.png": (encode(picture(3), "PNG")[: cut // 2], "is damaged"),
        "empty.jpg": (b"", "is empty"),
        "text.png": (b"not an image at all\n" * 9, "is no image of a known format"),
        "wide.png": (png_of_size(30_000, 30_000), "holds more than 100 megapixels"),
        "wider.png": (png_of_size(12_000, 10_000), "is 12000 x 10000, more than 100 megapixels"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    with (folder / "heavy.tif").open("wb") as file:
        file.truncate(600 * 2**20)
    return {name: said for name, (_, said) in files.items()} | {"heavy.tif": "holds 600 MiB, more than 512"}


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
