"""Which files the points of a study have in the artifact store."""

from __future__ import annotations

import sqlalchemy as sa

from storage.database import Database
from storage.schema import PointRow, StudyRow


def read_files(database: Database, study: str) -> dict[int, dict[str, str]]:
    """The stored files of each point of a study, in one query.

    Args:
        database: holds the study.
        study: its name; one that nobody planned has no files.

    Returns:
        By point id, the artifact id of each file by its name. Points without files are left out; weights are no file
        in this sense (`PointRecord.weights` has them).

    Raises:
        StorageError: the database cannot be read.
    """
    with database.read() as connection:
        rows = connection.execute(
            sa.select(PointRow.id, PointRow.files)
            .join(StudyRow, StudyRow.id == PointRow.study_id)
            .where(StudyRow.name == study)
            .order_by(PointRow.position)
        ).all()
    return {row.id: {file["filename"]: file["artifact_id"] for file in row.files} for row in rows if row.files}
