"""`lmf export`: the best alpha and beta per dataset and model, for scripts."""

from __future__ import annotations

from pathlib import Path

import click

from study.cli.common import choose_studies, open_existing, storage_option


@click.command("export")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option("--json", "form", flag_value="json", default="json", help="As JSON, the default.")
@click.option("--yaml", "form", flag_value="yaml", help="As YAML.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of to stdout.",
)
@storage_option
def export_command(studies: tuple[str, ...], form: str, output: Path | None, storage: str | None) -> None:
    """Give the best alpha and beta of studies with their scores; all studies where none is named.

    Scores are fractions. A study with no complete point has `best: null`.
    """
    from storage.queries import read_study
    from study.export import export_document, render
    from study.reporting.files import write_text

    _, database = open_existing(storage)
    try:
        names = dict.fromkeys(choose_studies(database, studies))
        text = render(export_document(read_study(database, name) for name in names), form)
    finally:
        database.close()
    if output:
        write_text(output, text)
    else:
        click.echo(text, nl=False)
