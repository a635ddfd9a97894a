"""One image: bytes to pixels."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmf_testing.images import encode, picture, write_broken_files
from PIL import Image

from trainer.data.images import BrokenImageError, decode_image, is_image_name, read_image_file


def shades(*values: int, size: tuple[int, int] = (4, 4)) -> Image.Image:
    """A picture of one colour, grey or RGB."""
    return Image.new("L" if len(values) == 1 else "RGB", size, values[0] if len(values) == 1 else values)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels_back(file_format: str) -> None:
    image = picture(5, 24, 24)
    assert np.array_equal(decode_image(encode(image, file_format), 24), np.asarray(image))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_give_a_plain_colour_back(file_format: str) -> None:
    pixels = decode_image(encode(shades(200, 40, 90, size=(16, 16)), file_format), 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (200, 40, 90)).max() <= 6


def test_a_picture_is_stretched_by_bilinear_interpolation_with_antialiasing() -> None:
    stripes = np.zeros((8, 16, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    pixels = decode_image(encode(Image.fromarray(stripes), "PNG"), 4)
    assert pixels.shape == (4, 4, 3)
    assert np.abs(pixels[:, 1:3].astype(int) - 100).max() <= 2


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (shades(77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (shades(9, 8, 7).convert("P", palette=Image.Palette.ADAPTIVE), (9, 8, 7)),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (10, 20, 30)),
        (Image.new("LA", (4, 4), (60, 128)), (60, 60, 60)),
        (Image.fromarray(np.full((4, 4), 0x8123, dtype=np.uint16)), (0x81, 0x81, 0x81)),
    ],
    ids=["grey", "black and white", "palette", "transparent", "grey with alpha", "16 bit"],
)
def test_every_pixel_type_becomes_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert (decode_image(encode(image, "PNG"), 4) == expected).all()


def test_big_endian_16_bit_tiff_keeps_its_upper_bits() -> None:
    image = Image.frombytes("I;16B", (4, 4), b"\x42\x99" * 16)
    assert (decode_image(encode(image, "TIFF"), 4) == 0x42).all()


def test_a_palette_with_transparency_gives_its_colours() -> None:
    image = shades(9, 8, 7).convert("P", palette=Image.Palette.ADAPTIVE)
    assert (decode_image(encode(image, "PNG", transparency=b"\x10\x20"), 4) == (9, 8, 7)).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused(mode: str) -> None:
    with pytest.raises(BrokenImageError, match="32-bit pixels"):
        decode_image(encode(Image.new(mode, (4, 4)), "TIFF"), 4)


def test_a_photo_is_turned_upright() -> None:
    left_dark = np.zeros((8, 8, 3), dtype=np.uint8)
    left_dark[:, 4:] = 255
    image = Image.fromarray(left_dark)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    pixels = decode_image(encode(image, "PNG", exif=exif.tobytes()), 8)
    assert (pixels[:4] == 0).all()
    assert (pixels[4:] == 255).all()


def test_damaged_exif_does_not_cost_the_image() -> None:
    image = shades(50)
    pixels = decode_image(encode(image, "PNG", exif=b"Exif\0\0nonsense"), 4)
    assert (pixels == 50).all()


@pytest.fixture
def decoded_sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes in which images are decoded, before they are resized."""
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def spy(self: Image.Image, *args: Any, **kwargs: Any) -> Image.Image:
        sizes.append(self.size)
        return resize(self, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", spy)
    return sizes


@pytest.mark.parametrize(
    ("size", "decoded"),
    [(32, (80, 60)), (60, (80, 60)), (61, (160, 120)), (224, (320, 240)), (241, (640, 480)), (500, (640, 480))],
)
def test_a_large_jpeg_is_decoded_at_no_less_than_the_asked_size_and_looks_the_same(
    decoded_sizes: list[tuple[int, int]], size: int, decoded: tuple[int, int]
) -> None:
    smooth = picture(3, 12, 12).resize((640, 480), Image.Resampling.BICUBIC)
    data = encode(smooth, "JPEG", quality=95)
    decoded_sizes.clear()
    pixels = decode_image(data, size)
    assert decoded_sizes == [decoded]
    with Image.open(BytesIO(data)) as full:
        whole = np.asarray(full.resize((size, size), Image.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - whole).mean() < 2
    assert np.array_equal(pixels, decode_image(data, size))


def test_exact_decoding_takes_the_full_size(decoded_sizes: list[tuple[int, int]]) -> None:
    data = encode(picture(3, 300, 200), "JPEG")
    pixels = decode_image(data, 32, exact=True)
    assert decoded_sizes == [(300, 200)]
    with Image.open(BytesIO(data)) as full:
        assert np.array_equal(pixels, np.asarray(full.resize((32, 32), Image.Resampling.BILINEAR)))
    assert not np.array_equal(pixels, decode_image(data, 32))


def test_only_the_first_frame_counts() -> None:
    frames = encode(shades(30), "TIFF", save_all=True, append_images=[shades(220)])
    assert (decode_image(frames, 4) == 30).all()


@pytest.mark.filterwarnings("ignore:Image size")
def test_broken_files_each_say_why(tmp_path: Path) -> None:
    expected = write_broken_files(tmp_path)
    for name, said in expected.items():
        with pytest.raises(BrokenImageError) as caught:
            decode_image(read_image_file(tmp_path / name), 8)
        assert str(caught.value).startswith(said), name
        assert "\n" not in str(caught.value)


def test_memory_running_out_is_not_the_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", fail)
    with pytest.raises(MemoryError):
        decode_image(encode(picture(1), "PNG"), 4)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrokenImageError, match="cannot be read: No such file"):
        read_image_file(tmp_path / "absent.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BrokenImageError, match="is no file"):
        read_image_file(tmp_path / "pipe.png")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "locked.png").write_bytes(b"x")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BrokenImageError, match="cannot be read: Permission denied"):
        read_image_file(tmp_path / "locked.png")


def test_suffixes_count_in_any_case() -> None:
    assert all(is_image_name(name) for name in ("a.png", "b.JPG", "c.JpEg", "d.x.TIFF"))
    assert not any(is_image_name(name) for name in ("a.txt", "png", "Thumbs.db", "a.png.zip"))
