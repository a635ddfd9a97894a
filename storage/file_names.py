"""Ids of files in the artifact store.

Every id is made from the attempt's token too: a worker that lost its lease cannot touch the files of the new owner.
Which attempt's files are the point's is written with its scores; those of the others are removed.
"""

from __future__ import annotations

import mimetypes
import uuid
from typing import Any

_NAMESPACE = uuid.UUID("6f0a4f5e-3f5b-4a53-9b0e-0d6c5a4c1c5e")


def file_id(study: str, point_key: str, generation: int, filename: str, token: str) -> str:
    """The id of a file that an attempt writes for a point's trial."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join((study, point_key, str(generation), filename, token))))


def checkpoint_id(token: str) -> str:
    """The id of an attempt's checkpoint."""
    return f"checkpoint-{token}"


def describe_file(artifact_id: str, filename: str) -> dict[str, Any]:
    """What Optuna keeps of a file (the fields of its `ArtifactMeta`)."""
    kind, encoding = mimetypes.guess_type(filename)
    return {
        "artifact_id": artifact_id,
        "filename": filename,
        "mimetype": kind or "application/octet-stream",
        "encoding": encoding,
    }
