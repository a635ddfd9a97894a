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

    Args:
        storage: a SQLAlchemy URL that wins over `LMF_STORAGE` and `LMF_STORAGE_FILE`.

    Raises:
        StudyError: `LMF_STORAGE_FILE` cannot be read or is empty.
    """
    root = Path(os.environ.get("LMF_HOME") or "lmf-home").expanduser().absolute()
    url = storage or os.environ.get("LMF_STORAGE") or _url_from_file(os.environ.get("LMF_STORAGE_FILE"))
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


def _url_from_file(path: str | None) -> str | None:
    if not path:
        return None
    try:
        url = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StudyError(f"LMF_STORAGE_FILE: cannot read {path}: {reason}; it should hold one SQLAlchemy URL") from None
    if not url:
        raise StudyError(f"LMF_STORAGE_FILE: {path} is empty; it should hold one SQLAlchemy URL")
    return url
