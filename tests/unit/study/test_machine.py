"""How many workers a machine bears, and what a new study leaves to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import study.machine
import trainer.probe
from study.errors import StudyError
from study.machine import Crew, choose_crew, fit_to_machine
from study.run_options import RunOptions
from study.spec import StudySpec
from trainer.config import Recipe
from trainer.probe import TrainingCost

GIB = 2**30
RECIPE = Recipe(model="test_efficientnet", weights="none", image_size=32)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """What is measured; one training takes 3 GiB of 42 GiB, bf16 is twice as fast as fp32."""
    recipes: list[Recipe] = []

    def measure(recipe: Recipe, num_classes: int, device: Any, *, rounds: int = 1) -> dict[str, TrainingCost]:
        recipes.append(recipe)
        names = ("fp32", "bf16") if recipe.precision == "auto" else (recipe.precision,)
        seconds = {"fp32": 0.02, "bf16": 0.01}
        return {name: TrainingCost(seconds[name], 0.0, 1, 3 * GIB, 42 * GIB) for name in names}

    monkeypatch.setattr(trainer.probe, "measure", measure)
    return recipes


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(study.machine, "available_cores", lambda: count)


def devices(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(study.machine, "list_devices", lambda device: names)


def crew(**options: Any) -> Crew:
    return choose_crew(RECIPE, 3, 1000, RunOptions(**options))


class TestCrew:
    @pytest.mark.parametrize(("count", "workers"), [(1, 1), (2, 2), (6, 6), (8, 8), (64, 8)])
    def test_a_processor_gets_a_worker_a_core_up_to_eight(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe], count: int, workers: int
    ):
        cores(monkeypatch, count)
        assert crew(device="cpu") == Crew(("cpu",), workers, None if count == 1 else 3 * GIB)

    def test_as_long_as_there_is_memory_for_what_one_takes(self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe]):
        cores(monkeypatch, 8)
        monkeypatch.setattr(study.machine, "measure_memory", lambda *_: (7 * GIB, 24 * GIB))
        assert crew(device="cpu").workers == 3
        monkeypatch.setattr(study.machine, "measure_memory", lambda *_: (70 * GIB, 24 * GIB))
        assert crew(device="cpu").workers == 1

    @pytest.mark.parametrize("options", [{"workers": 3, "device": "cpu"}, {"workers": 5, "device": "cuda"}])
    def test_the_users_number_is_not_measured(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe], options: dict[str, Any]
    ):
        devices(monkeypatch, options["device"])
        assert crew(**options).workers == options["workers"]
        assert asked == []

    @pytest.mark.parametrize(("per_gpu", "workers"), [(None, 2), (1, 2), (3, 6)])
    def test_each_gpu_gets_one_or_as_many_as_asked(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe], per_gpu: int | None, workers: int
    ):
        devices(monkeypatch, "cuda:0", "cuda:1")
        assert crew(per_gpu=per_gpu) == Crew(("cuda:0", "cuda:1"), workers)
        assert asked == []

    @pytest.mark.parametrize(("count", "workers"), [(64, 24), (8, 8), (1, 2)])
    def test_auto_fills_the_memory_and_leaves_each_a_core(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe], count: int, workers: int
    ):
        devices(monkeypatch, "cuda:0", "cuda:1")
        cores(monkeypatch, count)
        assert crew(per_gpu="auto").workers == workers

    def test_auto_counts_the_images_that_each_keeps_on_the_gpu(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe]
    ):
        devices(monkeypatch, "cuda:0")
        cores(monkeypatch, 64)
        size = 32 * 32 * 3
        kept = choose_crew(RECIPE, 3, 9 * GIB // size, RunOptions(per_gpu="auto"))
        assert kept.workers == 3
        too_large = choose_crew(RECIPE, 3, 11 * GIB // size, RunOptions(per_gpu="auto"))
        assert too_large.workers == 12

    @pytest.mark.parametrize("per_gpu", [2, "auto"])
    def test_trials_per_gpu_need_a_gpu(self, monkeypatch: pytest.MonkeyPatch, per_gpu: Any):
        with pytest.raises(StudyError, match=r"--per-gpu: there is no GPU here; .* --workers"):
            crew(device="cpu", per_gpu=per_gpu)

    def test_cores_are_divided_among_the_workers(self, monkeypatch: pytest.MonkeyPatch):
        cores(monkeypatch, 16)
        assert [Crew(("cuda:0",), workers).threads for workers in (1, 3, 16, 40)] == [16, 5, 1, 1]


class TestFit:
    def spec(self, unasked: frozenset[str] = frozenset({"threads", "precision"}), **recipe: Any) -> StudySpec:
        return StudySpec(
            name="s",
            dataset="folder:skin",
            title="skin",
            data=Path("/skin"),
            model="m",
            recipe=replace(RECIPE, **recipe),
            unasked=unasked,
        )

    def test_auto_becomes_the_fastest_precision_measured_with_the_studys_threads(
        self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe]
    ):
        cores(monkeypatch, 6)
        said: list[str] = []
        spec, cost = fit_to_machine(self.spec(precision="auto"), Crew(("cpu",), 2), 3, said.append)
        assert (spec.recipe.precision, spec.recipe.threads) == ("bf16", 3)
        assert cost is not None
        assert cost.train_seconds == 0.01
        assert [(recipe.precision, recipe.threads) for recipe in asked] == [("auto", 3)]
        assert said == ["precision: bf16; a batch takes on cpu with validation fp32 640 ms, bf16 320 ms"]

    @pytest.mark.parametrize("figure", ["compile", "deterministic"])
    def test_a_step_that_not_every_model_can_do_is_tried_once(self, asked: list[Recipe], figure: str):
        spec = self.spec(frozenset(), **{figure: True})
        fit_to_machine(spec, Crew(("cpu",), 1), 3, lambda line: None)
        assert asked == [spec.recipe]
        fit_to_machine(spec, Crew(("cpu",), 1, 3 * GIB), 3, lambda line: None)
        assert len(asked) == 1, "it was tried when the memory was measured"

    def test_a_precision_that_was_asked_for_is_not_measured(self, monkeypatch: pytest.MonkeyPatch, asked: list[Recipe]):
        said: list[str] = []
        spec, cost = fit_to_machine(
            self.spec(frozenset(), precision="fp16", threads=5), Crew(("cpu",), 1), 3, said.append
        )
        assert (spec.recipe.precision, spec.recipe.threads) == ("fp16", 5)
        assert (asked, said, cost) == ([], [], None)
