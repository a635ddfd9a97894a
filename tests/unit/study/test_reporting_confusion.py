from __future__ import annotations

import pytest
from lmf_testing.pictures import HOSTILE, check_colours, check_hostile, layout, marks, traces

from study.reporting.confusion import (
    MOST_CLASSES_WITH_NAMES,
    MOST_CLASSES_WITH_TEXT,
    confusion_matrix,
    confusion_sentence,
    mistakes,
)

NAMES = ("NV", "MEL", "DF")
MATRIX = ((90, 8, 2), (10, 10, 0), (0, 0, 0))


def heat(picture):
    (found,) = (trace for trace in picture.figure.data if trace.type == "heatmap")
    return found


def test_rows_are_shares_of_the_true_class():
    picture = confusion_matrix(NAMES, MATRIX, "the best trial on test")
    cells = heat(picture)
    assert [list(row) for row in cells.z] == [[90.0, 8.0, 2.0], [50.0, 50.0, 0.0], [None, None, None]]
    assert [list(row) for row in cells.customdata] == [list(row) for row in MATRIX]
    assert (cells.zmin, cells.zmax) == (0, 100)
    assert picture.title == "Confusion matrix of the best trial on test"


def test_the_shares_are_scikit_learns():
    from sklearn.metrics import confusion_matrix as reference

    truth, predicted = [0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 1, 0, 1, 1, 0, 2, 2, 1]
    expected = 100 * reference(truth, predicted, normalize="true")
    found = heat(confusion_matrix(NAMES, reference(truth, predicted).tolist(), "x")).z
    for row, wanted in zip(found, expected.tolist(), strict=True):
        assert list(row) == pytest.approx(wanted, abs=0.01)


def test_counts_are_written_into_the_cells_and_the_first_class_is_on_top():
    picture = confusion_matrix(NAMES, MATRIX, "x")
    (text,) = (trace for trace in picture.figure.data if trace.type == "scatter")
    found = {(y, x): t for x, y, t in zip(text.x, text.y, text.text, strict=True)}
    assert found == {(0, 0): "90", (0, 1): "8", (0, 2): "2", (1, 0): "10", (1, 1): "10"}
    shown = layout(picture)
    assert shown["xaxis"]["ticktext"] == shown["yaxis"]["ticktext"] == list(NAMES)
    assert shown["yaxis"]["range"] == [2.5, -0.5]
    assert heat(picture).opacity == 0.5
    assert heat(picture).showscale is False


def test_too_many_classes_for_text_have_a_scale_and_of_more_every_nth_name():
    size = MOST_CLASSES_WITH_TEXT + 1
    names = [f"c{n}" for n in range(size)]
    picture = confusion_matrix(names, [[n + m for m in range(size)] for n in range(size)], "x")
    assert [trace.type for trace in picture.figure.data] == ["heatmap"]
    assert (heat(picture).opacity, heat(picture).showscale) == (1, True)
    assert layout(picture)["xaxis"]["ticktext"] == names
    size = MOST_CLASSES_WITH_NAMES + 1
    picture = confusion_matrix([f"c{n}" for n in range(size)], [[1] * size for _ in range(size)], "x")
    assert layout(picture)["xaxis"]["ticktext"] == [f"c{n}" for n in range(0, size, 2)]
    assert layout(picture)["xaxis"]["tickvals"] == list(range(0, size, 2))


def test_names_with_markup_stay_text():
    check_hostile(confusion_matrix((HOSTILE, "x" * 50), ((1, 0), (0, 1)), "x"))
    check_colours(confusion_matrix(NAMES, MATRIX, "x"))
    assert marks(confusion_matrix((), (), "x")) == 0
    assert traces(confusion_matrix((), (), "x")) == {}


def test_the_worst_mistake_is_the_one_by_the_largest_share():
    found = mistakes(NAMES, ((90, 8, 2), (3, 3, 0), (0, 0, 0)))
    assert [(one.true, one.predicted, one.count, one.of) for one in found] == [
        ("MEL", "NV", 3, 6),
        ("NV", "MEL", 8, 100),
        ("NV", "DF", 2, 100),
    ]
    assert confusion_sentence(NAMES, MATRIX) == (
        "100 of 120 images lie on the diagonal, classified right; the mistake by the largest share of a class: 10 of "
        "20 images of MEL (50.00 %) are taken for NV."
    )
    assert confusion_sentence(NAMES, ((3, 0, 0), (0, 2, 0), (0, 1, 0))).endswith(
        "1 of 1 image of DF (100.00 %) is taken for MEL."
    )
    assert confusion_sentence(NAMES, ((3, 0, 0), (0, 2, 0), (0, 0, 1))).endswith("no class is taken for another.")
