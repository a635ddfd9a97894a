from __future__ import annotations

import os
import subprocess
import sys

import pytest

from study.errors import StudyError
from study.reporting.files import report_stem, write_report, write_sheets, write_text


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


def test_reports_and_exports_load_no_torch():
    code = (
        "import sys, study.reporting.files, study.reporting.page, study.reporting.sheets, study.export, "
        "study.cli.report, study.cli.export; print([m for m in ('torch', 'trainer', 'timm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
