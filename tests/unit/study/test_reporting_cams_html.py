"""Grad-CAM on a page: a row an image, a column a trial, told in words, whatever the names hold."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from study.explaining.document import Box
from study.reporting.cams import CamCell, CamColumn, CamRow, CamSheet, as_data_uri
from study.reporting.cams_html import cams_html

HOSTILE = '</figcaption><script>alert(1)</script>"\n皮肤 <img src=x onerror="alert(2)">'


class Reader(HTMLParser):
    """Elements, the text of each caption, and all text."""

    def __init__(self, html):
        super().__init__()
        self.elements = []
        self.captions = []
        self.text = ""
        self.depth = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("img", "br"):
            self.depth.append(tag)
        if tag == "figcaption":
            self.captions.append("")
        if tag == "br" and "figcaption" in self.depth:
            self.captions[-1] += "\n"

    def handle_endtag(self, tag):
        assert self.depth.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "figcaption" in self.depth:
            self.captions[-1] += data

    @property
    def images(self):
        return [attributes for tag, attributes in self.elements if tag == "img"]


def cell(predicted="MEL", truth="MEL", picture=b"map", **others):
    made = CamCell(
        picture, predicted, 0.931, 0.931 if predicted == truth else 0.04, predicted, predicted == truth, False
    )
    return replace(made, **others)


def sheet_of(*rows, **others):
    made = CamSheet(
        study="skin",
        columns=(CamColumn("LMF (α = 0.9, β = 1.1)", 12, 23), CamColumn("CCE", 3, 24)),
        rows=rows,
        left_out=0,
        rule="Test images were chosen by a rule.",
        explains="predicted",
        layer="bn2",
        places=(7, 8),
        model="tf_efficientnet_lite0",
        size=224,
        versions={"torch": "2.6", "captum": "0.9"},
        remarks=(),
    )
    return replace(made, **others)


ROW = CamRow("ISIC_1", "only LMF right", "MEL", b"image", (), (cell(), cell("NV", picture=b"other")))


@pytest.fixture
def page():
    return Reader(cams_html(sheet_of(ROW)))


def test_each_picture_is_in_the_page_in_the_order_of_the_columns(page):
    pictures = [base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,")) for image in page.images]
    assert pictures == [b"image", b"map", b"other"]
    assert {(image["width"], image["height"]) for image in page.images} == {("224", "224")}
    assert page.depth == []


def test_captions_say_in_words_what_is_right_and_what_is_wrong(page):
    assert page.captions == [
        "MEL (true class)\nISIC_1",
        "LMF (α = 0.9, β = 1.1)\n✓ right: MEL, 93.1 %",
        "CCE\n✗ wrong: NV, 93.1 %\ntrue class: 4.0 %",
    ]
    assert "1. MEL: only LMF right" in page.text


def test_alternative_texts_tell_what_is_to_be_seen(page):
    assert [image["alt"] for image in page.images] == [
        "Test image 1 of the class MEL.",
        "The same image under the map of LMF (α = 0.9, β = 1.1) for the class MEL; right.",
        "The same image under the map of CCE for the class NV; wrong.",
    ]


def test_how_it_was_made_is_told(page):
    assert "Test images were chosen by a rule." in page.text
    assert "Grad-CAM of the layer bn2 of tf_efficientnet_lite0 (7 x 8 places, enlarged)" in page.text
    assert "with torch 2.6, captum 0.9." in page.text
    assert "LMF (α = 0.9, β = 1.1): trial 12, seed 23; CCE: trial 3, seed 24." in page.text
    assert "Each map explains the class that the model predicts" in page.text
    assert "Green frames" not in page.text


def test_boxes_the_explained_class_and_empty_maps_are_told():
    row = replace(
        ROW,
        boxes=(Box(0, 0, 1, 1, "net"), Box(0, 0, 0.5, 0.5, "net"), Box(0, 0, 0.5, 0.5)),
        cells=(cell(explained="MEL", is_empty=True), cell("NV", explained="MEL")),
    )
    page = Reader(cams_html(sheet_of(row, explains="true")))
    assert page.captions[0] == "MEL (true class); 3 frames (net)\nISIC_1"
    assert page.captions[1].endswith("map for MEL\nnothing in the layer speaks for MEL")
    assert page.captions[2].endswith("true class: 4.0 %\nmap for MEL")
    assert "Green frames are boxes that were drawn by hand." in page.text
    assert "Each map explains the image's own class" in page.text


def test_remarks_and_what_is_left_out_are_told():
    page = Reader(cams_html(sheet_of(ROW, left_out=2, remarks=("no trial of CCE is complete yet",))))
    assert ("p", {"class": "warn"}) in page.elements
    assert "No trial of CCE is complete yet." in page.text
    assert "2 images of 3 left out here" in page.text


def test_whatever_names_hold_is_text():
    row = CamRow(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        b"x",
        (Box(0, 0, 1, 1, HOSTILE),),
        (cell(HOSTILE, HOSTILE, is_empty=True), cell(HOSTILE)),
    )
    column = CamColumn(HOSTILE, 1, 1)
    sheet = sheet_of(
        row,
        columns=(column, column),
        rule=HOSTILE,
        layer=HOSTILE,
        model=HOSTILE,
        explains="true",
        versions={HOSTILE: HOSTILE},
        remarks=(HOSTILE,),
    )
    html = cams_html(sheet)
    page = Reader(html)
    assert {tag for tag, _ in page.elements} == {"p", "div", "h4", "figure", "img", "figcaption", "b", "br"}
    names = {name for _, attributes in page.elements for name in attributes}
    assert names == {"class", "style", "width", "height", "src", "alt"}
    assert len(page.images) == 3
    assert page.captions[0].count(HOSTILE) == 3
    assert not re.search(r"<script", html)


def test_a_picture_is_written_as_a_page_can_hold_it():
    assert as_data_uri(b"\xff\xd8\xff") == "data:image/jpeg;base64,/9j/"
