from __future__ import annotations

import csv

import pytest

from study.paper import names, reading
from study.paper.published import METRICS, class_scores, factors, published, scores, split_sizes
from study.settings import SETTINGS
from trainer.config import ALIASES, LOSS_NAMES
from trainer.data.sets import covid19_radiography, ham10000, isic2019, odir5k

TITLES = {title: name for name, title in names.DATASETS.items()} | {
    "ODIR": "odir5k",
    "HAM": "ham10000",
    "ISIC": "isic2019",
}
CLASSES = {"Covid": "COVID", "LO": "Lung_Opacity", "VP": "Viral Pneumonia"}


@pytest.fixture(scope="session")
def printed(test_data):
    """Reads a table of the paper as it was published."""

    def read(name):
        with (test_data / "paper" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read


def percent(value):
    return f"{100 * value:.2f}"


def test_split_sizes_are_those_of_table_1(printed):
    rows = printed("table1")
    assert len(rows) == len(published().splits) == 4
    for row in rows:
        own = split_sizes(TITLES[row["dataset"]])
        assert [str(own.train), str(own.val), str(own.test)] == [row["train"], row["val"], row["test"]]


def test_scores_are_those_of_tables_2_to_4(printed):
    rows = printed("tables2-4")
    assert len(rows) == len(published().scores) == 60
    for row in rows:
        own = scores(TITLES[row["dataset"]], row["model"])[row["loss"].lower()]
        assert [percent(own.get(name)) for name in METRICS] == [row[name] for name in METRICS]
        assert names.SCORE_TABLES[row["model"]] == int(row["table"])


def test_class_scores_are_those_of_table_5(printed):
    rows = printed("table5")
    assert len(rows) == len(published().classes) == 27
    for row in rows:
        name = CLASSES.get(row["class"], row["class"])
        own = class_scores(TITLES[row["dataset"]], "efficientnetv2")[name]
        assert own.train == int(row["train_samples"])
        assert {loss: percent(own.f1[loss]) for loss in names.LOSSES} == {loss: row[loss] for loss in names.LOSSES}
        assert names.class_name(name) == row["class"]


def test_factors_are_those_of_table_6(printed):
    rows = printed("table6")
    assert len(rows) == len(published().factors) == 12
    for row in rows:
        own = factors(TITLES[row["dataset"]], row["model"])
        assert (own.alpha, own.beta) == (float(row["alpha"]), float(row["beta"]))


def test_figures_that_the_text_repeats_are_in_it(test_data):
    text = (test_data / "paper" / "lmfloss-paper.txt").read_text(encoding="utf-8")
    running = " ".join(line for line in text.splitlines() if "\t" not in line)
    for quoted in published().quoted:
        figure = percent(quoted.value).removesuffix(".00") if quoted.loss else f"{quoted.value:.0f}"
        assert figure in running, quoted


def test_a_model_is_known_by_short_and_full_name_whatever_its_weights():
    assert set(ALIASES) == set(names.MODELS) == set(names.ARCHITECTURES.values())
    for short, full in ALIASES.items():
        assert names.paper_model(short) == names.paper_model(full) == short
        assert names.paper_model(f"hf-hub:timm/{full}") == names.paper_model(f"timm/{full}") == short
        assert names.paper_model(full.partition(".")[0]) == short
    assert names.paper_model("resnet50.a1_in1k") == "resnet50"
    for other in ("resnet18", "resnet50d.ra2_in1k", "tf_efficientnetv2_m", "efficientnet", ""):
        assert names.paper_model(other) is None
    assert names.model_name("resnet50.tv2_in1k") == "ResNet-50"
    assert names.model_name("resnet18") == "resnet18"
    assert scores("ham10000", "resnet50.tv2_in1k") == scores("ham10000", "resnet50") != {}


def test_datasets_and_classes_bear_the_names_that_they_have_here():
    sets = (odir5k, ham10000, isic2019, covid19_radiography)
    assert [one.SOURCE.name for one in sets] == list(names.DATASETS)
    classes = [odir5k.CODES, *(one.CLASSES for one in sets[1:])]
    assert {one.SOURCE.name: tuple(sorted(own)) for one, own in zip(sets, classes, strict=True)} == {
        title: tuple(sorted(classes)) for title, classes in names.CLASSES.items()
    }
    assert {*names.LOSSES, *names.OTHER_LOSSES} == set(LOSS_NAMES)
    assert names.loss_name("bwcce") == "BWCCE"
    assert names.loss_name("mine") == "mine"


def test_a_folder_that_only_bears_the_title_is_not_the_papers_dataset():
    assert names.paper_dataset("ham10000") == "ham10000"
    assert names.paper_dataset("ham10000", reversed(names.CLASSES["ham10000"])) == "ham10000"
    assert names.paper_dataset("ham10000", ("NV", "MEL")) is None
    assert names.paper_dataset("skin") is None


def test_what_the_paper_does_not_have_is_not_found():
    assert split_sizes("skin") is None
    assert scores("skin", "resnet50") == scores("ham10000", "resnet18") == {}
    assert class_scores("ham10000", "resnet50") == {}
    assert factors("ham10000", "resnet18") is None
    assert list(scores("ham10000", "resnet50")) == list(names.LOSSES)
    assert list(class_scores("odir5k", "tf_efficientnetv2_s.in1k")) == list(names.CLASSES["odir5k"])


def test_the_reading_of_figure_4_is_set_beside_ones_own():
    fig = reading.FIG_4
    assert sorted((fig.best_mean, fig.worst_mean, fig.least_deviation)) == sorted(SETTINGS)
    assert reading.is_figure_4("ham10000", "tf_efficientnetv2_s.in1k")
    assert not reading.is_figure_4("ham10000", "resnet50")
    assert not reading.is_figure_4("isic2019", "efficientnetv2")
    same, other = reading.setting_agreement("beta", "joint", None)
    assert same.text == "Setting 2 (α = 1) has the highest mean in the paper, and here too."
    assert other.text == "Setting 3 (β = 1) has the lowest mean in the paper, Setting 1 (α = β) here."


def test_facts_that_count_something_count_right():
    rows = published().factors
    assert sum(row.alpha == 1.0 for row in rows) == 11
    assert "11 of 12 have α = 1" in reading.FACTORS_FACTS[0].text
    assert sum(row.beta in (0.5, 2.0) for row in rows) == 6
    assert "6 of the 12" in reading.FACTORS_FACTS[1].text
