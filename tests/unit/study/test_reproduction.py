"""Carrying out the paper's experiments without training: order, factors, what is passed over, what is forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmf_testing.scored import plan_spec, score_points
from rich.console import Console

from storage.agenda import set_study_state
from storage.database import Database
from storage.lease import Lease
from storage.queries import find_spec, read_study
from study import reproduction, reproduction_forecast
from study.data_search import DataAtHand
from study.errors import StudyError
from study.estimate import Measured
from study.home import Home
from study.machine import Crew
from study.reproduction import ReproductionEnd, reproduce
from study.reproduction_forecast import forecast, print_forecast, ready_comparison
from study.reproduction_plan import Experiment
from study.run_options import RunOptions
from study.running import RunEnd
from study.spec import StudySpec
from trainer.config import Recipe
from trainer.errors import DataError, DeviceFailedError, ModelError
from trainer.probe import TrainingCost

COUNTS = {"train": 8, "val": 4, "test": 4}


def experiment(dataset: str, model: str, **changes: Any) -> Experiment:
    common: dict[str, Any] = {"dataset": dataset, "title": dataset, "data": None, "model": model}
    study = StudySpec(name=f"{dataset}-{model}", recipe=Recipe(), settings=("beta",), grid=(0.5, 1.0), **common)
    losses = StudySpec(
        name=f"{dataset}-{model}-losses",
        recipe=Recipe(epochs=100),
        settings=(),
        grid=(),
        losses=("cce", "lmf"),
        factors_from=study.name,
        **common,
    )
    return Experiment(DataAtHand(dataset, Path("/data"), 2, COUNTS), study, replace(losses, **changes))


ALL = tuple(experiment(dataset, model) for dataset in ("a", "b") for model in ("x", "y"))


def by_beta(lease: Lease) -> float | None:
    """Of alpha and beta, the smaller beta is the better one."""
    return 0.5 if lease.beta is None else 1.0 - lease.beta / 4


@dataclass
class Runs:
    """Stands in for `run_study`: plans, scores by hand, and notes what it was asked.

    Attributes:
        home: where studies are stored.
        planned: names of the studies that were to be planned only.
        trained: names of the studies that were to be trained.
        errors: by name of a study, what it raises.
        values: scores by point.
        interrupted_at: the study in which the user asks to stop, after its first point.
    """

    home: Home
    planned: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    values: Callable[[Lease], float | None] = by_beta
    interrupted_at: str = ""

    def __call__(self, spec: StudySpec, options: RunOptions, home: Home, console: Console) -> RunEnd:
        (self.planned if options.plan_only else self.trained).append(spec.name)
        if spec.name in self.errors:
            raise self.errors[spec.name]
        database = Database.open(home.storage_url)
        try:
            plan_spec(database, spec)
            stops = spec.name == self.interrupted_at and not options.plan_only
            if not options.plan_only:
                score_points(database, spec.name, self.values, 1 if stops else 1000)
            record = read_study(database, spec.name)
        finally:
            database.close()
        failed = sum(point.state == "failed" for point in record.points)
        return RunEnd(failed, record.remaining, stops, ())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, f"sqlite:///{tmp_path / 'lmf.db'}", str(tmp_path / "artifacts"))


@pytest.fixture
def runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs(home)
    monkeypatch.setattr(reproduction, "run_study", runs)
    return runs


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Names of the studies of each report that was written."""
    reports: list[tuple[str, ...]] = []

    def write(_: Database, names: Sequence[str], folder: Path, *, output: Path, **__: Any) -> SimpleNamespace:
        assert output == folder / "reproduction.html"
        reports.append(tuple(names))
        return SimpleNamespace(paths=(output,))

    monkeypatch.setattr(reproduction, "write_reports", write)
    return reports


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url)
    yield database
    database.close()


def carry_out(home: Home, experiments: Sequence[Experiment] = ALL, **options: Any) -> tuple[ReproductionEnd, str]:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))
    try:
        end = reproduce(experiments, RunOptions(**options), home, console)
    finally:
        console.file.close()
    return end, console.export_text()


