"""What several commands share: the storage option, opening the database, choosing studies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from study.home import Home, find_home

if TYPE_CHECKING:
    from storage.database import Database

Command = TypeVar("Command", bound=Callable[..., Any])


def storage_option(command: Command) -> Command:
    """Add `--storage URL` to a command."""
    return click.option(
        "--storage",
        metavar="URL",
        help="SQLAlchemy URL of the database; default LMF_STORAGE, then SQLite in LMF_HOME. A password belongs in "
        "LMF_STORAGE or LMF_STORAGE_FILE: a command line can be read by other users.",
    )(command)


def log_options(command: Command) -> Command:
    """Add `--log-json` and `--log-level`, for commands that run for long; `study.logs.set_up_logging` takes them."""
    return _log_options(command, "info")


def quiet_log_options(command: Command) -> Command:
    """The same for commands that say what happens on stdout: of their log, only warnings are shown."""
    return _log_options(command, "warning")


def _log_options(command: Command, level: str) -> Command:
    for option in (
        click.option(
            "--log-level",
            type=click.Choice(("debug", "info", "warning", "error")),
            default=level,
            show_default=True,
            envvar="LMF_LOG_LEVEL",
            help="How much the log says.",
        ),
        click.option(
            "--log-json",
            is_flag=True,
            envvar="LMF_LOG_JSON",
            help="Log one JSON document a line, with study, trial and worker.",
        ),
    ):
        command = option(command)
    return command


def open_existing(storage: str | None) -> tuple[Home, Database]:
    """Open the database of a home without creating one.

    Raises:
        StudyError: there is no database yet.
        StorageError: it cannot be opened.
    """
    from storage.database import Database

    home = find_home(storage)
    return home, Database.open(home.storage_url, create=False)


def choose_studies(database: Database, names: Sequence[str]) -> tuple[str, ...]:
    """The named studies, or all where none is named.

    Raises:
        StudyError: a name is unknown; the message lists the names there are.
    """
    from study.status import choose_studies

    return choose_studies(database, names)


def print_json(document: object) -> None:
    """Print one JSON document and nothing else on stdout."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))
