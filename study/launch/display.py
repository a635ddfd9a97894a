"""What people see while workers train: a live table of studies and workers, or plain lines without a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.live import Live

from storage.agenda import open_studies
from storage.database import Database
from storage.errors import StorageError
from study.errors import StudyError
from study.progress import ProgressDisplay
from study.status import status_view

LOOK_SECONDS = 2.0
PAUSE_SECONDS = 5.0
LIST_SECONDS = 30.0


class LaunchDisplay:
    """Shows the studies that are served and all their workers."""

    def __init__(self, database: Database, studies: Sequence[str], console: Console) -> None:
        """Prepare to show studies.

        Args:
            database: where they are.
            studies: their names; none for all, later ones too.
            console: where to show them.
        """
        self._database = database
        self._studies = tuple(studies)
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._lines: dict[str, ProgressDisplay] = {}
        self._next_look = 0.0
        self._next_list = 0.0

    def __enter__(self) -> LaunchDisplay:
        if self._live is not None:
            real = sys.stderr
            self._live.start()
            # The table stands in for stderr meanwhile, so that lines of the log come above it.
            _redirect_log(real, sys.stderr)
        return self

    def __exit__(self, *_: object) -> None:
        self._next_look = 0.0
        self.tick()
        if self._live is not None:
            stand_in = sys.stderr
            self._live.stop()
            _redirect_log(stand_in, sys.stderr)
        for lines in self._lines.values():
            lines.__exit__()

    def tick(self) -> None:
        """Show what there is to show now; cheap to call often."""
        now = time.monotonic()
        if self._live is None:
            self._print_lines(now)
        elif now >= self._next_look:
            try:
                self._live.update(status_view(self._database, self._studies), refresh=True)
                spent = time.monotonic() - now
                self._next_look = now + max(LOOK_SECONDS, 10 * spent)
            except (StorageError, StudyError) as error:
                self._console.print(str(error), highlight=False, markup=False)
                self._next_look = now + PAUSE_SECONDS

    def _print_lines(self, now: float) -> None:
        if now >= self._next_list:
            self._next_list = now + LIST_SECONDS
            try:
                names = list(self._studies) or [study.name for study in open_studies(self._database)]
            except StorageError:
                names = []
            for name in names:
                self._lines.setdefault(name, ProgressDisplay(self._database, name, self._console))
        for name, lines in list(self._lines.items()):
            try:
                lines.tick()
            except StorageError as error:
                self._console.print(f"{name}: {error}", highlight=False, markup=False)
                del self._lines[name]


def _redirect_log(before: TextIO, after: TextIO) -> None:
    """Let what is logged to a terminal go to another stream; a log that goes to a file stays there."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is before and before.isatty():
            handler.setStream(after)
