"""`lmf doctor`: looks at everything a study needs, and says what to do where something is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from study.cli.common import print_json, storage_option
from study.cli.data import data_option

if TYPE_CHECKING:
    from rich.console import Console

    from study.doctor.diagnosis import Diagnosis

HEALTHY, ILL = 0, 1
STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@data_option
@storage_option
def doctor_command(as_json: bool, data: Path | None, storage: str | None) -> int:
    """Look at the installation, the database, the data, the devices and the disks, and say what to do.

    Nothing is changed. Exit code 1 where there is a problem; warnings leave it at 0.
    """
    from rich.console import Console

    from study.doctor.diagnosis import Level
    from study.doctor.examination import examine

    if data is not None:
        # Workers are told by this variable too, and the doctor looks where they look.
        os.environ["LMF_DATA"] = str(data.expanduser().absolute())
    console = Console()
    found: list[Diagnosis] = []
    for diagnosis in examine(storage):
        found.append(diagnosis)
        if not as_json:
            _show(console, diagnosis)
    problems = sum(diagnosis.level == Level.PROBLEM for diagnosis in found)
    warnings = sum(diagnosis.level == Level.WARNING for diagnosis in found)
    if as_json:
        checks = [diagnosis.to_dict() for diagnosis in found]
        print_json({"problems": problems, "warnings": warnings, "checks": checks})
    else:
        click.echo(f"problems: {problems}, warnings: {warnings}")
    return ILL if problems else HEALTHY


def _show(console: Console, diagnosis: Diagnosis) -> None:
    """What was found, as soon as it is, and below it what to do."""
    from rich.table import Table
    from rich.text import Text

    level = diagnosis.level.value
    if not console.is_terminal:
        click.echo(f"{level:<7} {diagnosis.check:<13} {diagnosis.found}")
        if diagnosis.advice:
            click.echo(f"{'':<21} -> {diagnosis.advice}")
        return
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=7)
    grid.add_column(min_width=13)
    grid.add_column()
    grid.add_row(Text(level, STYLES[level]), Text(diagnosis.check), Text(diagnosis.found))
    if diagnosis.advice:
        grid.add_row("", "", Text(f"-> {diagnosis.advice}"))
    console.print(grid)
