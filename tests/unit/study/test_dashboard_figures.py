from __future__ import annotations

import json
from dataclasses import replace

import pytest

from study.dashboard import figures
from study.dashboard.figures import GROUNDS, PALETTE, figure_place, study_figures
from study.reporting.assets import LIGHT

ALL = [
    *("settings", "plane", "ratio-spread-val", "points-test", "points-val", "choice"),
    *("gradient-shares", "half-ranges", "halves", "curves", "losses", "classes", "class-f1", "confusion-1"),
]


@pytest.fixture
def data(records):
    points = [records.point(1.0, beta, beta / 3, beta / 4) for beta in (0.5, 1.0, 1.5)]
    return records.data(records.study([*points, records.point(1.0, 2.0)]))


def contrast(one: str, other: str) -> float:
    """Contrast by WCAG 2, from 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_all_figures_of_the_report_are_there_in_its_order(data):
    drawn = study_figures(data.study, data.epochs)
    assert list(drawn) == [f"lmf-{name}" for name in ALL]
    assert sorted(reversed(drawn), key=figure_place) == list(drawn)
    assert max(map(figure_place, drawn)) < figure_place("somebody's own") < figure_place("the last")


def test_fig_4_says_what_it_is_and_how_much_of_the_study_it_is_of(data):
    figure = study_figures(data.study, data.epochs)["lmf-settings"]
    assert figure.layout.title.text.startswith("Fig 4: mean macro F1 of each setting")
    assert "3 of 4 points complete" in figure.layout.title.text
    means = next(trace for trace in figure.data if trace.name == "test: mean ± average deviation")
    # Of the settings joint and beta: (1, 1) alone is joint, all three are beta, and (1, 1) is alpha as well.
    assert list(means.y) == [25.0, 25.0, 25.0]


def test_figures_stand_for_themselves_and_are_as_large_as_their_place(data):
    for figure in study_figures(data.study, data.epochs).values():
        text = figure.to_json()
        assert "var(--" not in text
        assert "://" not in text
        assert figure.layout.title.text
        assert figure.layout.height is None
        assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("ground", GROUNDS)
def test_every_colour_can_be_read_on_light_and_dark(ground):
    assert PALETTE.keys() >= LIGHT.keys() - {"back", "mark", "warn"}
    for name, color in PALETTE.items():
        if name != "surface" and color.startswith("#"):
            assert contrast(color, ground) > 3.8, name
    assert contrast(PALETTE["surface"], figures._HOVER_TEXT) > 7


def test_leaks_are_named_with_scores(data, leaks):
    study = replace(data.study, leakage=(leaks("lesion", 5),))
    drawn = study_figures(study, data.epochs)
    named = [name for name in drawn if "5 lesions leak" in drawn[name].layout.title.text]
    assert named == [f"lmf-{name}" for name in ALL if name != "classes"]


def test_names_of_users_are_no_markup_and_no_colour(records):
    hostile = 'var(--text)<a href="https://evil.example">x</a>'
    counts = {"train": (3, 0), "val": (1, 0), "test": (1, 0)}
    study = records.study([records.point(1.0, 1.0, 0.5)], class_names=("NV", hostile), counts=counts)
    figure = study_figures(study, records.data(study).epochs)["lmf-classes"]
    assert "<a href" not in figure.to_json()
    assert "&lt;a href" in figure.layout.title.text


def test_before_anything_is_trained_there_are_the_classes_alone(records):
    study = records.study([records.point(1.0, 1.0)])
    assert list(study_figures(study, ())) == ["lmf-classes"]


def test_many_learning_curves_are_thinned_but_not_the_best_one(records, monkeypatch):
    monkeypatch.setattr(figures, "MOST_EPOCHS", 20)
    points = [records.point(1.0, 0.5 + number / 10, 0.5 + number / 100) for number in range(5)]
    study = records.study(points)
    epochs = [records.epoch(point, number) for point in points for number in range(1, 31)]
    others, best = study_figures(study, epochs)["lmf-curves"].data
    assert list(best.x) == [*range(1, 31), None]
    assert list(others.x) == [*([1, 6, 12, 18, 24, 30, None] * 4)]


def test_figures_are_written_as_plain_numbers(data):
    curve = json.loads(study_figures(data.study, data.epochs)["lmf-losses"].to_json())["data"][0]
    assert curve["x"] == [1, 2]
    assert curve["y"] == [4.0, 2.0]
