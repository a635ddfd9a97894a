"""Bringing a database to this version on request: our schema and Optuna's, once its server can be reached."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
import sqlalchemy as sa
from optuna.storages import RDBStorage

from storage.database import Database, make_engine, parse_url, show_url
from storage.errors import StorageError, StorageUnavailableError
from storage.preparation import read_version
from storage.trials import optuna_errors

POLL_SECONDS = 0.5
_OPTUNA_VERSIONS = sa.table("alembic_version", sa.column("version_num", sa.String()))


@dataclass(frozen=True)
class Schemas:
    """The versions of both schemas in one database, None where it has no such tables.

    Attributes:
        ours: of the tables `lmf_*`.
        optunas: of Optuna's tables.
    """

    ours: str | None
    optunas: str | None


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade did.

    Attributes:
        where: the database, without its password.
        before: what there was.
        after: what there is now.
    """

    where: str
    before: Schemas
    after: Schemas


def upgrade_database(url: str, wait_seconds: float, on_wait: Callable[[str], None]) -> Upgraded:
    """Create the schema, or bring it to this version; may be repeated.

    Args:
        url: a SQLAlchemy URL.
        wait_seconds: how long to wait for a server that cannot be reached yet.
        on_wait: called once, with the reason, where waiting begins.

    Raises:
        StorageError: the server stays away or refuses, or the database is newer than this lmf or this Optuna.
    """
    before = _patiently(lambda: _read_schemas(url), wait_seconds, on_wait)
    database = Database.open(url)
    try:
        with database.lock("schema"):
            _upgrade_optuna(database)
    finally:
        database.close()
    return Upgraded(show_url(parse_url(url)), before, _read_schemas(url))


def _patiently(read: Callable[[], Schemas], wait_seconds: float, on_wait: Callable[[str], None]) -> Schemas:
    until = time.monotonic() + wait_seconds
    waiting = False
    while True:
        try:
            return read()
        except StorageUnavailableError as error:
            if time.monotonic() >= until:
                raise StorageError(
                    f"{error}; waited {wait_seconds:.0f} s; check that the server runs and that host and port are right"
                ) from None
            if not waiting:
                on_wait(str(error))
            waiting = True
            time.sleep(POLL_SECONDS)


def _read_schemas(url: str) -> Schemas:
    """What a database has now; nothing is made."""
    parsed = parse_url(url)
    database = Database(parsed, make_engine(parsed))
    if database.path is not None and not database.path.exists():
        return Schemas(None, None)
    try:
        with database.read() as connection:
            has_optuna = sa.inspect(connection).has_table(_OPTUNA_VERSIONS.name)
            optunas = connection.scalar(sa.select(_OPTUNA_VERSIONS.c.version_num)) if has_optuna else None
        return Schemas(read_version(database), optunas)
    finally:
        database.close()


def _upgrade_optuna(database: Database) -> None:
    """Let Optuna bring its tables to its version; the caller holds the schema lock."""
    url = database.url.render_as_string(hide_password=False)
    with optuna_errors(database):
        storage = RDBStorage(
            url, engine_kwargs={"poolclass": sa.NullPool}, skip_compatibility_check=True, skip_table_creation=True
        )
        found, wanted = storage.get_current_version(), storage.get_head_version()
        if found == wanted:
            return
        if found not in storage.get_all_versions():
            raise StorageError(
                f"{show_url(database.url)}: Optuna's tables are of schema {found}, which is newer than Optuna "
                f"{optuna.__version__} knows ({wanted}); install the newer Optuna"
            )
        with _own_logging():
            storage.upgrade()


@contextmanager
def _own_logging() -> Iterator[None]:
    """Keep Optuna's migrations from setting up the logging of the whole process, as they do where there is none."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
