"""What a worker holds, and proof that one which lost its point writes nothing more for it."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.artifacts import Artifacts
from storage.database import Database, now_seconds
from storage.file_names import checkpoint_id
from storage.schema import OPEN_STATES, AttemptRow, PointRow, WorkerRow
from storage.workers import IDLE, STOPPED

OPTUNA_TABLES = (
    "trials",
    "trial_params",
    "trial_values",
    "trial_intermediate_values",
    "trial_user_attributes",
    "trial_system_attributes",
)


@dataclass(frozen=True)
class Held:
    """A point that a worker holds.

    Attributes:
        point_id: the point.
        trial_id: Optuna's id of its trial.
        worker_id: the worker.
        attempt_id: the worker's attempt.
        token: of the lease.
        fruitless_losses: workers that the point has cost in a row without a new epoch, up to this one.
    """

    point_id: int
    trial_id: int
    worker_id: int
    attempt_id: int
    token: str
    fruitless_losses: int


def find_held(database: Database, pid: int) -> Held | None:
    """The point that a worker process of this machine holds."""
    query = (
        sa.select(
            PointRow.id,
            PointRow.trial_id,
            PointRow.worker_id,
            AttemptRow.id.label("attempt_id"),
            PointRow.lease_token,
            sa.case((PointRow.last_epoch > AttemptRow.known_epoch, 0), else_=PointRow.fruitless_losses),
        )
        .join(WorkerRow, WorkerRow.id == PointRow.worker_id)
        .join(AttemptRow, AttemptRow.token == PointRow.lease_token)
        .where(WorkerRow.pid == pid, WorkerRow.host == socket.gethostname())
        .order_by(WorkerRow.id.desc())
    )
    with database.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else Held(*row)


def is_closed_by_another(database: Database, held: Held) -> bool:
    """Whether the point is closed, and the attempt that held it ended as lost."""
    query = (
        sa.select(PointRow.state, AttemptRow.end)
        .join(AttemptRow, AttemptRow.point_id == PointRow.id)
        .where(AttemptRow.id == held.attempt_id)
    )
    with database.read() as connection:
        state, end = connection.execute(query).one()
    return state not in OPEN_STATES and end == "lost"


def database_seconds(database: Database) -> float:
    """The database's clock."""
    with database.read() as connection:
        return float(connection.scalar(sa.select(now_seconds())) or 0.0)


def has_moved_on(database: Database, held: Held, since: float) -> bool:
    """Whether a worker is done with a point: it has claimed another since, or says that it holds none."""
    with database.read() as connection:
        newer = connection.scalar(
            sa.select(sa.func.count())
            .select_from(AttemptRow)
            .where(AttemptRow.worker_id == held.worker_id, AttemptRow.id > held.attempt_id)
        )
        worker = connection.execute(
            sa.select(WorkerRow.state, WorkerRow.last_seen).where(WorkerRow.id == held.worker_id)
        ).one()
    return bool(newer) or (worker.state in (IDLE, STOPPED) and worker.last_seen > since)


def take_snapshot(database: Database, artifacts: Artifacts, held: Held) -> dict[str, Any]:
    """All that is written of a point: its rows in PostgreSQL, each with the transaction that wrote it, and its files.

    A row that is written again, even with the values that it had, has another `xmin`. The point's own row goes without
    it, and without its weights, which whoever trains something better may remove.
    """
    found: dict[str, Any] = {}
    with database.read() as connection:

        def rows(table: str, column: str, value: int) -> list[dict[str, Any]]:
            query = sa.text(f"SELECT xmin::text AS written_by, * FROM {table} WHERE {column} = :value ORDER BY 2, 3")
            return [dict(row) for row in connection.execute(query, {"value": value}).mappings()]

        (point,) = rows("lmf_points", "id", held.point_id)
        found["point"] = {name: value for name, value in point.items() if name not in ("written_by", "weights")}
        for table in ("lmf_attempts", "lmf_epochs"):
            found[table] = rows(table, "point_id", held.point_id)
        for table in OPTUNA_TABLES:
            found[table] = rows(table, "trial_id", held.trial_id)
    for entry in point["files"] or ():
        path = artifacts.local_path(entry["artifact_id"])
        assert path is not None
        found[entry["filename"]] = (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
    checkpoint = artifacts.local_path(checkpoint_id(held.token))
    assert checkpoint is not None
    found["checkpoint"] = checkpoint.exists()
    return found


def describe_difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What two snapshots differ in, one line a part."""
    changed = [name for name in after if after[name] != before.get(name)]
    return "\n".join(f"{name}: {before.get(name)} -> {after[name]}" for name in changed)
