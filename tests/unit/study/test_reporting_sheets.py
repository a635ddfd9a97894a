from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from study.reporting.rows import SCORES
from study.reporting.sheets import sheets


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def data(records):
    points = [
        records.point(1.0, 1.0, 0.5, 0.4),
        records.point(1.0, 0.5, 0.8, 0.3, lost_attempts=1, lost_epochs=2),
        records.point(0.5, 0.5, state="failed", message='said "no",\nthen x://ann:cret@db'),
    ]
    return records.data(records.study(points))


def test_settings_have_a_row_a_split(data):
    rows = read(sheets([data])["settings"])
    assert [(row["setting"], row["paper_setting"], row["split"]) for row in rows] == [
        (name, number, split)
        for name, number in (("joint", "1"), ("beta", "2"), ("alpha", "3"))
        for split in ("val", "test")
    ]
    beta = rows[2]
    assert float(beta["mean_macro_f1"]) == pytest.approx(0.65)
    assert float(beta["average_deviation"]) == pytest.approx(0.15)
    assert (beta["points"], beta["planned_points"], beta["best_alpha"], beta["best_beta"]) == ("2", "2", "1.0", "0.5")
    assert (rows[0]["points"], rows[0]["planned_points"]) == ("1", "2")


def test_points_have_all_scores_as_fractions(data):
    rows = read(sheets([data])["points"])
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert (rows[1]["val_macro_f1"], rows[1]["test_macro_f1"], rows[1]["test_macro_auc"]) == ("0.8", "0.3", "0.9")
    assert (rows[1]["val_mcc"], rows[1]["test_kappa"], rows[1]["test_macro_average_precision"]) == (
        "0.41",
        "0.4",
        "0.85",
    )
    assert (rows[1]["test_sensitivity_at_specificity"], rows[1]["specificity"]) == ("0.55", "0.95")
    assert {f"{split}_{name}" for split in ("val", "test") for name in SCORES} <= set(rows[1])
    assert (rows[2]["test_mcc"], rows[2]["specificity"]) == ("", "")
    assert (rows[0]["settings"], rows[0]["epochs"], rows[0]["seconds"]) == ("joint beta alpha", "2", "20.0")
    assert (rows[1]["lost_attempts"], rows[1]["lost_epochs"]) == ("1", "2")
    assert (rows[2]["state"], rows[2]["val_macro_f1"]) == ("failed", "")
    assert rows[2]["message"] == 'said "no",\nthen x://***@db'


def test_epochs_and_classes_name_their_point(data):
    tables = sheets([data])
    epochs = read(tables["epochs"])
    assert [(row["trial"], row["epoch"]) for row in epochs] == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")]
    assert (epochs[1]["train_loss"], epochs[1]["val_loss"], epochs[1]["lr"]) == ("2.0", "2.5", "0.0001")
    assert (epochs[1]["val_macro_f1"], epochs[1]["val_macro_auc"], epochs[1]["ldam"]) == ("0.5", "", "1.75")
    assert (epochs[1]["val_mcc"], epochs[1]["val_sensitivity_at_specificity"]) == ("0.41", "0.55")
    classes = read(tables["classes"])
    assert len(classes) == 2 * 2 * 2
    assert [classes[3][name] for name in ("split", "class", "images", "predicted", "right", "f1")] == [
        "test",
        "MEL",
        "4",
        "3",
        "2",
        "0.4",
    ]
    against_rest = ("auc", "average_precision", "sensitivity_at_specificity", "specificity")
    assert [classes[3][name] for name in against_rest] == ["0.88", "0.77", "0.35", "0.95"]


def test_points_of_an_older_version_have_empty_cells_for_newer_scores(records):
    tables = sheets([records.data(records.study([records.point(val=records.older_scores(), test=0.5)]))])
    (point,) = read(tables["points"])
    assert [point[f"val_{name}"] for name in ("macro_auc", "mcc", "kappa")] == ["0.9", "", ""]
    assert [row["auc"] for row in read(tables["classes"])] == ["", "", "0.92", "0.88"]


@pytest.mark.parametrize("name", ["settings", "points", "epochs", "classes"])
def test_every_row_with_scores_says_how_many_groups_leak(data, leaks, name):
    def leaking(entries):
        study = replace(data.study, leakage=entries)
        rows = read(sheets([replace(data, study=study)])[name])
        assert list(rows[0])[-2:] == ["leaking_val_groups", "leaking_test_groups"]
        return {(row["leaking_val_groups"], row["leaking_test_groups"]) for row in rows}

    assert leaking(()) == {("", "")}
    assert leaking((leaks("lesion"),)) == {("0", "0")}
    assert leaking((leaks("lesion"), leaks("patient", 1200, val=7))) == {("7", "1200")}


def test_several_studies_share_a_table_and_are_told_apart(data, records):
    other = replace(data, study=replace(data.study, name="other"))
    for rows in map(read, sheets([data, other]).values()):
        assert {row["study"] for row in rows} == {"skin-small", "other"}


def test_a_study_without_points_gives_headers_only(records):
    tables = sheets([records.data(records.study())])
    assert all(text.count("\n") == 1 for text in tables.values())
    assert list(tables) == ["settings", "points", "epochs", "classes"]


def test_text_that_a_spreadsheet_would_compute_is_defused_and_numbers_are_not(records):
    scores = records.scores(0.5, mcc=-0.25)
    point = records.point(1.0, 1.0, scores, 0.5, message='=HYPERLINK("http://x")')
    study = records.study([point], name="+study", class_names=("@NV", "MEL"))
    tables = {name: read(text) for name, text in sheets([records.data(study)]).items()}
    assert {row["study"] for rows in tables.values() for row in rows} == {"'+study"}
    assert [row["class"] for row in tables["classes"][:2]] == ["'@NV", "MEL"]
    assert tables["points"][0]["message"] == '\'=HYPERLINK("http://x")'
    assert tables["points"][0]["val_mcc"] == "-0.25"
