"""Copying the files of a study from one artifact store to another, each compared by its content."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optuna.artifacts.exceptions import ArtifactNotFound

from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError
from storage.file_names import checkpoint_id
from storage.queries import read_artifact_ids

_BLOCK = 1 << 20


@dataclass(frozen=True)
class CopiedFiles:
    """What copying a study's files came to.

    Attributes:
        copied: files that were copied and compared.
        bytes: their size together.
        present: files that the target had already, with the same content.
        missing: ids of files that finished points should have and the source lacks.
    """

    copied: int
    bytes: int
    present: int
    missing: tuple[str, ...]


def copy_files(database: Database, study: str, source: Artifacts, target: Artifacts, scratch: Path) -> CopiedFiles:
    """Copy files, weights and checkpoints of a study; may be repeated, and then copies what is still missing.

    Args:
        database: holds the study.
        study: its name.
        source: where the files are.
        target: where they are to be as well; another place.
        scratch: a folder with room for the largest file, made if it is missing.

    Raises:
        StorageError: the two are one place, a file cannot be read or written, or reads back with another content.
    """
    if _same_place(source, target):
        raise StorageError(f"{target.location}: the files of trials are here already; name another place for copies")
    copied = size = present = 0
    missing = []
    with _folder(scratch) as folder:
        path = folder / "file"
        for artifact_id in dict.fromkeys(read_artifact_ids(database, study)):
            if not source.get(artifact_id, path):
                # Of checkpoints there is one at most, whatever number of attempts a point has had.
                if not artifact_id.startswith(checkpoint_id("")):
                    missing.append(artifact_id)
                continue
            wanted = _digest_of(path)
            if stored_digest(target, artifact_id) == wanted:
                present += 1
                continue
            target.put(artifact_id, path)
            if stored_digest(target, artifact_id) != wanted:
                raise StorageError(f"{target.location}: {artifact_id} reads back with another content; copy again")
            copied += 1
            size += path.stat().st_size
    return CopiedFiles(copied, size, present, tuple(missing))


def stored_digest(artifacts: Artifacts, artifact_id: str) -> str | None:
    """SHA-256 of a stored file, None where there is no such file.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        with artifacts.store.open_reader(artifact_id) as body:
            return _digest(lambda: body.read(_BLOCK))
    except ArtifactNotFound:
        return None
    except artifacts.errors as error:
        raise StorageError(f"{artifacts.location}: cannot read {artifact_id}: {error}") from None


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=parent, prefix="copy-")
    except OSError as error:
        raise StorageError(f"{parent}: cannot make a folder for files under way: {error.strerror}") from None
    with folder as name:
        yield Path(name)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(lambda: file.read(_BLOCK))


def _digest(read: Callable[[], bytes]) -> str:
    digest = hashlib.sha256()
    while block := read():
        digest.update(block)
    return digest.hexdigest()


def _same_place(one: Artifacts, other: Artifacts) -> bool:
    if "://" in one.location or "://" in other.location:
        return one.location == other.location
    return Path(one.location).resolve() == Path(other.location).resolve()
