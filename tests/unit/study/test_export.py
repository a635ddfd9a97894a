from __future__ import annotations

import csv
import io
import json
from statistics import stdev

import pytest
import yaml

from study.export import FORMATS, export_document, export_text, render


@pytest.fixture
def document(records):
    first = records.scores(0.60, f1_per_class=[0.9, 0.3], accuracy=0.8, precision=0.7, recall=0.6)
    second = records.scores(0.70, f1_per_class=[0.8, 0.6], accuracy=0.9, precision=0.5, recall=0.4)
    points = [
        records.point(1.0, 1.0, 0.50, 0.40, seed=23),
        records.point(1.0, 0.5, 0.80, first, seed=23),
        records.point(1.0, 0.5, 0.90, second, seed=24),
        records.point(0.5, 1.0, state="failed"),
    ]
    return export_document([records.study(points)])


def test_the_document_has_exactly_the_keys_that_scripts_expect(document):
    assert list(document) == ["studies"]
    (study,) = document["studies"]
    assert list(study) == ["study", "dataset", "model", "best", "settings", "leakage"]
    assert list(study["best"]) == [
        "alpha",
        "beta",
        "seeds",
        "trial",
        "val_macro_f1",
        "test_macro_f1",
        "test_accuracy",
        "test_precision",
        "test_recall",
        "test_f1_per_class",
    ]
    assert list(study["settings"]) == ["joint", "beta", "alpha"]
    for setting in study["settings"].values():
        assert list(setting) == ["points", "val", "test", "best"]
        assert list(setting["val"]) == list(setting["test"]) == ["mean", "average_deviation"]
        assert list(setting["best"]) == ["alpha", "beta"]


def test_the_best_is_the_mean_of_its_seeds_and_its_trial_the_best_seeds(document):
    (study,) = document["studies"]
    assert (study["study"], study["dataset"], study["model"]) == ("skin-small", "skin", "efficientnetv2")
    assert study["best"] == {
        "alpha": 1.0,
        "beta": 0.5,
        "seeds": [23, 24],
        "trial": 2,
        "val_macro_f1": pytest.approx(0.85),
        "test_macro_f1": pytest.approx(0.65),
        "test_accuracy": pytest.approx(0.85),
        "test_precision": pytest.approx(0.6),
        "test_recall": pytest.approx(0.5),
        "test_f1_per_class": {"NV": pytest.approx(0.85), "MEL": pytest.approx(0.45)},
    }


def test_each_setting_has_its_means(document):
    settings = document["studies"][0]["settings"]
    assert settings["beta"] == {
        "points": 2,
        "val": {"mean": pytest.approx(0.675), "average_deviation": pytest.approx(0.175)},
        "test": {"mean": pytest.approx(0.525), "average_deviation": pytest.approx(0.125)},
        "best": {"alpha": 1.0, "beta": 0.5},
    }
    assert settings["alpha"]["points"] == 1
    assert settings["alpha"]["test"] == {"mean": 0.4, "average_deviation": 0.0}


def test_a_study_with_no_complete_point(records):
    document = export_document([records.study([records.point(1.0, 0.5), records.point(1.0, 0.7, state="running")])])
    nothing = {"mean": None, "average_deviation": None}
    assert document["studies"][0]["best"] is None
    assert document["studies"][0]["settings"] == {"beta": {"points": 0, "val": nothing, "test": nothing, "best": None}}


def test_leaks_are_told_kind_by_kind(records, leaks):
    entries = (leaks("lesion", 5), leaks("patient"))
    document = export_document([records.study(leakage=entries), records.study(name="other")])
    assert [study["leakage"] for study in document["studies"]] == [list(entries), []]
    assert yaml.safe_load(render(document, "yaml")) == json.loads(render(document, "json")) == document


def test_no_study_and_several_studies(records):
    assert export_document([]) == {"studies": []}
    names = [records.study(name=name) for name in ("b", "a")]
    assert [study["study"] for study in export_document(names)["studies"]] == ["b", "a"]


def test_both_forms_say_the_same(document):
    text = render(document, "json")
    assert text.endswith("}\n")
    assert json.loads(text) == document
    assert yaml.safe_load(render(document, "yaml")) == document
    assert render(document, "yaml").startswith("studies:\n- study: skin-small\n")


def test_names_that_yaml_reads_otherwise_stay_text(records):
    study = records.study([records.point(val=0.5)], name="1e3", class_names=("no", "Né\u2028vus: x"))
    document = export_document([study])
    assert yaml.safe_load(render(document, "yaml")) == document
    assert json.loads(render(document, "json")) == document


@pytest.fixture
def compared(records):
    """A comparison of two losses with two seeds, one of which is still to come for LMF."""
    points = [
        records.point(None, None, 0.50, records.scores(0.40, accuracy=0.7), loss="cce", seed=23),
        records.point(None, None, 0.56, records.scores(0.44, accuracy=0.8), loss="cce", seed=24),
        records.point(1.0, 0.6, 0.70, records.scores(0.60, precision=0.5, recall=0.4), seed=23, settings=()),
        records.point(1.0, 0.6, seed=24, settings=()),
    ]
    spec = {"dataset": "skin", "recipe": {"select": "macro_f1", "epochs": 2}, "losses": ["lmf", "cce"]}
    return records.study(points, spec=spec, name="skin-compare")


