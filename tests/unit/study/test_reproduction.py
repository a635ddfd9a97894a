"""Carrying out the paper's experiments without training: order, factors, what is passed over, what is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lmf_testing.experiments import EXPERIMENTS, by_beta, experiment
from lmf_testing.scored import plan_spec, score_points
from rich.console import Console

from storage.agenda import set_study_state
from storage.database import Database
from storage.lease import Lease
from storage.queries import find_spec, read_study
from study import reproduction
from study.home import Home
from study.reproduction import ReproductionEnd, reproduce
from study.reproduction_plan import Experiment
from study.run_options import RunOptions
from study.running import RunEnd
from study.spec import StudySpec
from trainer.errors import DataError, DeviceFailedError, ModelError


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


def carry_out(
    home: Home, experiments: Sequence[Experiment] = EXPERIMENTS, **options: Any
) -> tuple[ReproductionEnd, str]:
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
        carry_out(home, EXPERIMENTS[:1])
        runs.trained.clear()
        runs.planned.clear()
        end, said = carry_out(home, EXPERIMENTS[:2])
        assert end == ReproductionEnd(0, 0, {}, False)
        assert (runs.planned, runs.trained) == (["a-y"], ["a-y", "a-y-losses"])
        assert said.count("everything is trained already") == 2
        assert len(reported[-1]) == 4

    def test_an_extended_study_is_run_again(self, home: Home, runs: Runs, reported: list[tuple[str, ...]]) -> None:
        carry_out(home, EXPERIMENTS[:1])
        runs.trained.clear()
        more = replace(EXPERIMENTS[0], study=replace(EXPERIMENTS[0].study, grid=(0.5, 0.7, 1.0)))
        end, _ = carry_out(home, [more])
        assert end == ReproductionEnd(0, 0, {}, False)
        assert runs.trained == ["a-x"]

    def test_a_smaller_study_gives_its_factors_when_it_is_extended(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], database: Database
    ) -> None:
        plan_spec(database, replace(EXPERIMENTS[0].study, grid=(1.0,)))
        score_points(database, "a-x", by_beta)
        end, said = carry_out(home, EXPERIMENTS[:1])
        assert end == ReproductionEnd(0, 0, {}, False)
        assert runs.trained == ["a-x", "a-x-losses"]
        assert "a-x-losses: lmf with alpha 1, beta 0.5 (best of study a-x)" in said
        assert "alpha 1, beta 1" not in said

    def test_factors_that_are_out_of_date_are_told_once(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], database: Database
    ) -> None:
        plan_spec(database, replace(EXPERIMENTS[0].losses, alpha=1.0, beta=1.0))
        _, said = carry_out(home, EXPERIMENTS[:1])
        news = "a-x-losses: lmf keeps alpha 1, beta 1, with which a-x-losses was planned; the best of study a-x is"
        assert said.count(news) == 1
        assert "--study" not in said

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
        end, said = carry_out(home, [EXPERIMENTS[0], given], plan_only=True)
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
        end, _ = carry_out(home, EXPERIMENTS[:1])
        assert end == ReproductionEnd(2, 0, {"a-x-losses": "study a-x gives no alpha and beta for its lmf"}, False)
        assert reported == []

    def test_a_paused_study_is_told(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], database: Database
    ) -> None:
        plan_spec(database, EXPERIMENTS[0].study)
        set_study_state(database, read_study(database, "a-x").study_id, "paused")
        end, _ = carry_out(home, EXPERIMENTS[:2])
        assert end.refused == {
            "a-x": "study a-x is paused; `lmf study resume a-x` lets it go on",
            "a-x-losses": "study a-x gives no alpha and beta for its lmf",
        }
        assert runs.trained == ["a-y", "a-y-losses"]

    def test_what_is_stored_is_refused_with_what_helps_here(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], database: Database
    ) -> None:
        plan_spec(database, replace(EXPERIMENTS[0].study, search="tpe", trials=5, settings=(), grid=()))
        plan_spec(database, EXPERIMENTS[1].study)
        set_study_state(database, read_study(database, "a-y").study_id, "cancelled")
        end, said = carry_out(home, EXPERIMENTS[:2])
        assert end.refused["a-x"] == (
            "study a-x exists and is another one: search: tpe stored, grid asked; `lmf study delete a-x` makes way"
        )
        assert end.refused["a-y"] == "study a-y is cancelled; `lmf study retry a-y` plans its points again"
        assert "--study" not in said
        assert runs.trained == []

    def test_failed_points_are_named_with_what_helps(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]]
    ) -> None:
        runs.values = lambda lease: None if lease.beta == 1.0 else by_beta(lease)
        for _ in range(2):
            end, said = carry_out(home, EXPERIMENTS[:1])
            assert end == ReproductionEnd(1, 0, {}, False)
            assert "1 failed point of study a-x: `lmf study retry a-x` plans them again" in said
            assert "of study a-x-losses: " not in said
        assert "a-x: 1 point failed, the others are trained already" in said
        assert "a-x-losses: everything is trained already" in said

    def test_workers_that_refuse_are_told(
        self, home: Home, runs: Runs, reported: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(spec: StudySpec, options: RunOptions, home: Home, console: Console) -> RunEnd:
            end = runs(spec, replace(options, plan_only=True), home, console)
            return end if options.plan_only else replace(end, refusals=("no GPU",))

        monkeypatch.setattr(reproduction, "run_study", refuse)
        end, _ = carry_out(home, EXPERIMENTS[:1])
        assert end.refused["a-x"] == "2 points left, since workers refused: no GPU"

    def test_a_broken_card_ends_it(self, home: Home, runs: Runs, reported: list[tuple[str, ...]]) -> None:
        runs.errors = {"a-x": DeviceFailedError("cuda:0 failed")}
        with pytest.raises(DeviceFailedError):
            carry_out(home)
