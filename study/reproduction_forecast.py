"""What is left of the paper's experiments, and what that would take, told before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from storage.queries import find_spec, read_study
from study.comparison import chosen_pair, settle_factors
from study.data_search import DataAtHand, DataMissing
from study.errors import StudyError
from study.estimate import Estimate, Measured, measure_model, reckon, size_text, stored_progress
from study.home import Home
from study.plan import is_planned, stored_spec, stored_studies
from study.progress import count_text, duration_text
from study.reproduction_plan import Experiment
from study.run_options import RunOptions
from study.spec import PLAIN_FACTORS, StudySpec, points
from trainer.data.cache import prepared_bytes

HOUR = 3600.0


@dataclass(frozen=True)
class Forecast:
    """What one study would take.

    Attributes:
        spec: the study, with all that a stored study of its name adds to it.
        data: its dataset.
        done: points that are trained already.
        left: points to train.
        estimate: what the points to train would take; None where there is none.
    """

    spec: StudySpec
    data: DataAtHand
    done: int
    left: int
    estimate: Estimate | None

    @property
    def epochs(self) -> int:
        """Epochs of the points to train."""
        return self.left * self.spec.recipe.epochs


def ready_comparison(experiment: Experiment, home: Home) -> StudySpec | None:
    """The comparison of an experiment with LMF's factors; None while the study that they come from has none to give.

    Raises:
        StudyError: the comparison is stored with factors from elsewhere.
        StorageError: the database cannot be read.
    """
    losses = experiment.losses
    if not losses.compares_lmf or losses.alpha is not None:
        return losses
    with stored_studies(home) as database:
        if database is None:
            return None
        document = find_spec(database, losses.name)
        stored = None if document is None else stored_spec(document)
        if stored is None or not stored.compares_lmf:
            if not is_planned(database, experiment.study.name):
                return None
            record = read_study(database, experiment.study.name)
            if record.remaining or chosen_pair(record) is None:
                return None
        elif stored.factors_from != losses.factors_from:
            kept = f"{stored.alpha:g},{stored.beta:g}"
            raise StudyError(
                f"study {losses.name} exists, and its alpha and beta of lmf, {kept}, are not taken from study "
                f"{losses.factors_from}; --factors {kept} keeps them, `lmf study delete` makes way for others"
            )
    return settle_factors(losses, home)[0]


def forecast(experiments: Sequence[Experiment], options: RunOptions, home: Home) -> tuple[Forecast, ...]:
    """What all studies of some experiments would take, from a few batches of each model measured here.

    Raises:
        StudyError: a stored study is another one, or is paused or cancelled.
        TrainerError: a model cannot be built, or the device has too little memory for it.
        StorageError: the database cannot be read.
    """
    asked = []
    for experiment in experiments:
        plain = replace(experiment.losses, alpha=PLAIN_FACTORS[0], beta=PLAIN_FACTORS[1])
        asked += [(experiment.data, spec) for spec in (experiment.study, ready_comparison(experiment, home) or plain)]
    # Every study is looked up before the first model is measured, which takes a while.
    stored = [(data, *stored_progress(spec, home)) for data, spec in asked]
    measured: dict[str, Measured] = {}
    found = []
    for data, spec, done in stored:
        left = len(points(spec)) - done
        if left and spec.model not in measured:
            measured[spec.model] = measure_model(spec, options, data.classes, data.images)
        costs = reckon(spec, options, data.counts, done, measured[spec.model]) if left else None
        found.append(Forecast(spec, data, done, left, costs))
    return tuple(found)


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
    """Print a table of all studies, and what they take together."""
    estimates = [one.estimate for one in forecasts if one.estimate is not None]
    devices = tuple(dict.fromkeys(device for one in estimates for device in one.devices))
    kind = "GPU hours" if devices and devices[0] != "cpu" else "processor hours"
    table = Table(box=None, pad_edge=False)
    for heading in ("dataset", "model", "what", "points left", "done", "epochs", kind):
        table.add_column(heading, justify="left" if heading in ("dataset", "model", "what") else "right")
    for one in forecasts:
        what = f"{len(one.spec.losses)} losses" if one.spec.losses else "alpha and beta"
        hours = 0.0 if one.estimate is None else one.estimate.device_seconds / HOUR
        table.add_row(one.spec.title, one.spec.model, what, *_cells(one.left, one.done, one.epochs, hours))
    left, done = (sum(getattr(one, name) for one in forecasts) for name in ("left", "done"))
    hours = sum(one.device_seconds for one in estimates) / HOUR
    table.add_row(
        "all",
        "",
        f"{len(forecasts)} studies",
        *_cells(left, done, sum(one.epochs for one in forecasts), hours),
    )
    console.print(table)
    if estimates:
        workers = max(one.workers for one in estimates)
        console.print(
            f"time:  about {duration_text(sum(one.seconds for one in estimates))} with up to "
            f"{count_text(workers, 'worker')} on {', '.join(devices)}, from a few batches of each model measured here",
            highlight=False,
            soft_wrap=True,
        )
    images = {(one.data.dataset, one.spec.recipe.image_size): one.data.images for one in forecasts}
    decoded = sum(prepared_bytes(count, size) for (_, size), count in images.items())
    checkpoints = max((one.checkpoint_bytes for one in estimates), default=0)
    console.print(
        f"disk:  {size_text(decoded)} decoded images, {size_text(checkpoints)} checkpoints while it runs, "
        f"{size_text(sum(one.kept_bytes for one in estimates))} more weights kept",
        highlight=False,
        soft_wrap=True,
    )


def _cells(left: int, done: int, epochs: int, hours: float) -> tuple[str, ...]:
    return f"{left:,}", f"{done:,}", f"{epochs:,}", f"{hours:,.1f}" if hours >= 1 else f"{hours:.2f}"