class TestOrder:
    def test_all_is_planned_that_can_be_and_trained_one_after_the_other(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], database: Database
    ) -> None:
        end, said = carry_out(home)
        assert end == ReproductionEnd(0, 0, {}, False)
        assert runs.planned == ["a-x", "a-y", "b-x", "b-y"]
        both = [f"{name}{ending}" for name in runs.planned for ending in ("", "-losses")]
        assert runs.trained == both
        assert reported == [tuple(both)]
        assert "report of all studies: " in said
        for name in runs.planned:
            document = find_spec(database, f"{name}-losses")
            assert document is not None
            assert (document["alpha"], document["beta"], document["factors_from"]) == (1.0, 0.5, name)

    def test_what_is_trained_is_not_run_again(self, home: Home, runs: Runs, reported: list[tuple[str, ...]]) -> None:
        carry_out(home, ALL[:1])
        runs.trained.clear()
        runs.planned.clear()
        end, said = carry_out(home, ALL[:2])
        assert end == ReproductionEnd(0, 0, {}, False)
        assert (runs.planned, runs.trained) == (["a-y"], ["a-y", "a-y-losses"])
        assert said.count("everything is trained already") == 2
        assert len(reported[-1]) == 4

    def test_an_extended_study_is_run_again(self, home: Home, runs: Runs, reported: list[tuple[str, ...]]) -> None:
        carry_out(home, ALL[:1])
        runs.trained.clear()
        more = replace(ALL[0], study=replace(ALL[0].study, grid=(0.5, 0.7, 1.0)))
        end, _ = carry_out(home, [more])
        assert end == ReproductionEnd(0, 0, {}, False)
        assert runs.trained == ["a-x"]

    def test_an_interruption_ends_it_without_a_report(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]]
    ) -> None:
        runs.interrupted_at = "a-y"
        end, said = carry_out(home)
        assert runs.trained == ["a-x", "a-x-losses", "a-y"]
        assert end == ReproductionEnd(0, 5, {}, True)
        assert "stopped: 5 planned points left in all; the same command goes on" in said
        assert reported == []

    def test_planning_only_trains_nothing_and_says_what_waits(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]]
    ) -> None:
        given = experiment("c", "x", alpha=0.5, beta=1.0, factors_from=None)
        end, said = carry_out(home, [ALL[0], given], plan_only=True)
        assert (runs.planned, runs.trained) == (["a-x", "c-x", "c-x-losses"], [])
        assert end == ReproductionEnd(0, 6, {}, False)
        assert "study a-x-losses: takes lmf's alpha and beta from the best of study a-x" in said
        assert reported == []


