"""`--dry-run`: what a study would take, told before anything is started or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from storage.search_plan import NO_PRUNER
from study.home import Home
from study.images import find_images, split_counts
from study.machine import Crew, choose_crew, fit_to_machine, measure_memory
from study.plan import compare_with_stored, is_planned, stored_studies
from study.progress import count_text, duration_text
from study.run_options import RunOptions
from study.spec import StudySpec, points
from trainer.data.cache import prepared_bytes

if TYPE_CHECKING:
    from trainer.probe import TrainingCost

CHECKPOINT_STATES = 4
"""A checkpoint holds the weights, Adam's two moments of them, and the best epoch's weights."""


@dataclass(frozen=True)
class Estimate:
    """What a study would take.

    Attributes:
        points: points to train, those already trained left out.
        trained: points that are trained already.
        epochs: epochs of all points to train.
        seconds: time from start to end.
        device_seconds: time of all trainings together, as if they came one after the other.
        cache_bytes: decoded images on disk.
        checkpoint_bytes: checkpoints on disk while it runs.
        kept_bytes: weights on disk that are kept at the end.
        memory_bytes: memory of one worker, of the GPU where there is one.
        workers: worker processes.
        devices: where they train.
        is_pruned: whether trainings may end early.
    """

    points: int
    trained: int
    epochs: int
    seconds: float
    device_seconds: float
    cache_bytes: int
    checkpoint_bytes: int
    kept_bytes: int
    memory_bytes: int
    workers: int
    devices: tuple[str, ...]
    is_pruned: bool


@dataclass(frozen=True)
class Measured:
    """What training a model costs on this machine.

    Attributes:
        crew: the workers that this machine puts to it.
        cost: of one training.
        memory_bytes: most memory that one training takes.
    """

    crew: Crew
    cost: TrainingCost
    memory_bytes: int


def estimate(spec: StudySpec, options: RunOptions, home: Home) -> Estimate:
    """Measure a few batches of the study's model here, and reckon from that; nothing is written.

    Raises:
        StudyError: the request cannot be carried out.
        TrainerError: data or model cannot be used.
    """
    dataset, split = find_images(spec)
    num_classes = len(dataset.class_names)
    counts = {name: sum(part) for name, part in split_counts(dataset.labels, split, num_classes).items()}
    spec, trained = stored_progress(spec, home)
    return reckon(spec, options, counts, trained, measure_model(spec, options, num_classes, len(dataset)))


def measure_model(spec: StudySpec, options: RunOptions, num_classes: int, images: int) -> Measured:
    """Measure a few batches of a study's model here.

    Args:
        spec: the study; what it leaves to the machine is settled for the measurement.
        options: how it is to be carried out.
        num_classes: classes K.
        images: images of the dataset, all parts together.

    Raises:
        StudyError: a device or GPU is asked for that is not there.
        TrainerError: the model cannot be built, or the device has too little memory.
    """
    import torch

    from trainer.probe import measure

    crew = choose_crew(spec.recipe, num_classes, images, options)
    spec, cost = fit_to_machine(spec, crew, num_classes, lambda line: None)
    if cost is None:
        cost = measure(spec.recipe, num_classes, torch.device(crew.devices[0]))[spec.recipe.precision]
        memory = cost.memory_bytes
    else:
        memory = crew.memory_bytes or measure_memory(spec.recipe, num_classes, crew.devices[0])[0]
    return Measured(crew, cost, memory)


def reckon(
    spec: StudySpec, options: RunOptions, counts: Mapping[str, int], trained: int, measured: Measured
) -> Estimate:
    """What a study would take, from what its model costs.

    Args:
        spec: the study.
        options: how it is to be carried out.
        counts: images of `train`, `val` and `test`.
        trained: points that are trained already.
        measured: of its model at its image size.
    """
    recipe, crew, cost = spec.recipe, measured.crew, measured.cost
    left = (spec.trials or len(points(spec))) - trained
    workers = max(1, min(crew.workers, left))
    epoch_seconds = counts["train"] * cost.train_seconds + counts["val"] * cost.evaluation_seconds
    point_seconds = recipe.epochs * epoch_seconds + counts["test"] * cost.evaluation_seconds
    rounds = -(-left // workers)
    kept = left
    if options.kept_count is not None:
        kept = min(options.kept_count * max(1, len(spec.losses)), left + trained)
    return Estimate(
        points=left,
        trained=trained,
        epochs=left * recipe.epochs,
        seconds=rounds * point_seconds,
        device_seconds=left * point_seconds,
        cache_bytes=prepared_bytes(sum(counts.values()), recipe.image_size),
        checkpoint_bytes=workers * CHECKPOINT_STATES * cost.state_bytes,
        kept_bytes=kept * cost.state_bytes,
        memory_bytes=measured.memory_bytes,
        workers=workers,
        devices=crew.devices,
        is_pruned=spec.pruner != NO_PRUNER,
    )


def print_estimate(spec: StudySpec, options: RunOptions, home: Home, console: Console) -> None:
    """Print what a study would take.

    Raises:
        StudyError: the request cannot be carried out.
        TrainerError: data or model cannot be used.
    """
    found = estimate(spec, options, home)
    done = f" ({found.trained} more are trained already)" if found.trained else ""
    where = ", ".join(found.devices)
    fewer = ", fewer where it is pruned" if found.is_pruned else ""
    lines = (
        f"study {spec.name}: dry run, nothing is trained or written",
        f"points:  {found.points}{done}",
        f"epochs:  {found.epochs} ({spec.recipe.epochs} a point{fewer})",
        f"time:    about {duration_text(found.seconds)} with {count_text(found.workers, 'worker')} on {where}, "
        "from a few batches measured here",
        f"disk:    {size_text(found.cache_bytes)} decoded images, {size_text(found.checkpoint_bytes)} checkpoints "
        f"while it runs, {size_text(found.kept_bytes)} weights kept",
        f"memory:  about {size_text(found.memory_bytes)} a worker",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def stored_progress(spec: StudySpec, home: Home) -> tuple[StudySpec, int]:
    """The description with what a stored study of the name adds to it, and how many of its points are trained.

    Raises:
        StudyError: the stored study is another one, or is paused or cancelled.
        StorageError: the database cannot be read.
    """
    from storage.queries import read_study

    with stored_studies(home) as database:
        if database is None or not is_planned(database, spec.name):
            return spec, 0
        comparison = compare_with_stored(database, spec)
        merged = spec if comparison is None else comparison.merged
        done = ("complete", "pruned")
        return merged, sum(point.state in done for point in read_study(database, spec.name).points)


def size_text(count: int) -> str:
    """A number of bytes as people say it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
