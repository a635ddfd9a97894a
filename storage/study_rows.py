"""All rows of one study, Optuna's and ours, from one database to another: given new numbers, and compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.errors import StorageError
from storage.optuna_tables import OPTUNA_ROOT, reflect_optuna_tables, rows_of, tables_below
from storage.schema import Base
from storage.workers import LOST, STOPPED

_CHUNK = 500
# What refers to rows of Optuna without a foreign key.
_LINKS = {("lmf_studies", "optuna_study_id"): OPTUNA_ROOT, ("lmf_points", "trial_id"): "trials"}

Row = dict[str, Any]


@dataclass
class _Tally:
    """Rows of one table, counted, and a number made from all of them that does not depend on their order."""

    rows: int = 0
    digest: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        text = json.dumps(dict(row), sort_keys=True, default=str)
        self.rows += 1
        self.digest = (self.digest + int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")) % 2**128


@dataclass
class StudyRows:
    """The copying of one study's rows within a transaction of each database.

    Attributes:
        name: the study.
        reading: a transaction of the source.
        writing: a transaction of the target.
    """

    name: str
    reading: Connection
    writing: Connection
    _ids: dict[str, dict[int, int]] = field(default_factory=dict)
    _sent: list[tuple[sa.Table, sa.Table, int, _Tally]] = field(default_factory=list)

    def copy_trials(self, optuna_study_id: int) -> None:
        """Copy Optuna's study, with whatever tables this version of Optuna has for it.

        Raises:
            StorageError: Optuna does not have the study.
        """
        origins, targets = reflect_optuna_tables(self.reading), reflect_optuna_tables(self.writing)
        for name, origin in origins.items():
            self._copy_table(origin, targets[name], (origins[OPTUNA_ROOT], targets[OPTUNA_ROOT]), optuna_study_id)

    def copy_ledger(self, study_id: int, dataset_id: int) -> None:
        """Copy the study in our tables, with the dataset and the workers that it names; Optuna's trials come first.

        Raises:
            StorageError: a point refers to a trial that Optuna does not have.
        """
        tables = _plain_tables()
        datasets, workers, root = tables["lmf_datasets"], tables["lmf_workers"], tables["lmf_studies"]
        mine = list(tables_below(root.metadata, root))
        hands = sa.union(
            *(
                sa.select(table.c.worker_id).where(rows_of(table, root, study_id))
                for table in mine
                if "worker_id" in table.c
            )
        )
        self._share(datasets, datasets.c.id == dataset_id, ("fingerprint", "split_fingerprint"))
        self._share(workers, workers.c.id.in_(hands), ("name",), _retired)
        for table in mine:
            self._copy_table(table, table, (root, root), study_id)

    def compare(self) -> dict[str, int]:
        """Read again what was written and compare it with what was to be written.

        Returns:
            How many rows of the study each table has.

        Raises:
            StorageError: something differs.
        """
        for table, root, root_id, sent in self._sent:
            found = _Tally()
            number = table.autoincrement_column
            for rows in _read(self.writing, table, rows_of(table, root, root_id)):
                for row in rows:
                    found.add({name: value for name, value in row.items() if number is None or name != number.name})
            if found != sent:
                raise StorageError(
                    f"{self.name}: of {sent.rows} rows of {table.name} the target gives back {found.rows}, and not as "
                    "they were; nothing was copied"
                )
        return {table.name: sent.rows for table, _, _, sent in self._sent}

    def _copy_table(self, origin: sa.Table, target: sa.Table, roots: tuple[sa.Table, sa.Table], root_id: int) -> None:
        tally = _Tally()
        for rows in _read(self.reading, origin, rows_of(origin, roots[0], root_id)):
            moved = self._insert(target, rows)
            for row in moved:
                tally.add(row)
        new_root_id = self._new_id(roots[1].name, root_id)
        self._sent.append((target, roots[1], new_root_id, tally))

    def _insert(self, table: sa.Table, rows: Sequence[Row]) -> list[Row]:
        """Write rows; the numbers that they get are remembered. Returns them as they were written, without numbers."""
        number = table.autoincrement_column
        moved = [self._moved(table, row) for row in rows]
        if number is None:
            self.writing.execute(sa.insert(table), moved)
            return moved
        statement = sa.insert(table).returning(number, sort_by_parameter_order=True)
        new_ids = self.writing.execute(statement, moved).scalars().all()
        old_ids = (row[number.name] for row in rows)
        self._ids.setdefault(table.name, {}).update(zip(old_ids, new_ids, strict=True))
        return moved

    def _moved(self, table: sa.Table, row: Row) -> Row:
        """A row as the target takes it: without its own number, and with the new ones of what it refers to."""
        number = table.autoincrement_column
        moved = {name: value for name, value in row.items() if number is None or name != number.name}
        for column in table.columns:
            parent = next((key.column.table.name for key in column.foreign_keys), None)
            parent = parent or _LINKS.get((table.name, column.name))
            if parent is not None and moved.get(column.name) is not None:
                moved[column.name] = self._new_id(parent, moved[column.name])
        if moved.get("lease_token") is not None:
            # Whatever the target's clock says, this lease has run out.
            moved["lease_expires"] = 0.0
        return moved

    def _share(
        self,
        table: sa.Table,
        condition: sa.ColumnElement[bool],
        names: Sequence[str],
        change: Callable[[Row], Row] = dict,
    ) -> None:
        """Copy rows that several studies may refer to; one that the target has, by its names, gets what it lacks."""
        number = table.autoincrement_column
        assert number is not None
        for rows in _read(self.reading, table, condition):
            for row in rows:
                same = sa.and_(*(table.c[name] == row[name] for name in names))
                known = self.writing.execute(sa.select(table).where(same)).mappings().first()
                if known is None:
                    self._insert(table, [change(row)])
                    continue
                self._ids.setdefault(table.name, {})[row[number.name]] = known[number.name]
                lacking = {name: row[name] for name, value in known.items() if row[name] and not value}
                if lacking:
                    self.writing.execute(sa.update(table).where(number == known[number.name]).values(lacking))

    def _new_id(self, table: str, old: int) -> int:
        new = self._ids.get(table, {}).get(old)
        if new is None:
            raise StorageError(
                f"{self.name}: row {old} of {table}, which the study refers to, is missing; `lmf db check` tells more"
            )
        return new


def _retired(worker: Row) -> Row:
    """A worker as a database shall know it that it does not work with."""
    return {**worker, "state": worker["state"] if worker["state"] == LOST else STOPPED}


def _read(connection: Connection, table: sa.Table, condition: sa.ColumnElement[bool]) -> Iterator[list[Row]]:
    """Rows in the order of their numbers, some at a time."""
    statement = sa.select(table).where(condition).order_by(*table.primary_key)
    result = connection.execute(statement.execution_options(yield_per=_CHUNK))
    for part in result.mappings().partitions():
        yield [dict(row) for row in part]


def _plain_tables() -> dict[str, sa.Table]:
    """Our tables, each after those that it refers to, with NULL for an empty JSON column, not `null`."""
    metadata = sa.MetaData()
    for table in Base.metadata.sorted_tables:
        for column in table.to_metadata(metadata).columns:
            if isinstance(column.type, sa.JSON):
                column.type = sa.JSON(none_as_null=True)
    return {table.name: table for table in metadata.sorted_tables}
