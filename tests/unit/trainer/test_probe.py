from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lmf_testing.training import CPU

import trainer.probe
from trainer.config import Recipe
from trainer.errors import DeviceMemoryError, ModelError, TrainerError
from trainer.learner import Learner
from trainer.probe import TrainingCost, choose_precision, measure, measure_here, native_precisions

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(model="test_efficientnet", weights="none", image_size=32, batch_size=4)


def cost(train_seconds: float, evaluation_seconds: float = 0.0) -> TrainingCost:
    return TrainingCost(train_seconds, evaluation_seconds, 1, 1, 1)


class TestChoice:
    @pytest.mark.parametrize(
        ("seconds", "chosen"),
        [
            ({"fp32": 1.0}, "fp32"),
            ({"fp32": 1.0, "bf16": 0.5}, "bf16"),
            ({"fp32": 1.0, "bf16": 1.5}, "fp32"),
            ({"fp32": 1.0, "bf16": 0.97}, "fp32"),
            ({"fp32": 1.0, "bf16": 0.5, "fp16": 0.49}, "bf16"),
            ({"fp32": 1.0, "bf16": 0.5, "fp16": 0.4}, "fp16"),
            ({"fp32": 1.0, "fp16": 0.4}, "fp16"),
        ],
    )
    def test_the_fastest_is_taken_where_it_is_clearly_faster(self, seconds: dict[str, float], chosen: str):
        assert choose_precision({name: cost(value) for name, value in seconds.items()}) == chosen

    def test_evaluation_counts_by_its_share_of_the_images(self):
        assert choose_precision({"fp32": cost(1.0, 1.0), "bf16": cost(0.9, 2.0)}) == "fp32"
        assert choose_precision({"fp32": cost(1.0, 1.0), "bf16": cost(0.9, 1.0)}) == "bf16"


