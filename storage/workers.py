"""Who works: a row per worker process, so that people see them and dead ones free their points at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import sqlalchemy as sa

from storage.database import Database, now_seconds
from storage.ledger import Ledger
from storage.schema import AttemptRow, PointRow, WorkerRow

TRAINING, IDLE, STOPPED, LOST = "training", "idle", "stopped", "lost"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from a later one with the same number by its start.

    Attributes:
        host: name of the machine.
        pid: process number there.
        started: when the process started, in Unix seconds.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def of(cls, pid: int | None = None) -> ProcessIdentity:
        """The identity of a process of this machine, by default of this one."""
        pid = os.getpid() if pid is None else pid
        return cls(socket.gethostname(), pid, round(psutil.Process(pid).create_time(), 2))

    @property
    def name(self) -> str:
        """How the worker is called."""
        return f"{self.host}:{self.pid}:{self.started:.0f}"

    def is_alive(self) -> bool:
        """Whether the process, which must be one of this machine, still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@dataclass(frozen=True)
class Workers:
    """The register of workers of one database."""

    database: Database

    def register(self, identity: ProcessIdentity, device: str, versions: Mapping[str, str]) -> int:
        """Add this worker; a process that works again, on another study, keeps its row.

        Args:
            identity: the process.
            device: where it trains.
            versions: of what it works with, and what its device is; `storage.hardware` reads it.

        Returns:
            Its id.
        """
        found = {
            "device": device,
            "versions": dict(versions),
            "state": IDLE,
            "started_at": now_seconds(),
            "last_seen": now_seconds(),
        }
        known = sa.update(WorkerRow).where(WorkerRow.name == identity.name).values(found)
        new = sa.insert(WorkerRow).values(
            name=identity.name,
            host=identity.host,
            pid=identity.pid,
            process_started=identity.started,
            **found,
        )
        with self.database.begin() as connection:
            worker_id = connection.scalar(known.returning(WorkerRow.id))
            if worker_id is None:
                worker_id = connection.execute(new.returning(WorkerRow.id)).scalar_one()
            return worker_id

    def epochs_trained(self, identity: ProcessIdentity) -> int:
        """How many epochs a worker has put on record."""
        with self.database.read() as connection:
            total = connection.scalar(
                sa.select(sa.func.sum(AttemptRow.epochs))
                .join(WorkerRow, WorkerRow.id == AttemptRow.worker_id)
                .where(WorkerRow.name == identity.name)
            )
        return int(total or 0)

    def note(self, worker_id: int, state: str) -> None:
        """Note that a worker lives and what it does: `training`, `idle` or `stopped`."""
        with self.database.begin() as connection:
            connection.execute(
                sa.update(WorkerRow).where(WorkerRow.id == worker_id).values(state=state, last_seen=now_seconds())
            )

    def release_dead(self) -> list[str]:
        """Free the points of this machine's dead workers at once.

        Returns:
            Names of the workers that were found dead.
        """
        dead = []
        for worker_id, identity in self._registered_here():
            if not identity.is_alive():
                Ledger(self.database).expire_leases(worker_id)
                self.note_lost(worker_id)
                dead.append(identity.name)
        return dead

    def note_lost(self, worker_id: int) -> None:
        """Note that a worker is dead, leaving the time at which it was last seen."""
        with self.database.begin() as connection:
            connection.execute(sa.update(WorkerRow).where(WorkerRow.id == worker_id).values(state=LOST))

    def holders(self, study_id: int) -> list[tuple[str, float]]:
        """Who holds leases of a study: each worker's name and the seconds until its lease ends."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(WorkerRow.name, PointRow.lease_expires - now_seconds())
                .join(PointRow, PointRow.worker_id == WorkerRow.id)
                .where(PointRow.study_id == study_id, PointRow.lease_expires > now_seconds())
                .order_by(WorkerRow.name)
            ).all()
            return [(name, float(seconds or 0.0)) for name, seconds in rows]

    def _registered_here(self) -> list[tuple[int, ProcessIdentity]]:
        """Workers of this machine that have not said that they stopped, with their ids."""
        with self.database.read() as connection:
            rows = connection.execute(
                sa.select(WorkerRow.id, WorkerRow.host, WorkerRow.pid, WorkerRow.process_started).where(
                    WorkerRow.host == socket.gethostname(), WorkerRow.state.in_((TRAINING, IDLE))
                )
            ).all()
        return [(row.id, ProcessIdentity(row.host, row.pid, row.process_started)) for row in rows]
