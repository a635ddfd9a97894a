"""What a server tells of itself, and the URL under which workers reach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage.postgresql_programs import INSTALL_SERVER
from study.errors import StudyError
from study.server.addresses import LOOPBACK, reachable_host
from study.server.creation import DATABASE, ROLE
from study.server.folder import ServerFolder, Settings, State

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

CONNECT_SECONDS = 5


@dataclass(frozen=True)
class Status:
    """A server as it is now.

    Attributes:
        state: whether it runs.
        settings: how it was started last.
        folder: its folder.
        pid: its process, where it runs.
        version: PostgreSQL's version, where it answers.
        bytes: size of the database, where it answers.
        used: connections that others have, where it answers.
        allowed: connections that it allows, where it answers.
        problem: why it does not answer, where it runs and does not.
    """

    state: State
    settings: Settings
    folder: ServerFolder
    pid: int | None = None
    version: str | None = None
    bytes: int | None = None
    used: int | None = None
    allowed: int | None = None
    problem: str | None = None

    @property
    def is_running(self) -> bool:
        """Whether the server runs."""
        return self.state == State.RUNNING

    def document(self) -> dict[str, Any]:
        """What `lmf db status --json` prints; its keys are stable."""
        known = self.state != State.ABSENT
        return {
            "running": self.is_running,
            "state": self.state.value,
            "host": self.settings.host if known else None,
            "port": self.settings.port if known else None,
            "machine": self.settings.machine or None,
            "pid": self.pid,
            "version": self.version,
            "bytes": self.bytes,
            "connections": None if self.used is None else {"used": self.used, "allowed": self.allowed},
            "folder": str(self.folder.path),
            "problem": self.problem,
        }


def read_status(folder: ServerFolder) -> Status:
    """Look at a server, and ask it if it runs.

    Raises:
        StudyError: its folder cannot be read, or PostgreSQL's driver is missing.
    """
    state, settings = folder.state(), folder.settings()
    if state != State.RUNNING:
        return Status(state, settings, folder)
    try:
        import psycopg
    except ImportError:
        raise StudyError(
            f"PostgreSQL's driver is missing, so the server cannot be asked; install it with: {INSTALL_SERVER}"
        ) from None

    pid = folder.pid()
    try:
        with psycopg.connect(
            host=LOOPBACK,
            port=settings.port,
            user=ROLE,
            password=folder.password(),
            dbname=DATABASE,
            connect_timeout=CONNECT_SECONDS,
        ) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version'), pg_database_size(current_database()), "
                "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                "AND pid <> pg_backend_pid()), current_setting('max_connections')"
            ).fetchone()
    except psycopg.Error as error:
        return Status(state, settings, folder, pid, problem=" ".join(str(error).split()))
    assert row is not None
    version, size, used, allowed = row
    return Status(state, settings, folder, pid, str(version), int(size), int(used), int(allowed))


def server_url(folder: ServerFolder) -> URL:
    """The URL that workers need, password included.

    Raises:
        StudyError: there is no server here, or its password is missing.
    """
    if folder.state() == State.ABSENT:
        raise StudyError(f"{folder.path}: there is no server here yet; `lmf db start` makes one")
    from sqlalchemy.engine import URL

    settings = folder.settings()
    return URL.create(
        "postgresql+psycopg",
        username=ROLE,
        password=folder.password(),
        host=reachable_host(settings.host),
        port=settings.port,
        database=DATABASE,
    )
