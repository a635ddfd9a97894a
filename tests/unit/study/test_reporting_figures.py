from __future__ import annotations

import json
import re

import pytest

from study.reporting import figures
from study.reporting.assets import DARK, LIGHT
from study.reporting.rows import epoch_rows, point_rows
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


def epochs_of(records, study):
    return epoch_rows(point_rows(study), records.data(study).epochs)


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


def test_all_points_lie_on_one_axis_of_ratios(study):
    shown = traces(figures.points_by_ratio(summarize(study)))
    assert shown["validation"]["x"] == [0.5, 1.0, 1.0, 2.0]
    assert shown["validation"]["y"][0] == 80.0
    assert shown["test"]["y"][3] == 60.0


def test_learning_curves_have_gaps_between_points_and_the_best_apart(records, study):
    shown = traces(figures.score_curves(summarize(study), epochs_of(records, study)))
    assert shown["other points"]["x"] == [1, 2, None] * 3
    assert shown["other points"]["y"] == [50.0, 50.0, None] * 3
    assert shown["best: α 1.0, β 0.5, seed 23, trial 2"]["x"] == [1, 2, None]


def test_learning_curves_without_a_best_show_all_points(records):
    point = records.point(loss="<b>mine", alpha=None, beta=None, trial_number=None)
    study = records.study([point])
    rows = epoch_rows(point_rows(study), [records.epoch(point, 1)])
    (trace,) = traces(figures.score_curves(summarize(study), rows)).values()
    assert trace["name"] == "points"
    assert trace["text"][0].startswith("&lt;b&gt;mine, seed 23")


def test_losses_and_weighted_halves_of_the_best_trial(records, study):
    summary = summarize(study)
    best = figures.best_epochs(summary, epochs_of(records, study))
    assert [row.point.trial for row in best] == [2, 2]
    assert traces(figures.loss_curves(best))["training"]["y"] == [4.0, 2.0]
    assert traces(figures.loss_curves(best))["validation"]["y"] == [5.0, 2.5]
    halves = traces(figures.half_curves(best))
    assert halves["α · LDAM"]["y"] == [3.5, 1.75]
    assert halves["β · focal"]["y"] == [0.025, 0.0125]


def test_every_colour_is_in_both_palettes(records, study):
    summary, epochs = summarize(study), epochs_of(records, study)
    best = figures.best_epochs(summary, epochs)
    pictures = [
        figures.setting_means(summary),
        figures.points_by_value(summary, "test"),
        figures.points_by_ratio(summary),
        figures.score_curves(summary, epochs),
        figures.loss_curves(best),
        figures.half_curves(best),
    ]
    named = set(re.findall(r"var\(--(\w+)\)", "".join(picture.figure.to_json() for picture in pictures)))
    assert {"text", "test", "val", "joint", "beta", "alpha", "faint"} <= named
    assert named <= set(LIGHT)
    assert set(LIGHT) == set(DARK)
