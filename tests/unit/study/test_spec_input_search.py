"""What may be asked of a search, by flags and by a study file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.errors import StudyError
from study.spec import StudySpec, points
from study.spec_input import build_study

OTHERS = "is for --search tpe, gp, random, since"


def build(dataset: str = "digits-lt", **flags: object) -> StudySpec:
    return build_study(dataset, flags, resolve_model=lambda name: name)[0]


def problems(dataset: str = "digits-lt", **flags: object) -> list[str]:
    with pytest.raises(StudyError) as caught:
        build(dataset, **flags)
    return str(caught.value).split("; ")


def test_a_grid_is_the_default() -> None:
    spec = build()
    assert (spec.search, spec.trials, spec.pruner) == ("grid", None, "none")
    assert build(search="grid", pruner="none") == spec
    assert len(points(spec)) == 31


@pytest.mark.parametrize("kind", ["tpe", "gp", "random"])
def test_a_search_has_a_budget_and_no_points_of_its_own(kind: str) -> None:
    spec = build(search=kind)
    assert (spec.search, spec.trials, spec.pruner) == (kind, 31, "none")
    assert (spec.settings, spec.grid, spec.seeds) == ((), (), (23,))
    assert points(spec) == ()
    assert spec.unasked >= {"settings", "grid", "seeds", "trials", "pruner", "precision", "threads"}
    assert "search" not in spec.unasked


@pytest.mark.parametrize("pruner", ["none", "median", "percentile", "hyperband"])
def test_budget_seed_and_pruner_may_be_chosen(pruner: str) -> None:
    spec = build(search="tpe", trials="100000", pruner=pruner, seeds="7")
    assert (spec.trials, spec.pruner, spec.seeds) == (100_000, pruner, (7,))
    assert not spec.unasked & {"search", "trials", "pruner", "seeds"}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"search": "bayes"}, ["--search: 'bayes' is not one of grid, tpe, gp, random"]),
        ({"search": "bayes", "trials": "5"}, ["--search: 'bayes' is not one of grid, tpe, gp, random"]),
        ({"search": "tpe", "trials": "0"}, ["--trials: 0 is outside [1, 100000]"]),
        ({"search": "tpe", "trials": "100001"}, ["--trials: 100001 is outside [1, 100000]"]),
        ({"search": "tpe", "trials": "few"}, ["--trials: 'few' is not a whole number"]),
        ({"search": "gp", "pruner": "x"}, ["--pruner: 'x' is not one of none, median, percentile, hyperband"]),
        (
            {"search": "tpe", "settings": "joint", "grid": "0.5", "seeds": "1,2"},
            [
                "--settings: cannot go with --search tpe, which chooses alpha and beta itself",
                "--grid: cannot go with --search tpe, which chooses alpha and beta itself",
                "--seeds: 2 are given, but a search takes one, since it trains each pair once",
            ],
        ),
        (
            {"trials": "5", "pruner": "median"},
            [
                f"--trials: {OTHERS} a grid trains all its points",
                f"--pruner: median {OTHERS} the mean over a setting needs each of a grid's points to its end",
            ],
        ),
        ({"search": "grid", "trials": "31"}, [f"--trials: {OTHERS} a grid trains all its points"]),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(flags: dict[str, Any], expected: list[str]) -> None:
    assert problems(**flags) == expected


def test_a_study_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('[study]\ndataset = "digits-lt"\nsearch = "tpe"\ntrials = 40\npruner = "hyperband"\n')
    assert build(str(file)) == build(search="tpe", trials="40", pruner="hyperband")
    assert build(str(file), trials="50").trials == 50
    file.write_text('[study]\ndataset = "digits-lt"\nsearch = "tpe"\ntrials = true\ngrid = [0.5]\nseeds = [1, 2]\n')
    assert problems(str(file)) == [
        f"{file}: trials: True is not a whole number",
        f"{file}: grid: cannot go with {file}: search tpe, which chooses alpha and beta itself",
        f"{file}: seeds: 2 are given, but a search takes one, since it trains each pair once",
    ]
