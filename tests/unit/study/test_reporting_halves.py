from __future__ import annotations

import pytest
from lmf_testing.pictures import check_colours, marks, traces

from study.reporting.halves import (
    MOST_LINE_MARKS,
    gradient_shares,
    half_quantiles,
    half_ranges,
    half_sentence,
    share_quantiles,
    share_rows,
    share_sentence,
)
from study.reporting.rows import epoch_rows
from study.reporting.statistics import summarize


def halves(ldam, focal, ldam_gradient, focal_gradient):
    return {"ldam": ldam, "focal": focal, "ldam_gradient": ldam_gradient, "focal_gradient": focal_gradient}


def opened(records, points, epochs):
    summary = summarize(records.study(points))
    return summary, epoch_rows(summary.rows, epochs)


@pytest.fixture
def small(records):
    """Two points of two epochs: α 2, β 0.5 (the best) and α 1, β 1."""
    first, second = records.point(2.0, 0.5, 0.8, settings=()), records.point(1.0, 1.0, 0.5)
    epochs = [
        records.epoch(first, 1, halves=halves(3.0, 0.2, 0.4, 0.8)),
        records.epoch(first, 2, halves=halves(1.0, 0.1, 0.1, 0.4)),
        records.epoch(second, 1, halves=halves(4.0, 0.5, 0.9, 0.1)),
        records.epoch(second, 2, halves=halves(2.0, 0.25, 0.6, 0.4)),
    ]
    return opened(records, [first, second], epochs)


def test_shares_are_of_the_weighted_gradients(small):
    _, epochs = small
    rows = share_rows(epochs)
    # 2 · 0.4 beside 0.5 · 0.8; 2 · 0.1 beside 0.5 · 0.4; 0.9 beside 0.1; 0.6 beside 0.4.
    assert [row.share for row in rows] == pytest.approx([2 / 3, 0.5, 0.9, 0.6])
    assert [row.epoch for row in rows] == [1, 2, 1, 2]


def test_epochs_without_gradients_have_no_share(records):
    point, other = records.point(1.0, 1.0, 0.5), records.point(None, None, 0.5, loss="cce")
    epochs = [
        records.epoch(point, 1, halves=halves(3.0, 0.2, 0.0, 0.0)),
        records.epoch(point, 2, halves={"ldam": 3.0, "focal": 0.2}),
        records.epoch(point, 3, halves=halves(3.0, 0.2, float("nan"), 0.1)),
        records.epoch(point, 4, halves=None),
        records.epoch(point, 5, halves=halves(3.0, 0.2, 0.0, 0.1)),
        records.epoch(other, 1, halves=None),
    ]
    _, rows = opened(records, [point, other], epochs)
    assert [(row.epoch, row.share) for row in share_rows(rows)] == [(5, 0.0)]


def test_quantiles_are_over_the_points_of_an_epoch(records):
    points = [records.point(1.0, 1.0, 0.5, seed=seed) for seed in range(5)]
    epochs = [
        records.epoch(point, 1, halves=halves(1.0, 1.0, share, 1 - share))
        for point, share in zip(points, (0.9, 0.1, 0.5, 0.3, 0.7), strict=True)
    ]
    _, rows = opened(records, points, epochs)
    (row,) = share_quantiles(share_rows(rows))
    assert (row.epoch, row.points) == (1, 5)
    assert [row.low, row.lower, row.median, row.upper, row.high] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


def test_halves_are_weighted(small):
    _, epochs = small
    ldam, focal = half_quantiles(epochs, "ldam"), half_quantiles(epochs, "focal")
    # 2 · 3 and 4; 2 · 1 and 2. 0.5 · 0.2 and 0.5; 0.5 · 0.1 and 0.25.
    assert [(row.low, row.median, row.high) for row in ldam] == [(4.0, 5.0, 6.0), (2.0, 2.0, 2.0)]
    assert [(row.low, row.high) for row in focal] == [pytest.approx((0.1, 0.5)), pytest.approx((0.05, 0.25))]


def test_each_point_is_a_line_and_the_best_stands_out(small):
    summary, epochs = small
    shown = traces(gradient_shares(summary, share_rows(epochs)))
    assert list(shown) == ["points with β = α", "best: α 2.0, β 0.5, seed 23"]
    assert shown["points with β = α"]["x"] == [1, 2, None]
    assert shown["points with β = α"]["y"] == [90.0, 60.0, None]
    assert shown["best: α 2.0, β 0.5, seed 23"]["y"] == [66.6667, 50.0]


