from __future__ import annotations

import numpy as np

from study.reporting import evidence_tables
from study.reporting.calibration import calibrate
from study.reporting.comparing import LossRun, compare_losses
from study.reporting.predictions import Predictions
from study.reporting.statistics import summarize
from study.reporting.winners import winner_of


def noisy_study(records, effect):
    """Three points with three seeds each, whose scores the seeds move by 0.01; the first is better by `effect`."""
    moves = ((0.0, 0.01, -0.01), (0.01, -0.01, 0.0), (-0.01, 0.0, 0.01))
    points = [
        records.point(1.0, beta, 0.6 + (effect if place == 0 else 0) + moves[place][seed], seed=seed)
        for place, beta in enumerate((0.5, 0.6, 0.7))
        for seed in range(3)
    ]
    return summarize(records.study(points))


def test_rivals_are_the_hardest_first_with_what_the_test_says(records):
    summary = noisy_study(records, 0.3)
    table = evidence_tables.rivals(summary, winner_of(summary))
    assert table.columns[:4] == ("α", "β", "seeds", "validation macro F1, %")
    assert [row[:5] for row in table.rows] == [
        ("1.0", "0.6", "3", "60.00", "30.00"),
        ("1.0", "0.7", "3", "60.00", "30.00"),
    ]
    assert {row[-1] for row in table.rows} == {"yes"}
    same = noisy_study(records, 0.0)
    table = evidence_tables.rivals(same, winner_of(same))
    assert {row[-1] for row in table.rows} == {"no"}
    assert table.columns[5] == "p over seeds (Holm)"


def test_the_p_of_a_rival_is_the_one_that_decided(records):
    """A winner may be told from points whose p would not withstand a correction for all of them."""
    random = np.random.default_rng(20_240_002)
    for _ in range(50):
        points = [
            records.point(1.0, 0.5 + place / 100, float(0.6 + 0.01 * random.normal() + 0.02 * (place == 3)), seed=seed)
            for place in range(12)
            for seed in range(5)
        ]
        summary = summarize(records.study(points))
        winner = winner_of(summary)
        if winner.crowned and winner.closest.p_corrected > 0.05:
            break
    assert winner.crowned
    table = evidence_tables.rivals(summary, winner)
    assert table.columns[5:] == ("p over seeds (not corrected)", "told from the best")
    assert table.rows[0][5] == f"{winner.closest.p:.3f}"
    assert all(float(row[5].removeprefix("< ")) <= 0.05 and row[-1] == "yes" for row in table.rows)
    sure = evidence_tables.rivals(summary, winner.with_images(0.02))
    assert sure.columns[5:7] == ("p over seeds (not corrected)", "p over images")
    assert [row[6] for row in sure.rows[:2]] == ["0.020", "–"]
    chance = evidence_tables.rivals(summary, winner.with_images(0.4))
    assert chance.columns[5] == "p over seeds (Holm)"
    assert chance.rows[0][5:] == (f"{winner.closest.p_corrected:.3f}", "0.40", "no")


def test_no_more_rivals_than_a_reader_needs(records):
    points = [
        records.point(1.0, 0.5 + place / 100, 0.5 + place / 1000 + (place + seed) % 2 / 100, seed=seed)
        for place in range(30)
        for seed in range(2)
    ]
    summary = summarize(records.study(points))
    assert len(evidence_tables.rivals(summary, winner_of(summary)).rows) == evidence_tables.MOST_RIVALS


def test_comparisons_show_both_kinds_of_chance_and_the_verdict():
    runs = [LossRun("lmf", {0: 0.61, 1: 0.62, 2: 0.63}, {}), LossRun("cce", {0: 0.51, 1: 0.52, 2: 0.53}, {})]
    (row,) = evidence_tables.comparisons(compare_losses(runs)).rows
    assert row[:3] == ("LMF", "CCE", "10.00")
    assert " to " in row[3]
    # Two of the 20 ways to part six seeds are as extreme; nothing is known of images.
    assert row[4:] == ("0.1000", "–", "0.1000", "cannot be told apart")


def test_calibration_shows_what_a_temperature_mends(records):
    truth = np.arange(200) % 2
    sure = np.where(np.arange(200)[:, None] % 4 == 0, [[0.98, 0.02]], [[0.02, 0.98]])
    sure = np.where(truth[:, None] == 1, sure, sure[:, ::-1])
    found = calibrate(Predictions("val", truth, sure), Predictions("test", truth, sure))
    (row,) = evidence_tables.calibration([("the best trial", found)]).rows
    cells = dict(zip(evidence_tables.calibration([]).columns, row, strict=True))
    assert cells["trial"] == "the best trial"
    assert cells["accuracy, %"] == f"{100 * found.before.accuracy:.2f}"
    assert float(cells["ECE with it, %"]) < float(cells["ECE, %"])
    assert float(cells["temperature"]) > 1
