"""`lmf status`: what runs where, what failed and why, when it will end."""

from __future__ import annotations

import time
from contextlib import suppress

import click

from study.cli.common import open_existing, print_json, storage_option

WATCH_SECONDS = 2.0


@click.command("status")
@click.argument("studies", metavar="[STUDY]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds until Ctrl-C.")
@storage_option
def status_command(studies: tuple[str, ...], as_json: bool, watch: bool, storage: str | None) -> None:
    """Show how far the named studies are, or all, what their workers do, what it cost, and what failed and why."""
    if as_json and watch:
        raise click.UsageError("--watch: cannot go with --json, which prints one document; give one of them")
    from study.status import status_document, status_view

    _, database = open_existing(storage)
    try:
        if as_json:
            print_json(status_document(database, studies))
            return
        from rich.live import Live

        from storage.errors import StorageUnavailableError
        from study.progress import make_console

        console = make_console()
        if not watch:
            console.print(status_view(database, studies))
            return
        with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                try:
                    live.update(status_view(database, studies), refresh=True)
                except StorageUnavailableError as error:
                    live.update(f"waiting for the database: {error}", refresh=True)
                time.sleep(WATCH_SECONDS)
    finally:
        database.close()