def test_lines_differ_in_dashes_by_which_half_weighs_more(records):
    pairs = ((1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (0.7, 0.7))
    points = [records.point(alpha, beta, 0.5 - n / 10) for n, (alpha, beta) in enumerate(pairs)]
    summary, rows = opened(records, points, [records.epoch(point, 1) for point in points])
    shown = traces(gradient_shares(summary, share_rows(rows)))
    dashes = {name: trace["line"].get("dash") for name, trace in shown.items() if name.startswith("points")}
    assert dashes == {"points with β < α": "dot", "points with β = α": "dash", "points with β > α": "solid"}


def test_of_many_points_bands_are_drawn(records):
    points = [records.point(1.0, 0.5 + n / 1000, 0.5 + n / 10_000, settings=()) for n in range(700)]
    epochs = [records.epoch(point, number) for point in points for number in (1, 2, 3)]
    summary, rows = opened(records, points, epochs)
    shares = share_rows(rows)
    assert len(shares) > MOST_LINE_MARKS
    picture = gradient_shares(summary, shares)
    shown = traces(picture)
    assert marks(picture) < 50
    best = f"best: α 1.0, β {0.5 + 699 / 1000:.4g}, seed 23"
    assert list(shown) == ["range of all points", "middle half of all points", "median of all points", best]
    quantiles = share_quantiles(shares)
    outline = shown["range of all points"]
    assert outline["x"] == [1, 2, 3, 3, 2, 1]
    assert outline["y"] == pytest.approx(
        [100 * row.high for row in quantiles] + [100 * row.low for row in reversed(quantiles)], abs=1e-3
    )
    assert shown["median of all points"]["y"] == pytest.approx([100 * row.median for row in quantiles], abs=1e-3)


def test_both_halves_have_median_and_range(small):
    _, epochs = small
    shown = traces(half_ranges(epochs))
    assert shown["α · LDAM: median of all points"]["y"] == [5.0, 2.0]
    assert shown["α · LDAM: range"]["y"] == [6.0, 2.0, 2.0, 4.0]
    assert shown["β · focal: median of all points"]["y"] == pytest.approx([0.3, 0.15])
    lines = [trace["line"].get("dash") for name, trace in shown.items() if "median" in name]
    assert lines == ["solid", "dash"]


def test_what_a_logarithmic_axis_cannot_show_is_left_out(records):
    point = records.point(1.0, 1.0, 0.5)
    epochs = [records.epoch(point, n, halves=halves(value, 0.0, 1.0, 1.0)) for n, value in ((1, 2.0), (2, 0.0))]
    _, rows = opened(records, [point], epochs)
    shown = traces(half_ranges(rows))
    assert shown["α · LDAM: median of all points"]["x"] == [1]
    assert "β · focal: median of all points" not in shown


def test_shares_in_words(small, records):
    summary, epochs = small
    assert share_sentence(summary, share_rows(epochs)) == (
        "In epoch 1 LDAM has 78.3 % in the median (66.7 to 90.0 %) of the gradient at the logits, in epoch 2 55.0 % in "
        "the median (50.0 to 60.0 %); in the best trial 66.7 % at first and 50.0 % at the end: both halves have a say."
    )
    assert share_sentence(summary, ()) == "The gradients of the two halves were not measured."
    point = records.point(1.0, 1.0, 0.5)
    summary, rows = opened(records, [point], [records.epoch(point, 1)])
    assert share_sentence(summary, share_rows(rows)) == (
        "In epoch 1 LDAM has 98.6 % of the gradient at the logits: LDAM decides and focal corrects."
    )
    summary, rows = opened(records, [point], [records.epoch(point, 1, halves=halves(1.0, 1.0, 0.1, 0.9))])
    assert share_sentence(summary, share_rows(rows)).endswith(
        "10.0 % of the gradient at the logits: focal decides and LDAM corrects."
    )


def test_sizes_in_words(small, records):
    _, epochs = small
    # 6 / 0.1 and 4 / 0.5; 2 / 0.05 and 2 / 0.25.
    assert half_sentence(epochs) == (
        "In epoch 1 α · LDAM is 34 times β · focal in the median of all points, in epoch 2 24 times."
    )
    assert half_sentence(()) == "The sizes of the two halves were not measured."


def test_every_colour_is_in_both_palettes(small):
    summary, epochs = small
    check_colours(gradient_shares(summary, share_rows(epochs)))
    check_colours(half_ranges(epochs))
    assert marks(gradient_shares(summary, ())) == 0
    assert marks(half_ranges(())) == 0
