"""Pictures of Grad-CAM: what stands where, and how large they are."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from study.explaining.document import Box
from study.explaining.drawing import MOST_BYTES, as_jpeg, draw_image, draw_overlay, draw_sheet, shown_side

GREY = np.full((200, 200, 3), 100, np.uint8)


def brightness(picture):
    return np.asarray(picture).astype(int).sum(axis=2)


@pytest.mark.parametrize(("size", "side"), [(8, 160), (160, 160), (200, 200), (224, 224), (512, 224)])
def test_the_side_lies_between_160_and_224(size, side):
    assert shown_side(size) == side
    assert draw_image(np.zeros((size, size, 3), np.uint8)).size == (side, side)


def test_colour_lies_where_the_map_is_high_and_nowhere_else():
    cam = np.zeros((200, 200), np.float32)
    cam[20:60, 120:180] = 1
    picture = np.asarray(draw_overlay(GREY, cam)).astype(int)
    below = np.asarray(draw_image(GREY)).astype(int)
    changed = np.abs(picture - below).sum(axis=2) > 0
    assert changed[22:58, 122:178].all()
    assert not changed[64:].any()
    assert not changed[:, :114].any()


def test_a_higher_place_is_brighter_so_that_it_reads_in_grey():
    cam = np.tile(np.linspace(0, 1, 200, dtype=np.float32), (200, 1))
    line = np.asarray(draw_overlay(np.zeros((200, 200, 3), np.uint8), cam).convert("L")).astype(int)[100]
    assert (np.diff(line) >= -1).all()
    assert line[-1] > line[100] + 40 > line[0] + 60


def test_an_empty_map_leaves_the_image_as_it_is():
    cam = np.zeros((200, 200), np.float32)
    assert draw_overlay(GREY, cam).tobytes() == draw_image(GREY).tobytes()


@pytest.mark.parametrize("size", [100, 400])
def test_boxes_are_drawn_where_they_are_whatever_the_size(size):
    pixels = np.full((size, size, 3), 100, np.uint8)
    picture = np.asarray(draw_image(pixels, [Box(0.25, 0.5, 0.5, 0.25)])).astype(int)
    side = picture.shape[0]
    green = (picture[..., 1] > 200) & (picture[..., 0] < 60)
    rows, columns = np.flatnonzero(green.any(axis=1)), np.flatnonzero(green.any(axis=0))
    assert (columns[0] / side, columns[-1] / side) == pytest.approx((0.25, 0.75), abs=0.01)
    assert (rows[0] / side, rows[-1] / side) == pytest.approx((0.5, 0.75), abs=0.01)
    assert (picture[side // 4, side // 4] == 100).all()


def test_a_box_of_the_whole_image_is_drawn_within_it():
    picture = np.asarray(draw_image(GREY, [Box(0, 0, 1, 1)])).astype(int)
    assert (picture[0, 100, 1], picture[-1, 100, 1], picture[100, 0, 1], picture[100, -1, 1]) == (230,) * 4


def test_the_worst_picture_still_fits():
    noise = np.random.default_rng(1).integers(0, 256, (224, 224, 3)).astype(np.uint8)
    content = as_jpeg(Image.fromarray(noise))
    assert len(content) <= MOST_BYTES
    assert Image.open(BytesIO(content)).size == (224, 224)
    flat = as_jpeg(Image.fromarray(GREY))
    assert len(flat) < 3000


def test_the_sheet_holds_every_picture_and_takes_any_text():
    rows = [[Image.new("RGB", (160, 160), colour) for colour in ("red", "blue")] for _ in range(3)]
    captions = [["皮肤 <b> \n\x00", "x" * 500] for _ in range(3)]
    sheet = draw_sheet(["image", "LMF (α = 0.9, β = 1.1)"], rows, captions)
    values = np.asarray(sheet)
    for colour in ((255, 0, 0), (0, 0, 255)):
        assert (values == colour).all(axis=2).sum() == 3 * 160 * 160
    # Text stays below its own picture.
    black = (values < 60).all(axis=2)
    assert black.any()
    assert not black[:, -6:].any()
