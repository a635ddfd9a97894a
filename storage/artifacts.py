"""Files of trials, in Optuna's artifact store: a folder that all workers see, or an S3 bucket."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from storage.errors import StorageError


class FolderStore(FileSystemArtifactStore):
    """Optuna's folder store, with writes that are whole or absent."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write a file beside its place, then move it there."""
        target = self._get_filepath(artifact_id)
        temporary = target.with_name(f".{target.name}.tmp")
        try:
            with temporary.open("wb") as file:
                shutil.copyfileobj(content_body, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def remove(self, artifact_id: str) -> None:
        """Remove a file, and what a writer that died left beside it."""
        target = self._get_filepath(artifact_id)
        target.with_name(f".{target.name}.tmp").unlink(missing_ok=True)
        super().remove(artifact_id)

    def path_of(self, artifact_id: str) -> Path:
        """Where a file lies, or would lie."""
        return self._get_filepath(artifact_id)


@dataclass(frozen=True)
class Artifacts:
    """The files of trials.

    Attributes:
        location: the folder or `s3://BUCKET`.
        store: Optuna's store, which optuna-dashboard takes as it is.
        errors: what the store raises where it cannot do what was asked.
    """

    location: str
    store: Any
    errors: tuple[type[Exception], ...] = (OSError,)

    @classmethod
    def open(cls, location: str) -> Artifacts:
        """Open a store; a folder is made where it is missing.

        Raises:
            StorageError: the folder cannot be made, or what S3 needs is not installed.
        """
        if location.startswith("s3://"):
            return cls(location, _open_s3(location), (OSError, *_s3_errors()))
        if "://" in location:
            raise StorageError(
                f"LMF_ARTIFACTS: {location.split('://')[0]}:// is not supported; expected a folder or s3://"
            )
        try:
            Path(location).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{location}: cannot make the artifact folder: {error.strerror}") from None
        return cls(location, FolderStore(location))

    def local_path(self, artifact_id: str) -> Path | None:
        """Where a file lies on a file system of this machine, or None where it is kept elsewhere."""
        return self.store.path_of(artifact_id) if isinstance(self.store, FolderStore) else None

    def put(self, artifact_id: str, path: Path) -> None:
        """Store a file under an id, replacing what is there.

        Raises:
            StorageError: the store cannot be written.
        """
        try:
            with path.open("rb") as body:
                self.store.write(artifact_id, body)
        except self.errors as error:
            raise StorageError(
                f"{self.location}: cannot write: {_reason(error)}; make room or choose another place with LMF_ARTIFACTS"
            ) from None

    def get(self, artifact_id: str, path: Path) -> bool:
        """Copy a stored file to a path.

        Returns:
            False where the store has no such file.

        Raises:
            StorageError: the file cannot be read or the path not written.
        """
        try:
            with self.store.open_reader(artifact_id) as body, path.open("wb") as file:
                shutil.copyfileobj(body, file, 1 << 20)
        except ArtifactNotFound:
            return False
        except self.errors as error:
            raise StorageError(f"{self.location}: cannot copy to {path}: {_reason(error)}") from None
        return True

    def remove(self, artifact_id: str) -> None:
        """Remove a stored file, where there is one."""
        try:
            self.store.remove(artifact_id)
        except ArtifactNotFound:
            return
        except self.errors as error:
            raise StorageError(f"{self.location}: cannot remove a file: {_reason(error)}") from None


def _open_s3(location: str) -> Any:
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    if not bucket or prefix:
        raise StorageError(f"LMF_ARTIFACTS: {location}: expected s3://BUCKET")
    try:
        from optuna.artifacts import Boto3ArtifactStore

        return Boto3ArtifactStore(bucket)
    except ImportError:
        raise StorageError("LMF_ARTIFACTS: s3:// needs boto3; install it with: pip install boto3") from None


def _s3_errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    return Boto3Error, BotoCoreError, ClientError


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