def test_losses_that_were_compared_stand_at_the_end_of_their_study(compared, records):
    first, second = export_document([compared, records.study()])["studies"]
    assert list(first) == ["study", "dataset", "model", "best", "settings", "leakage", "losses"]
    assert list(second) == ["study", "dataset", "model", "best", "settings", "leakage"]
    lmf, cce = first["losses"]
    assert lmf == {
        "loss": "lmf",
        "alpha": 1.0,
        "beta": 0.6,
        "seeds": [23],
        "val_macro_f1": 0.70,
        "val_macro_f1_standard_deviation": None,
        "test_macro_f1": 0.60,
        "test_macro_f1_standard_deviation": None,
        "test_accuracy": 0.8,
        "test_precision": 0.5,
        "test_recall": 0.4,
    }
    assert list(cce) == list(lmf)
    assert (cce["loss"], cce["alpha"], cce["beta"], cce["seeds"]) == ("cce", None, None, [23, 24])
    assert cce["val_macro_f1"] == pytest.approx(0.53)
    assert cce["val_macro_f1_standard_deviation"] == pytest.approx(stdev((0.50, 0.56)))
    assert cce["test_macro_f1_standard_deviation"] == pytest.approx(stdev((0.40, 0.44)))
    assert cce["test_accuracy"] == pytest.approx(0.75)


def test_csv_has_a_row_a_study_or_a_loss(compared, records):
    tuned = records.study([records.point(1.0, 0.5, 0.8, 0.7, seed=23), records.point(1.0, 0.5, 0.9, 0.6, seed=24)])
    begun = records.study([records.point(1.0, 0.5)], name="begun", dataset="=cmd()")
    rows = list(csv.DictReader(io.StringIO(export_text([tuned, compared, begun], "csv"))))
    assert list(rows[0])[:7] == ["study", "dataset", "model", "loss", "alpha", "beta", "seeds"]
    assert [(row["study"], row["loss"], row["alpha"], row["seeds"]) for row in rows] == [
        ("skin-small", "lmf", "1.0", "23 24"),
        ("skin-compare", "lmf", "1.0", "23"),
        ("skin-compare", "cce", "", "23 24"),
        ("begun", "lmf", "", ""),
    ]
    assert float(rows[0]["test_macro_f1"]) == pytest.approx(0.65)
    assert float(rows[0]["test_macro_f1_standard_deviation"]) == pytest.approx(stdev((0.7, 0.6)))
    document = export_document([compared])["studies"][0]["losses"]
    for row, entry in zip(rows[1:3], document, strict=True):
        scores = [name for name in entry if name.startswith(("val", "test"))]
        assert [row[name] for name in scores] == ["" if entry[name] is None else str(entry[name]) for name in scores]
    assert rows[3]["dataset"] == "'=cmd()"
    assert rows[3]["val_macro_f1"] == rows[3]["test_recall"] == ""


def lines_of(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_latex_has_table_6_and_a_table_of_losses_a_model(compared, records):
    tuned = [
        records.study([records.point(1.0, 0.6, 0.8)], dataset="my_skin"),
        records.study([records.point(0.5, 1.0, 0.8)], dataset="my_skin", model="resnet50.tv2_in1k"),
    ]
    lines = lines_of(export_text([*tuned, compared], "latex"))
    assert "dataset & factor & EfficientNetV2 & ResNet-50 \\\\" in lines
    assert "my\\_skin & \\ensuremath{\\alpha} & 1.0 & 0.5 \\\\" in lines
    assert "my\\_skin & \\ensuremath{\\beta} & 0.6 & 1.0 \\\\" in lines
    assert lines.count("\\begin{table}[htbp]") == 2
    assert [line for line in lines if line.startswith("\\label")] == [
        "\\label{tab:best-factors}",
        "\\label{tab:losses-1}",
    ]
    assert "skin & LMF & \\textbf{80.00} & 50.00 & 40.00 & \\textbf{60.00} \\\\" in lines
    assert any(line.startswith("skin & CCE & 75.00 \\ensuremath{\\pm} 7.07 &") for line in lines)


def test_markdown_has_the_same_tables(compared, records):
    text = export_text([records.study([records.point(1.0, 0.6, 0.8)], dataset="a|b"), compared], "markdown")
    lines = lines_of(text)
    assert "| dataset | factor | EfficientNetV2 |" in lines
    assert "| a\\|b | β | 0.6 |" in lines
    assert "| skin | LMF | **80.00** | 50.00 | 40.00 | **60.00** |" in lines
    assert "± sample standard deviation" in text


def test_the_papers_figures_are_not_exported(records):
    classes = ("A", "C", "D", "G", "H", "M", "N", "O")
    scores = records.scores(f1_per_class=[0.5] * 8)
    study = records.study([records.point(1.0, 0.7, 0.8, scores)], dataset="odir5k", class_names=classes)
    for form in ("latex", "markdown"):
        text = export_text([study], form)
        assert "ODIR-5K" in text
        assert "0.7" in text
        assert "paper" not in text


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_ends_with_a_line_break_with_and_without_studies(form, document, records):
    study = records.study([records.point(1.0, 0.5)])
    for studies in ([], [study]):
        text = export_text(studies, form)
        assert text.endswith("\n")
        assert text.strip()
    if form in ("json", "yaml"):
        assert export_text([study], form) == render(export_document([study]), form)
