from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest

from study import values


@pytest.mark.parametrize(
    ("read", "given", "value"),
    [
        (values.whole_number, 3, 3),
        (values.whole_number, " 3 ", 3),
        (values.whole_number, "-1", -1),
        (values.number, 1, 1.0),
        (values.number, "1e-4", 1e-4),
        (values.text, " a ", "a"),
        (values.switch, False, False),
        (values.kept_weights, "all", "all"),
        (values.one_of(("tpe", "gp")), " gp ", "gp"),
        (values.kept_weights, "none", "none"),
        (values.kept_weights, "3", 3),
    ],
)
def test_values_are_read(read: Callable[[object], object], given: object, value: object) -> None:
    assert read(given) == value
    assert type(read(given)) is type(value)


@pytest.mark.parametrize(
    ("read", "given", "problem"),
    [
        (values.whole_number, 3.0, "3.0 is not a whole number"),
        (values.whole_number, True, "True is not a whole number"),
        (values.whole_number, "3.5", "'3.5' is not a whole number"),
        (values.whole_number, [3], r"\[3\] is not a whole number"),
        (values.number, "x", "'x' is not a finite number"),
        (values.number, "nan", "'nan' is not a finite number"),
        (values.number, float("inf"), "inf is not a finite number"),
        (values.number, 10**400, "is not a finite number"),
        (values.number, True, "True is not a finite number"),
        (values.number, datetime.date(2020, 1, 1), "is not a finite number"),
        (values.text, 3, "3 is not a text"),
        (values.text, " ", "' ' is not a text"),
        (values.switch, "yes", "'yes' is not true or false"),
        (values.switch, 1, "1 is not true or false"),
        (values.kept_weights, "some", "'some' is not a whole number, all or none"),
        (values.kept_weights, True, "True is not a whole number, all or none"),
    ],
)
def test_wrong_values_are_named(read: Callable[[object], object], given: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(given)


@pytest.mark.parametrize(
    ("given", "items"),
    [("0.5,1", ["0.5", "1"]), ([0.5, 1], [0.5, 1]), (0.5, [0.5]), ("a", ["a"]), ("", []), ([], []), ("1,", ["1", ""])],
)
def test_lists_are_taken_apart(given: object, items: list[object]) -> None:
    assert values.items(given) == items
