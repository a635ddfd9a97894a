"""What studies cost: hours of devices, and what of them accidents took."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from storage.database import Database, now_seconds
from storage.schema import AttemptRow, EpochRow, PointRow, WorkerRow


@dataclass(frozen=True)
class DeviceTime:
    """Time that devices of one kind were held by attempts, in seconds.

    Attributes:
        used: from claim to end, of all attempts; of a lost one until its worker was last seen.
        lost: what of it came to nothing because a worker was lost: work after the last epoch on record, and epochs
            that had to be trained again, each counted as long as the study's epochs take on average.
    """

    used: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True)
class StudyCost:
    """What a study cost so far, on graphics cards and on processors."""

    gpu: DeviceTime = DeviceTime()
    cpu: DeviceTime = DeviceTime()


def used_seconds() -> sa.ColumnElement[float]:
    """For how long an attempt has held its device, in seconds; less than 0 only where a clock was put back.

    It is a column for queries that join attempts with their points and workers.
    """
    # A worker that went on elsewhere has been seen since its lease ran out; a lease that was ended at once says 0.
    ran_out = sa.and_(
        PointRow.lease_token == AttemptRow.token,
        PointRow.lease_expires > 0,
        PointRow.lease_expires < WorkerRow.last_seen,
    )
    last = sa.case((ran_out, PointRow.lease_expires), else_=WorkerRow.last_seen)
    seen = sa.case((last > AttemptRow.started_at, last), else_=AttemptRow.started_at)
    ended = sa.func.coalesce(AttemptRow.ended_at, sa.case((_is_held(), now_seconds()), else_=seen))
    return ended - AttemptRow.started_at


def _is_held() -> sa.ColumnElement[bool]:
    return sa.and_(PointRow.lease_token == AttemptRow.token, PointRow.lease_expires > now_seconds())


def read_costs(database: Database) -> dict[int, StudyCost]:
    """What each study cost so far, by its id; a study without attempts is not in it.

    Raises:
        StorageError: the database refuses.
    """
    is_lost = sa.or_(AttemptRow.end == "lost", sa.and_(AttemptRow.ended_at.is_(None), sa.not_(_is_held())))
    # An epoch that is trained again keeps the row of the first go, so each attempt's own are reckoned by their number.
    epoch_seconds = (
        sa.select(PointRow.study_id, sa.func.avg(EpochRow.seconds).label("seconds"))
        .join(PointRow, PointRow.id == EpochRow.point_id)
        .group_by(PointRow.study_id)
        .subquery()
    )
    is_gpu = AttemptRow.device.like("cuda%")
    used = used_seconds()
    wasted = used - AttemptRow.epochs * sa.func.coalesce(epoch_seconds.c.seconds, 0.0)
    attempts = (
        sa.select(
            PointRow.study_id,
            is_gpu.label("is_gpu"),
            sa.func.sum(sa.case((used > 0, used), else_=0.0)).label("used"),
            sa.func.sum(sa.case((sa.and_(is_lost, wasted > 0), wasted), else_=0.0)).label("lost"),
        )
        .join(PointRow, PointRow.id == AttemptRow.point_id)
        .join(WorkerRow, WorkerRow.id == AttemptRow.worker_id)
        .outerjoin(epoch_seconds, epoch_seconds.c.study_id == PointRow.study_id)
        .group_by(PointRow.study_id, is_gpu)
    )
    latest = (
        sa.select(AttemptRow.point_id, sa.func.max(AttemptRow.id).label("id")).group_by(AttemptRow.point_id).subquery()
    )
    again = (
        sa.select(
            PointRow.study_id,
            is_gpu.label("is_gpu"),
            sa.func.sum(PointRow.lost_epochs * epoch_seconds.c.seconds).label("lost"),
        )
        .join(epoch_seconds, epoch_seconds.c.study_id == PointRow.study_id)
        .join(latest, latest.c.point_id == PointRow.id)
        .join(AttemptRow, AttemptRow.id == latest.c.id)
        .where(PointRow.lost_epochs > 0)
        .group_by(PointRow.study_id, is_gpu)
    )
    with database.read() as connection:
        times = {
            (row.study_id, bool(row.is_gpu)): DeviceTime(float(row.used), float(row.lost))
            for row in connection.execute(attempts)
        }
        for row in connection.execute(again):
            time = times[row.study_id, bool(row.is_gpu)]
            times[row.study_id, bool(row.is_gpu)] = DeviceTime(time.used, min(time.used, time.lost + float(row.lost)))
    studies = {study_id for study_id, _ in times}
    nothing = DeviceTime()
    return {
        study_id: StudyCost(times.get((study_id, True), nothing), times.get((study_id, False), nothing))
        for study_id in studies
    }
