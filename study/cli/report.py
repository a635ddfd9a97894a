"""`lmf report`: the figures and tables of studies as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from study.cli.common import choose_studies, open_existing, storage_option
from study.errors import StudyError


@click.command("report")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option("--csv", is_flag=True, help="Also write the rows behind it as CSV files beside it.")
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report's file; default a file in LMF_HOME/reports, named after the studies.",
)
@click.option(
    "--static",
    is_flag=True,
    help="Also write each figure as PNG, SVG and PDF for print, where a Chrome is found, and each table as CSV and "
    "LaTeX, into a folder beside it.",
)
@click.option(
    "--no-patient-data",
    is_flag=True,
    help="Leave out every image and file name, and the messages of trainings, which may name some.",
)
@storage_option
def report_command(
    studies: tuple[str, ...],
    csv: bool,
    output: Path | None,
    static: bool,
    no_patient_data: bool,
    storage: str | None,
) -> None:
    """Write the figures and tables of studies as one HTML file; all studies where none is named.

    The file opens in any browser without a network. Prints the path of each file that it wrote.
    """
    from storage.artifacts import Artifacts
    from study.dashboard.figures import show_in_dashboard
    from study.reporting.files import write_reports

    home, database = open_existing(storage)
    try:
        names = choose_studies(database, studies)
        if not names:
            raise StudyError("no study to report on yet; `lmf run` or `lmf demo` makes one")
        report = write_reports(
            database,
            names,
            home.reports,
            artifacts=Artifacts.open(home.artifacts),
            output=output,
            csv=csv,
            static=static,
            patient_data=not no_patient_data,
        )
        for path in report.paths:
            click.echo(str(path))
        if report.problem:
            click.echo(f"lmf: {report.problem}", err=True)
        for name in names:
            show_in_dashboard(database, name)
    finally:
        database.close()
