"""`lmf db start|stop|status|url`: a PostgreSQL server of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from study.cli.common import print_json
from study.cli.main import DONE, POINTS_FAILED
from study.home import find_home

if TYPE_CHECKING:
    from study.server.folder import ServerFolder
    from study.server.inspection import Status

NOT_RUNNING = POINTS_FAILED


@click.command("start")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Address of this machine to listen on; 0.0.0.0 for all. Default: as last time, at first 127.0.0.1, which "
    "nobody reaches from elsewhere.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port to listen on; default: as last time, at first a free one.",
)
@click.option(
    "--allow",
    metavar="CIDR",
    multiple=True,
    help="Network that may connect, such as 10.1.0.0/16; may be repeated. Default: as last time, at first the networks "
    "that this machine is in.",
)
def start_command(host: str | None, port: int | None, allow: tuple[str, ...]) -> None:
    """Start a PostgreSQL server under LMF_HOME, which goes on when this command has ended."""
    from study.server.control import start_server

    folder = _folder()
    started = start_server(folder, host, port, allow)
    settings = started.settings
    how = "runs already" if started.was_running else "made and started" if started.created else "started"
    click.echo(f"PostgreSQL {how}, on port {settings.port} of {settings.host}; its data is in {folder.data}")
    if not started.was_running:
        click.echo("`lmf db url --file FILE` gives workers what they need; `lmf db stop` stops it")
    _warn_of_plain_text(folder)


@click.command("stop")
def stop_command() -> None:
    """Stop the server that `lmf db start` started; what was written stays."""
    from study.server.control import stop_server

    click.echo("PostgreSQL stopped" if stop_server(_folder()) else "PostgreSQL does not run")


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status_command(as_json: bool) -> int:
    """Show the server that `lmf db start` started; exit code 0 where it runs, 1 where not."""
    from study.server.inspection import read_status

    status = read_status(_folder())
    if as_json:
        print_json(status.document())
    else:
        for line in _status_lines(status):
            click.echo(line)
    return DONE if status.is_running else NOT_RUNNING


@click.command("url")
@click.option("--show-password", is_flag=True, help="Show the password, which is *** otherwise.")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the URL, password included, to a file that only you can read.",
)
def url_command(show_password: bool, path: Path | None) -> None:
    """Give the URL that workers need to reach the server that `lmf db start` started."""
    from study.private_files import write_private
    from study.server.inspection import read_status, server_url

    if show_password and path is not None:
        raise click.UsageError("--show-password: cannot go with --file, which takes the password; give one of them")
    folder = _folder()
    url = server_url(folder)
    if path is not None:
        path = path.expanduser().absolute()
        write_private(path, url.render_as_string(hide_password=False) + "\n")
        click.echo(f"written to {path}; give workers that file: LMF_STORAGE_FILE={path} lmf worker")
    else:
        click.echo(url.render_as_string(hide_password=not show_password))
    if not read_status(folder).is_running:
        click.echo("note: the server does not run; `lmf db start` starts it", err=True)
    _warn_of_plain_text(folder)


def _folder() -> ServerFolder:
    from study.server.folder import ServerFolder

    return ServerFolder(find_home().root / "postgresql")


def _warn_of_plain_text(folder: ServerFolder) -> None:
    from study.server.addresses import NO_TLS, is_loopback

    if not is_loopback(folder.settings().host):
        click.echo(f"warning: {NO_TLS}", err=True)


def _status_lines(status: Status) -> list[str]:
    from study.server.folder import State

    settings, folder = status.settings, status.folder
    place = f"port {settings.port} of {settings.host}"
    if status.state == State.ABSENT:
        return [f"no server in {folder.path}; `lmf db start` makes one"]
    if status.state == State.ELSEWHERE:
        return [f"{settings.machine} runs the server of {folder.path}, on {place}"]
    if status.state == State.CRASHED:
        return [f"crashed, was on {place}; `lmf db start` starts it again and it recovers"]
    if status.state == State.STOPPED:
        return [f"stopped, was on {place}; `lmf db start` starts it", f"data: {folder.data}"]
    if status.problem is not None:
        return [
            f"runs as process {status.pid} on {place}, but does not answer: {status.problem}",
            f"log: {folder.logs}",
        ]
    return [
        f"runs as process {status.pid} on {place}, PostgreSQL {status.version}",
        f"connections: {status.used} of {status.allowed}",
        f"database: {(status.bytes or 0) / 1e6:,.1f} MB in {folder.data}",
        f"log: {folder.logs}",
    ]
