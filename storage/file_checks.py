"""Whether the files of finished trials are there, and which checkpoints are left over."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from optuna.artifacts.exceptions import ArtifactNotFound

from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError
from storage.file_names import checkpoint_id
from storage.findings import ERROR, INFO, Finding
from storage.schema import OPEN_STATES, AttemptRow, PointRow, StudyRow


def check_files(database: Database, location: str) -> list[Finding]:
    """Look for the files of all studies.

    Args:
        database: tells which files there should be.
        location: the artifact store, a folder or `s3://BUCKET`.

    Raises:
        StorageError: the store cannot be read.
    """
    wanted = _wanted_files(database)
    if "://" not in location and not Path(location).is_dir():
        if not wanted:
            return []
        what = f"is no folder, but {len(wanted)} files of trials should be there"
        return [Finding(ERROR, location, what, "LMF_ARTIFACTS names the folder that all workers see")]
    store = Artifacts.open(location)
    absent = [file for file in wanted if not is_stored(store, file[2])]
    # Workers may have dropped weights meanwhile that are no longer among the best.
    still_wanted = set(_wanted_files(database)) if absent else set()
    missing: dict[str, list[str]] = {}
    for file in absent:
        if file in still_wanted:
            missing.setdefault(file[0], []).append(f"{file[3]} of trial {file[1]}")
    findings = [
        Finding(
            ERROR,
            study,
            f"{len(files)} files of finished trials are missing from {location}, the first is {files[0]}",
            "set LMF_ARTIFACTS to where they are, or put them back from a backup; scores are not affected",
        )
        for study, files in missing.items()
    ]
    left = [token for token in _finished_tokens(database) if is_stored(store, checkpoint_id(token))]
    if left:
        findings.append(
            Finding(
                INFO,
                location,
                f"{len(left)} checkpoints of finished points are left over",
                f"these files may be deleted, the first is {checkpoint_id(left[0])}",
            )
        )
    return findings


def is_stored(artifacts: Artifacts, artifact_id: str) -> bool:
    """Whether a store has a file.

    Raises:
        StorageError: the store cannot be read.
    """
    path = artifacts.local_path(artifact_id)
    if path is not None:
        return path.is_file()
    try:
        with artifacts.store.open_reader(artifact_id):
            return True
    except ArtifactNotFound:
        return False
    except artifacts.errors as error:
        raise StorageError(f"{artifacts.location}: cannot be read: {' '.join(str(error).split())}") from None


def _wanted_files(database: Database) -> list[tuple[str, int, str, str]]:
    """Study, trial number, id and name of each file that a finished trial has."""
    with database.read() as connection:
        rows = connection.execute(
            sa.select(StudyRow.name, PointRow.trial_number, PointRow.files, PointRow.weights)
            .join(PointRow, PointRow.study_id == StudyRow.id)
            .where(PointRow.state.not_in(OPEN_STATES))
            .order_by(StudyRow.id, PointRow.position)
        ).all()
    wanted = []
    for row in rows:
        wanted += [(row.name, row.trial_number, file["artifact_id"], file["filename"]) for file in row.files or ()]
        if row.weights is not None:
            wanted.append((row.name, row.trial_number, row.weights, "the weights"))
    return wanted


def _finished_tokens(database: Database) -> list[str]:
    """Tokens of all attempts at points that are closed."""
    with database.read() as connection:
        return list(
            connection.scalars(
                sa.select(AttemptRow.token)
                .join(PointRow, PointRow.id == AttemptRow.point_id)
                .where(PointRow.state.not_in(OPEN_STATES))
                .order_by(AttemptRow.id)
            )
        )
