from __future__ import annotations

import json
import re

import pytest

from study.reporting import figures
from study.reporting.assets import DARK, LIGHT
from study.reporting.rows import ClassCount, class_counts
from study.reporting.statistics import summarize


@pytest.fixture
def study(records):
    return records.study(
        [
            records.point(1.0, 1.0, 0.50, 0.40),
            records.point(0.5, 0.5, 0.60, 0.70),
            records.point(1.0, 0.5, 0.80, 0.30),
            records.point(0.5, 1.0, 0.70, 0.60),
        ]
    )


def traces(picture):
    return {trace["name"]: trace for trace in json.loads(picture.figure.to_json())["data"]}


def test_fig4_shows_mean_and_average_deviation_in_percent(study):
    shown = traces(figures.setting_means(summarize(study)))
    test = shown["test: mean ± average deviation"]
    assert test["y"] == [55.0, 35.0, 50.0]
    assert test["error_y"]["array"] == [15.0, 5.0, 10.0]
    assert shown["validation: mean ± average deviation"]["y"] == [55.0, 65.0, 60.0]
    assert sorted(shown["test: single points"]["y"]) == [30.0, 40.0, 40.0, 40.0, 60.0, 70.0]


def test_fig4_puts_test_and_validation_of_a_setting_beside_each_other(study):
    shown = traces(figures.setting_means(summarize(study)))
    for name in ("test: mean ± average deviation", "validation: mean ± average deviation", "test: single points"):
        assert {round(x) for x in shown[name]["x"]} == {0, 1, 2}
    places = [tuple(trace["x"]) for trace in shown.values()]
    assert len(set(places)) == len(places)


def test_fig4_names_settings_as_we_and_the_paper_do(study):
    labels = json.loads(figures.setting_means(summarize(study)).figure.to_json())["layout"]["xaxis"]["ticktext"]
    assert labels == ["joint<br>α = β<br>setting 1", "beta<br>α = 1<br>setting 2", "alpha<br>β = 1<br>setting 3"]


def test_fig4_leaves_out_a_setting_without_a_complete_point(records):
    study = records.study([records.point(1.0, 0.5, 0.8), records.point(0.5, 1.0)])
    shown = traces(figures.setting_means(summarize(study)))
    assert shown["test: mean ± average deviation"]["x"] == [-0.2]


def test_single_points_lie_at_the_value_that_varies(study):
    shown = traces(figures.points_by_value(summarize(study), "val"))
    assert shown["beta (α = 1)"]["x"] == [0.5, 1.0]
    assert shown["beta (α = 1)"]["y"] == [80.0, 50.0]
    assert shown["alpha (β = 1)"]["y"] == [70.0, 50.0]
    assert shown["joint (α = β)"]["y"] == [60.0, 50.0]
    assert not shown["joint (α = β)"]["error_y"]["visible"]


def test_several_seeds_show_as_bars(records):
    study = records.study([records.point(1.0, 0.5, 0.6, seed=1), records.point(1.0, 0.5, 0.8, seed=2)])
    (trace,) = traces(figures.points_by_value(summarize(study), "val")).values()
    assert trace["y"] == [70.0]
    assert trace["error_y"]["array"] == [10.0]
    assert trace["error_y"]["visible"]


def test_classes_are_bars_in_class_order_stacked_by_part(records):
    study = records.study(counts={"train": (70, 7), "val": (15, 1), "test": (15, 2)})
    picture = figures.class_distribution("skin", class_counts(study))
    figure = json.loads(picture.figure.to_json())
    shown = traces(picture)
    assert picture.title == "skin, imbalance ratio 10.0"
    assert figure["layout"]["barmode"] == "stack"
    bars = [trace for trace in figure["data"] if trace["type"] == "bar"]
    assert [(bar["name"], bar["x"], bar["y"]) for bar in bars] == [
        ("training", ["NV", "MEL"], [70, 7]),
        ("validation", ["NV", "MEL"], [15, 1]),
        ("test", ["NV", "MEL"], [15, 2]),
    ]
    assert shown["test"]["hovertext"][1] == "MEL<br>test: 2 (20.00 % of the class)<br>in all: 10 (9.09 % of the images)"
    (text,) = (trace for trace in figure["data"] if trace["type"] == "scatter")
    assert (text["text"], text["y"]) == (["100", "10"], [100, 10])


def test_classes_without_a_split_are_one_bar_each(records):
    rows = [ClassCount("a", None, None, None, 1200), ClassCount("b", None, None, None, 4)]
    bars = [trace for trace in traces(figures.class_distribution("x", rows)).values() if trace["type"] == "bar"]
    assert [(bar["name"], bar["y"]) for bar in bars] == [("total", [1200, 4])]
    assert bars[0]["hovertext"] == [
        "a<br>in all: 1,200 (99.67 % of the images)",
        "b<br>in all: 4 (0.33 % of the images)",
    ]


def test_classes_of_any_name_and_size_can_be_shown():
    rows = [ClassCount(name, 0, 0, 0) for name in ("1", "var(--test)", "<b>&\"it's")]
    picture = figures.class_distribution("x", rows)
    figure = json.loads(picture.figure.to_json())
    assert figure["layout"]["xaxis"]["type"] == "category"
    assert figure["data"][0]["x"] == ["1", "var&#40;--test)", "&lt;b&gt;&amp;\"it's"]
    assert picture.title == "x, no image of 1, var(--test), <b>&\"it's"
    assert figures.class_distribution("x", []).title == "x, no class"
    many = [ClassCount(str(number), 3, 1, 1) for number in range(21)]
    assert {trace["type"] for trace in traces(figures.class_distribution("x", many)).values()} == {"bar"}


def test_every_colour_is_in_both_palettes(study):
    summary = summarize(study)
    pictures = [
        figures.setting_means(summary),
        figures.points_by_value(summary, "test"),
        figures.class_distribution("skin", class_counts(study)),
        figures.class_distribution("skin", [ClassCount("a", None, None, None, 3)]),
    ]
    named = set(re.findall(r"var\(--(\w+)\)", "".join(picture.figure.to_json() for picture in pictures)))
    assert {"text", "test", "val", "joint", "beta", "alpha", "muted", "accent"} <= named
    assert named <= set(LIGHT)
    assert set(LIGHT) == set(DARK)
