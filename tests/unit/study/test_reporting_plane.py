from __future__ import annotations

import math

import pytest
from lmf_testing.pictures import check_colours, layout, marks, traces

from study.reporting.pair_rows import MOST_POINTS, pair_rows, point_text, thinned
from study.reporting.plane import plane, plane_sentence
from study.reporting.ratio import ratio_groups, ratio_sentence, ratio_spread, running_medians
from study.reporting.statistics import summarize


@pytest.fixture
def study(records):
    return records.study(
        [
            records.point(1.0, 1.0, 0.700, 0.40),
            records.point(0.5, 0.5, 0.795, 0.70),
            records.point(1.0, 0.5, 0.800, 0.30, seed=1),
            records.point(1.0, 0.5, 0.820, 0.32, seed=2),
            records.point(0.5, 1.0, 0.600, 0.60),
            records.point(0.8, 1.7, 0.808, 0.50, settings=()),
        ]
    )


@pytest.fixture
def many(records):
    """A search of 4,000 points, whose score falls with the distance of β/α from 1."""
    points = []
    for number in range(4000):
        alpha, beta = 0.5 + 1.5 * (number * math.sqrt(5) % 1), 0.5 + 1.5 * (number * math.sqrt(2) % 1)
        points.append(records.point(alpha, beta, 0.8 - 0.1 * abs(math.log(beta / alpha)), 0.5, settings=()))
    return records.study(points)


def test_rows_are_means_over_seeds_the_best_first(study):
    rows = pair_rows(summarize(study))
    assert [(row.alpha, row.beta) for row in rows] == [(1.0, 0.5), (0.8, 1.7), (0.5, 0.5), (1.0, 1.0), (0.5, 1.0)]
    best = rows[0]
    assert (best.val.mean, best.val.average_deviation, best.val.count) == (pytest.approx(0.81), pytest.approx(0.01), 2)
    assert best.mean("test") == pytest.approx(0.31)
    assert [row.chosen for row in rows] == [True, False, False, False, False]
    assert [row.ratio for row in rows] == [0.5, 2.125, 1.0, 1.0, 2.0]


def test_a_point_without_macro_f1_is_no_row_and_the_study_may_choose_by_another_score(records):
    points = [
        records.point(1.0, 0.5, records.scores(0.5, balanced_accuracy=0.9)),
        records.point(1.0, 0.7, records.scores(0.6, balanced_accuracy=0.8)),
        records.point(1.0, 0.9, records.scores(float("nan"), balanced_accuracy=0.7)),
        records.point(1.0, 1.1),
    ]
    study = records.study(points, spec={"recipe": {"select": "balanced_accuracy"}})
    rows = pair_rows(summarize(study))
    assert [(row.beta, row.chosen) for row in rows] == [(0.7, False), (0.5, True)]


def test_the_plane_has_each_point_at_its_factors_with_its_score(study):
    picture = plane(summarize(study))
    shown = [trace for trace in picture.figure.data if trace.marker.coloraxis]
    found = {(x, y): color for trace in shown for x, y, color in zip(trace.x, trace.y, trace.marker.color, strict=True)}
    assert found == {(1.0, 0.5): 81.0, (0.8, 1.7): 80.8, (0.5, 0.5): 79.5, (1.0, 1.0): 70.0, (0.5, 1.0): 60.0}
    sizes = [size for trace in shown for size in trace.marker.size]
    assert (min(sizes), max(sizes)) == (7.0, 13.0)
    ring = traces(picture)["best on validation: α 1.0, β 0.5"]
    assert (ring["x"], ring["y"]) == ([1.0], [0.5])
    line = traces(picture)["β/α = 0.5, as the best"]
    assert [y / x for x, y in zip(line["x"], line["y"], strict=True)] == pytest.approx([0.5, 0.5])
    scale = layout(picture)["coloraxis"]
    assert (scale["cmin"], scale["cmax"]) == (60.0, 81.0)


def test_settings_differ_in_shape_and_the_legend_tells_which(study):
    legend = {
        name: trace["marker"]["symbol"] for name, trace in traces(plane(summarize(study))).items() if "marker" in trace
    }
    assert legend["joint (α = β)"] == "circle"
    assert legend["beta (α = 1)"] == "diamond"
    assert legend["alpha (β = 1)"] == "square"
    assert legend["in several settings"] == "star"
    assert legend["in no setting"] == "pentagon"


def test_both_axes_are_equal_and_hold_all_that_may_be_tried(study, records):
    shown = layout(plane(summarize(study)))
    assert shown["xaxis"]["range"] == shown["yaxis"]["range"]
    assert shown["yaxis"]["scaleanchor"] == "x"
    low, high = (10**end for end in shown["xaxis"]["range"])
    assert low < 0.5
    assert high > 2
    wide = layout(plane(summarize(records.study([records.point(4.0, 0.1, 0.5)]))))
    low, high = (10**end for end in wide["xaxis"]["range"])
    assert low < 0.1
    assert high > 4


def test_a_study_of_thousands_shows_every_nth_by_score_and_says_so(many):
    summary = summarize(many)
    rows = pair_rows(summary)
    shown = thinned(rows)
    assert MOST_POINTS / 2 < len(shown) <= MOST_POINTS + 2
    assert shown[0] is rows[0]
    assert shown[-1] is rows[-1]
    assert rows[1] not in shown
    assert rows[1] in thinned(rows, keep=(rows[1],))
    assert rows.index(shown[10]) == 30
    for picture in (plane(summary), ratio_spread(summary)):
        assert marks(picture) < MOST_POINTS + 50
        assert picture.title.endswith(f"({len(shown):,} of 4,000 points, every n-th by score)")


