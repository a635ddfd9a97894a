from __future__ import annotations

import math

import pytest

from study.settings import (
    DEFAULT_GRID,
    SETTINGS,
    canonical_value,
    grid_problems,
    setting_points,
    settings_problems,
    value_text,
)


def test_default_grid_is_eleven_rising_values_with_those_the_paper_names() -> None:
    assert len(set(DEFAULT_GRID)) == 11
    assert list(DEFAULT_GRID) == sorted(DEFAULT_GRID)
    assert {0.5, 0.7, 1.0, 2.0} <= set(DEFAULT_GRID)
    assert grid_problems(DEFAULT_GRID) == []


def test_the_papers_33_points_are_31() -> None:
    points = setting_points(SETTINGS, DEFAULT_GRID)
    assert len({(point.alpha, point.beta) for point in points}) == len(points) == 31
    assert sum(len(point.settings) for point in points) == 33
    assert [point for point in points if len(point.settings) > 1] == [points[DEFAULT_GRID.index(1.0)]]
    assert points[DEFAULT_GRID.index(1.0)].settings == ("joint", "beta", "alpha")


def test_each_setting_holds_its_own_family() -> None:
    families = {name: setting_points([name], [0.5, 2.0]) for name in SETTINGS}
    pairs = {name: [(point.alpha, point.beta) for point in points] for name, points in families.items()}
    assert pairs == {
        "joint": [(0.5, 0.5), (2.0, 2.0)],
        "beta": [(1.0, 0.5), (1.0, 2.0)],
        "alpha": [(0.5, 1.0), (2.0, 1.0)],
    }
    assert all(point.settings == (name,) for name, points in families.items() for point in points)


def test_order_is_setting_by_setting_and_independent_of_the_arguments() -> None:
    points = setting_points(SETTINGS, [0.5, 1.0, 2.0])
    assert points == setting_points(["alpha", "beta", "joint"], [2.0, 0.5, 1.0])
    assert [(point.alpha, point.beta) for point in points] == [
        (0.5, 0.5),
        (1.0, 1.0),
        (2.0, 2.0),
        (1.0, 0.5),
        (1.0, 2.0),
        (0.5, 1.0),
        (2.0, 1.0),
    ]


def test_a_sum_with_a_rounding_error_is_the_value_it_stands_for() -> None:
    assert 0.7 + 0.1 != 0.8
    assert canonical_value(0.7 + 0.1) == 0.8
    assert setting_points(["joint"], [0.7 + 0.1]) == setting_points(["joint"], [0.8])


@pytest.mark.parametrize(
    ("value", "text"), [(0.50, "0.5"), (1.0, "1"), (1, "1"), (1.23456789, "1.23456789"), (0.7 + 0.1, "0.8")]
)
def test_value_text_is_canonical(value: float, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize("value", [0.49, 2.01, -1.0, math.nan, math.inf])
def test_values_outside_the_range_are_refused(value: float) -> None:
    assert grid_problems([1.0, value]) == [f"grid: {value_text(value)} is outside [0.5, 2.0]"]
    with pytest.raises(ValueError, match="is outside"):
        setting_points(SETTINGS, [1.0, value])


def test_both_ends_of_the_range_are_allowed() -> None:
    assert grid_problems([2.0, 0.5]) == []


def test_all_problems_of_a_grid_are_named() -> None:
    assert grid_problems([2.5, 0.1, 0.5, 0.50]) == [
        "grid: 2.5 is outside [0.5, 2.0]",
        "grid: 0.1 is outside [0.5, 2.0]",
        "grid: 0.5 is given 2 times",
    ]
    assert grid_problems([]) == ["grid: is empty; expected values within [0.5, 2.0]"]


def test_all_problems_of_settings_are_named() -> None:
    assert settings_problems(["joint", "gamma", "joint"]) == [
        "settings: 'gamma' is not one of joint, beta, alpha",
        "settings: joint is given 2 times",
    ]
    assert settings_problems([]) == ["settings: is empty; expected some of joint, beta, alpha"]
    with pytest.raises(ValueError, match="'gamma' is not one of"):
        setting_points(["gamma"], [1.0])
