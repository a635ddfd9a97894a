"""Optuna's tables as the database itself describes them: which there are, and which rows belong to one study."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.errors import StorageError

OPTUNA_ROOT = "studies"


def reflect_optuna_tables(connection: Connection) -> dict[str, sa.Table]:
    """Tables of Optuna that hold something of a study, by name, each after those that it refers to.

    Raises:
        StorageError: Optuna's tables are missing.
    """
    metadata = sa.MetaData()
    metadata.reflect(connection, only=lambda name, _: not name.startswith("lmf_"))
    root = metadata.tables.get(OPTUNA_ROOT)
    if root is None:
        raise StorageError("Optuna's tables are missing from this database; `lmf db upgrade` makes them")
    return {table.name: table for table in tables_below(metadata, root)}


def tables_below(metadata: sa.MetaData, root: sa.Table) -> Iterator[sa.Table]:
    """A table, and those whose rows each belong to one of its rows."""
    for table in metadata.sorted_tables:
        if table is root or owner_column(table, root) is not None:
            yield table


def owner_column(table: sa.Table, root: sa.Table) -> sa.Column[int] | None:
    """The foreign key by which a table's rows belong, directly or further on, to rows of a root; None for others."""
    for key in sorted(table.foreign_keys, key=lambda key: str(key.parent.name)):
        parent = key.column.table
        if parent is root or (parent is not table and owner_column(parent, root) is not None):
            return key.parent
    return None


def rows_of(table: sa.Table, root: sa.Table, root_id: int) -> sa.ColumnElement[bool]:
    """The condition that picks a table's rows that belong to one row of a root."""
    if table is root:
        return id_column(root) == root_id
    owner = owner_column(table, root)
    assert owner is not None, f"{table.name} belongs to {root.name}"
    parent_id = next(key.column for key in owner.foreign_keys)
    if parent_id.table is root:
        return owner == root_id
    return owner.in_(sa.select(parent_id).where(rows_of(parent_id.table, root, root_id)))


def id_column(table: sa.Table) -> sa.Column[int]:
    """The column of the number that the database gives each row of a table."""
    column = table.autoincrement_column
    assert column is not None, f"{table.name} numbers its rows"
    return column
