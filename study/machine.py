"""What of a study depends on this machine: how many workers it bears, their threads, the precision it is fastest in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from study.devices import list_devices
from study.errors import StudyError
from study.images import available_cores
from study.run_options import RunOptions
from study.spec import StudySpec
from trainer.config import AUTO, Recipe
from trainer.data.cache import prepared_bytes

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
    """

    devices: tuple[str, ...]
    workers: int

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
        workers = options.workers or _cpu_workers(recipe, num_classes)
    elif options.per_gpu == "auto":
        workers = len(devices) * _trials_per_gpu(recipe, num_classes, images, devices)
    else:
        per_gpu = 1 if options.per_gpu is None else options.per_gpu
        workers = options.workers or len(devices) * per_gpu
    return Crew(devices, workers)


def fit_to_machine(spec: StudySpec, crew: Crew, num_classes: int, say: Say) -> StudySpec:
    """Fill in what a new study leaves to the machine: threads, and the precision where it is `auto`.

    Args:
        spec: a study that is not stored yet.
        crew: who will train it.
        num_classes: classes K.
        say: told in a line which precision was chosen, and why.

    Raises:
        TrainerError: the model cannot be built, or the device has too little memory.
    """
    spec = spec.with_machine_figures(threads=crew.threads)
    if spec.recipe.precision != AUTO:
        return spec
    import torch

    from trainer.probe import choose_precision, measure

    costs = measure(spec.recipe, num_classes, torch.device(crew.devices[0]))
    chosen = choose_precision(costs)
    batch = spec.recipe.batch_size
    times = ", ".join(f"{name} {1000 * batch * cost.epoch_seconds:.0f} ms" for name, cost in costs.items())
    say(f"precision: {chosen}; a batch takes on {crew.devices[0]} with validation {times}")
    return replace(spec, recipe=replace(spec.recipe, precision=chosen))


def _cpu_workers(recipe: Recipe, num_classes: int) -> int:
    cores = min(available_cores(), MOST_CPU_WORKERS)
    if cores == 1:
        return 1
    needed, free = _memory(recipe, num_classes, "cpu")
    return max(1, min(cores, int(USABLE_SHARE * free) // needed))


def _trials_per_gpu(recipe: Recipe, num_classes: int, images: int, devices: tuple[str, ...]) -> int:
    """How many trials fit into a GPU side by side, each with the images it keeps there, and find a core each."""
    from trainer.data.batches import RESIDENT_SHARE

    needed, free = _memory(recipe, num_classes, devices[0])
    kept = prepared_bytes(images, recipe.image_size)
    if kept <= RESIDENT_SHARE * free:
        needed += kept
    by_cores = available_cores() // len(devices)
    return max(1, min(by_cores, int(USABLE_SHARE * free) // needed))


def _memory(recipe: Recipe, num_classes: int, device: str) -> tuple[int, int]:
    """Bytes that one training takes on a device at most, and that are free there."""
    import torch

    from trainer.probe import measure

    # Which precision it will be may not be known yet; fp32 takes the most memory.
    precision = "fp32" if recipe.precision == AUTO else recipe.precision
    threads = available_cores() if device == "cpu" else 1
    asked = replace(recipe, precision=precision, threads=threads)
    cost = measure(asked, num_classes, torch.device(device))[precision]
    return cost.memory_bytes, cost.free_bytes
