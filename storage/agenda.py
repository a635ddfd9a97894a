"""What is left to do: which studies have open points, and which of these are free to be claimed."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from storage.database import Database, now_seconds
from storage.schema import CANCELLED, OPEN_STATES, PAUSED, RUNNING, WAITING, PointRow, StudyRow
from storage.search_plan import SearchPlan


@dataclass(frozen=True)
class OpenStudy:
    """A study with work left.

    Attributes:
        study_id: its id.
        name: its name.
        state: `open`, `paused` or `cancelled`.
        open_points: points that are not closed, those that a search is still to choose included.
        free_points: points that a worker could have now: waiting, with an expired lease, or still to be chosen; 0 where
            the study is paused.
        created_at: when it was planned; SQLite gives the id of a deleted study to the next one.
    """

    study_id: int
    name: str
    state: str
    open_points: int
    free_points: int
    created_at: float = 0.0

    @property
    def identity(self) -> tuple[int, str, float]:
        """What no other study has, before or after it."""
        return self.study_id, self.name, self.created_at


def open_studies(database: Database) -> tuple[OpenStudy, ...]:
    """All studies with work left, oldest first.

    Raises:
        StorageError: the database refuses.
    """
    free = sa.or_(
        sa.and_(PointRow.state == WAITING, PointRow.trial_id.is_not(None)),
        sa.and_(PointRow.state == RUNNING, PointRow.lease_expires < now_seconds()),
    )
    counts = (
        sa.select(
            PointRow.study_id,
            sa.func.count().label("open"),
            sa.func.sum(sa.case((free, 1), else_=0)).label("free"),
        )
        .where(PointRow.state.in_(OPEN_STATES))
        .group_by(PointRow.study_id)
        .subquery()
    )
    query = (
        sa.select(
            *(StudyRow.id, StudyRow.name, StudyRow.state, StudyRow.spec, StudyRow.created_at),
            *(counts.c.open, counts.c.free),
        )
        .outerjoin(counts, counts.c.study_id == StudyRow.id)
        .order_by(StudyRow.id)
    )
    found = []
    with database.read() as connection:
        for row in connection.execute(query).all():
            plan = SearchPlan.of(row.spec)
            unchosen = 0
            if plan is not None and row.state != CANCELLED:
                chosen = sa.select(sa.func.count()).select_from(PointRow).where(PointRow.study_id == row.id)
                unchosen = max(0, plan.trials - int(connection.scalar(chosen) or 0))
            points = int(row.open or 0) + unchosen
            free_points = 0 if row.state == PAUSED else int(row.free or 0) + unchosen
            if points:
                found.append(OpenStudy(row.id, row.name, row.state, points, free_points, row.created_at))
    return tuple(found)


def set_study_state(database: Database, study_id: int, state: str) -> str:
    """Open, pause or cancel a study; workers learn of it when they next renew their lease.

    A cancelled study stays cancelled.

    Args:
        database: the database.
        study_id: the study.
        state: `open`, `paused` or `cancelled`.

    Returns:
        The state that it had.
    """
    with database.begin() as connection:
        before = connection.execute(
            sa.select(StudyRow.state).where(StudyRow.id == study_id).with_for_update()
        ).scalar_one()
        if before != CANCELLED:
            connection.execute(sa.update(StudyRow).where(StudyRow.id == study_id).values(state=state))
    return str(before)
