"""`--dry-run`: what a study would take, told before anything is started or written."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from storage.database import Database
from storage.errors import NoDatabaseError
from storage.search_plan import NO_PRUNER
from study.home import Home
from study.images import find_images, split_counts
from study.machine import choose_crew, fit_to_machine, measure_memory
from study.plan import compare_with_stored, is_planned
from study.progress import count_text, duration_text
from study.run_options import RunOptions
from study.spec import StudySpec, points
from trainer.data.cache import prepared_bytes

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
    cache_bytes: int
    checkpoint_bytes: int
    kept_bytes: int
    memory_bytes: int
    workers: int
    devices: tuple[str, ...]
    is_pruned: bool


def estimate(spec: StudySpec, options: RunOptions, home: Home) -> Estimate:
    """Measure a few batches of the study's model here, and reckon from that; nothing is written.

    Raises:
        StudyError: the request cannot be carried out.
        TrainerError: data or model cannot be used.
    """
    import torch

    from trainer.probe import measure

    dataset, split = find_images(spec)
    counts = {name: sum(part) for name, part in split_counts(dataset.labels, split, len(dataset.class_names)).items()}
    num_classes = len(dataset.class_names)
    spec, trained = _stored(spec, home)
    crew = choose_crew(spec.recipe, num_classes, len(dataset), options)
    spec, cost = fit_to_machine(spec, crew, num_classes, lambda line: None)
    left = (spec.trials or len(points(spec))) - trained
    workers = max(1, min(crew.workers, left))
    recipe = spec.recipe
    if cost is None:
        cost = measure(recipe, num_classes, torch.device(crew.devices[0]))[recipe.precision]
        memory = cost.memory_bytes
    else:
        memory = crew.memory_bytes or measure_memory(recipe, num_classes, crew.devices[0])[0]
    epoch_seconds = counts["train"] * cost.train_seconds + counts["val"] * cost.evaluation_seconds
    point_seconds = recipe.epochs * epoch_seconds + counts["test"] * cost.evaluation_seconds
    rounds = -(-left // workers)
    kept = left if options.kept_count is None else min(options.kept_count, left + trained)
    return Estimate(
        points=left,
        trained=trained,
        epochs=left * recipe.epochs,
        seconds=rounds * point_seconds,
        cache_bytes=prepared_bytes(len(dataset), recipe.image_size),
        checkpoint_bytes=workers * CHECKPOINT_STATES * cost.state_bytes,
        kept_bytes=kept * cost.state_bytes,
        memory_bytes=memory,
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
        f"disk:    {_size(found.cache_bytes)} decoded images, {_size(found.checkpoint_bytes)} checkpoints "
        f"while it runs, {_size(found.kept_bytes)} weights kept",
        f"memory:  about {_size(found.memory_bytes)} a worker",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _stored(spec: StudySpec, home: Home) -> tuple[StudySpec, int]:
    """The description with what a stored study of the name adds to it, and how many of its points are trained."""
    from storage.queries import read_study

    try:
        database = Database.open(home.storage_url, create=False)
    except NoDatabaseError:
        return spec, 0
    try:
        if not is_planned(database, spec.name):
            return spec, 0
        comparison = compare_with_stored(database, spec)
        merged = spec if comparison is None else comparison.merged
        done = ("complete", "pruned")
        return merged, sum(point.state in done for point in read_study(database, spec.name).points)
    finally:
        database.close()


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
