from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lmf_testing.training import CPU, Data, Trial, config_of
from lmf_testing.waiting import forbid_waiting
from torch._dynamo.exc import BackendCompilerFailed

from trainer.config import Recipe
from trainer.errors import DeviceFailedError, DeviceMemoryError, ModelError
from trainer.process import set_up_process, translated_failures
from trainer.train import train

CUDA = torch.device("cuda:0")

# A trial on the GPU in a process of its own: what makes it deterministic must be set before CUDA is first used.
GPU_TRIAL = """
import json, sys
from pathlib import Path
import torch
from lmf_testing.training import Trial, config_of, make_data
from trainer.process import set_up_process
from trainer.train import Interrupted
folder, stop_at = Path(sys.argv[1]), int(sys.argv[2])
config = config_of(model="resnet18", deterministic=True, precision=sys.argv[3], augment="standard")
gpu = torch.device("cuda:0")
set_up_process(config.recipe, gpu)
trial = Trial(config, make_data(), folder, gpu)
if stop_at:
    try:
        trial.go(stop_at=stop_at)
    except Interrupted:
        pass
result = trial.go(resume=stop_at > 0)
print(json.dumps([result.weights_sha256, result.val.to_dict(), result.test.to_dict()]))
"""


KEEPS_MEMORY = """
import psutil, sys, torch
from trainer.config import Recipe
from trainer.process import set_up_process
if sys.argv[1] == "True":
    set_up_process(Recipe(), torch.device("cpu"))
before = psutil.Process().memory_info().rss
tensors = [torch.ones(25_000_000) for _ in range(4)]
del tensors
print(psutil.Process().memory_info().rss - before)
"""


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Puts torch's settings back, which are the whole process's."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    multiplication = torch.get_float32_matmul_precision()
    workspace = os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision(multiplication)
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    if workspace is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


class TestSetUp:
    def test_the_process_computes_with_the_threads_of_the_recipe(self):
        set_up_process(Recipe(threads=2), CPU)
        assert torch.get_num_threads() == 2
        set_up_process(Recipe(threads=1), CPU)
        assert torch.get_num_threads() == 1

    def test_a_gpu_is_set_up_for_speed(self):
        set_up_process(Recipe(), CUDA)
        assert torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "high"
        assert not torch.are_deterministic_algorithms_enabled()

    def test_or_for_repeatability(self):
        set_up_process(Recipe(deterministic=True), CUDA)
        assert not torch.backends.cudnn.benchmark
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        set_up_process(Recipe(), CUDA)
        assert not torch.are_deterministic_algorithms_enabled()

    @pytest.mark.parametrize("is_set_up", [True, False])
    def test_a_processor_keeps_the_memory_that_it_frees(self, is_set_up: bool):
        """In a process of its own, since this cannot be taken back."""
        if not hasattr(ctypes.CDLL(None), "mallopt"):
            pytest.skip("this machine's C library has no mallopt (glibc has)")
        done = subprocess.run(
            [sys.executable, "-c", KEEPS_MEMORY, str(is_set_up)], check=True, stdout=subprocess.PIPE, text=True
        )
        kept = int(done.stdout) / 400e6
        assert kept > 0.9 if is_set_up else kept < 0.1

    def test_a_processor_multiplies_float32_as_such(self):
        set_up_process(Recipe(), CPU)
        assert torch.get_float32_matmul_precision() == "highest"


class TestFailures:
    def test_a_kernel_that_does_not_repeat_itself_is_named(self):
        recipe = Recipe(model="resnet18", deterministic=True)
        with pytest.raises(ModelError, match=r"resnet18 .*\(adaptive_max_pool2d_backward\); leave out --deterministic"):
            with translated_failures(recipe, CPU):
                raise RuntimeError("adaptive_max_pool2d_backward does not have a deterministic implementation, but you")

    def test_a_missing_compiler_is_told(self):
        error = BackendCompilerFailed(lambda: None, RuntimeError("InvalidCxxCompiler: no compiler"), [])
        with pytest.raises(ModelError, match=r"cannot be compiled here \(.*\); leave out --compile"):
            with translated_failures(Recipe(compile=True), CPU):
                raise error

    @pytest.mark.parametrize("recipe", [Recipe(), Recipe(deterministic=True, compile=True)])
    def test_other_errors_are_left_alone(self, recipe: Recipe):
        with pytest.raises(RuntimeError, match="mat1"), translated_failures(recipe, CPU):
            raise RuntimeError("mat1 and mat2")


@pytest.mark.parametrize(
    "said", ["CUDA error: an illegal memory access was encountered", "CUBLAS_STATUS_EXECUTION_FAILED"]
)
def test_a_card_that_fails_is_told_from_a_training_that_fails(said: str):
    recipe = config_of().recipe
    with (
        pytest.raises(DeviceFailedError, match=r"cuda:0 failed: .*nvidia-smi"),
        translated_failures(recipe, torch.device("cuda:0")),
    ):
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="CU"), translated_failures(recipe, CPU):
        raise RuntimeError(said)


@pytest.mark.gpu
class TestGpu:
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_deterministic_trial_repeats_itself_and_resumes_alike(
        self, tmp_path: Path, gpu: torch.device, precision: str
    ):
        def run(name: str, stop_at: int) -> object:
            command = [sys.executable, "-c", GPU_TRIAL, str(tmp_path / name), str(stop_at), precision]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            return json.loads(done.stdout.splitlines()[-1])

        first = run("first", 0)
        assert run("second", 0) == first
        assert run("within an epoch", 2) == first
        assert run("after an epoch", 6) == first

    def test_running_out_of_a_gpus_memory_gives_the_figures(self, data: Data, tmp_path: Path, gpu: torch.device):
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.002, gpu)
        try:
            with pytest.raises(DeviceMemoryError) as error:
                Trial(config_of(model="resnet50", batch_size=21), data, tmp_path, gpu).go()
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, gpu)
            torch.cuda.empty_cache()
        assert "this training had taken" in str(error.value)
        assert "(--per-gpu)" in str(error.value)

    @pytest.mark.parametrize("source", ["resident", "prefetched"])
    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_within_an_epoch_nothing_waits_for_the_gpu(
        self,
        data: Data,
        tmp_path: Path,
        gpu: torch.device,
        monkeypatch: pytest.MonkeyPatch,
        source: str,
        precision: str,
    ):
        """Where a copy or a read would wait, torch raises: from the first batch of the second epoch to its last."""
        monkeypatch.setattr("trainer.data.batches._choose_source", lambda size, device: source)
        monkeypatch.setattr("trainer.train._CHECK_STEPS", 1)
        config = config_of(epochs=2, augment="standard", normalize=True, precision=precision)
        steps = len(data.split.train) // 5
        calls = 0

        def control() -> None:
            nonlocal calls
            calls += 1
            within = steps + 1 < calls < 2 * steps + 1
            forbid_waiting(within)

        try:
            train(
                config,
                data.images,
                data.labels,
                3,
                data.split,
                gpu,
                checkpoint_path=tmp_path / "c",
                on_epoch=lambda epoch: None,
                control=control,
            )
        finally:
            forbid_waiting(False)
        assert calls > 2 * steps
