"""What is left of the paper's experiments, and what that would take, told before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from study.data_search import DataAtHand, DataMissing
from study.errors import StudyError
from study.estimate import Estimate, Measured, measure_model, reckon, size_text
from study.home import Home
from study.progress import count_text, duration_text
from study.reproduction_plan import Experiment
from study.reproduction_stored import (
    ReadyComparison,
    find_stored,
    missing_factors_text,
    ready_comparison,
    refusal_text,
)
from study.run_options import RunOptions
from study.spec import PLAIN_FACTORS, StudySpec, points
from trainer.data.cache import prepared_bytes
from trainer.errors import TrainerError

HOUR = 3600.0


@dataclass(frozen=True)
class Forecast:
    """What one study would take.

    Attributes:
        spec: the study, with all that a stored study of its name adds to it.
        data: its dataset.
        done: points that are trained already.
        failed: points that failed, and are not trained again by themselves.
        left: points to train; 0 where it cannot be carried out.
        estimate: what the points to train would take; None where there is none.
        refusal: why it cannot be carried out; None where it can.
        lines: what the user is told of LMF's factors in a comparison.
    """

    spec: StudySpec
    data: DataAtHand
    done: int
    failed: int
    left: int
    estimate: Estimate | None
    refusal: str | None = None
    lines: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs of the points to train."""
        return self.left * self.spec.recipe.epochs


def forecast(experiments: Sequence[Experiment], options: RunOptions, home: Home) -> tuple[Forecast, ...]:
    """What all studies of some experiments would take, from a few batches of each model measured here.

    A study that is stored as another one, or is paused or cancelled, is refused, and the others are reckoned all the
    same.

    Raises:
        StudyError: a device is asked for that is not there.
        TrainerError: a model cannot be built, or the device has too little memory for it.
        StorageError: the database cannot be read.
    """
    # Every study is looked up before the first model is measured, which takes a while.
    looked_up = [found for experiment in experiments for found in _look_up(experiment, home)]
    measured: dict[str, Measured] = {}
    reckoned = []
    for found in looked_up:
        spec, data = found.spec, found.data
        if found.left:
            if spec.model not in measured:
                measured[spec.model] = measure_model(spec, options, data.classes, data.images)
            closed = found.done + found.failed
            found = replace(found, estimate=reckon(spec, options, data.counts, closed, measured[spec.model]))
        reckoned.append(found)
    return tuple(reckoned)


def _look_up(experiment: Experiment, home: Home) -> tuple[Forecast, Forecast]:
    """Both studies of an experiment as they are stored, nothing reckoned yet."""
    study = _found(experiment, experiment.study, home)
    losses = replace(experiment.losses, alpha=PLAIN_FACTORS[0], beta=PLAIN_FACTORS[1])
    try:
        ready = ready_comparison(experiment, home)
    except (StudyError, TrainerError) as error:
        return study, _refused(experiment, losses, refusal_text(error))
    if ready is None and study.refusal is not None:
        return study, _refused(experiment, losses, missing_factors_text(experiment))
    # Until the factors are known, others stand for them: as many points take as long.
    ready = ready or ReadyComparison(losses)
    return study, replace(_found(experiment, ready.spec, home), lines=ready.lines)


def _found(experiment: Experiment, spec: StudySpec, home: Home) -> Forecast:
    try:
        stored = find_stored(spec, home)
    except (StudyError, TrainerError) as error:
        return _refused(experiment, spec, refusal_text(error))
    in_all = stored.spec.trials or len(points(stored.spec))
    left = in_all - stored.done - stored.failed
    return Forecast(stored.spec, experiment.data, stored.done, stored.failed, left, None)


def _refused(experiment: Experiment, spec: StudySpec, reason: str) -> Forecast:
    return Forecast(spec, experiment.data, 0, 0, 0, None, reason)


def print_data(found: Sequence[DataAtHand], missing: Sequence[DataMissing], console: Console) -> None:
    """Say which datasets are at hand and where, and what is wrong with the others."""
    lines = [
        f"data: {data.dataset} in {data.folder} ({data.images:,} images of {data.classes} classes)" for data in found
    ]
    for data in missing:
        what = "cannot be used" if data.is_there else "not at hand"
        lines.append(f"{what}: {data.dataset}: {data.reason}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def print_forecast(forecasts: Sequence[Forecast], console: Console) -> None:
    """Print a table of all studies, what they take together, and why some cannot be carried out."""
    estimates = [one.estimate for one in forecasts if one.estimate is not None]
    devices = tuple(dict.fromkeys(device for one in estimates for device in one.devices))
    kind = "GPU hours" if devices and devices[0] != "cpu" else "processor hours"
    table = Table(box=None, pad_edge=False)
    for heading in ("dataset", "model", "what", "points left", "done", "failed", "epochs", kind):
        table.add_column(heading, justify="left" if heading in ("dataset", "model", "what") else "right")
    for one in forecasts:
        what = f"{len(one.spec.losses)} losses" if one.spec.losses else "alpha and beta"
        table.add_row(one.spec.title, one.spec.model, what, *(_cells([one]) if one.refusal is None else ("refused",)))
    table.add_row("all", "", f"{len(forecasts)} studies", *_cells(forecasts))
    console.print(table)
    for one in forecasts:
        if one.refusal is not None:
            console.print(f"refused: {one.spec.name}: {one.refusal}", highlight=False, soft_wrap=True, markup=False)
    if estimates:
        workers = max(one.workers for one in estimates)
        console.print(
            f"time:  about {duration_text(sum(one.seconds for one in estimates))} with up to "
            f"{count_text(workers, 'worker')} on {', '.join(devices)}, from a few batches of each model measured here",
            highlight=False,
            soft_wrap=True,
        )
    carried_out = [one for one in forecasts if one.refusal is None]
    images = {(one.data.dataset, one.spec.recipe.image_size): one.data.images for one in carried_out}
    decoded = sum(prepared_bytes(count, size) for (_, size), count in images.items())
    checkpoints = max((one.checkpoint_bytes for one in estimates), default=0)
    console.print(
        f"disk:  {size_text(decoded)} decoded images, {size_text(checkpoints)} checkpoints while it runs, "
        f"{size_text(sum(one.kept_bytes for one in estimates))} more weights kept",
        highlight=False,
        soft_wrap=True,
    )


def print_factors(forecasts: Sequence[Forecast], console: Console) -> None:
    """Say where LMF's factors come from in the comparisons for which that is known."""
    for one in forecasts:
        for line in one.lines:
            console.print(f"{one.spec.name}: {line}", highlight=False, soft_wrap=True, markup=False)


def _cells(forecasts: Sequence[Forecast]) -> tuple[str, ...]:
    """Points left, done and failed, epochs and hours, of some studies together."""
    counts = (sum(getattr(one, name) for one in forecasts) for name in ("left", "done", "failed", "epochs"))
    hours = sum(one.estimate.device_seconds for one in forecasts if one.estimate is not None) / HOUR
    return *(f"{count:,}" for count in counts), f"{hours:,.1f}" if hours >= 1 else f"{hours:.2f}"
