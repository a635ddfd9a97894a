"""Simulated studies: how often a winner is named where there is none, and how often the true one is found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.reporting.rows import point_rows
from study.reporting.statistics import summarize
from study.reporting.winners import find_winner, winner_of
from study.settings import DEFAULT_GRID, SETTINGS, setting_points

POINTS = setting_points(SETTINGS, DEFAULT_GRID)
STUDIES = 500
WHOLE_STUDIES = 150
FALSE_WINNERS = 35
SEED_SD = 0.01
EFFECT = 0.03
BEST = 17


def draw(random, points, seeds, effect=0.0, common_sd=0.0, count=31):
    """Scores of `points` x `seeds`, one of them better by `effect`."""
    scores = 0.8 + SEED_SD * random.normal(size=(count, seeds)) + common_sd * random.normal(size=(1, seeds))
    scores[BEST % count] += effect
    return {
        (point.alpha, point.beta): dict(enumerate(map(float, row), start=23))
        for point, row in zip(points[:count], scores, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("31 points, 5 seeds", {"seeds": 5}),
        ("31 points, 5 seeds that favour all points alike", {"seeds": 5, "common_sd": 3 * SEED_SD}),
        ("31 points, 3 seeds", {"seeds": 3}),
        ("31 points, 2 seeds", {"seeds": 2}),
        ("31 points, 2 seeds that favour all points alike", {"seeds": 2, "common_sd": 3 * SEED_SD}),
        ("3 points, 5 seeds", {"seeds": 5, "count": 3}),
        ("3 points, 2 seeds", {"seeds": 2, "count": 3}),
        ("2 points, 5 seeds", {"seeds": 5, "count": 2}),
    ],
)
def test_where_alpha_and_beta_do_nothing_no_winner_is_named(name, layout, tell):
    random = np.random.default_rng(20_240_001)
    false = sum(find_winner(draw(random, POINTS, **layout)).crowned for _ in range(STUDIES))
    tell(f"false winners, {name}", f"{false} of {STUDIES} studies without effect (at most {FALSE_WINNERS} allowed)")
    assert false <= FALSE_WINNERS


@pytest.mark.parametrize("common_sd", [0.0, 3 * SEED_SD])
def test_a_point_that_is_better_by_three_seed_deviations_is_found(common_sd, tell):
    random = np.random.default_rng(20_240_002)
    true = POINTS[BEST].alpha, POINTS[BEST].beta
    found = 0
    for _ in range(STUDIES):
        winner = find_winner(draw(random, POINTS, 5, EFFECT, common_sd))
        found += winner.crowned and winner.best == true
    alike = " that favour all points alike" if common_sd else ""
    tell(
        f"winners found, 31 points, 5 seeds{alike}",
        f"{found} of {STUDIES} studies with one point better by 3 points at a seed deviation of 1 (at least 400 asked)",
    )
    assert found >= 0.8 * STUDIES


@pytest.mark.parametrize("effect", [0.0, 0.01])
@pytest.mark.parametrize("seeds", [2, 5])
def test_the_true_best_is_among_those_that_may_be_it(effect, seeds, tell):
    random = np.random.default_rng(20_240_003)
    true = POINTS[BEST].alpha, POINTS[BEST].beta
    held = sum(true in find_winner(draw(random, POINTS, seeds, effect)).indistinct for _ in range(STUDIES))
    tell(
        f"points that may be the best, {seeds} seeds, one better by {100 * effect:.0f}",
        f"hold the best in {held} of {STUDIES} studies (at least 475 asked)",
    )
    assert held >= 0.95 * STUDIES


def study_of(records, groups):
    blank = records.scores()
    return records.study(
        [
            records.point(alpha, beta, blank | {"macro_f1": value}, blank, seed=seed)
            for (alpha, beta), scores in groups.items()
            for seed, value in scores.items()
        ]
    )


@pytest.mark.parametrize(("effect", "title"), [(0.0, "false winners"), (EFFECT, "winners found")])
def test_the_same_holds_for_studies_as_the_report_reads_them(effect, title, records, tell):
    random = np.random.default_rng(20_240_004)
    template = study_of(records, draw(random, POINTS, 5))
    true = POINTS[BEST].alpha, POINTS[BEST].beta
    crowned = right = 0
    for _ in range(WHOLE_STUDIES):
        groups = draw(random, POINTS, 5, effect)
        points = [
            replace(point, scores=point.scores | {"val": point.scores["val"] | {"macro_f1": value}})
            for point, value in zip(
                template.points, (value for row in groups.values() for value in row.values()), strict=True
            )
        ]
        study = replace(template, points=tuple(points))
        summary = summarize(study, point_rows(study))
        winner = winner_of(summary)
        assert winner.best == (summary.best.alpha, summary.best.beta)
        assert winner.sentence().startswith("No winner can be named: ") is not winner.crowned
        crowned += winner.crowned
        right += winner.crowned and winner.best == true
    count = right if effect else crowned
    tell(
        f"{title}, from records to the report's sentence",
        f"{count} of {WHOLE_STUDIES} studies of 31 points and 5 seeds",
    )
    assert count >= 0.8 * WHOLE_STUDIES if effect else count <= FALSE_WINNERS * WHOLE_STUDIES / STUDIES
