"""`lmf dashboard`: optuna-dashboard behind a login, read-only, with the study's figures inside."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from study.cli.common import log_options, open_existing, storage_option
from study.errors import StudyError

if TYPE_CHECKING:
    from study.dashboard.login_check import LoginCheck
    from study.dashboard.serving import Address


@click.command("dashboard")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@click.option(
    "--login",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Let in only who is named in this file; needed on every address that other machines reach.",
)
@click.option(
    "--add-login",
    metavar="NAME",
    help="Ask for a password, write it with this name into the file of --login, hashed, and end.",
)
@click.option("--allow-edit", is_flag=True, help="Let notes and attributes be written; logs each write.")
@log_options
@storage_option
def dashboard_command(
    host: str,
    port: int,
    login: Path | None,
    add_login: str | None,
    allow_edit: bool,
    log_json: bool,
    log_level: str,
    storage: str | None,
) -> None:
    """Show all studies in the browser with optuna-dashboard: trials, learning curves, files, and the report's figures.

    Prints its address when it listens; SIGTERM or Ctrl-C ends it. What it shows can only be read, unless --allow-edit
    is given; studies and trials are never changed here.
    """
    if add_login is not None:
        if login is None:
            raise click.UsageError("--add-login: give the file to write with --login FILE")
        _add_login(login, add_login)
        return

    from study.dashboard.login_check import LoginCheck
    from study.dashboard.login_file import read_logins
    from study.dashboard.serving import Address, ended_by_signals
    from study.logs import set_up_logging

    address = Address.find(host, port)
    if login is None and not address.is_local:
        raise StudyError(
            f"--host: other machines reach {host}, so a login is needed; give --login FILE, and make the file with "
            "--add-login NAME"
        )
    logins = None if login is None else LoginCheck(read_logins(login))
    set_up_logging(log_json, log_level)
    with ended_by_signals():
        _serve(address, logins, allow_edit, storage)


def _serve(address: Address, logins: LoginCheck | None, allow_edit: bool, storage: str | None) -> None:
    from storage.artifacts import Artifacts
    from study.dashboard.application import OptunaDashboard, open_reader
    from study.dashboard.gateway import Gateway
    from study.dashboard.rounds import FigureRounds
    from study.dashboard.serving import bind, in_background, serve

    with ExitStack() as open_things:
        home, database = open_existing(storage)
        open_things.callback(database.close)
        sockets = bind(address)
        for listener in sockets:
            open_things.callback(listener.close)
        reader = open_reader(home.storage_url)
        open_things.callback(reader.close)
        artifacts = Artifacts.open(home.artifacts)
        gateway = Gateway(
            OptunaDashboard(reader, artifacts),
            OptunaDashboard(database, artifacts) if allow_edit else None,
            logins=logins,
            local_names=("localhost", address.host) if address.is_local else None,
        )
        if not address.is_local:
            logging.getLogger(__name__).warning(
                "what is sent to %s can be read on its way, passwords too; a proxy with TLS or an SSH tunnel hides it",
                address.host,
            )
        stop = threading.Event()
        rounds = FigureRounds(database)
        open_things.enter_context(in_background(lambda: rounds.keep_up(stop), stop))
        click.echo(address.url(sockets[0].getsockname()[1]))
        serve(gateway, sockets)


def _add_login(path: Path, name: str) -> None:
    from study.dashboard.login_file import add_login, check_name

    check_name(name)
    if sys.stdin.isatty():
        password = click.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    add_login(path, name, password)
    click.echo(f"{path}: {name} can log in")
