"""Where a user's studies live: the folder, the database and the artifacts, from flags and environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from study.errors import StudyError


@dataclass(frozen=True)
class Home:
    """The places of one user's studies.

    Attributes:
        root: the folder of `LMF_HOME`, by default `lmf-home` in the current directory.
        storage_url: SQLAlchemy URL of the database; may hold a password, so it is kept out of `repr`.
        artifacts: a folder that all workers see, or an `s3://` URL.
    """

    root: Path
    storage_url: str
    artifacts: str

    def __repr__(self) -> str:
        return f"Home(root={str(self.root)!r})"

    @property
    def cache(self) -> Path:
        """Folder of decoded images."""
        return self.root / "cache"

    @property
    def weights(self) -> Path:
        """Folder of pretrained weights that were fetched from the hub."""
        return self.root / "weights"

    @property
    def reports(self) -> Path:
        """Folder of reports."""
        return self.root / "reports"

    @property
    def scratch(self) -> Path:
        """Folder of files that only this machine needs while a trial runs."""
        return self.root / "scratch"

    def environment(self) -> dict[str, str]:
        """Variables that give a child process the same home; secrets go this way, never by command line."""
        return {"LMF_HOME": str(self.root), "LMF_STORAGE": self.storage_url, "LMF_ARTIFACTS": self.artifacts}


def find_home(storage: str | None = None) -> Home:
    """Resolve the home from `--storage` and the environment.

    A URL that has a user and no password takes the password from the file that `LMF_STORAGE_PASSWORD_FILE` names.

    Args:
        storage: a SQLAlchemy URL that wins over `LMF_STORAGE` and `LMF_STORAGE_FILE`.

    Raises:
        StudyError: `LMF_STORAGE_FILE` or `LMF_STORAGE_PASSWORD_FILE` cannot be read or is empty.
    """
    root = Path(os.environ.get("LMF_HOME") or "lmf-home").expanduser().absolute()
    url = storage or os.environ.get("LMF_STORAGE") or _read_setting("LMF_STORAGE_FILE", "one SQLAlchemy URL").strip()
    if url and os.environ.get("LMF_STORAGE_PASSWORD_FILE"):
        url = _with_password(url)
    artifacts = os.environ.get("LMF_ARTIFACTS") or str(root / "artifacts")
    if "://" not in artifacts:
        artifacts = str(Path(artifacts).expanduser().absolute())
    return Home(root, url or _sqlite_url(root / "lmf.db"), artifacts)


def data_root(data: str | Path | None) -> Path | None:
    """The folder of `--data`, or else of `LMF_DATA`, or None where neither is given."""
    chosen = data or os.environ.get("LMF_DATA")
    return Path(chosen).expanduser().absolute() if chosen else None


def _sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, whatever characters its path holds."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _with_password(url: str) -> str:
    """A URL with the password of `LMF_STORAGE_PASSWORD_FILE`, if it wants one; what is no URL stays as it is."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url
    if not parsed.username or parsed.password is not None:
        return url
    password = _read_setting("LMF_STORAGE_PASSWORD_FILE", "the database's password")
    return parsed.set(password=password).render_as_string(hide_password=False)


def _read_setting(variable: str, content: str) -> str:
    """What a file holds that a variable names, without the line's end; nothing where the variable is not set.

    Args:
        variable: the variable.
        content: what the file should hold.

    Raises:
        StudyError: the file cannot be read or is empty.
    """
    path = os.environ.get(variable)
    if not path:
        return ""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StudyError(f"{variable}: cannot read {path}: {reason}; it should hold {content}") from None
    if not text.strip():
        raise StudyError(f"{variable}: {path} is empty; it should hold {content}")
    return text
