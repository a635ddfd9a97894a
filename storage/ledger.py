"""The ledger: which worker has which point, until when, and what came of it. Each point exactly once.

A claim gives a lease: a token and an expiry by the database's clock. Every later write names the token and does
nothing but raise when another worker has the point by now. The ledger is the truth and Optuna its mirror: scores are
committed here first, then Optuna is told, then the point is closed; a claim on a point in between completes the rest.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from storage.database import Database, now_seconds
from storage.errors import LeaseLostError
from storage.lease import EpochFigures, Lease
from storage.schema import (
    COMPLETE,
    FAILED,
    OPEN_STATES,
    PRUNED,
    RUNNING,
    WAITING,
    AttemptRow,
    EpochRow,
    PointRow,
    WorkerRow,
)

MAX_FRUITLESS_LOSSES = 3


@dataclass(frozen=True)
class Ledger:
    """Claims, renews, finishes and releases points of one database."""

    database: Database

    def claim(self, study_id: int, worker_id: int, lease_seconds: float) -> Lease | None:
        """Take one point: one whose lease has run out, or else the next that waits.

        Args:
            study_id: of which study.
            worker_id: who takes it.
            lease_seconds: how long the lease lasts without renewal.

        Returns:
            The lease, or None where no point is free now.

        Raises:
            StorageError: the database refuses.
        """
        with self.database.begin() as connection:
            point = self._free_point(connection, study_id)
            if point is None:
                return None
            fruitless, outcome, message = point.fruitless_losses, point.outcome, point.message
            if point.lease_token is not None:
                fruitless = _close_lost_attempt(connection, point)
                if outcome is None and fruitless >= MAX_FRUITLESS_LOSSES:
                    outcome = FAILED
                    message = f"cost {fruitless} workers in a row without one new epoch"
            token = str(uuid.uuid4())
            host, device = connection.execute(
                sa.select(WorkerRow.host, WorkerRow.device).where(WorkerRow.id == worker_id)
            ).one()
            connection.execute(
                sa.update(PointRow)
                .where(PointRow.id == point.id)
                .values(
                    state=RUNNING,
                    outcome=outcome,
                    message=message,
                    fruitless_losses=fruitless,
                    lease_token=token,
                    lease_expires=now_seconds() + lease_seconds,
                    worker_id=worker_id,
                    started_at=sa.func.coalesce(PointRow.started_at, now_seconds()),
                )
            )
            earlier = connection.execute(
                sa.select(AttemptRow.token, AttemptRow.first_epoch + AttemptRow.epochs)
                .where(AttemptRow.point_id == point.id, AttemptRow.trial_number == point.trial_number)
                .order_by(AttemptRow.id.desc())
            ).all()
            attempt = sa.insert(AttemptRow).values(
                point_id=point.id,
                token=token,
                trial_number=point.trial_number,
                worker_id=worker_id,
                host=host,
                device=device,
                started_at=now_seconds(),
                known_epoch=point.last_epoch,
                first_epoch=earlier[0][1] if earlier else 0,
            )
            attempt_id = connection.execute(attempt.returning(AttemptRow.id)).scalar_one()
        return Lease(
            point_id=point.id,
            study_id=study_id,
            worker_id=worker_id,
            attempt_id=attempt_id,
            token=token,
            seconds=lease_seconds,
            key=point.key,
            generation=point.generation,
            alpha=point.alpha,
            beta=point.beta,
            loss=point.loss,
            seed=point.seed,
            trial_id=point.trial_id,
            trial_number=point.trial_number,
            last_epoch=point.last_epoch,
            outcome=outcome,
            earlier_tokens=tuple(earlier_token for earlier_token, _ in earlier),
        )

    def renew(self, lease: Lease) -> None:
        """Make the lease last `lease.seconds` from now.

        Raises:
            LeaseLostError: another worker has the point.
            StorageUnavailableError: the database is away; the lease goes on until it runs out.
        """
        with self.database.begin() as connection:
            _update_owned(connection, lease, lease_expires=now_seconds() + lease.seconds)

    def begin_training(self, lease: Lease, first_epoch: int) -> None:
        """Note from which epoch this attempt goes on; epochs that the attempt before it had and this lacks were lost.

        Args:
            lease: the claim.
            first_epoch: last epoch of the checkpoint that was found, 0 without one.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            # Until it begins, an attempt's first epoch is the last one of the attempt before it.
            reached = connection.scalar(sa.select(AttemptRow.first_epoch).where(AttemptRow.id == lease.attempt_id))
            lost = max(0, (reached or 0) - first_epoch)
            _update_owned(connection, lease, lost_epochs=PointRow.lost_epochs + lost)
            connection.execute(
                sa.update(AttemptRow).where(AttemptRow.id == lease.attempt_id).values(first_epoch=first_epoch)
            )

    def record_epochs(self, lease: Lease, epochs: Sequence[EpochFigures]) -> None:
        """Write down epochs; an epoch already on record keeps its row.

        Args:
            lease: the claim, whose training has begun.
            epochs: what to write down: epochs of the checkpoint, or epochs that this attempt has trained.

        Raises:
            LeaseLostError: another worker has the point.
        """
        if not epochs:
            return
        latest = max(epoch.epoch for epoch in epochs)
        with self.database.begin() as connection:
            # Both databases' scalar maximum has its own name, so the comparison is written out.
            advanced = sa.case((PointRow.last_epoch < latest, latest), else_=PointRow.last_epoch)
            _update_owned(connection, lease, last_epoch=advanced)
            known = set(connection.scalars(sa.select(EpochRow.epoch).where(EpochRow.point_id == lease.point_id)))
            new = [epoch for epoch in epochs if epoch.epoch not in known]
            rows = [{"point_id": lease.point_id, "attempt_id": lease.attempt_id, **asdict(epoch)} for epoch in new]
            warnings = [line for row in rows for line in row.pop("warnings")]
            if rows:
                connection.execute(sa.insert(EpochRow), rows)
            if warnings:
                earlier = connection.scalar(sa.select(PointRow.warnings).where(PointRow.id == lease.point_id))
                _update_owned(connection, lease, warnings=[*(earlier or ()), *warnings])
            connection.execute(
                sa.update(AttemptRow)
                .where(AttemptRow.id == lease.attempt_id, AttemptRow.first_epoch + AttemptRow.epochs < latest)
                .values(epochs=latest - AttemptRow.first_epoch)
            )

    def finish(
        self,
        lease: Lease,
        value: float,
        scores: Mapping[str, Any],
        files: Sequence[Mapping[str, Any]],
        weights: str | None,
    ) -> None:
        """Write all scores of a trained point in one transaction; Optuna is told after it.

        Args:
            lease: the claim.
            value: the score that decides, on validation.
            scores: all scores, as one JSON document.
            files: the trial's files in the artifact store (see `TrialMirror.attach`).
            weights: id of the best epoch's weights in the artifact store, or None where they are not kept.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            _update_owned(
                connection,
                lease,
                outcome=COMPLETE,
                value=value,
                scores=dict(scores),
                files=[dict(file) for file in files],
                weights=weights,
                message=None,
            )

    def prune(self, lease: Lease, message: str) -> None:
        """End a point whose training is not worth going on with; Optuna is told after it.

        Args:
            lease: the claim.
            message: why, in one line.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            _update_owned(connection, lease, outcome=PRUNED, message=message)

    def fail(self, lease: Lease, message: str, max_attempts: int) -> bool:
        """Count a failure that is the point's own; the last one allowed makes it final.

        Args:
            lease: the claim.
            message: why, in one line.
            max_attempts: how many such failures a point may have.

        Returns:
            True where the failure is final: Optuna is to be told and the point closed. False where the point is
            free again, and the lease over.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            _update_owned(connection, lease, failures=PointRow.failures + 1, message=message)
            failures = connection.scalar(sa.select(PointRow.failures).where(PointRow.id == lease.point_id))
            if failures is not None and failures >= max_attempts:
                _update_owned(connection, lease, outcome=FAILED)
                return True
            _update_owned(connection, lease, state=WAITING, lease_token=None, lease_expires=None, fruitless_losses=0)
            _end_attempt(connection, lease, FAILED, message)
            return False

    def close(self, lease: Lease) -> None:
        """Close a point whose outcome is written and of which Optuna has been told.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            _update_owned(connection, lease, finished_at=now_seconds())
            outcome, message = connection.execute(
                sa.select(PointRow.outcome, PointRow.message).where(PointRow.id == lease.point_id)
            ).one()
            assert outcome is not None, "a point is closed after its outcome is written"
            _update_owned(connection, lease, state=outcome, lease_token=None, lease_expires=None)
            _end_attempt(connection, lease, outcome, message)

    def release(self, lease: Lease, message: str | None = None) -> None:
        """Give a point back, free at once for anybody.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            _update_owned(connection, lease, state=WAITING, lease_token=None, lease_expires=None, fruitless_losses=0)
            _end_attempt(connection, lease, "released", message)

    def expire_leases(self, worker_id: int) -> int:
        """End the leases of a worker that is known to be dead, so that its points are free at once.

        Returns:
            How many points that freed.
        """
        with self.database.begin() as connection:
            result = connection.execute(
                sa.update(PointRow)
                .where(PointRow.worker_id == worker_id, PointRow.lease_token.is_not(None))
                .values(lease_expires=0.0)
            )
            return result.rowcount

    def open_points(self, study_id: int) -> int:
        """How many points of a study are not closed yet."""
        with self.database.read() as connection:
            count = connection.scalar(
                sa.select(sa.func.count())
                .select_from(PointRow)
                .where(PointRow.study_id == study_id, PointRow.state.in_(OPEN_STATES))
            )
        return int(count or 0)

    def epochs_on_record(self, study_id: int) -> int:
        """How many epochs of a study have been trained, counting each once."""
        with self.database.read() as connection:
            total = connection.scalar(sa.select(sa.func.sum(PointRow.last_epoch)).where(PointRow.study_id == study_id))
        return int(total or 0)

    @staticmethod
    def _free_point(connection: Connection, study_id: int) -> Row[Any] | None:
        points = PointRow.__table__
        free = sa.select(points).where(PointRow.study_id == study_id, PointRow.trial_id.is_not(None))
        expired = free.where(PointRow.state == RUNNING, PointRow.lease_expires < now_seconds())
        waiting = free.where(PointRow.state == WAITING)
        for query in (expired, waiting):
            first = query.order_by(PointRow.position).limit(1).with_for_update(skip_locked=True)
            point = connection.execute(first).first()
            if point is not None:
                return point
        return None


def _update_owned(connection: Connection, lease: Lease, **values: Any) -> None:
    result = connection.execute(
        sa.update(PointRow).where(PointRow.id == lease.point_id, PointRow.lease_token == lease.token).values(**values)
    )
    if result.rowcount != 1:
        raise LeaseLostError(f"the lease on point {lease.key} was lost to another worker")


def _end_attempt(connection: Connection, lease: Lease, end: str, message: str | None) -> None:
    connection.execute(
        sa.update(AttemptRow)
        .where(AttemptRow.id == lease.attempt_id)
        .values(ended_at=now_seconds(), end=end, message=message)
    )


def _close_lost_attempt(connection: Connection, point: Row[Any]) -> int:
    """End the attempt of a lost worker; returns how many were lost in a row without a new epoch."""
    attempt = connection.execute(
        sa.select(AttemptRow.id, AttemptRow.known_epoch).where(AttemptRow.token == point.lease_token)
    ).one()
    connection.execute(
        sa.update(AttemptRow)
        .where(AttemptRow.id == attempt.id)
        .values(ended_at=now_seconds(), end="lost", message="the worker's lease ran out")
    )
    if point.outcome is not None or point.last_epoch > attempt.known_epoch:
        return 0
    return int(point.fruitless_losses) + 1
