"""What came of points: the outcomes that Optuna is told, and which trials' weights are worth keeping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from storage.database import Database
from storage.schema import COMPLETE, EpochRow, PointRow


@dataclass(frozen=True)
class Outcome:
    """The outcome of a point: `value`, `scores` and `files` where it is complete, `message` where it failed."""

    value: float | None
    scores: dict[str, Any] | None
    files: list[dict[str, Any]] | None
    message: str | None


@dataclass(frozen=True)
class Outcomes:
    """Reads outcomes of one database."""

    database: Database

    def read(self, point_id: int) -> Outcome:
        """The outcome of a point for which it is written."""
        with self.database.read() as connection:
            row = connection.execute(
                sa.select(PointRow.value, PointRow.scores, PointRow.files, PointRow.message).where(
                    PointRow.id == point_id
                )
            ).one()
        return Outcome(row.value, row.scores, row.files, row.message)

    def kept_files(self, point_id: int) -> set[str] | None:
        """Ids of the files that a point with an outcome keeps; None where it has no outcome yet."""
        columns = (PointRow.outcome, PointRow.files, PointRow.weights)
        with self.database.read() as connection:
            point = connection.execute(sa.select(*columns).where(PointRow.id == point_id)).one()
        if point.outcome is None:
            return None
        return {entry["artifact_id"] for entry in point.files or ()} | ({point.weights} - {None})

    def epoch_scores(self, point_id: int, score: str) -> dict[int, float]:
        """A validation score of each epoch on record that has it."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(EpochRow.epoch, EpochRow.val).where(EpochRow.point_id == point_id))
            return {row.epoch: row.val[score] for row in rows if row.val.get(score) is not None}

    def better_points_exist(self, study_id: int, loss: str, value: float, kept: int) -> bool:
        """Whether at least `kept` complete points of the study that have this loss score higher than `value`."""
        with self.database.read() as connection:
            better = connection.scalar(
                sa.select(sa.func.count())
                .select_from(PointRow)
                .where(
                    PointRow.study_id == study_id,
                    PointRow.loss == loss,
                    PointRow.outcome == COMPLETE,
                    PointRow.value > value,
                )
            )
        return int(better or 0) >= kept

    def surplus_weights(self, study_id: int, kept: int) -> list[tuple[int, str]]:
        """Weights of complete points beyond the best `kept` of each loss, as (point id, id in the artifact store)."""
        best_first = (PointRow.value.desc(), PointRow.trial_number)
        rank = sa.func.row_number().over(partition_by=PointRow.loss, order_by=best_first).label("rank")
        ranked = (
            sa.select(PointRow.id, PointRow.weights, rank)
            .where(PointRow.study_id == study_id, PointRow.outcome == COMPLETE)
            .subquery()
        )
        surplus = (
            sa.select(ranked.c.id, ranked.c.weights)
            .where(ranked.c.rank > kept, ranked.c.weights.is_not(None))
            .order_by(ranked.c.rank, ranked.c.id)
        )
        with self.database.read() as connection:
            return [(point_id, weights) for point_id, weights in connection.execute(surplus)]

    def forget_weights(self, point_id: int) -> None:
        """Note that a point's weights are no longer kept."""
        with self.database.begin() as connection:
            connection.execute(sa.update(PointRow).where(PointRow.id == point_id).values(weights=None))