def test_the_chosen_point_stays_wherever_it_ranks(records):
    points = [records.point(1.0, 0.5 + n / 100, records.scores(0.9 - n / 100, mcc=(n == 6) / 2)) for n in range(10)]
    rows = pair_rows(summarize(records.study(points, spec={"recipe": {"select": "mcc"}})))
    assert rows[6].chosen
    fourth = tuple(row for row in rows if round(row.beta, 2) == 0.53)
    assert [round(row.beta, 2) for row in thinned(rows, 3, fourth)] == [0.5, 0.53, 0.54, 0.56, 0.58, 0.59]


def test_the_plane_in_words(study, records):
    rows = pair_rows(summarize(study))
    assert plane_sentence(rows) == (
        "Validation chooses α 1.0, β 0.5 with 81.00 %, of points from 60.00 to 81.00 %. 1 other point lies within 1 "
        "percentage point of it, with β/α = 2.125."
    )
    apart = summarize(records.study([records.point(1.0, 0.5, 0.9), records.point(1.0, 0.7, 0.5)]))
    assert plane_sentence(pair_rows(apart)).endswith("No other point lies within 1 percentage point of it.")
    other = plane_sentence(rows, "balanced_accuracy")
    assert "81.00 %. Validation chooses by balanced accuracy; the figure shows macro F1. 1 other point" in other
    one = summarize(records.study([records.point(1.0, 0.5, 0.9)]))
    assert plane_sentence(pair_rows(one)) == "One point is complete: α 1.0, β 0.5 with 90.00 % on validation."
    assert plane_sentence(()) == "No point is complete yet."


def test_points_of_equal_ratio_are_grouped(study):
    rows = pair_rows(summarize(study))
    (group,) = ratio_groups(rows, "val")
    assert (group.ratio, group.points, group.low, group.high) == (1.0, 2, pytest.approx(0.7), pytest.approx(0.795))
    (group,) = ratio_groups(rows, "test")
    assert (group.low, group.high) == (pytest.approx(0.4), pytest.approx(0.7))


def test_ratios_that_differ_only_by_rounding_are_equal(records):
    points = [records.point(alpha, alpha * 0.7, 0.5, settings=()) for alpha in (0.8, 1.0, 1.5)]
    (group,) = ratio_groups(pair_rows(summarize(records.study(points))), "val")
    assert (group.ratio, group.points) == (0.7, 3)


def test_the_ratio_figure_has_means_seeds_and_ranges(study):
    shown = traces(ratio_spread(summarize(study)))
    beta = shown["beta (α = 1)"]
    assert (beta["x"], beta["y"]) == ([0.5], [81.0])
    assert beta["error_y"]["array"] == [1.0]
    assert beta["error_y"]["visible"]
    assert not shown["alpha (β = 1)"]["error_y"]["visible"]
    ranges = shown["range of points of equal β/α"]
    assert (ranges["x"], ranges["y"]) == ([1.0, 1.0, None], [70.0, 79.5, None])
    assert traces(ratio_spread(summarize(study), "test"))["beta (α = 1)"]["y"] == [31.0]


def test_of_many_points_the_median_is_shown_and_neither_bar_nor_range(many, records):
    summary = summarize(many)
    shown = traces(ratio_spread(summary))
    line = shown["median of each 20th of the points"]
    assert len(line["x"]) == 20
    assert line["x"] == sorted(line["x"])
    assert max(line["y"]) < 80
    assert 0.9 < line["x"][line["y"].index(max(line["y"]))] < 1.1
    assert "range of points of equal β/α" not in shown
    few = [records.point(1.0, beta, beta / 2) for beta in (0.5, 1.5, 1.0)]
    medians = running_medians(pair_rows(summarize(records.study(few))), "val")
    assert medians == ((0.5, 0.25), (1.0, 0.5), (1.5, 0.75))


def test_the_ratio_in_words(records):
    points = [records.point(value, value, score) for value, score in ((0.5, 0.70), (0.7, 0.73), (1.0, 0.71))]
    points.append(records.point(1.0, 0.5, 0.64))
    rows = pair_rows(summarize(records.study(points)))
    assert ratio_sentence(rows) == (
        "The 3 points with β/α = 1 lie 3.00 percentage points apart, 33 % of the range of all points."
    )
    assert ratio_sentence(rows[:3]).endswith("apart, 100 % of the range of all points.")
    assert ratio_sentence(rows[1:]).startswith("Fewer than three points have the same β/α")


def test_studies_without_points_have_empty_figures(records):
    summary = summarize(records.study([records.point(1.0, 0.5)]))
    for picture in (plane(summary), ratio_spread(summary)):
        assert marks(picture) == 0
    assert ratio_sentence(()).startswith("Fewer than three")


def test_equal_scores_still_have_a_scale(records):
    picture = plane(summarize(records.study([records.point(1.0, 0.5, 0.5), records.point(1.0, 0.7, 0.5)])))
    scale = layout(picture)["coloraxis"]
    assert (scale["cmin"], scale["cmax"]) == (49.5, 50.5)


def test_every_colour_is_in_both_palettes(study, many):
    for summary in (summarize(study), summarize(many)):
        check_colours(plane(summary))
        check_colours(ratio_spread(summary))
    assert point_text(pair_rows(summarize(study))[0]) == "α 1.0, β 0.5"
