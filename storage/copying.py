"""Copying studies between databases, from SQLite to PostgreSQL or back: complete, compared, all or nothing.

A study's rows are read in one transaction of the source, so that they show one moment, and written in one transaction
of the target, Optuna's together with ours. A copy that is cut short therefore leaves nothing behind. What was written
is read again and compared before it is committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.database import Database, allow_idling, now_seconds, show_url
from storage.errors import StorageError
from storage.faults import reach
from storage.optuna_tables import reflect_optuna_tables
from storage.schema import PointRow, StudyRow, WorkerRow
from storage.study_rows import StudyRows
from storage.trials import TrialMirror

COPY_STEPS = ("copied-trials", "copied-rows", "copied")
"""Where `LMF_FAULT` can end a copy: with Optuna's rows written, with all rows compared, and after the commit."""


@dataclass(frozen=True)
class CopiedStudy:
    """A study that was copied and compared.

    Attributes:
        name: the study.
        rows: how many rows of it each table holds, at the source and at the target.
    """

    name: str
    rows: Mapping[str, int]

    @property
    def points(self) -> int:
        """Points of the study."""
        return self.rows["lmf_points"]

    @property
    def trials(self) -> int:
        """Trials of Optuna's study."""
        return self.rows["trials"]

    @property
    def attempts(self) -> int:
        """Attempts at its points."""
        return self.rows["lmf_attempts"]

    @property
    def epochs(self) -> int:
        """Epochs on record."""
        return self.rows["lmf_epochs"]


def check_target(target: Database, names: Sequence[str]) -> None:
    """Make sure that a database has no study of some names.

    Raises:
        StorageError: it has one, in our tables or in Optuna's.
    """
    with target.read() as connection:
        _refuse_known(target, connection, names)


def check_holders(source: Database, name: str) -> None:
    """Make sure that nobody works on a study.

    Raises:
        StorageError: workers hold points of it, or there is no such study.
    """
    with source.read() as connection:
        _refuse_held(connection, name, _find_study(source, connection, name)[0])


def copy_study(source: Database, target: Database, name: str, *, live: bool = False) -> CopiedStudy:
    """Copy one study.

    A point that a dead worker holds is copied with its lease run out, so the next worker at the target takes it over
    as it would have at the source.

    Args:
        source: holds the study.
        target: takes it; another database.
        name: the study.
        live: copy points that workers hold just now as well, with their leases run out, as a backup does.

    Raises:
        StorageError: the study is not there, workers hold points of it, the target has a study of that name, or what
            the target gives back differs from what it was given. The target is then as it was before.
    """
    check_target(target, (name,))
    for database in (source, target):
        # Optuna's tables must be of this Optuna's version on both sides.
        TrialMirror.open(database).close()
    with target.lock("plan"), source.read() as reading:
        allow_idling(reading)
        study_id, optuna_study_id, dataset_id = _find_study(source, reading, name)
        if not live:
            _refuse_held(reading, name, study_id)
        with target.begin() as writing:
            allow_idling(writing)
            _refuse_known(target, writing, (name,))
            rows = StudyRows(name, reading, writing)
            rows.copy_trials(optuna_study_id)
            reach("copied-trials")
            rows.copy_ledger(study_id, dataset_id)
            counts = rows.compare()
            reach("copied-rows")
    reach("copied")
    return CopiedStudy(name, counts)


def _find_study(source: Database, connection: Connection, name: str) -> tuple[int, int, int]:
    row = connection.execute(
        sa.select(StudyRow.id, StudyRow.optuna_study_id, StudyRow.dataset_id).where(StudyRow.name == name)
    ).first()
    if row is None:
        raise StorageError(f"{show_url(source.url)}: no study named {name}")
    return row.id, row.optuna_study_id, row.dataset_id


def _refuse_known(target: Database, connection: Connection, names: Sequence[str]) -> None:
    optuna_names = reflect_optuna_tables(connection)["studies"].c.study_name
    for column, what in ((StudyRow.name, "a study"), (optuna_names, "a study of Optuna")):
        known = connection.scalars(sa.select(column).where(column.in_(names)).order_by(column)).all()
        if known:
            raise StorageError(
                f"{show_url(target.url)}: has {what} named {', '.join(known)} already; delete it there first, "
                "or choose others with --study"
            )


def _refuse_held(connection: Connection, name: str, study_id: int) -> None:
    holders = connection.scalars(
        sa.select(WorkerRow.name)
        .distinct()
        .join(PointRow, PointRow.worker_id == WorkerRow.id)
        .where(PointRow.study_id == study_id, PointRow.lease_expires > now_seconds())
        .order_by(WorkerRow.name)
    ).all()
    if holders:
        raise StorageError(
            f"{name}: workers hold points of it: {', '.join(holders)}; stop them first, or wait until their leases end"
        )
