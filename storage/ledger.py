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
    CANCELLED,
    COMPLETE,
    FAILED,
    OPEN,
    OPEN_STATES,
    PAUSED,
    PRUNED,
    RUNNING,
    WAITING,
    AttemptRow,
    EpochRow,
    PointRow,
    StudyRow,
    WorkerRow,
)

MAX_FRUITLESS_LOSSES = 3
CANCELLED_MESSAGE = "cancelled"


@dataclass(frozen=True)
class Ledger:
    """Claims, renews, finishes and releases points of one database."""

    database: Database

    def claim(
        self,
        study_id: int,
        worker_id: int,
        lease_seconds: float,
        token: str | None = None,
        *,
        only_cancelled: bool = False,
    ) -> Lease | None:
        """Take one point: one whose lease has run out, or else the next that waits.

        In a paused study nothing is free; in a cancelled one every point comes with the outcome that it failed.

        Args:
            study_id: of which study.
            worker_id: who takes it.
            lease_seconds: how long the lease lasts without renewal.
            token: of the lease, a new one where none is given. Who claims again with the token of a claim whose
                acknowledgement was lost takes over what that claim took.
            only_cancelled: take a point only while the study is cancelled.

        Returns:
            The lease, or None where no point is free now.

        Raises:
            StorageError: the database refuses.
        """
        with self.database.begin() as connection:
            study_state = _study_state(connection, study_id)
            if only_cancelled and study_state != CANCELLED:
                return None
            known = None if token is None else _attempted_point(connection, token)
            if known is not None:
                taken = _hold(connection, known, PointRow.lease_token == token, lease_seconds)
                if taken is not None:
                    return _lease(connection, taken, lease_seconds)
                token = None
            point = None if study_state == PAUSED else self._free_point(connection, study_id)
            if point is None:
                return None
            changes: dict[str, Any] = {}
            if point.lease_token is not None:
                fruitless = changes["fruitless_losses"] = _close_lost_attempt(connection, point)
                if point.outcome is None and fruitless >= MAX_FRUITLESS_LOSSES:
                    changes |= {
                        "outcome": FAILED,
                        "message": f"cost {fruitless} workers in a row without one new epoch",
                    }
            if point.outcome is None and study_state == CANCELLED:
                changes |= {"outcome": FAILED, "message": CANCELLED_MESSAGE}
            token = token or str(uuid.uuid4())
            host, device = connection.execute(
                sa.select(WorkerRow.host, WorkerRow.device).where(WorkerRow.id == worker_id)
            ).one()
            claimed = _hold(
                connection,
                point.id,
                sa.true(),
                lease_seconds,
                state=RUNNING,
                lease_token=token,
                worker_id=worker_id,
                started_at=sa.func.coalesce(PointRow.started_at, now_seconds()),
                **changes,
            )
            reached = connection.scalar(
                sa.select(AttemptRow.first_epoch + AttemptRow.epochs)
                .where(AttemptRow.point_id == point.id, AttemptRow.trial_number == point.trial_number)
                .order_by(AttemptRow.id.desc())
                .limit(1)
            )
            connection.execute(
                sa.insert(AttemptRow).values(
                    point_id=point.id,
                    token=token,
                    trial_number=point.trial_number,
                    worker_id=worker_id,
                    host=host,
                    device=device,
                    started_at=now_seconds(),
                    known_epoch=point.last_epoch,
                    first_epoch=reached or 0,
                )
            )
            assert claimed is not None, "its row is locked"
            return _lease(connection, claimed, lease_seconds)

    def renew(self, lease: Lease) -> str:
        """Make the lease last `lease.seconds` from now.

        Returns:
            The state of the study: `open`, `paused` or `cancelled`.

        Raises:
            LeaseLostError: another worker has the point.
            StorageUnavailableError: the database is away; the lease goes on until it runs out.
        """
        with self.database.begin() as connection:
            _update_owned(connection, lease, lease_expires=now_seconds() + lease.seconds)
            return _study_state(connection, lease.study_id)

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
            if _end_of(connection, lease) == FAILED:
                return False
            _update_owned(connection, lease, failures=PointRow.failures + 1, message=message)
            failures = connection.scalar(sa.select(PointRow.failures).where(PointRow.id == lease.point_id))
            if failures is not None and failures >= max_attempts:
                _update_owned(connection, lease, outcome=FAILED)
                return True
            _update_owned(connection, lease, state=WAITING, lease_token=None, lease_expires=None, fruitless_losses=0)
            _end_attempt(connection, lease, FAILED, message)
            return False

    def close(self, lease: Lease) -> None:
        """Close a point whose outcome is written and of which Optuna has been told; one that it has closed stays so.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            if _end_of(connection, lease) in (COMPLETE, FAILED, PRUNED):
                return
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

    def give_up(self, lease: Lease) -> None:
        """End a lease as if its worker were lost: the point is free at once, and the attempt counts as a lost one.

        Raises:
            LeaseLostError: another worker has the point.
        """
        with self.database.begin() as connection:
            _update_owned(connection, lease, lease_expires=0.0)

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

    @staticmethod
    def _free_point(connection: Connection, study_id: int) -> Row[Any] | None:
        points = PointRow.__table__
        mine = sa.select(points).where(PointRow.study_id == study_id, PointRow.trial_id.is_not(None))
        expired = mine.where(PointRow.state == RUNNING, PointRow.lease_expires < now_seconds())
        waiting = mine.where(PointRow.state == WAITING)
        for query in (expired, waiting):
            first = query.order_by(PointRow.position).limit(1).with_for_update(skip_locked=True)
            point = connection.execute(first).first()
            if point is not None:
                return point
        return None


def _hold(
    connection: Connection, point_id: int, condition: sa.ColumnElement[bool], seconds: float, **values: Any
) -> Row[Any] | None:
    """Let the lease of a point last from now, where a condition holds; gives the point as it is then."""
    return connection.execute(
        sa.update(PointRow)
        .where(PointRow.id == point_id, condition)
        .values(lease_expires=now_seconds() + seconds, **values)
        .returning(PointRow.__table__)
    ).first()


def _lease(connection: Connection, point: Row[Any], seconds: float) -> Lease:
    """The lease on a point that has just been taken."""
    attempts = connection.execute(
        sa.select(AttemptRow.id, AttemptRow.token)
        .where(AttemptRow.point_id == point.id, AttemptRow.trial_number == point.trial_number)
        .order_by(AttemptRow.id.desc())
    ).all()
    assert attempts[0].token == point.lease_token, "the latest attempt holds the point"
    return Lease(
        point_id=point.id,
        study_id=point.study_id,
        worker_id=point.worker_id,
        attempt_id=attempts[0].id,
        token=point.lease_token,
        seconds=seconds,
        key=point.key,
        generation=point.generation,
        alpha=point.alpha,
        beta=point.beta,
        loss=point.loss,
        seed=point.seed,
        trial_id=point.trial_id,
        trial_number=point.trial_number,
        last_epoch=point.last_epoch,
        outcome=point.outcome,
        earlier_tokens=tuple(attempt.token for attempt in attempts[1:]),
    )


def _attempted_point(connection: Connection, token: str) -> int | None:
    """The point that a token was claimed for, or None where the claim never arrived."""
    return connection.scalar(sa.select(AttemptRow.point_id).where(AttemptRow.token == token))


def _study_state(connection: Connection, study_id: int) -> str:
    return str(connection.scalar(sa.select(StudyRow.state).where(StudyRow.id == study_id)) or OPEN)


def _update_owned(connection: Connection, lease: Lease, **values: Any) -> None:
    result = connection.execute(
        sa.update(PointRow).where(PointRow.id == lease.point_id, PointRow.lease_token == lease.token).values(**values)
    )
    if result.rowcount != 1:
        raise LeaseLostError(f"the lease on point {lease.key} was lost to another worker")


def _end_of(connection: Connection, lease: Lease) -> str | None:
    """How the lease's attempt has ended already, where the acknowledgement of that was lost."""
    return connection.scalar(sa.select(AttemptRow.end).where(AttemptRow.id == lease.attempt_id))


