from __future__ import annotations

import pytest
from lmf_testing.pictures import HOSTILE

from study.reporting.marks import LONGEST_NAME, axis_name, beside, mark, name_angle, name_places
from study.reporting.picture import empty_figure


def test_eighteen_marks_differ_and_nine_do_so_without_colour():
    found = [mark(number) for number in range(18)]
    assert len({(one["symbol"], one["color"]) for one in found}) == 18
    assert len({one["symbol"] for one in found[:9]}) == 9


@pytest.mark.parametrize("of", [1, 2, 5, 9])
def test_marks_beside_each_other_keep_to_their_place(of):
    found = [beside(number, of) for number in range(of)]
    assert sum(found) == pytest.approx(0, abs=1e-3)
    assert len(set(found)) == of
    assert max(found) < 0.5


def test_names_lose_their_middle_and_their_markup():
    assert axis_name("Covid") == "Covid"
    assert axis_name("a" * LONGEST_NAME) == "a" * LONGEST_NAME
    assert axis_name("Lung opacity, not Covid") == "Lung opac…ot Covid"
    assert "<" not in axis_name(HOSTILE)
    assert "<" not in axis_name("<b>")


def test_names_are_turned_where_they_would_not_fit_beside_each_other():
    assert name_angle(["AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC"]) == 0
    assert name_angle(["Covid", "Lung opacity", "Normal", "Viral pneumonia"]) == -45
    assert name_angle(["x" * 200]) == 0
    assert name_angle([f"class {number}" for number in range(20)]) == -90
    figure = empty_figure("", "")
    name_places(figure, ["Covid", "Lung opacity", "Normal", "Viral pneumonia"])
    assert figure.layout.xaxis.tickangle == -45
    assert figure.layout.xaxis.tickvals == (0, 1, 2, 3)
