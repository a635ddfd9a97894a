"""What one training costs on this machine, measured on a few batches of noise.

`measure` does it in a process of its own: its memory is that of one training and nothing else, it leaves no CUDA
context behind, and where the memory does not suffice, it is not this process that ends.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from trainer import errors
from trainer.config import AUTO, PRECISIONS, Recipe, TrialConfig
from trainer.errors import DeviceMemoryError, TrainerError
from trainer.learner import Learner
from trainer.process import set_up_process, translated_failures

EVALUATED_SHARE = 0.15 / 0.70
"""Images that are only predicted in an epoch, for each image that is trained on."""

HOST_COPIES = 5
"""Copies of the weights' size that a training on a processor holds besides: its best epoch's, while they are replaced
twice, and what a checkpoint is written from (weights and Adam's two moments)."""

CUDA_CONTEXT_BYTES = 600 * 2**20
"""What a process takes of a GPU's memory besides its tensors: its context and the libraries' kernels and workspaces."""

MOST_ROUNDS = 12
"""How often steps are timed at most, after one that warms up; slow ones are timed less often."""

_ENOUGH_SECONDS = 6.0
_ROUND_SECONDS = 0.05
_GAIN = 1.05
_NOT_IMPLEMENTED = "not implemented for"


@dataclass(frozen=True)
class TrainingCost:
    """Costs of one training.

    Attributes:
        train_seconds: per training image.
        evaluation_seconds: per image that is only predicted.
        state_bytes: the model's weights.
        memory_bytes: most memory that the training takes: on a GPU of the GPU, else of the process.
        free_bytes: memory that was free on the device before, the training's own included.
    """

    train_seconds: float
    evaluation_seconds: float
    state_bytes: int
    memory_bytes: int
    free_bytes: int

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch for each of its training images, validation included."""
        return self.train_seconds + EVALUATED_SHARE * self.evaluation_seconds


def native_precisions(device: torch.device) -> tuple[str, ...]:
    """The precisions that a device computes in by itself, fp32 first.

    What a processor only imitates by way of float32 is not among them.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        found = {"fp32": True, "bf16": major >= 8, "fp16": (major, minor) >= (7, 0)}
    else:
        flags = _processor_flags(Path("/proc/cpuinfo"))
        found = {
            "fp32": True,
            "bf16": bool(flags & {"avx512_bf16", "amx_bf16", "bf16"}),
            "fp16": bool(flags & {"avx512_fp16", "amx_fp16"}),
        }
    return tuple(name for name in PRECISIONS if found[name])


def choose_precision(costs: dict[str, TrainingCost]) -> str:
    """The precision to train in: the fastest, where it is clearly faster than one that is nearer to float32.

    Args:
        costs: by precision; fp32 among them.
    """
    chosen = "fp32"
    for name in PRECISIONS:
        if name in costs and costs[name].epoch_seconds * _GAIN < costs[chosen].epoch_seconds:
            chosen = name
    return chosen


def measure(
    recipe: Recipe, num_classes: int, device: torch.device, *, rounds: int = MOST_ROUNDS
) -> dict[str, TrainingCost]:
    """Measure in a process of its own what training with the recipe costs, untrained and on noise.

    Args:
        recipe: how to train; its threads are used. With the precision `auto`, all that the device computes in by itself
            are measured, in turns; one that the model cannot be computed in is left out.
        num_classes: classes K, at least 2.
        device: where to train.
        rounds: how often to time steps at most, after one that warms up; 0 is enough to know the memory.

    Returns:
        The costs by precision. With several of them, memory is that of all together.

    Raises:
        TrainerError: the model cannot be built.
        DeviceMemoryError: the device has too little memory.
    """
    asked = {"recipe": recipe.to_dict(), "num_classes": num_classes, "device": str(device), "rounds": rounds}
    command = [sys.executable, "-P", "-m", "trainer.probe"]
    # In a session of its own it is not ended by a Ctrl-C that asks this process to stop in good order.
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, start_new_session=True)
    if done.returncode == -signal.SIGKILL:
        raise DeviceMemoryError(
            f"{recipe.model} with batches of {recipe.batch_size} images of {recipe.image_size} x {recipe.image_size}: "
            "a trial step was killed, as the system does for want of memory; use a smaller batch, smaller images or "
            "another model"
        )
    if done.returncode != 0:
        last = next(iter(reversed(done.stderr.strip().splitlines())), "")
        raise TrainerError(f"a step of {recipe.model} cannot be measured (exit code {done.returncode}): {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise getattr(errors, answer["kind"])(answer["error"])
    return {name: TrainingCost(**cost) for name, cost in answer.items()}


def measure_here(recipe: Recipe, num_classes: int, device: torch.device, rounds: int) -> dict[str, TrainingCost]:
    """Measure in this process, whose threads and kernels it sets; `measure` says the rest."""
    set_up_process(recipe, device)
    free = _free_memory(device)
    names = native_precisions(device) if recipe.precision == AUTO else (recipe.precision,)
    timings: dict[str, _Timing] = {}
    with translated_failures(recipe, device):
        for name in names:
            try:
                timings[name] = _Timing(replace(recipe, precision=name), num_classes, device)
            except RuntimeError as error:
                if name == names[0] or _NOT_IMPLEMENTED not in str(error):
                    raise
        until = time.perf_counter() + _ENOUGH_SECONDS * len(timings)
        for _ in range(rounds):
            for timing in timings.values():
                timing.round()
            if time.perf_counter() > until:
                break
    peak = _peak_memory(device)
    return {name: timing.cost(peak, free) for name, timing in timings.items()}


class _Timing:
    """A learner of noise, and the shortest times that its steps took."""

    def __init__(self, recipe: Recipe, num_classes: int, device: torch.device) -> None:
        self._device = device
        self._size = recipe.batch_size
        count = max(self._size, num_classes)
        images = np.random.default_rng(0).integers(0, 256, (count, recipe.image_size, recipe.image_size, 3), np.uint8)
        labels = np.arange(count, dtype=np.int64) % num_classes
        config = TrialConfig(recipe=recipe, loss="lmf", alpha=1.0, beta=1.0, seed=0)
        self._learner = Learner(config, np.bincount(labels).tolist(), images, labels, device, pretrained=False)
        self._indices = np.arange(self._size)
        # Adam's moments are there from the second step on.
        self._steps = 2
        self._train_seconds, self._evaluation_seconds = [self._train()], [self._evaluate()]
        self._steps = max(1, round(_ROUND_SECONDS / self._train_seconds[0]))

    def round(self) -> None:
        self._train_seconds.append(self._train())
        self._evaluation_seconds.append(self._evaluate())

    def cost(self, memory_bytes: int, free_bytes: int) -> TrainingCost:
        state_bytes = sum(value.nbytes for value in self._learner.model_state().values())
        copies = 0 if self._device.type == "cuda" else HOST_COPIES
        return TrainingCost(
            train_seconds=min(self._train_seconds) / self._size,
            evaluation_seconds=min(self._evaluation_seconds) / self._size,
            state_bytes=state_bytes,
            memory_bytes=memory_bytes + copies * state_bytes,
            free_bytes=free_bytes,
        )

    def _train(self) -> float:
        started = _now(self._device)
        with closing(self._learner.batches(self._indices, [slice(0, self._size)] * self._steps, None)) as batches:
            for pixels, targets in batches:
                self._learner.train_batch(pixels, targets)
        return (_now(self._device) - started) / self._steps

    def _evaluate(self) -> float:
        started = _now(self._device)
        self._learner.evaluate(np.tile(self._indices, self._steps), lambda: None)
        return (_now(self._device) - started) / self._steps


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _free_memory(device: torch.device) -> int:
    """What is free on a device, or taken by this process already."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + CUDA_CONTEXT_BYTES
    return int(psutil.virtual_memory().available) + int(psutil.Process().memory_info().rss)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) + CUDA_CONTEXT_BYTES
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage tells on Linux may be the peak of the process that started this one.
        return next(
            int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:")
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor_flags(cpuinfo: Path) -> set[str]:
    """The features that Linux lists for the first processor; none where it does not say."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return set()
    named = (line.partition(":") for line in lines)
    return next((set(rest.split()) for name, _, rest in named if name.strip().lower() in ("flags", "features")), set())


def _main() -> None:
    """Answer one question of `measure`: JSON from stdin to stdout."""
    asked = json.load(sys.stdin)
    try:
        recipe, device = Recipe.from_dict(asked["recipe"]), torch.device(asked["device"])
        found = measure_here(recipe, asked["num_classes"], device, asked["rounds"])
    except TrainerError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        return
    print(json.dumps({name: asdict(cost) for name, cost in found.items()}))


if __name__ == "__main__":
    _main()
