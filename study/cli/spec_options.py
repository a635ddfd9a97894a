"""The flags that describe a study, and those that say how it is carried out; a study file can say the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from storage.search_plan import GRID, NO_PRUNER, PRUNERS, SEARCHES
from study import values
from study.cli.common import storage_option
from study.errors import StudyError
from study.run_options import RunOptions
from study.settings import DEFAULT_GRID, SETTINGS, value_text
from study.spec import COMPARISON_EPOCHS, DEFAULT_SEED, DEFAULT_TRIALS, PAPER_LOSSES, SEARCH_FIGURES
from study.spec_file import TABLES
from trainer.config import LOSS_NAMES, SELECTORS, VARIANTS, Recipe

if TYPE_CHECKING:
    from study.limits import Limits

Command = TypeVar("Command", bound=Callable[..., Any])

_PAPER = Recipe()
_RUN = RunOptions()

# Flag, placeholder, help. Values stay text here: whoever reads them reports all that is wrong in one go.
_STUDY_OPTIONS = (
    ("--study", "NAME", "Name of the study; default DATASET-MODEL."),
    ("--data", "PATH", "Where the data lie: a folder, or a table for csv; default LMF_DATA."),
    ("--settings", "LIST", f"Families of points to try; a new study's default: {','.join(SETTINGS)}."),
    ("--grid", "LIST", f"Values of alpha and beta; a new study's default: {','.join(map(value_text, DEFAULT_GRID))}."),
    ("--seeds", "LIST", f"Seeds; each point is trained once with each; a new study's default: {DEFAULT_SEED}."),
    (
        "--search",
        "|".join(SEARCHES),
        f"The paper's grid, or a search, which chooses each alpha and beta by itself; default {GRID}.",
    ),
    ("--trials", "N", f"How many points a search has; default {DEFAULT_TRIALS}."),
    ("--pruner", "|".join(PRUNERS), f"How a search ends trainings early that fall behind; default {NO_PRUNER}."),
    (
        "--split-seed",
        "N",
        f"Seed of the split into training, validation and test; default {DEFAULT_SEED}, or the split that the dataset "
        "is published with.",
    ),
    ("--group", "lesion|patient|COLUMN", "Keep images of one lesion or patient in one part; default none."),
    ("--split-file", "FILE", "A table of image and split (train, val, test) instead of a seed."),
    ("--drop-empty", None, "Leave out classes that have no image."),
)
_LOSS_OPTIONS = (
    (
        "--losses",
        "LIST",
        f"Losses to compare, of {','.join(LOSS_NAMES)}; a new comparison's default: {','.join(PAPER_LOSSES)}.",
    ),
    (
        "--alpha",
        "X",
        "Factor of LMF's LDAM half; default: that of the study DATASET-MODEL's best where that is trained, else 1.",
    ),
    ("--beta", "X", "Factor of LMF's focal half, likewise."),
    ("--from", "STUDY", "Take both factors from the best of this study."),
)
_RECIPE_OPTIONS = (
    ("--model", "NAME", f"A timm model, or efficientnetv2, resnet50, densenet121; default {_PAPER.model}."),
    ("--weights", "hub|none|FILE", f"Start from pretrained weights, none, or a file; default {_PAPER.weights}."),
    ("--image-size", "N", f"Side of the square input in pixels; default {_PAPER.image_size}."),
    ("--exact/--no-exact", None, "Decode JPEGs at full size before shrinking them: slower; default no."),
    ("--normalize/--no-normalize", None, "Scale images by the model's mean and deviation; default no."),
    ("--augment", "none|standard", f"Flips, quarter turns and colour; default {_PAPER.augment}."),
    ("--epochs", "N", f"Passes over the training images; default {_PAPER.epochs}."),
    ("--batch-size", "N", f"Images a step; default {_PAPER.batch_size}."),
    ("--lr", "X", f"Adam's learning rate; default {_PAPER.lr:g}."),
    ("--weight-decay", "X", f"L2 penalty, added to the gradient; default {_PAPER.weight_decay:g}."),
    ("--lr-step-epochs", "N", f"Epochs between two cuts of the rate; default {_PAPER.lr_step_epochs}."),
    ("--lr-gamma", "X", f"Factor of such a cut; default {_PAPER.lr_gamma:g}."),
    (
        "--select",
        "SCORE",
        f"Validation score that chooses the epoch to keep: {', '.join(SELECTORS)}; default {_PAPER.select}.",
    ),
    (
        "--specificity",
        "X",
        f"Specificity at which sensitivity is stated; default {_PAPER.specificity:g}.",
    ),
    (
        "--precision",
        "auto|fp32|bf16|fp16",
        "Arithmetic of the model; auto, the default, takes what is fastest here when the study is planned.",
    ),
    ("--threads", "N", "Processor threads of one training; the weights depend on it. Default: fixed when planned."),
    ("--compile/--no-compile", None, "Compile the model with torch.compile; default no."),
    ("--deterministic/--no-deterministic", None, "On a GPU, train with kernels that repeat exactly; default no."),
    ("--variant", "|".join(VARIANTS), f"LDAM as its authors ran it or as written; default {_PAPER.variant}."),
    ("--max-margin", "X", f"Margin of the rarest class; default {_PAPER.max_margin:g}."),
    ("--gamma", "X", f"Exponent of the focal half; default {_PAPER.gamma:g}."),
    ("--scale", "X", f"Factor on LDAM's logits in the reference variant; default {_PAPER.scale:g}."),
)
_WORKER_OPTIONS = (
    ("--device", "auto|cpu|cuda|cuda:N", f"Where to train; default {_RUN.device}."),
    (
        "--keep-weights",
        "N|all|none",
        f"Keep the weights of the N best trials, of each loss where losses are compared; default {_RUN.keep_weights}.",
    ),
    ("--max-attempts", "N", f"Tries of a point that fails by itself; default {_RUN.max_attempts}."),
    (
        "--lease-seconds",
        "X",
        f"Time after which the point of a silent worker is free again; default {_RUN.lease_seconds:g}.",
    ),
    (
        "--database-patience",
        "X",
        f"Seconds for which a worker goes on without a database that is away; default {_RUN.database_patience:g}.",
    ),
    ("--allow-versions", None, "Work on a study that was planned with other versions of torch or timm."),
)
_LIMIT_OPTIONS = (
    ("--max-points", "N", "End after N points; default: no limit."),
    ("--max-hours", "X", "After X hours checkpoint, give the point back and end; default: no limit."),
    (
        "--idle-exit",
        "SECONDS|never",
        "End after so long without an open point; never waits for studies to come. Default 0.",
    ),
)
_RUN_OPTIONS = (
    ("--workers", "N", "Worker processes on this machine; default: as many as suit it."),
    ("--per-gpu", "K|auto", "Trials side by side on each GPU; auto measures one and fills the memory. Default 1."),
    ("--dry-run", None, "Tell points, epochs, time, disk and memory, and train nothing."),
    ("--plan-only", None, "Plan the study and train nothing: leave that to `lmf launch` and `lmf worker`."),
)


def spec_options(command: Command) -> Command:
    """Add the flags that describe a study: what it tries, on what, by which recipe."""
    return _add(command, (*_STUDY_OPTIONS, *_RECIPE_OPTIONS))


def comparison_options(command: Command) -> Command:
    """Add the flags that describe a comparison of losses; those of a study of alpha and beta are refused in words."""
    others = tuple(f"--{name}" for name in ("settings", "grid", *SEARCH_FIGURES))
    described = []
    for flag, metavar, text in (*_STUDY_OPTIONS, *_RECIPE_OPTIONS):
        if flag == "--study":
            text = "Name of the comparison; default DATASET-MODEL-losses."
        elif flag == "--seeds":
            text = f"Seeds; each loss is trained once with each; a new comparison's default: {DEFAULT_SEED}."
        elif flag == "--epochs":
            text = f"Passes over the training images; default {COMPARISON_EPOCHS}."
        if flag not in others:
            described.append((flag, metavar, text))
    for flag in others:
        command = click.option(flag, default=None, hidden=True)(command)
    return _add(command, (*described[:2], *_LOSS_OPTIONS, *described[2:]))


def reproduction_options(command: Command) -> Command:
    """Add the flags that describe all studies of a reproduction: what they try, and by which recipe."""
    others = ("--model", "--epochs")
    tried = ("--settings", "--grid", "--seeds", "--split-seed", "--drop-empty")
    described = [option for option in _STUDY_OPTIONS if option[0] in tried]
    described += [option for option in _LOSS_OPTIONS if option[0] == "--losses"]
    return _add(command, (*described, *(option for option in _RECIPE_OPTIONS if option[0] not in others)))


def run_options(command: Command) -> Command:
    """Add the flags that say how a study is carried out: those of `worker_options`, and what concerns all workers."""
    return _add(worker_options(command), _RUN_OPTIONS)


def worker_options(command: Command) -> Command:
    """Add the flags that say how one worker works, `--storage` among them."""
    return _add(storage_option(command), _WORKER_OPTIONS)


def limit_options(command: Command) -> Command:
    """Add the flags that say when a worker ends, which `read_limits` reads."""
    return _add(command, _LIMIT_OPTIONS)


def read_limits(parameters: Mapping[str, object]) -> Limits:
    """What `limit_options` were given.

    Args:
        parameters: what click passed to the command; anything else among it is left out.

    Raises:
        StudyError: values are wrong; one line with every problem.
    """
    from study.limits import Limits

    readers: dict[str, Callable[[object], Any]] = {
        "max_points": values.whole_number,
        "max_hours": values.number,
        "idle_exit": values.seconds_or_never,
    }
    read: dict[str, Any] = {}
    problems: list[str] = []
    for name, reader in readers.items():
        if parameters.get(name) is not None:
            try:
                read["idle_exit_seconds" if name == "idle_exit" else name] = reader(parameters[name])
            except ValueError as error:
                problems.append(f"--{name.replace('_', '-')}: {error}")
    limits = Limits(**read)
    problems += limits.problems()
    if problems:
        raise StudyError("; ".join(problems))
    return limits


def flag_values(parameters: Mapping[str, object]) -> dict[str, object]:
    """Of a command's parameters, the flags of a study's description and of `run_options` that the user gave.

    Args:
        parameters: what click passed to the command; anything else among it is left out.
    """
    names = [key for keys in TABLES.values() for key in keys if key != "dataset"]
    return {name: parameters[name] for name in names if parameters.get(name) is not None}


def _add(command: Command, options: Sequence[tuple[str, str | None, str]]) -> Command:
    for flag, metavar, text in reversed(options):
        kind: dict[str, Any] = {"metavar": metavar} if metavar else {"is_flag": True}
        command = click.option(flag, default=None, help=text, **kind)(command)
    return command
