"""Bringing a database to this version: our tables by Alembic, Optuna's by Optuna, both under one lock."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from storage.database import Database, show_url
from storage.errors import NoDatabaseError, StorageError, StorageUnavailableError

SCHEMA_VERSION = "0004"
VERSION_TABLE = "lmf_alembic_version"
MIGRATIONS = Path(__file__).parent / "migrations"


def prepare_schema(database: Database, *, create: bool) -> None:
    """Create or upgrade the schema where needed; only one process does so at a time.

    Raises:
        StorageError: the database cannot be reached, is newer than this version, or is empty and `create` is false.
    """
    try:
        version = read_version(database)
    except StorageUnavailableError as error:
        if database.backend == "sqlite":
            raise
        raise StorageUnavailableError(f"{error}; check that the server runs and that host and port are right") from None
    if version == SCHEMA_VERSION:
        return
    if version is None and not create:
        raise NoDatabaseError(
            f"{show_url(database.url)}: this database holds no studies of lmf yet; `lmf run` makes one"
        )
    with database.lock("schema"):
        version = read_version(database)
        if version != SCHEMA_VERSION:
            _refuse_newer(database, version)
            _create_optuna_tables(database)
            _migrate(database)


def read_version(database: Database) -> str | None:
    """The revision of our tables, or None where there are none."""
    with database.read() as connection:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            return None
        version = connection.scalar(sa.select(sa.column("version_num")).select_from(sa.table(VERSION_TABLE)))
        return None if version is None else str(version)


def _refuse_newer(database: Database, version: str | None) -> None:
    known = {path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}
    if version is not None and version not in known:
        raise StorageError(
            f"{show_url(database.url)}: its schema {version} is newer than this lmf knows "
            f"({SCHEMA_VERSION}); use the newer lmf, or another database"
        )


def _create_optuna_tables(database: Database) -> None:
    from storage.trials import create_optuna_tables

    create_optuna_tables(database)


def _migrate(database: Database) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, SCHEMA_VERSION)