class TestWhatGoesWrong:
    def test_bad_data_are_tried_once_and_other_datasets_go_on(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]]
    ) -> None:
        runs.errors = {"a-x": DataError("a: 1 image cannot be used")}
        end, said = carry_out(home)
        assert set(end.refused) == {"a-x", "a-y"} | {"a-x-losses", "a-y-losses"}
        assert set(end.refused.values()) >= {"a: 1 image cannot be used"}
        assert (end.failed, end.remaining, end.interrupted) == (0, 0, False)
        assert runs.planned == ["a-x", "b-x", "b-y"]
        assert runs.trained == ["b-x", "b-x-losses", "b-y", "b-y-losses"]
        assert "study a-x cannot be carried out: a: 1 image cannot be used; the others go on" in said
        assert "not carried out: a-y: a: 1 image cannot be used" in said
        assert reported == [tuple(runs.trained)]

    def test_a_bad_model_is_tried_once_and_other_models_go_on(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]]
    ) -> None:
        runs.errors = {"a-y": ModelError("y: the hub cannot be reached")}
        end, _ = carry_out(home)
        assert runs.planned == ["a-x", "a-y", "b-x"]
        assert set(end.refused) == {"a-y", "b-y", "a-y-losses", "b-y-losses"}
        assert runs.trained == ["a-x", "a-x-losses", "b-x", "b-x-losses"]

    def test_a_study_without_a_complete_point_has_no_factors_to_give(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]]
    ) -> None:
        runs.values = lambda lease: None if lease.loss == "lmf" else 0.5
        end, _ = carry_out(home, ALL[:1])
        assert end == ReproductionEnd(2, 0, {"a-x-losses": "study a-x gives no alpha and beta for its lmf"}, False)
        assert reported == []

    def test_a_paused_study_is_told(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], database: Database
    ) -> None:
        plan_spec(database, ALL[0].study)
        set_study_state(database, read_study(database, "a-x").study_id, "paused")
        end, _ = carry_out(home, ALL[:2])
        assert "study a-x is paused; `lmf study resume a-x` lets it go on" in end.refused["a-x"]
        assert runs.trained == ["a-y", "a-y-losses"]

    def test_workers_that_refuse_are_told(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(spec: StudySpec, options: RunOptions, home: Home, console: Console) -> RunEnd:
            end = runs(spec, replace(options, plan_only=True), home, console)
            return end if options.plan_only else replace(end, refusals=("no GPU",))

        monkeypatch.setattr(reproduction, "run_study", refuse)
        end, _ = carry_out(home, ALL[:1])
        assert end.refused["a-x"] == "2 points left, since workers refused: no GPU"

    def test_a_broken_card_ends_it(self, home: Home, runs: Runs, reported: list[tuple[str, ...]]) -> None:
        runs.errors = {"a-x": DeviceFailedError("cuda:0 failed")}
        with pytest.raises(DeviceFailedError):
            carry_out(home)


class TestForecast:
    @pytest.fixture(autouse=True)
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Models that were measured; each trains an image in 2 s, looks at one in 1 s, and weighs 1 GB."""
        models: list[str] = []

        def measure(spec: StudySpec, options: RunOptions, classes: int, images: int) -> Measured:
            assert (classes, images) == (2, 16)
            models.append(spec.model)
            return Measured(Crew(("cpu",), 3), TrainingCost(2.0, 1.0, 10**9, 4 * 10**9, 10**10), 4 * 10**9)

        monkeypatch.setattr(reproduction_forecast, "measure_model", measure)
        return models

    def test_counts_points_epochs_and_hours(self, home: Home, measured: list[str], runs: Runs) -> None:
        found = forecast(ALL, RunOptions(), home)
        assert measured == ["x", "y"], "each model once"
        assert [(one.left, one.done, one.epochs) for one in found[:2]] == [(2, 0, 120), (2, 0, 200)]
        assert found[0].estimate is not None
        assert found[0].estimate.device_seconds == 2 * (60 * (8 * 2 + 4 * 1) + 4 * 1)
        console = Console(width=200, record=True, file=open("/dev/null", "w"))
        print_forecast(found, console)
        console.file.close()
        text = console.export_text()
        total = 4 * 2 * (160 * (8 * 2 + 4) + 2 * 4) / 3600
        assert f"{total:.1f}" in next(line for line in text.splitlines() if line.startswith("all")).split()
        # Two datasets of 16 images; two workers' checkpoints; the best of alpha and beta and of each of two losses.
        assert "disk:  4.8 MB decoded images, 8.0 GB checkpoints while it runs, 12.0 GB more weights kept" in text

    def test_knows_what_is_done_and_measures_only_what_is_left(
        self, home: Home, measured: list[str], runs: Runs, reported: list[tuple[str, ...]]
    ) -> None:
        carry_out(home, ALL[:1])
        found = forecast(ALL[:2], RunOptions(), home)
        assert [(one.spec.name, one.left, one.done) for one in found] == [
            *(("a-x", 0, 2), ("a-x-losses", 0, 2)),
            *(("a-y", 2, 0), ("a-y-losses", 2, 0)),
        ]
        assert measured == ["y"]
        assert (found[1].spec.alpha, found[1].spec.beta) == (1.0, 0.5)

    def test_a_stored_study_of_another_recipe_is_refused(self, home: Home, database: Database) -> None:
        plan_spec(database, replace(ALL[0].study, recipe=Recipe(epochs=3)))
        with pytest.raises(StudyError, match="study a-x exists and is another one: epochs: 3 stored, 60 asked"):
            forecast(ALL, RunOptions(), home)


class TestReady:
    def test_is_a_comparison_when_its_study_is_trained(self, home: Home, database: Database) -> None:
        one = ALL[0]
        assert ready_comparison(one, home) is None
        plan_spec(database, one.study)
        score_points(database, "a-x", by_beta, 1)
        assert ready_comparison(one, home) is None, "a point is left"
        score_points(database, "a-x", by_beta)
        ready = ready_comparison(one, home)
        assert ready is not None
        assert (ready.alpha, ready.beta) == (1.0, 0.5)

    def test_is_any_comparison_that_needs_no_study(self, tmp_path: Path) -> None:
        home = Home(tmp_path, f"sqlite:///{tmp_path / 'none.db'}", "")
        for one in (
            experiment("a", "x", alpha=0.5, beta=1.0, factors_from=None),
            experiment("a", "x", losses=("cce",), factors_from=None),
        ):
            assert ready_comparison(one, home) == one.losses
        assert not (tmp_path / "none.db").exists()

    def test_a_stored_one_stays_and_one_with_factors_from_elsewhere_is_refused(
        self, home: Home, database: Database
    ) -> None:
        plan_spec(database, replace(ALL[0].losses, alpha=0.7, beta=1.0))
        ready = ready_comparison(ALL[0], home)
        assert ready is not None
        assert (ready.alpha, ready.beta) == (0.7, 1.0)
        plan_spec(database, replace(ALL[1].losses, alpha=0.7, beta=1.0, factors_from=None))
        with pytest.raises(StudyError, match=r"alpha and beta of lmf, 0.7,1, are not taken from study a-y; --factors"):
            ready_comparison(ALL[1], home)
