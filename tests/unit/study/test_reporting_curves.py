from __future__ import annotations

import json
import re

import pytest

from study.reporting import curves
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


def test_learning_curves_have_gaps_between_points_and_the_best_apart(records, study):
    shown = traces(curves.score_curves(summarize(study), epochs_of(records, study)))
    assert shown["other points"]["x"] == [1, 2, None] * 3
    assert shown["other points"]["y"] == [50.0, 50.0, None] * 3
    assert shown["best: α 1.0, β 0.5, seed 23, trial 2"]["x"] == [1, 2, None]


def test_many_learning_curves_are_drawn_as_what_half_and_nine_tenths_of_them_lie_between(records, monkeypatch):
    monkeypatch.setattr(curves, "MOST_CURVES", 99)
    points = [records.point(1.0, 0.5 + number / 100, 0.5) for number in range(101)]
    best = records.point(2.0, 1.0, 0.9)
    study = records.study([*points, best])
    # Scores from 0 to 100 % in the first epoch; in the second, which half the points do not reach, to 50 % only.
    epochs = [records.epoch(point, 1, number / 100) for number, point in enumerate(points)]
    epochs += [records.epoch(point, 2, number / 100) for number, point in enumerate(points[:51])]
    epochs += [records.epoch(best, number, 0.9) for number in (1, 2)]
    picture = curves.score_curves(summarize(study), epoch_rows(point_rows(study), epochs))
    shown = traces(picture)
    assert list(shown) == [
        "9 of 10 other points",
        "half of the other points",
        "their median",
        "best: α 2.0, β 1.0, seed 23, trial 101",
    ]
    assert shown["9 of 10 other points"]["x"] == [1, 2, 2, 1]
    assert shown["9 of 10 other points"]["y"] == [5.0, 2.5, 47.5, 95.0]
    assert shown["half of the other points"]["y"] == [25.0, 12.5, 37.5, 75.0]
    assert shown["their median"]["y"] == [50.0, 25.0]
    assert shown["their median"]["text"][1].startswith("epoch 2, 51 points<br>median 25.00 %<br>half: 12.50 to 37.50 %")

    monkeypatch.setattr(curves, "MOST_CURVES", 101)
    assert "other points" in traces(curves.score_curves(summarize(study), epoch_rows(point_rows(study), epochs)))


def test_learning_curves_without_a_best_show_all_points(records):
    point = records.point(loss="<b>mine", alpha=None, beta=None, trial_number=None)
    study = records.study([point])
    rows = epoch_rows(point_rows(study), [records.epoch(point, 1)])
    (trace,) = traces(curves.score_curves(summarize(study), rows)).values()
    assert trace["name"] == "points"
    assert trace["text"][0].startswith("&lt;b&gt;mine, seed 23")


def test_losses_and_weighted_halves_of_the_best_trial(records, study):
    summary = summarize(study)
    best = curves.best_epochs(summary, epochs_of(records, study))
    assert [row.point.trial for row in best] == [2, 2]
    assert traces(curves.loss_curves(best))["training"]["y"] == [4.0, 2.0]
    assert traces(curves.loss_curves(best))["validation"]["y"] == [5.0, 2.5]
    halves = traces(curves.half_curves(best))
    assert halves["α · LDAM"]["y"] == [3.5, 1.75]
    assert halves["β · focal"]["y"] == [0.025, 0.0125]


def test_every_colour_is_in_both_palettes(records, study):
    summary, epochs = summarize(study), epochs_of(records, study)
    best = curves.best_epochs(summary, epochs)
    pictures = [curves.score_curves(summary, epochs), curves.loss_curves(best), curves.half_curves(best)]
    named = set(re.findall(r"var\(--(\w+)\)", "".join(picture.figure.to_json() for picture in pictures)))
    assert {"accent", "val", "beta", "faint"} <= named
    assert named <= set(LIGHT) & set(DARK)


def test_compared_losses_have_a_curve_each_of_their_mean_over_seeds(records):
    points = [
        records.point(*((1.0, 0.5) if loss == "lmf" else (None, None)), 0.5, loss=loss, seed=seed, settings=())
        for seed in (1, 2)
        for loss in ("cce", "lmf")
    ]
    study = records.study(points, spec={"losses": ["cce", "lmf"]})
    epochs = [
        records.epoch(point, number, score)
        for point, score in zip(points, (0.2, 0.5, 0.4, 0.7), strict=True)
        for number in (1, 2)
    ]
    summary = summarize(study)
    shown = traces(curves.curves_by_loss(summary, epoch_rows(summary.rows, epochs[:-1])))
    assert list(shown) == ["CCE", "LMF"]
    assert shown["CCE"]["y"] == [30.0, 30.0]
    # The second seed of LMF has one epoch so far.
    assert shown["LMF"]["y"] == [60.0, 50.0]
    assert shown["LMF"]["customdata"] == [2, 1]
    assert shown["CCE"]["line"]["dash"] != shown["LMF"]["line"]["dash"]
