"""What of a study depends on this machine: how many workers it bears, their threads, the precision it is fastest in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from study.devices import list_devices
from study.errors import StudyError
from study.images import available_cores
from study.run_options import RunOptions
from study.spec import StudySpec
from trainer.config import AUTO, Recipe
from trainer.data.cache import prepared_bytes

if TYPE_CHECKING:
    from trainer.probe import TrainingCost

MOST_CPU_WORKERS = 8
USABLE_SHARE = 0.9
"""How much of the memory that is free may be planned with."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Crew:
    """The workers that this machine puts to a study.

    Attributes:
        devices: where they train, in turn.
        workers: how many.
        memory_bytes: what one of them takes at most, where that had to be measured.
    """

    devices: tuple[str, ...]
    workers: int
    memory_bytes: int | None = None

    @property
    def threads(self) -> int:
        """Processor threads of each worker of a new study."""
        return max(1, available_cores() // self.workers)


def choose_crew(recipe: Recipe, num_classes: int, images: int, options: RunOptions) -> Crew:
    """Decide how many workers train here, and where.

    Without `--workers` and `--per-gpu` there is one a GPU, or on a processor one a core, as long as there is memory for
    them: what one of them takes is measured then, in a process of its own.

    Args:
        recipe: what each worker trains.
        num_classes: classes K.
        images: images of the dataset, all parts together.
        options: what the user wants.

    Raises:
        StudyError: a device or GPU is asked for that is not there.
        TrainerError: the model cannot be built, or not even one worker finds the memory it needs.
    """
    devices = list_devices(options.device)
    if devices == ("cpu",):
        if options.per_gpu is not None:
            raise StudyError("--per-gpu: there is no GPU here; leave it out, or give --workers")
        return Crew(devices, options.workers) if options.workers else _cpu_crew(recipe, num_classes)
    if options.per_gpu == "auto":
        return _packed_crew(recipe, num_classes, images, devices)
    return Crew(devices, options.workers or len(devices) * (options.per_gpu or 1))


def fit_to_machine(spec: StudySpec, crew: Crew, num_classes: int, say: Say) -> tuple[StudySpec, TrainingCost | None]:
    """Fill in what a new study leaves to the machine: threads, and the precision where it is `auto`.

    A step of a recipe that not every model or machine can do, compiled or deterministic, is tried here in any case.

    Args:
        spec: a study that is not stored yet.
        crew: who will train it.
        num_classes: classes K.
        say: told in a line which precision was chosen, and why.

    Returns:
        The study with nothing left open, and what a training costs in its precision where that was measured.

    Raises:
        TrainerError: the model cannot be built, or the device has too little memory.
    """
    spec = spec.with_machine_figures(threads=crew.threads)
    import torch

    from trainer.probe import choose_precision, measure

    device = torch.device(crew.devices[0])
    if spec.recipe.precision != AUTO:
        if crew.memory_bytes is None and (spec.recipe.compile or spec.recipe.deterministic):
            measure(spec.recipe, num_classes, device, rounds=0)
        return spec, None
    costs = measure(spec.recipe, num_classes, device)
    chosen = choose_precision(costs)
    batch = spec.recipe.batch_size
    times = ", ".join(f"{name} {1000 * batch * cost.epoch_seconds:.0f} ms" for name, cost in costs.items())
    say(f"precision: {chosen}; a batch takes on {crew.devices[0]} with validation {times}")
    return replace(spec, recipe=replace(spec.recipe, precision=chosen)), costs[chosen]


def measure_memory(recipe: Recipe, num_classes: int, device: str) -> tuple[int, int]:
    """Bytes that one training takes on a device at most, and that are free there.

    Args:
        recipe: what is trained; with the precision `auto`, fp32 is measured, which takes the most.
        num_classes: classes K.
        device: `cpu` or `cuda:N`.

    Raises:
        TrainerError: the model cannot be built, or the device has too little memory.
    """
    import torch

    from trainer.probe import measure

    precision = "fp32" if recipe.precision == AUTO else recipe.precision
    asked = replace(recipe, precision=precision, threads=available_cores() if device == "cpu" else 1)
    cost = measure(asked, num_classes, torch.device(device), rounds=0)[precision]
    return cost.memory_bytes, cost.free_bytes


def _cpu_crew(recipe: Recipe, num_classes: int) -> Crew:
    cores = min(available_cores(), MOST_CPU_WORKERS)
    if cores == 1:
        return Crew(("cpu",), 1)
    needed, free = measure_memory(recipe, num_classes, "cpu")
    return Crew(("cpu",), max(1, min(cores, int(USABLE_SHARE * free) // needed)), needed)


def _packed_crew(recipe: Recipe, num_classes: int, images: int, devices: tuple[str, ...]) -> Crew:
    """As many trials a GPU as fit side by side, each with the images it keeps there, and find a core each."""
    from trainer.data.batches import RESIDENT_SHARE

    needed, free = measure_memory(recipe, num_classes, devices[0])
    kept = prepared_bytes(images, recipe.image_size)
    if kept <= RESIDENT_SHARE * free:
        needed += kept
    by_cores = available_cores() // len(devices)
    per_gpu = max(1, min(by_cores, int(USABLE_SHARE * free) // needed))
    return Crew(devices, len(devices) * per_gpu, needed)