class TestNativePrecisions:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", ("fp32", "bf16")),
            ("flags : amx_bf16 amx_tile amx_fp16\n", ("fp32", "bf16", "fp16")),
            ("flags : fpu avx2\nflags : avx512_bf16\n", ("fp32",)),
            ("Features\t: fp asimd bf16\n", ("fp32", "bf16")),
            ("model name : avx512_bf16\n", ("fp32",)),
        ],
    )
    def test_a_processors_are_read_off_its_features(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]
    ):
        (tmp_path / "cpuinfo").write_text(text)
        read = trainer.probe._processor_flags
        monkeypatch.setattr(trainer.probe, "_processor_flags", lambda path: read(tmp_path / "cpuinfo"))
        assert native_precisions(CPU) == expected

    def test_a_machine_that_does_not_say_has_float32(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        read = trainer.probe._processor_flags
        monkeypatch.setattr(trainer.probe, "_processor_flags", lambda path: read(tmp_path / "absent"))
        assert native_precisions(CPU) == ("fp32",)

    @pytest.mark.parametrize(
        ("capability", "expected"),
        [((6, 1), ("fp32",)), ((7, 5), ("fp32", "fp16")), ((8, 0), ("fp32", "bf16", "fp16"))],
    )
    def test_a_gpus_follow_from_its_capability(
        self, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: tuple[str, ...]
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        assert native_precisions(torch.device("cuda:0")) == expected


class TestMeasuring:
    def test_auto_measures_what_the_device_can_do(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(trainer.probe, "native_precisions", lambda device: ("fp32", "bf16"))
        found = measure_here(replace(RECIPE, precision="auto"), 3, CPU, 2)
        assert list(found) == ["fp32", "bf16"]
        for one in found.values():
            assert one.train_seconds > one.evaluation_seconds > 0
            assert one.free_bytes > one.memory_bytes > one.state_bytes > 100_000

    def test_a_precision_that_the_model_cannot_be_computed_in_is_left_out(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(trainer.probe, "native_precisions", lambda device: ("fp32", "bf16"))
        train_batch = Learner.train_batch

        def partial(self: Learner, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            if self._recipe.precision == "bf16":
                raise RuntimeError("\"special_kernel\" not implemented for 'BFloat16'")
            return train_batch(self, pixels, targets)

        monkeypatch.setattr(Learner, "train_batch", partial)
        assert list(measure_here(replace(RECIPE, precision="auto"), 3, CPU, 2)) == ["fp32"]

    def test_it_is_done_with_the_recipes_threads(self, monkeypatch: pytest.MonkeyPatch):
        threads: list[int] = []
        train_batch = Learner.train_batch

        def counting(self: Learner, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            threads.append(torch.get_num_threads())
            return train_batch(self, pixels, targets)

        monkeypatch.setattr(Learner, "train_batch", counting)
        measure_here(replace(RECIPE, threads=2), 3, CPU, 0)
        assert set(threads) == {2}

    def test_it_is_done_in_another_process_that_this_ones_memory_does_not_count_in(self):
        threads = torch.get_num_threads()
        with mmap.mmap(-1, 1_500_000_000) as ballast:
            ballast[:: mmap.PAGESIZE] = bytes(len(range(0, len(ballast), mmap.PAGESIZE)))
            (found,) = measure(replace(RECIPE, threads=2), 3, CPU, rounds=0).values()
        assert found.memory_bytes < 1.4e9
        assert torch.get_num_threads() == threads

    def test_no_round_is_enough_to_know_the_memory(self):
        """Adam's moments come with the first update: of this network they are some 170 MB."""
        recipe = replace(RECIPE, model="resnet50", batch_size=2)
        first, last = (measure(recipe, 3, CPU, rounds=rounds)["fp32"].memory_bytes for rounds in (0, 3))
        assert last < first + 60e6

    def test_more_images_a_batch_take_more_memory(self):
        few, many = (
            measure(replace(RECIPE, model="test_resnet", image_size=128, batch_size=size), 3, CPU, rounds=0)[
                "fp32"
            ].memory_bytes
            for size in (2, 512)
        )
        assert many > few + 50e6

    def test_what_is_wrong_with_the_model_is_told_as_by_the_model(self):
        with pytest.raises(ModelError, match="no_such_model"):
            measure(replace(RECIPE, model="no_such_model"), 3, CPU)

    @pytest.mark.parametrize(
        ("code", "error", "message"),
        [
            (f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", DeviceMemoryError, "for want of memory"),
            (
                "import sys; print('a\\nlast line', file=sys.stderr); sys.exit(3)",
                TrainerError,
                "exit code 3.*last line",
            ),
        ],
    )
    def test_a_process_that_ends_badly_is_told_in_one_line(
        self, monkeypatch: pytest.MonkeyPatch, code: str, error: type[TrainerError], message: str
    ):
        run = subprocess.run

        def replaced(command: list[str], **arguments: Any) -> Any:
            return run([sys.executable, "-c", code], **arguments)

        monkeypatch.setattr(subprocess, "run", replaced)
        with pytest.raises(error, match=message) as caught:
            measure(RECIPE, 3, CPU)
        assert "\n" not in str(caught.value)

    def test_its_process_answers_in_one_document(self):
        asked = {"recipe": RECIPE.to_dict(), "num_classes": 3, "device": "cpu", "rounds": 0}
        done = subprocess.run(
            [sys.executable, "-m", "trainer.probe"],
            input=json.dumps(asked),
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert set(json.loads(done.stdout)["fp32"]) == set(TrainingCost.__dataclass_fields__)


@pytest.mark.gpu
class TestGpu:
    def test_the_peak_of_a_step_is_measured(self, gpu: torch.device):
        recipe = replace(RECIPE, model="resnet18", image_size=64, batch_size=32, precision="auto")
        found = measure(recipe, 3, gpu)
        assert {"fp32", "bf16"} <= set(found)
        assert found["fp32"].free_bytes > found["fp32"].memory_bytes
        few, many, longer = (
            measure(replace(recipe, precision="fp32", batch_size=size), 3, gpu, rounds=rounds)["fp32"].memory_bytes
            for size, rounds in ((32, 0), (512, 0), (512, 3))
        )
        assert many > few + 200 * 2**20
        assert longer == pytest.approx(many, rel=0.02)
