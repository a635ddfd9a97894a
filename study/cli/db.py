"""`lmf db`: a PostgreSQL server of one's own, and upgrading, checking, backing up and copying databases."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from study.cli.common import choose_studies, open_existing, print_json, storage_option
from study.cli.db_server import start_command, status_command, stop_command, url_command
from study.cli.main import DONE, POINTS_FAILED
from study.home import find_home

if TYPE_CHECKING:
    from storage.backup import Backup
    from storage.database import Database

ERRORS_FOUND = POINTS_FAILED


@click.group("db")
def db_command() -> None:
    """Run a PostgreSQL server without Docker or root; upgrade, check, back up or copy a database."""


for command in (start_command, stop_command, status_command, url_command):
    db_command.add_command(command)


@db_command.command("upgrade")
@click.option(
    "--wait",
    "wait_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How long to wait for a server that cannot be reached yet.",
)
@storage_option
def upgrade_command(wait_seconds: float, storage: str | None) -> None:
    """Create the schema of a database, lmf's and Optuna's, or bring it to this version."""
    from storage.upgrading import upgrade_database

    done = upgrade_database(
        find_home(storage).storage_url, wait_seconds, lambda reason: click.echo(f"waiting: {reason}", err=True)
    )
    for name, before, after in (
        ("lmf", done.before.ours, done.after.ours),
        ("Optuna", done.before.optunas, done.after.optunas),
    ):
        how = f"is {after} already" if before == after else f"{before or 'none'} -> {after}"
        click.echo(f"{done.where}: schema of {name} {how}")


@db_command.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@storage_option
def check_command(as_json: bool, storage: str | None) -> int:
    """Check that a database is whole: lmf's tables, Optuna's, and the files of trials; exit code 1 if not."""
    from dataclasses import asdict

    from storage.checking import check_database
    from storage.database import show_url

    home, database = open_existing(storage)
    try:
        checked = check_database(database, home.artifacts)
        where = show_url(database.url)
    finally:
        database.close()
    if as_json:
        findings = [asdict(finding) for finding in checked.findings]
        print_json(
            {"database": where, "studies": list(checked.studies), "errors": checked.errors, "findings": findings}
        )
    else:
        for finding in checked.findings:
            click.echo(finding.line)
        others = len(checked.findings) - checked.errors
        click.echo(f"{where}: {len(checked.studies)} studies checked, {checked.errors} errors, {others} notes")
    return ERRORS_FOUND if checked.errors else DONE


@db_command.command("backup")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@storage_option
def backup_command(path: Path, storage: str | None) -> None:
    """Write a consistent copy of a database into FILE while workers go on; files of trials are not in it."""
    from storage.backup import back_up

    _, database = open_existing(storage)
    try:
        done = back_up(database, path.expanduser().absolute())
        for line in _backup_lines(done, database):
            click.echo(line)
    finally:
        database.close()


@db_command.command("copy")
@click.argument("origin", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--study", "studies", metavar="NAME", multiple=True, help="Study to copy; may be repeated; default all.")
@click.option(
    "--artifacts",
    metavar="PLACE",
    help="Also copy the files of trials to this folder or s3://BUCKET; needed only where the workers of TO do not see "
    "LMF_ARTIFACTS.",
)
@click.option(
    "--artifacts-from",
    metavar="PLACE",
    help="Where the files of trials are now; default LMF_ARTIFACTS, then artifacts in LMF_HOME.",
)
def copy_command(
    origin: str, target: str, studies: tuple[str, ...], artifacts: str | None, artifacts_from: str | None
) -> None:
    """Copy studies from one database to another, for example from SQLite to PostgreSQL, complete and compared.

    FROM and TO are each a SQLAlchemy URL, a SQLite file, a file that holds a URL as LMF_STORAGE_FILE does, or
    env:NAME for a variable that holds one. Workers must not hold points of the studies; afterwards, let workers serve
    them in one of the two databases only.
    """
    from storage.artifacts import Artifacts
    from storage.copying import check_holders, check_target, copy_study
    from storage.database import Database, show_url
    from storage.file_copying import copy_files
    from study.database_names import find_url

    home = find_home()
    if artifacts_from is not None and artifacts is None:
        raise click.UsageError("--artifacts-from: means nothing without --artifacts, which says where to copy them")
    urls = [find_url(name, text) for name, text in (("FROM", origin), ("TO", target))]
    with ExitStack() as opened:
        source = Database.open(urls[0], create=False)
        opened.callback(source.close)
        names = choose_studies(source, studies)
        goal = Database.open(urls[1])
        opened.callback(goal.close)
        check_target(goal, names)
        for name in names:
            check_holders(source, name)
        if not names:
            click.echo(f"{show_url(source.url)}: no studies to copy")
        for name in dict.fromkeys(names):
            if artifacts is not None:
                places = [Artifacts.open(_place(place)) for place in (artifacts_from or home.artifacts, artifacts)]
                files = copy_files(source, name, places[0], places[1], home.scratch)
                click.echo(
                    f"{name}: {files.copied} files ({files.bytes / 1e6:,.1f} MB) copied and compared, "
                    f"{files.present} were there, {len(files.missing)} are missing from {places[0].location}"
                )
            copied = copy_study(source, goal, name)
            click.echo(
                f"{name}: {copied.points} points, {copied.trials} trials, {copied.attempts} attempts, "
                f"{copied.epochs} epochs copied to {show_url(goal.url)} and compared"
            )


def _place(text: str) -> str:
    return text if "://" in text else str(Path(text).expanduser().absolute())


def _backup_lines(done: Backup, database: Database) -> list[str]:
    """What was written, and how it becomes a database again."""
    from storage.backup import DUMP

    lines = [f"{len(done.studies)} studies, {done.bytes / 1e6:,.1f} MB in {done.path}"]
    if done.kind == DUMP:
        assert done.program is not None
        url = database.url
        where = f"-h {url.host} -p {url.port or 5432} -U {url.username} -d {url.database}"
        restore = done.program.with_name("pg_restore")
        options = "--clean --if-exists --no-owner --single-transaction"
        lines.append(f"to restore it (it asks for the password): {restore} {where} {options} {done.path}")
    elif database.backend == "postgresql":
        lines.append("no pg_dump fits this server (the extra `server` brings one), so this is a SQLite database")
        lines.append(f"to restore it: lmf db copy {done.path} TO, with TO the URL of an empty database or its file")
    else:
        lines.append("this file is a whole database: LMF_STORAGE=sqlite:///" + f"{done.path} lmf status")
        lines.append(f"to restore it: end all workers, and put it in the place of {database.path}")
    return lines
