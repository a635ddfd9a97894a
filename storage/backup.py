"""A consistent copy of a live database in one file.

SQLite gives it by its own backup, PostgreSQL by `pg_dump`. Where there is no `pg_dump` that fits the server, the
studies are copied into a SQLite file.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from storage.copying import copy_study
from storage.database import Database, show_url
from storage.errors import StorageError
from storage.postgresql_programs import find_pg_dump
from storage.queries import list_studies

SQLITE, DUMP = "sqlite", "pg_dump"


@dataclass(frozen=True)
class Backup:
    """A backup that was written.

    Attributes:
        path: the file.
        kind: `sqlite` for a SQLite database, `pg_dump` for an archive of `pg_restore`.
        bytes: its size.
        studies: names of the studies in it.
        program: the `pg_dump` that wrote it, or None.
    """

    path: Path
    kind: str
    bytes: int
    studies: tuple[str, ...]
    program: Path | None = None


def back_up(database: Database, path: Path) -> Backup:
    """Write all of a database into a file, while workers go on; the file is there whole or not at all.

    Args:
        database: the database.
        path: the file; one that is there is replaced.

    Raises:
        StorageError: the file cannot be written, or the database not be read.
    """
    live = database.path
    if live is not None and path.exists() and os.path.samefile(path, live):
        raise StorageError(f"{path}: is the database itself; name another file")
    studies = list_studies(database)
    with _beside(path) as temporary:
        kind, program = SQLITE, None
        if live is not None:
            _copy_sqlite(live, temporary)
        else:
            program = find_pg_dump(_server_major(database))
            if program is not None:
                kind = DUMP
                _dump(database, program, temporary)
            else:
                _copy_studies(database, studies, temporary)
    return Backup(path, kind, path.stat().st_size, studies, program)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file beside a path that is moved there when it is complete."""
    temporary = path.with_name(f".{path.name[:60]}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"{path}: is not a file that can be replaced; name another file")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            for left in (
                temporary,
                *(temporary.with_name(temporary.name + end) for end in ("-wal", "-shm", "-journal")),
            ):
                left.unlink(missing_ok=True)
            for lock in temporary.parent.glob(f"{temporary.name}.*.lock"):
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written: {error.strerror or error}; make room or name another file"
        ) from None


def _copy_sqlite(live: Path, temporary: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(live))}?mode=rw", uri=True)) as source,
            closing(sqlite3.connect(temporary)) as target,
        ):
            source.backup(target)
            # Without a write-ahead log the one file is all of the database.
            target.execute("PRAGMA journal_mode = DELETE")
            found = target.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise StorageError(f"{live}: cannot be backed up: {error}; make room or name another file") from None
    if found != "ok":
        raise StorageError(f"{live}: the file is damaged: {' '.join(found.split())}; `lmf db check` tells more")


def _copy_studies(database: Database, studies: tuple[str, ...], temporary: Path) -> None:
    url = sa.URL.create("sqlite", database=str(temporary)).render_as_string(hide_password=False)
    copy = Database.open(url)
    try:
        for name in studies:
            copy_study(database, copy, name, live=True)
    finally:
        copy.close()


def _server_major(database: Database) -> int:
    with database.read() as connection:
        return int(connection.scalar(sa.text("SHOW server_version_num")) or 0) // 10000


def _dump(database: Database, program: Path, temporary: Path) -> None:
    """Run `pg_dump`, which gets address and password by its environment: command lines can be read by others."""
    command: list[str | Path] = [
        program,
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--no-password",
        "--file",
        temporary,
    ]
    try:
        ran = subprocess.run(
            command,
            env={**os.environ, **connection_variables(database.url)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise StorageError(f"{program}: cannot be run: {error.strerror}") from None
    if ran.returncode:
        lines = ran.stderr.strip().splitlines()
        reason = lines[0] if lines else f"exit code {ran.returncode}"
        if database.url.password:
            reason = reason.replace(str(database.url.password), "***")
        raise StorageError(f"{show_url(database.url)}: {reason}; nothing was backed up")


def connection_variables(url: sa.URL) -> dict[str, str]:
    """The environment that leads PostgreSQL's programs to a database.

    Args:
        url: of a PostgreSQL database; may hold a password, and settings of the connection in its query.

    Raises:
        StorageError: the query holds a setting that PostgreSQL's library does not have.
    """
    from psycopg import pq

    names = {option.keyword.decode(): option.envvar for option in pq.Conninfo.get_defaults()}
    given = {"host": url.host, "port": url.port, "user": url.username, "password": url.password, "dbname": url.database}
    settings = {name: value for name, value in given.items() if value is not None}
    settings |= {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    variables = {}
    for name, value in settings.items():
        variable = names.get(name)
        if variable is None:
            raise StorageError(f"{show_url(url)}: its setting {name} cannot be given to pg_dump; leave it out")
        variables[variable.decode()] = str(value)
    return variables
