"""Files that are added to complete points later, such as pictures, and replaced together.

The ledger names them among the point's files, so that whatever copies, checks or deletes a study's files knows them.
Their ids are made from their content: what a run that was cut short left in the store is what the next one writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError
from storage.file_names import describe_file, file_id
from storage.schema import COMPLETE, PointRow, StudyRow
from storage.trials import ARTIFACT_PREFIX, TrialMirror, optuna_errors


@dataclass(frozen=True)
class AddedFile:
    """A file to add to a point.

    Attributes:
        point_id: the point, which is complete.
        path: where it lies now; its name there is its name among the point's files.
    """

    point_id: int
    path: Path


def replace_added_files(
    database: Database, artifacts: Artifacts, study: str, prefix: str, files: Sequence[AddedFile]
) -> dict[tuple[int, str], dict[str, Any]]:
    """Give complete points of a study some files, in place of all that have names of this kind.

    Readers see the files from before or the new ones, never some of both.

    Args:
        database: holds the study.
        artifacts: where files of trials are.
        study: its name.
        prefix: begins the names of all files of this kind; a study's files of other names stay as they are.
        files: the files, with names that begin so.

    Returns:
        By point id and file name, what the ledger says of each file.

    Raises:
        StorageError: the study is gone, a point of it is not complete, or a file cannot be written. The files from
            before are then still there.
    """
    if any(not file.path.name.startswith(prefix) for file in files):
        raise ValueError(f"files of this kind begin with {prefix}")
    # Whoever deletes the study holds the same lock.
    with database.lock("plan"):
        with database.read() as connection:
            points = _points(connection, study)
        _check_points(study, points, files)
        entries = {(file.point_id, file.path.name): _describe(study, points[file.point_id], file) for file in files}
        before = _ids(points, prefix)
        try:
            for file in files:
                artifacts.put(entries[file.point_id, file.path.name]["artifact_id"], file.path)
            database.check_locks()
            with database.begin() as connection:
                points = _points(connection, study, lock=True)
                _check_points(study, points, files)
                before |= _ids(points, prefix)
                _write(connection, points, prefix, entries)
        except StorageError:
            with suppress(StorageError):
                _remove_unnamed(database, artifacts, study, {entry["artifact_id"] for entry in entries.values()})
            raise
        for artifact_id in before - {entry["artifact_id"] for entry in entries.values()}:
            artifacts.remove(artifact_id)
    return entries


def show_with_study(mirror: TrialMirror, study: str, entry: dict[str, Any]) -> None:
    """Let optuna-dashboard show a file with the study, in place of one of the same name.

    A trial that is finished takes no more files, while a study does.

    Args:
        mirror: Optuna's side of the database.
        study: the study.
        entry: what the ledger says of the file.

    Raises:
        StorageError: Optuna's half of the study is gone, or the database refuses.
    """
    storage = mirror.storage
    with optuna_errors(mirror.database):
        study_id = storage.get_study_id_from_name(study)
        for key, value in storage.get_study_system_attrs(study_id).items():
            # What optuna-dashboard writes, too, for a file that is gone: Optuna forgets no attribute.
            if key.startswith(ARTIFACT_PREFIX) and (json.loads(value) or {}).get("filename") == entry["filename"]:
                storage.set_study_system_attr(study_id, key, json.dumps(None))
        storage.set_study_system_attr(study_id, ARTIFACT_PREFIX + entry["artifact_id"], json.dumps(entry))


def _points(connection: Connection, study: str, *, lock: bool = False) -> dict[int, sa.Row[Any]]:
    query = (
        sa.select(PointRow.id, PointRow.key, PointRow.generation, PointRow.state, PointRow.files)
        .join(StudyRow, StudyRow.id == PointRow.study_id)
        .where(StudyRow.name == study)
        .order_by(PointRow.id)
    )
    return {row.id: row for row in connection.execute(query.with_for_update(of=PointRow) if lock else query)}


def _check_points(study: str, points: dict[int, sa.Row[Any]], files: Sequence[AddedFile]) -> None:
    for file in files:
        point = points.get(file.point_id)
        if point is None:
            raise StorageError(f"study {study} has changed meanwhile: a point is gone; do it again")
        if point.state != COMPLETE:
            raise StorageError(f"study {study}: point {point.key} is {point.state}; files are added to complete ones")


def _describe(study: str, point: sa.Row[Any], file: AddedFile) -> dict[str, Any]:
    try:
        digest = hashlib.sha256(file.path.read_bytes()).hexdigest()
    except OSError as error:
        raise StorageError(f"{file.path}: cannot be read: {error.strerror}") from None
    name = file.path.name
    return describe_file(file_id(study, point.key, point.generation, name, digest), name)


def _ids(points: dict[int, sa.Row[Any]], prefix: str) -> set[str]:
    """Ids of the files of one kind."""
    return {
        file["artifact_id"]
        for point in points.values()
        for file in point.files or ()
        if file["filename"].startswith(prefix)
    }


def _write(
    connection: Connection,
    points: dict[int, sa.Row[Any]],
    prefix: str,
    entries: dict[tuple[int, str], dict[str, Any]],
) -> None:
    for point in points.values():
        kept = [dict(file) for file in point.files or () if not file["filename"].startswith(prefix)]
        added = [entry for (point_id, _), entry in entries.items() if point_id == point.id]
        if [*kept, *added] != list(point.files or ()):
            connection.execute(sa.update(PointRow).where(PointRow.id == point.id).values(files=[*kept, *added]))


def _remove_unnamed(database: Database, artifacts: Artifacts, study: str, ids: set[str]) -> None:
    """Remove what was written in vain, but nothing that the ledger names."""
    with database.read() as connection:
        named = _ids(_points(connection, study), "")
    for artifact_id in ids - named:
        artifacts.remove(artifact_id)
