from __future__ import annotations

import pytest
from lmf_testing.pictures import check_colours, marks, traces

from study.reporting.choice import choice, choice_of, choice_sentence
from study.reporting.pair_rows import MOST_POINTS, pair_rows
from study.reporting.statistics import summarize


def rows_of(records, *scores):
    points = [records.point(1.0, 0.5 + n / 10, val, test) for n, (val, test) in enumerate(scores)]
    return pair_rows(summarize(records.study(points)))


SCORES = ((0.8, 0.70), (0.7, 0.75), (0.6, 0.60), (0.5, 0.72))


def test_peeking_is_compared_with_what_validation_chooses(records):
    found = choice_of(rows_of(records, *SCORES))
    assert (found.points, found.place) == (4, 3)
    assert (found.chosen.beta, found.peeked.beta) == (0.5, 0.6)
    assert found.gap == pytest.approx(0.05)
    # Ranks 4 3 2 1 and 2 4 1 3: 1 - 6 · (4 + 1 + 1 + 4) / (4 · 15).
    assert found.correlation == pytest.approx(0.0)


def test_a_choice_that_is_best_on_test_too_has_no_gap(records):
    found = choice_of(rows_of(records, (0.5, 0.7), (0.8, 0.7), (0.6, 0.2)))
    assert found.peeked is found.chosen
    assert (found.gap, found.place) == (0.0, 1)
    assert "which also has the best test score, 70.00 %" in choice_sentence(found)


@pytest.mark.parametrize("scores", [((0.8, 0.7), (0.7, 0.6)), ((0.8, 0.7), (0.7, 0.7), (0.6, 0.7))])
def test_there_is_no_correlation_of_too_few_or_of_equal_scores(records, scores):
    found = choice_of(rows_of(records, *scores))
    assert found.correlation is None
    assert "correlation" not in choice_sentence(found)


def test_both_points_are_marked(records):
    points = [records.point(1.0, 0.5 + n / 10, val, test) for n, (val, test) in enumerate(SCORES)]
    shown = traces(choice(summarize(records.study(points))))
    assert (shown["points"]["x"], shown["points"]["y"]) == ([80.0, 70.0, 60.0, 50.0], [70.0, 75.0, 60.0, 72.0])
    chosen = shown["chosen by validation: α 1.0, β 0.5"]
    peeked = shown["best on test, which only peeking finds: α 1.0, β 0.6"]
    assert (chosen["x"], chosen["y"], chosen["text"]) == ([80.0], [70.0], ["70.00"])
    assert (peeked["x"], peeked["y"], peeked["text"]) == ([70.0], [75.0], ["75.00"])
    assert chosen["marker"]["symbol"] != peeked["marker"]["symbol"]


def test_a_study_of_thousands_keeps_both_marked_points(records):
    points = [records.point(1.0, 0.5 + n / 10_000, 0.9 - n / 10_000, 0.5 + (n == 1) / 10) for n in range(4000)]
    picture = choice(summarize(records.study(points)))
    shown = traces(picture)
    assert 60.0 in shown["points"]["y"]
    assert "best on test, which only peeking finds: α 1.0, β 0.5001" in shown
    assert marks(picture) < MOST_POINTS + 10
    assert "of 4,000 points" in picture.title


def test_the_choice_in_words(records):
    assert choice_sentence(choice_of(rows_of(records, *SCORES))) == (
        "Validation chooses α 1.0, β 0.5 with 70.00 % on test, place 3 of 4; choosing by the test scores would have "
        "found 75.00 % (α 1.0, β 0.6) and claimed 5.00 percentage points more than can be defended. The rank "
        "correlation of both scores over 4 points is 0.00."
    )
    other = choice_sentence(choice_of(rows_of(records, *SCORES)), "mcc")
    assert "can be defended. Validation chooses by MCC; the figure shows macro F1. The rank correlation" in other
    assert "nothing to choose" in choice_sentence(choice_of(rows_of(records, (0.5, 0.4))))
    assert choice_sentence(choice_of(())) == "No point is complete yet."


def test_every_colour_is_in_both_palettes(records):
    points = [records.point(1.0, 0.5 + n / 10, val, test) for n, (val, test) in enumerate(SCORES)]
    check_colours(choice(summarize(records.study(points))))
    assert marks(choice(summarize(records.study([])))) == 0
