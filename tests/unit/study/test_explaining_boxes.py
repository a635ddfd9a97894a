"""Boxes from a table, to the places where they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from study.errors import StudyError
from study.explaining.boxes import BoxedImages, place_boxes, read_boxes
from study.explaining.document import Box
from study.home import Home
from study.images import load_images
from study.spec_input import build_study


@pytest.fixture
def table(tmp_path):
    def write(*rows, header="image,x,y,width,height,label"):
        path = tmp_path / "boxes.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def planned(tmp_path, records):
    """A study of a folder of images of 64 x 48, one of which lies on its side, with its record and home."""
    root = tmp_path / "skin"
    random = np.random.default_rng(3)
    for name in ("nv", "mel"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            image = Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8))
            exif = Image.Exif()
            if (name, number) == ("nv", 4):
                exif[0x0112] = 6  # to be turned by a quarter: a viewer shows 48 x 64
            image.save(root / name / f"{name}-{number}.png", exif=exif)
    spec, _ = build_study(f"folder:{root}", {"image_size": 32}, resolve_model=lambda name: name)
    home = Home(tmp_path / "home", "sqlite:///none", str(tmp_path / "artifacts"))
    facts = load_images(spec, home)
    return records.study(fingerprint=facts.fingerprint), spec, home


def test_pixels_of_the_original_become_fractions_of_the_upright_image(table, planned):
    boxes = read_boxes(table("mel/mel-0.png,16,12,32,24,pigment net", "nv/nv-4.png,12,16,24,32,"))
    assert boxes.in_pixels
    placed = place_boxes(boxes, boxes.by_image(["mel/mel-0.png", "nv/nv-4.png", "nv/nv-0.png"]), *planned)
    assert placed == {
        "mel/mel-0.png": (Box(0.25, 0.25, 0.5, 0.5, "pigment net"),),
        "nv/nv-4.png": (Box(0.25, 0.25, 0.5, 0.5, ""),),
    }


def test_fractions_need_no_original(table, planned):
    record, spec, home = planned
    boxes = read_boxes(table("a,0.1,0.2,0.3,0.4,one", "a,0,0,1,1,", "b,0.5,0.5,0.5,0.5,"))
    assert not boxes.in_pixels
    placed = place_boxes(boxes, boxes.by_image(["a"]), record, spec, home)
    assert placed == {"a": (Box(0.1, 0.2, 0.3, 0.4, "one"), Box(0, 0, 1, 1, ""))}


def test_images_are_known_with_and_without_the_ending_of_their_file(table):
    boxes = read_boxes(table("ISIC_1.jpg,1,1,5,5,", "mel/mel-1,1,1,5,5,", "twice,1,1,5,5,", "who,1,1,5,5,"))
    names = ("ISIC_1", "mel/mel-1.png", "twice.png", "twice.jpg")
    assert list(boxes.by_image(names)) == ["ISIC_1", "mel/mel-1.png"]
    assert boxes.unknown(names) == ("twice", "who")


def test_what_has_boxes_and_is_not_shown_is_told_by_its_reason():
    assert BoxedImages(unknown=(), untested=0, shown=3, waiting=0, disputed=0).remarks("LMF") == []
    assert BoxedImages(unknown=("a", "b"), untested=1, shown=3, waiting=2, disputed=1).remarks("LMF") == [
        "--boxes names images that it does not have: a, b",
        "not shown, since they are no test images: 1 image with boxes",
        "not shown: 2 test images with boxes; raise --images (at most 50)",
        "not shown: 1 test image with boxes, on which the losses beside LMF disagree",
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,x,2,3,4,", "line 3: x is 'x'; expected a number of at least 0"),
        ("a,1,-2,3,4,", "line 3: y is '-2'; expected a number of at least 0"),
        ("a,1,2,0,4,", "line 3: width is '0'; expected a number above 0"),
        ("a,1,2,3,inf,", "line 3: height is 'inf'; expected a number above 0"),
        ("a,1,2,3", "line 3: height is ''; expected a number above 0"),
        (",1,2,3,4,", "line 3: the image cell is empty"),
    ],
)
def test_a_row_that_is_no_box_is_named(table, row, reason):
    with pytest.raises(StudyError) as refused:
        read_boxes(table("a,1,2,3,4,", row))
    assert str(refused.value).startswith("--boxes: ")
    assert reason in str(refused.value)


def test_fractions_beyond_the_image_are_named(table):
    with pytest.raises(StudyError, match=r"line 2: the box of a ends outside the image; expected x \+ width"):
        read_boxes(table("a,0.5,0.2,0.6,0.4,"))


def test_pixels_beyond_the_image_are_named(table, planned):
    boxes = read_boxes(table("mel/mel-0.png,40,2,30,4,"))
    with pytest.raises(StudyError, match=r"line 2: the box of .* ends outside the image, which has 64 x 48 pixels"):
        place_boxes(boxes, boxes.by_image(["mel/mel-0.png"]), *planned)
    assert place_boxes(boxes, boxes.by_image(["nv/nv-0.png"]), *planned) == {}


def test_a_missing_column_and_a_missing_file_are_named(table, tmp_path):
    with pytest.raises(
        StudyError, match=r"^--boxes: .*has no height column; expected height, found image, x, y, width"
    ):
        read_boxes(table("a,1,2,3", header="image,x,y,width"))
    with pytest.raises(StudyError, match=r"^--boxes: .*nowhere.csv: No such file"):
        read_boxes(tmp_path / "nowhere.csv")


def test_pixels_without_the_original_images_are_refused(table, planned):
    record, spec, home = planned
    boxes = read_boxes(table("mel/mel-0.png,1,2,3,4,"))
    (spec.data or next(home.root.parent.glob("skin"))).rename(home.root.parent / "moved")
    with pytest.raises(StudyError, match=r"pixels need the original images of study skin-small .*give fractions"):
        place_boxes(boxes, boxes.by_image(["mel/mel-0.png"]), record, spec, home)


def test_other_images_in_their_place_are_refused(table, planned, records):
    _, spec, home = planned
    boxes = read_boxes(table("mel/mel-0.png,1,2,3,4,"))
    with pytest.raises(StudyError, match="holds other images"):
        place_boxes(boxes, boxes.by_image(["mel/mel-0.png"]), records.study(), spec, home)


def test_images_that_are_no_files_take_fractions_only(table, tmp_path, records):
    spec, _ = build_study("digits-lt", {}, resolve_model=lambda name: name)
    home = Home(tmp_path / "home", "sqlite:///none", str(tmp_path / "artifacts"))
    facts = load_images(spec, home)
    boxes = read_boxes(table("0/0000,1,2,3,4,"))
    with pytest.raises(StudyError, match=r"the original of 0/0000 cannot be read: .*; give fractions"):
        place_boxes(boxes, boxes.by_image(["0/0000"]), records.study(fingerprint=facts.fingerprint), spec, home)
