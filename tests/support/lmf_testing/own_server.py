"""Servers as `lmf db start` makes them, in folders that also another user of the system can get to."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from study.server.control import stop_server
from study.server.folder import ServerFolder, State


@contextmanager
def home_for_servers() -> Iterator[Path]:
    """A folder for LMF_HOME; the folders of pytest are closed to the user as whom root's server runs.

    A server that runs there is stopped at the end, whatever became of the test.
    """
    folder = Path(tempfile.mkdtemp(prefix="lmf-server-"))
    folder.chmod(0o755)
    try:
        yield folder / "home"
    finally:
        server = ServerFolder(folder / "home" / "postgresql")
        if server.state() == State.RUNNING:
            stop_server(server)
        shutil.rmtree(folder)


def crash(server: ServerFolder) -> None:
    """End a server as a power cut does."""
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
