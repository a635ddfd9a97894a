"""`lmf export`: the best alpha and beta per dataset and model, for scripts."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from study.cli.common import choose_studies, open_existing, storage_option
from study.errors import StudyError


@click.command("export")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option("--json", "form", flag_value="json", default="json", help="As JSON, the default.")
@click.option("--yaml", "form", flag_value="yaml", help="As YAML.")
@click.option("--csv", "form", flag_value="csv", help="As CSV: a row a study, or a loss where losses were compared.")
@click.option("--latex", "form", flag_value="latex", help="As LaTeX tables (booktabs), like the paper's Table 6.")
@click.option("--markdown", "form", flag_value="markdown", help="As Markdown tables, like the paper's Table 6.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of to stdout.",
)
@click.option(
    "--model",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Instead write the trained model of one study into this folder, for `lmf predict` and `lmf evaluate`.",
)
@click.option(
    "--trial",
    metavar="N",
    type=click.IntRange(0),
    help="With --model: which trial's; default the one that validation chooses.",
)
@storage_option
def export_command(
    studies: tuple[str, ...], form: str, output: Path | None, model: Path | None, trial: int | None, storage: str | None
) -> None:
    """Give the best alpha and beta of studies with their scores; all studies where none is named.

    Scores are fractions, but in percent with --latex and --markdown, which also give a table a model, like the paper's
    Tables 2 to 4, where losses were compared. A study with no complete point has `best: null`.

    With --model, the weights of the best trial are written to a folder instead, with all that predicting takes:
    classes, preprocessing, the temperature for calibrated probabilities, and a model card.
    """
    if model is not None:
        _export_model(studies, model, trial, output, storage)
        return
    if trial is not None:
        raise click.UsageError("--trial: goes with --model only")
    from storage.queries import read_study
    from study.export import export_text
    from study.reporting.files import write_text

    _, database = open_existing(storage)
    try:
        names = dict.fromkeys(choose_studies(database, studies))
        text = export_text((read_study(database, name) for name in names), form)
    finally:
        database.close()
    if output:
        write_text(output, text)
    else:
        click.echo(text, nl=False)


def _export_model(
    studies: tuple[str, ...], folder: Path, trial: int | None, output: Path | None, storage: str | None
) -> None:
    """Write a study's model into a folder, and say which."""
    asked = click.get_current_context().get_parameter_source("form")
    if output is not None or asked is not ParameterSource.DEFAULT:
        raise click.UsageError("--model: writes a folder, and goes with neither --output nor a form such as --json")
    home, database = open_existing(storage)
    try:
        names = tuple(dict.fromkeys(choose_studies(database, studies)))
        if len(names) != 1:
            there = ", ".join(names) or "none yet; `lmf run` or `lmf demo` makes one"
            raise StudyError(f"--model: takes exactly one study; name one of: {there}")
        from study.model_export import export_model

        done = export_model(database, home, names[0], folder, trial)
    finally:
        database.close()
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{done.folder}: model of study {names[0]}, trial {done.point.trial_number} ({done.point.key})")
