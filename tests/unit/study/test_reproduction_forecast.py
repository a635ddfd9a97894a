"""What the paper's experiments would take: counted with what is stored, and with what is in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from lmf_testing.experiments import EXPERIMENTS, by_beta, experiment
from lmf_testing.scored import plan_spec, score_points
from rich.console import Console

from storage.agenda import set_study_state
from storage.database import Database
from storage.queries import find_spec, read_study
from storage.schema import StudyRow
from study import reproduction_forecast
from study.estimate import Measured
from study.home import Home
from study.machine import Crew
from study.reproduction_forecast import Forecast, forecast, print_factors, print_forecast
from study.run_options import RunOptions
from study.spec import SEARCH_FIGURES, StudySpec
from trainer.config import Recipe
from trainer.probe import TrainingCost


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, f"sqlite:///{tmp_path / 'lmf.db'}", str(tmp_path / "artifacts"))


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url)
    yield database
    database.close()


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models that were measured; each trains an image in 2 s, looks at one in 1 s, and weighs 1 GB."""
    models: list[str] = []

    def measure(spec: StudySpec, options: RunOptions, classes: int, images: int) -> Measured:
        assert (classes, images) == (2, 16)
        models.append(spec.model)
        return Measured(Crew(("cpu",), 3), TrainingCost(2.0, 1.0, 10**9, 4 * 10**9, 10**10), 4 * 10**9)

    monkeypatch.setattr(reproduction_forecast, "measure_model", measure)
    return models


def print_it(found: tuple[Forecast, ...]) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    print_forecast(found, console)
    print_factors(found, console)
    console.file.close()
    return console.export_text()


def test_counts_points_epochs_and_hours(home: Home, measured: list[str]) -> None:
    found = forecast(EXPERIMENTS, RunOptions(), home)
    assert measured == ["x", "y"], "each model once"
    assert [(one.left, one.done, one.epochs) for one in found[:2]] == [(2, 0, 120), (2, 0, 200)]
    assert found[0].estimate is not None
    assert found[0].estimate.device_seconds == 2 * (60 * (8 * 2 + 4 * 1) + 4 * 1)
    text = print_it(found)
    total = 4 * 2 * (160 * (8 * 2 + 4) + 2 * 4) / 3600
    assert f"{total:.1f}" in next(line for line in text.splitlines() if line.startswith("all")).split()
    # Two datasets of 16 images; two workers' checkpoints; the best of alpha and beta and of each of two losses.
    assert "disk:  4.8 MB decoded images, 8.0 GB checkpoints while it runs, 12.0 GB more weights kept" in text


def test_knows_what_is_done_and_measures_only_what_is_left(home: Home, measured: list[str], database: Database) -> None:
    plan_spec(database, EXPERIMENTS[0].study)
    plan_spec(database, replace(EXPERIMENTS[0].losses, alpha=1.0, beta=0.5))
    for name in ("a-x", "a-x-losses"):
        score_points(database, name, by_beta)
    found = forecast(EXPERIMENTS[:2], RunOptions(), home)
    assert [(one.spec.name, one.left, one.done) for one in found] == [
        *(("a-x", 0, 2), ("a-x-losses", 0, 2)),
        *(("a-y", 2, 0), ("a-y-losses", 2, 0)),
    ]
    assert measured == ["y"]
    assert (found[1].spec.alpha, found[1].spec.beta) == (1.0, 0.5)


def test_a_stored_study_in_the_way_is_refused_and_the_others_are_reckoned(home: Home, database: Database) -> None:
    plan_spec(database, replace(EXPERIMENTS[0].study, recipe=Recipe(epochs=3)))
    plan_spec(database, EXPERIMENTS[1].study)
    score_points(database, "a-y", by_beta)
    set_study_state(database, read_study(database, "a-y").study_id, "paused")
    plan_spec(database, replace(EXPERIMENTS[2].losses, alpha=0.7, beta=1.0, factors_from=None))
    found = forecast(EXPERIMENTS[:3], RunOptions(), home)
    assert [one.left for one in found] == [0, 0, 0, 2, 2, 0]
    assert [one.refusal is None for one in found] == [False, False, False, True, True, False]
    said = print_it(found)
    for line in (
        "refused: a-x: study a-x exists and is another one: epochs: 3 stored, 60 asked; ask for the stored values, or",
        "refused: a-x-losses: study a-x gives no alpha and beta for its lmf",
        "refused: a-y: study a-y is paused; `lmf study resume a-y` lets it go on",
        "refused: b-x-losses: study b-x-losses exists, and its alpha and beta of lmf, 0.7,1, are not taken from",
        "a-y-losses: lmf with alpha 1, beta 0.5 (best of study a-y)",
    ):
        assert f"\n{line}" in said
    rows = [line.split() for line in said.splitlines() if line.startswith(("a ", "b ", "all "))]
    assert rows[0] == ["a", "x", "alpha", "and", "beta", "refused"]
    assert rows[3][:8] == ["a", "y", "2", "losses", "2", "0", "0", "200"]
    assert rows[-1][:7] == ["all", "6", "studies", "4", "0", "0", "320"]


def test_a_description_of_another_version_is_refused(home: Home, database: Database) -> None:
    plan_spec(database, EXPERIMENTS[0].study)
    document = find_spec(database, "a-x")
    assert document is not None
    with database.begin() as connection:
        connection.execute(sa.update(StudyRow).values(spec={**document, "younger": 1}))
    found = forecast(EXPERIMENTS[:1], RunOptions(), home)
    assert found[0].refusal is not None
    assert "younger is unknown" in found[0].refusal


def test_failed_points_are_neither_left_nor_done(home: Home, database: Database) -> None:
    plan_spec(database, EXPERIMENTS[0].study)
    score_points(database, "a-x", lambda lease: None if lease.beta == 1.0 else 0.5)
    found = forecast(EXPERIMENTS[:1], RunOptions(), home)
    assert (found[0].left, found[0].done, found[0].failed, found[0].estimate) == (0, 1, 1, None)
    (row,) = [line.split() for line in print_it(found).splitlines() if line.startswith("a ") and "alpha" in line]
    assert row[5:9] == ["0", "1", "1", "0"]


def test_a_search_that_goes_on_has_its_budget(home: Home, database: Database) -> None:
    stored = replace(EXPERIMENTS[0].study, search="tpe", trials=7, settings=(), grid=())
    plan_spec(database, stored)
    given = experiment("a", "x", alpha=1.0, beta=1.0, factors_from=None)
    asked = replace(given, study=replace(given.study, unasked=frozenset({*SEARCH_FIGURES, "settings", "grid"})))
    found = forecast([asked], RunOptions(), home)
    assert (found[0].left, found[0].epochs) == (7, 7 * 60)
    assert found[0].estimate is not None
    assert found[0].estimate.points == 7