def _end_attempt(connection: Connection, lease: Lease, end: str, message: str | None) -> None:
    connection.execute(
        sa.update(AttemptRow)
        .where(AttemptRow.id == lease.attempt_id)
        .values(ended_at=now_seconds(), end=end, message=message)
    )


def _close_lost_attempt(connection: Connection, point: Row[Any]) -> int:
    """End the attempt of a lost worker, at the time when that was last seen at it.

    Returns:
        How many were lost in a row without a new epoch.
    """
    attempt = connection.execute(
        sa.select(AttemptRow.id, AttemptRow.known_epoch, AttemptRow.started_at, WorkerRow.last_seen)
        .join(WorkerRow, WorkerRow.id == AttemptRow.worker_id)
        .where(AttemptRow.token == point.lease_token)
    ).one()
    now = connection.scalar(sa.select(now_seconds())) or 0.0
    # A worker that works elsewhere by now has been seen since; a lease that was ended at once reads 0.
    ended_at = max(attempt.started_at, min(now, attempt.last_seen, point.lease_expires or now))
    connection.execute(
        sa.update(AttemptRow)
        .where(AttemptRow.id == attempt.id)
        .values(ended_at=ended_at, end="lost", message="the worker's lease ran out")
    )
    if point.outcome is not None or point.last_epoch > attempt.known_epoch:
        return 0
    return int(point.fruitless_losses) + 1
