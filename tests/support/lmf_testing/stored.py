"""Studies in a database as they would be after their training, made without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage import schema
from storage.queries import StudyRecord


def store_study(
    connection: Connection,
    study: StudyRecord,
    number: int = 1,
    files: Mapping[int, list[dict[str, Any]]] | None = None,
) -> None:
    """Write a study with its points.

    Args:
        connection: within a transaction.
        study: what is to be there.
        number: its id, and that of its dataset.
        files: entries of files by the id of their point.
    """
    connection.execute(
        sa.insert(schema.DatasetRow).values(
            id=number,
            title=study.dataset,
            fingerprint=study.fingerprint,
            split_fingerprint=str(number) * 64,
            class_names=list(study.class_names),
            counts={split: list(counts) for split, counts in study.counts.items()},
            leakage=list(study.leakage),
        )
    )
    connection.execute(
        sa.insert(schema.StudyRow).values(
            id=number,
            name=study.name,
            model=study.model,
            dataset_id=number,
            optuna_study_id=number,
            spec=study.spec,
            created_at=study.created_at,
        )
    )
    for position, point in enumerate(study.points):
        connection.execute(
            sa.insert(schema.PointRow).values(
                id=point.point_id,
                study_id=number,
                key=point.key,
                position=position,
                alpha=point.alpha,
                beta=point.beta,
                loss=point.loss,
                seed=point.seed,
                settings=list(point.settings),
                trial_number=point.trial_number,
                state=point.state,
                scores=point.scores,
                message=point.message,
                files=(files or {}).get(point.point_id, []),
            )
        )
