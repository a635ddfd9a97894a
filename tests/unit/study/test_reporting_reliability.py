from __future__ import annotations

import numpy as np
import pytest
from lmf_testing.pictures import check_colours, layout, traces

from study.reporting.calibration import calibrate
from study.reporting.predictions import Predictions
from study.reporting.reliability import reliability_diagram, reliability_sentence


def predictions(split, sure, right, wrong):
    """So many images of two classes with the same confidence, of which so many are right."""
    probabilities = np.tile([sure, 1 - sure], (right + wrong, 1))
    return Predictions(split, np.array([0] * right + [1] * wrong), probabilities)


@pytest.fixture
def too_sure():
    return calibrate(predictions("val", 0.9, 60, 40), predictions("test", 0.9, 30, 20))


def test_accuracy_stands_over_confidence_with_the_error_in_the_legend(too_sure):
    shown = traces(reliability_diagram(too_sure))
    before = shown["as trained: ECE 30.00 %"]
    assert before["x"] == [pytest.approx(90, abs=0.5)]
    assert before["y"] == [60.0]
    # Wilson's interval of 30 of 50.
    assert before["error_y"]["array"] == [pytest.approx(72.39 - 60, abs=0.01)]
    assert before["error_y"]["arrayminus"] == [pytest.approx(60 - 46.18, abs=0.01)]
    # log 9 / log 1.5: what makes 0.9 of 0.6.
    after = shown["with temperature 5.42: ECE 0.00 %"]
    assert after["x"] == [pytest.approx(60, abs=0.5)]
    assert before["marker"]["symbol"] != after["marker"]["symbol"]
    assert shown["calibrated"]["x"] == shown["calibrated"]["y"] == [0, 100]


def test_the_histogram_below_has_all_images(too_sure):
    picture = reliability_diagram(too_sure)
    bars = [trace for trace in picture.figure.data if trace.type == "bar"]
    assert [sum(bar.y) for bar in bars] == [pytest.approx(100), pytest.approx(100)]
    assert all(bar.yaxis == "y2" for bar in bars)
    assert bars[0].y[13] == 100.0
    assert bars[0].x[13] == 90.0
    shown = layout(picture)
    assert shown["yaxis2"]["domain"][1] < shown["yaxis"]["domain"][0]
    assert shown["yaxis2"]["title"]["text"] == "images, %"
    assert shown["yaxis"]["title"]["text"] == "accuracy, %"
    check_colours(picture)


def test_calibration_in_words(too_sure):
    assert reliability_sentence(too_sure) == (
        "On test the mean confidence is 90.00 % and the accuracy 60.00 %: the model is too sure of itself; the "
        "expected calibration error is 30.00 %. The temperature that fits validation best, 5.42, lowers it (0.00 % "
        "with it)."
    )
    named = reliability_sentence(too_sure, of="the best trial, 4")
    assert named == f"The best trial, 4: on{reliability_sentence(too_sure).removeprefix('On')}"
    timid = calibrate(predictions("val", 0.6, 9, 1), predictions("test", 0.6, 9, 1))
    assert "accuracy 90.00 %: the model is right more often than it says" in reliability_sentence(timid)
    fine = calibrate(predictions("val", 0.8, 9, 1), predictions("test", 0.8, 8, 2))
    assert "within one percentage point of each other" in reliability_sentence(fine)
    assert "does not lower it (10.00 % with it)" in reliability_sentence(fine)
    unknown = calibrate(predictions("val", 0.8, 10, 0), predictions("test", 0.8, 8, 2))
    assert reliability_sentence(unknown).endswith("Validation has no best temperature, so none is applied.")
    assert list(traces(reliability_diagram(unknown))) == ["calibrated", "as trained: ECE 0.00 %"]
