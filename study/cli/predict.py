"""`lmf predict`: what an exported model says of images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from study.cli.common import print_json
from study.cli.main import DONE, POINTS_FAILED
from study.errors import StudyError

if TYPE_CHECKING:
    from study.predicting import BadImage
    from trainer.inference import ExportedModel

Command = TypeVar("Command", bound=Callable[..., Any])


def model_options(command: Command) -> Command:
    """Add the flags that say how an exported model computes."""
    for option in (
        click.option(
            "--threads",
            metavar="N",
            type=click.IntRange(1, 256),
            help="Processor threads of the network; the last digits depend on it. Default: as many as in training.",
        ),
        click.option(
            "--batch-size",
            metavar="N",
            type=click.IntRange(1, 65_536),
            help="Images at a time; the last digits may depend on it. Default: as in the test of its training.",
        ),
        click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where."),
    ):
        command = option(command)
    return command


def open_and_tell(folder: Path, device: str, threads: int | None) -> ExportedModel:
    """Open an exported model, and tell on stderr what keeps its predictions from being those of its training."""
    from study.predicting import open_for

    model, notes = open_for(folder, device, threads)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    return model


def check_output(path: Path | None) -> None:
    """Refuse, before the work that it is to hold, a file that could not be written after it.

    Args:
        path: the file that `--output` names, or None.

    Raises:
        StudyError: it cannot be made or replaced.
    """
    if path is None:
        return
    advice = "--output names another file"
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error.strerror}; {advice}") from None
    else:
        if not path.is_file():
            raise StudyError(f"{path}: is not a file that can be replaced; {advice}")
    folder = next(place for place in path.absolute().parents if os.path.lexists(place))
    if not folder.is_dir():
        raise StudyError(f"{path}: cannot be written: {folder} is no folder; {advice}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StudyError(f"{path}: cannot be written: no right to write in {folder}; {advice}")


def tell_bad(bad: BadImage) -> None:
    """Tell on stderr of an image that cannot be used."""
    click.echo(f"lmf: {bad.image}: {bad.reason}", err=True)


@click.command("predict")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option("--raw", is_flag=True, help="The network's own probabilities instead of calibrated ones.")
@click.option("--top", metavar="K", type=click.IntRange(1), help="Only the K most probable classes of each image.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a CSV table.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of to stdout.",
)
@model_options
def predict_command(
    folder: Path,
    images: tuple[str, ...],
    raw: bool,
    top: int | None,
    as_json: bool,
    output: Path | None,
    device: str,
    batch_size: int | None,
    threads: int | None,
) -> int:
    """Predict IMAGES, files or folders of them, with the model in DIR, which `lmf export STUDY --model DIR` wrote.

    Gives a CSV table of image, predicted class and the probability of each class, calibrated by the model's
    temperature. An image that cannot be used is told on stderr and left out; the exit code then is 1.
    """
    from rich.console import Console

    from study.predicting import predict_paths, predictions_document, predictions_table
    from study.progress import progress_bars
    from study.reporting.files import write_text

    check_output(output)
    model = open_and_tell(folder, device, threads)
    with progress_bars(Console(stderr=True)) as progress:
        predictions = predict_paths(
            model, images, raw=raw, top=top, batch_size=batch_size, progress=progress, tell_bad=tell_bad
        )
    if not raw and not predictions.calibrated:
        click.echo("note: the model has no temperature; these are the network's own probabilities", err=True)
    if output is not None:
        document = predictions_document(predictions)
        write_text(output, json.dumps(document, indent=2) + "\n" if as_json else predictions_table(predictions))
    elif as_json:
        print_json(predictions_document(predictions))
    else:
        click.echo(predictions_table(predictions), nl=False)
    return POINTS_FAILED if predictions.bad else DONE
