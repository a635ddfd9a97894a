"""Files that hold secrets: written whole or not at all, and never to be read by anybody but their owner."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import StudyError

if TYPE_CHECKING:
    from study.server.system_user import SystemUser


def write_private(
    path: Path, text: str, owner: SystemUser | None = None, *, advice: str = "name or make another place"
) -> None:
    """Write a file, in a folder that is there, with the mode 600 from its first moment on.

    Args:
        path: the file; what is there is replaced.
        text: what it shall hold.
        owner: whose it shall be; None for this process's user.
        advice: what to do where it cannot be written.

    Raises:
        StudyError: the file cannot be written; what was there is as it was.
    """
    temporary = path.with_name(f".{path.name[:60]}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if owner is not None:
                os.fchown(file.fileno(), owner.uid, owner.gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StudyError(f"{path}: cannot be written: {error.strerror or error}; {advice}") from None


def make_folder(path: Path, *, advice: str, mode: int = 0o777) -> None:
    """Make a folder with its parents where it is missing.

    Raises:
        StudyError: it cannot be made.
    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{path}: cannot be written: {error.strerror or error}; {advice}") from None
