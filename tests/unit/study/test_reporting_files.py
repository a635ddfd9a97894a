from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from study.errors import StudyError
from study.reporting.assets import LIGHT
from study.reporting.figures import class_distribution
from study.reporting.files import report_stem, write_figure, write_report, write_sheets, write_text
from study.reporting.rows import ClassCount


def test_a_report_and_its_sheets_lie_beside_each_other(records, tmp_path):
    data = records.data(records.study([records.point(val=0.5)]))
    path = tmp_path / "reports" / "skin.html"

    assert write_report([data], path) == path
    sheets = write_sheets([data], path)

    names = [f"skin-{name}.csv" for name in ("settings", "points", "epochs", "classes")]
    assert [sheet.name for sheet in sheets] == names
    assert sorted(os.listdir(path.parent)) == sorted([*names, "skin.html"])
    assert "skin-small" in path.read_text(encoding="utf-8")
    assert sheets[1].read_text(encoding="utf-8").startswith("study,trial,point,")


@pytest.mark.parametrize(
    ("names", "stem"),
    [(["ham-effnet"], "ham-effnet"), (["a", "b_2.x"], "a+b_2.x"), (["a", "a"], "a")],
)
def test_a_report_is_named_after_its_studies(names, stem):
    assert report_stem(names) == stem


@pytest.mark.parametrize("names", [["../../etc/passwd"], ["a/b"], ["a b"], [".."], ["é"], ["x" * 300], ["\udc80"]])
def test_a_name_unfit_for_a_file_is_cut_and_told_apart(names):
    stem = report_stem(names)
    assert "/" not in stem
    assert not stem.startswith(".")
    assert 8 <= len(stem) <= 120
    assert stem.isascii()
    assert stem != report_stem([names[0] + "!"])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_text(path, "old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StudyError, match=r"report\.html: cannot be written: No space left on device"):
        write_text(path, "new")
    assert os.listdir(tmp_path) == ["report.html"]
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_text(path, "new")
    assert path.read_text() == "new"


def test_what_cannot_be_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "report.html", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(StudyError, match="--output names another") as caught:
            write_text(path, "text")
        assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_text_that_utf8_cannot_hold_is_written_as_escapes(tmp_path):
    write_text(tmp_path / "a.html", "caf\u00e9 \udc80")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "caf\u00e9 \\udc80"


@pytest.fixture
def picture():
    return class_distribution("<b>skin", [ClassCount("NV", 70, 15, 15), ClassCount("var(--test)", 7, 2, 1)])


def stand_in(monkeypatch, draw):
    """Put something else in kaleido's place."""
    monkeypatch.setitem(sys.modules, "kaleido", SimpleNamespace(calc_fig_sync=draw))


def test_a_figure_is_a_page_of_its_own(picture, tmp_path):
    path = tmp_path / "new" / "classes.HTML"
    assert write_figure(picture, path) == path
    text = path.read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;skin, imbalance ratio 10.0</title>" in text
    assert text.count('class="plot"') == 1
    assert "default-src 'none'" in text
    assert [file.name for file in path.parent.iterdir()] == ["classes.HTML"]


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_a_still_image_is_drawn_in_light_colours_without_a_network(picture, tmp_path, monkeypatch, form):
    asked = []

    def draw(figure, opts, kopts):
        asked.append((figure, opts, kopts))
        return b"drawn"

    stand_in(monkeypatch, draw)
    path = write_figure(picture, tmp_path / f"classes.{form}")
    assert path.read_bytes() == b"drawn"
    ((figure, options, browser),) = asked
    assert options["format"] == form
    assert browser == {"mathjax": False}
    assert figure["layout"]["title"]["text"] == "&lt;b&gt;skin, imbalance ratio 10.0"
    assert figure["layout"]["paper_bgcolor"] == LIGHT["back"]
    assert figure["data"][0]["marker"]["color"] == LIGHT["muted"]
    assert figure["data"][0]["x"] == ["NV", "var&#40;--test)"]
    assert "var(--" not in json.dumps(figure)


def browser_that_ends(*_, **__):
    raise RuntimeError("The browser seemed to close\nimmediately")


@pytest.mark.parametrize("found", [None, SimpleNamespace(), SimpleNamespace(calc_fig_sync=browser_that_ends)])
def test_what_draws_still_images_is_named_where_it_is_missing(picture, tmp_path, monkeypatch, found):
    monkeypatch.setitem(sys.modules, "kaleido", found)
    with pytest.raises(StudyError) as caught:
        write_figure(picture, tmp_path / "classes.png")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'classes.png'}: a .png ")
    assert "`pip install kaleido`, and install Chromium or Chrome; a file that ends in .html needs neither" in said
    assert "\n" not in said
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["classes.jpg", "classes", "png"])
def test_a_figure_of_another_kind_is_refused(picture, tmp_path, name):
    with pytest.raises(StudyError, match=r"ends in \.html, \.png, \.svg, \.pdf; not in (\.jpg|nothing)$"):
        write_figure(picture, tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_figure_that_cannot_be_written_leaves_the_old_one(picture, tmp_path, monkeypatch):
    path = tmp_path / "classes.svg"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    stand_in(monkeypatch, lambda *_, **__: b"new")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(
        StudyError, match=r"classes\.svg: cannot be written: No space left on device; name another file"
    ):
        write_figure(picture, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["classes.svg"]


def test_kaleido_draws_what_it_is_given(picture, tmp_path):
    pytest.importorskip("kaleido", reason="needs kaleido (pip install kaleido)")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("needs Chromium or Chrome on the PATH (Debian: chromium)")
    text = write_figure(picture, tmp_path / "classes.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg")
    assert LIGHT["muted"] in text or "rgb(87, 96, 106)" in text
    assert "var(--test)" in text
    assert write_figure(picture, tmp_path / "classes.png").read_bytes().startswith(b"\x89PNG")
    assert write_figure(picture, tmp_path / "classes.pdf").read_bytes().startswith(b"%PDF")


def test_reports_and_exports_load_no_torch():
    code = (
        "import sys, study.reporting.files, study.reporting.page, study.reporting.sheets, study.export, "
        "study.cli.report, study.cli.export; print([m for m in ('torch', 'trainer', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
