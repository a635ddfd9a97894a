from __future__ import annotations

import json

import pytest
import yaml

from study.export import export_document, render


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
