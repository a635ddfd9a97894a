from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from lmf_testing.stored import store_study

from storage import schema
from storage.database import Database
from study.cli.export import export_command
from study.cli.report import report_command
from study.errors import StudyError
from study.reporting.static_files import MissingBrowserError


@pytest.fixture
def home(records, leaks, tmp_path, monkeypatch):
    """A home with two studies, one with a complete point and one without."""
    for name in ("LMF_STORAGE", "LMF_STORAGE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMF_HOME", str(tmp_path))
    database = Database.open(f"sqlite:///{tmp_path / 'lmf.db'}")
    points = [records.point(1.0, 0.5, 0.7, 0.6), records.point(1.0, 0.6, 0.5, 0.8)]
    done = records.study(points, leakage=(leaks("lesion", 813),))
    begun = records.study([records.point(1.0, 0.5)], name="begun")
    with database.begin() as connection:
        for number, study in enumerate((done, begun), start=1):
            store_study(connection, study, number)
    database.close()
    return tmp_path


def call(command, *arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_report_writes_one_file_of_all_studies_and_says_where(home):
    done = call(report_command)
    path = home / "reports" / "skin-small+begun.html"
    assert done.stdout == f"{path}\n"
    text = path.read_text(encoding="utf-8")
    assert "2 of 2 points complete." in text
    assert "0 of 1 point complete" in text
    assert "Test scores are too good: 813 lesions are in training and in test" in text
    assert "Nothing is known of lesions or patients" in text
    assert str(home) not in text
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_report_of_one_study_to_a_chosen_file_with_its_rows(home):
    done = call(report_command, "skin-small", "--csv", "--output", str(home / "mine" / "fig4.html"))
    paths = done.stdout.splitlines()
    assert paths[0] == str(home / "mine" / "fig4.html")
    assert sorted(paths) == sorted(str(path) for path in (home / "mine").iterdir())
    with (home / "mine" / "fig4-points.csv").open(encoding="utf-8", newline="") as file:
        assert [row["val_macro_f1"] for row in csv.DictReader(file)] == ["0.7", "0.5"]
    assert not (home / "reports").exists()


def test_report_and_export_refuse_what_is_not_there(home, tmp_path_factory, monkeypatch):
    for command in (report_command, export_command):
        with pytest.raises(StudyError, match="no study named nope; studies here: skin-small, begun"):
            call(command, "nope")
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setenv("LMF_HOME", str(empty))
    Database.open(f"sqlite:///{empty / 'lmf.db'}").close()
    with pytest.raises(StudyError, match="no study to report on yet"):
        call(report_command)
    assert json.loads(call(export_command).stdout) == {"studies": []}


def test_export_prints_one_document_of_the_studies_asked_for(home):
    document = json.loads(call(export_command).stdout)
    assert [study["study"] for study in document["studies"]] == ["skin-small", "begun"]
    assert document["studies"][0]["best"]["beta"] == 0.5
    assert document["studies"][0]["best"]["test_macro_f1"] == 0.6
    assert document["studies"][1]["best"] is None
    assert [len(study["leakage"]) for study in document["studies"]] == [1, 0]
    assert document["studies"][0]["leakage"][0]["leaking_groups"] == 813
    only = json.loads(call(export_command, "begun", "begun", "--json").stdout)
    assert only == {"studies": document["studies"][1:]}
    assert yaml.safe_load(call(export_command, "--yaml").stdout) == document


def test_export_to_a_file_leaves_stdout_empty(home):
    path = home / "out" / "best.yaml"
    done = call(export_command, "--yaml", "--output", str(path))
    assert done.stdout == ""
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == json.loads(call(export_command).stdout)


def test_export_gives_tables_too(home):
    sheet = list(csv.DictReader(io.StringIO(call(export_command, "--csv").stdout)))
    assert [(row["study"], row["beta"]) for row in sheet] == [("skin-small", "0.5"), ("begun", "")]
    latex = call(export_command, "--latex").stdout
    assert "\\toprule" in latex
    assert "\\label{tab:best-factors}" in latex
    path = home / "out" / "best.md"
    assert call(export_command, "skin-small", "--markdown", "--output", str(path)).stdout == ""
    assert "| dataset" in path.read_text(encoding="utf-8")


def test_static_writes_each_figure_and_table_beside_the_report(home):
    done = call(report_command, "skin-small", "--static")
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert paths[0] == home / "reports" / "skin-small.html"
    beside = home / "reports" / "skin-small-files"
    assert sorted(paths[1:]) == sorted(path for path in beside.rglob("*") if path.is_file())
    figures = {path.name for path in paths if path.parent == beside / "figures"}
    assert {
        f"study-1-{name}.{form}" for name in ("settings", "plane", "classes") for form in ("png", "svg", "pdf")
    } <= (figures)
    tables = {path.name: path.read_text(encoding="utf-8") for path in paths if path.parent == beside / "tables"}
    assert tables["study-1-settings.csv"].splitlines()[0].startswith("in the paper,setting,fixed,points,")
    assert r"\toprule" in tables["study-1-settings.tex"]
    assert r"\label{tab:study-1-settings}" in tables["study-1-settings.tex"]
    assert {name.partition(".")[0] for name in tables} >= {"study-1-best", "study-1-points", "study-1-recipe"}


def test_without_a_browser_the_rest_is_written_and_one_line_says_what_to_install(home, monkeypatch):
    def refuse(pictures, folder):
        raise MissingBrowserError("figures are drawn by a browser: install Chromium")

    monkeypatch.setattr("study.reporting.static_files.write_figures", refuse)
    done = call(report_command, "skin-small", "--static")
    assert done.exit_code == 0
    assert done.stderr == "lmf: figures are drawn by a browser: install Chromium\n"
    assert (home / "reports" / "skin-small-files" / "tables" / "study-1-settings.csv").is_file()
    assert not (home / "reports" / "skin-small-files" / "figures").exists()


def test_no_patient_data_reaches_the_page_or_its_rows(home):
    database = Database.open(f"sqlite:///{home / 'lmf.db'}")
    with database.begin() as connection:
        connection.execute(sa.update(schema.PointRow).values(message="ISIC_0024306.jpg is broken"))
    database.close()
    whole = call(report_command, "--csv")
    assert any("ISIC_0024306" in Path(line).read_text(encoding="utf-8") for line in whole.stdout.splitlines())
    private = call(report_command, "--csv", "--no-patient-data", "--output", str(home / "private.html"))
    assert not any("ISIC_0024306" in Path(line).read_text(encoding="utf-8") for line in private.stdout.splitlines())


def test_what_an_earlier_report_left_beside_it_is_private_as_well(home, monkeypatch):
    monkeypatch.setattr("study.reporting.static_files.draw_figures", lambda pictures: {})
    database = Database.open(f"sqlite:///{home / 'lmf.db'}")
    with database.begin() as connection:
        broken = sa.update(schema.PointRow).where(schema.PointRow.alpha == 1.0)
        connection.execute(broken.values(message="ISIC_0024306.jpg is broken"))
    database.close()
    output = ("--output", str(home / "mine" / "r.html"))
    call(report_command, "--csv", "--static", *output)
    own = home / "mine" / "r-files" / "tables" / "notes.csv"
    own.write_text("mine")
    files = [path for path in (home / "mine").rglob("*") if path.suffix in (".csv", ".tex", ".html")]
    assert any("ISIC_0024306" in path.read_text(encoding="utf-8") for path in files)
    call(report_command, "--no-patient-data", *output)
    files = [path for path in (home / "mine").rglob("*") if path.suffix in (".csv", ".tex", ".html")]
    assert not any("ISIC_0024306" in path.read_text(encoding="utf-8") for path in files)
    assert own.read_text() == "mine"


def test_tables_and_figures_of_studies_that_are_no_longer_in_it_are_removed(home, monkeypatch):
    monkeypatch.setattr(
        "study.reporting.static_files.draw_figures",
        lambda pictures: dict.fromkeys((f"{name}.png" for name in pictures), b"png"),
    )
    output = ("--static", "--output", str(home / "mine" / "r.html"))
    call(report_command, *output)
    assert any(path.name.startswith("study-2-") for path in (home / "mine").rglob("*.png"))
    call(report_command, "skin-small", *output)
    left = [path.name for path in (home / "mine" / "r-files").rglob("*") if path.is_file()]
    assert left
    assert not any(name.startswith("study-2-") for name in left)
