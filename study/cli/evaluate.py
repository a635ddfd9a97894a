"""`lmf evaluate`: an exported model scored on labelled images from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from study.cli.common import print_json
from study.cli.data import data_option
from study.cli.main import DONE, POINTS_FAILED
from study.cli.predict import check_output, model_options, open_and_tell, tell_bad


@click.command("evaluate")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("dataset")
@data_option
@click.option(
    "--map",
    "mapping",
    metavar="THEIRS=OURS,...",
    multiple=True,
    help="Which class of the dataset is which of the model, where their names differ.",
)
@click.option(
    "--part",
    type=click.Choice(("train", "val", "test")),
    help="Score this part of the dataset's split alone; default all images.",
)
@click.option("--split-seed", metavar="N", type=click.IntRange(0, 2**32 - 1), help="With --part: seed of the split.")
@click.option("--group", metavar="lesion|patient|COLUMN", help="With --part: what the split keeps together.")
@click.option(
    "--split-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --part: a table of image and split.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write what was predicted for each image as CSV.",
)
@model_options
def evaluate_command(
    folder: Path,
    dataset: str,
    mapping: tuple[str, ...],
    part: str | None,
    as_json: bool,
    output: Path | None,
    device: str,
    batch_size: int | None,
    threads: int | None,
    **where: Any,
) -> int:
    """Score the model in DIR, which `lmf export STUDY --model DIR` wrote, on the images of DATASET.

    DATASET is named as for `lmf run`: one that `lmf data list` shows, folder:PATH or csv:PATH. Classes are matched by
    name. Images of classes that the model does not know are left out, and means over classes are over those that have
    images; both are named. An image that cannot be used is told on stderr and left out, too; the exit code then is 1.
    """
    from rich.console import Console

    from study.cli.evaluation_text import print_evaluation
    from study.datasets import DataQuery
    from study.evaluation import evaluate, evaluation_document, evaluation_table
    from study.progress import make_console, progress_bars
    from study.reporting.files import write_text

    check_output(output)
    model = open_and_tell(folder, device, threads)
    with progress_bars(Console(stderr=True)) as progress:
        evaluation = evaluate(
            model,
            folder,
            DataQuery(dataset, **where),
            mapping=mapping,
            part=part,
            batch_size=batch_size,
            progress=progress,
            tell_bad=tell_bad,
        )
    document = evaluation_document(evaluation)
    for warning in evaluation.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        print_json(document)
    else:
        print_evaluation(make_console(), document)
    if output is not None:
        write_text(output, evaluation_table(evaluation))
        if not as_json:
            click.echo(f"written: {output}")
    return POINTS_FAILED if evaluation.failed else DONE
