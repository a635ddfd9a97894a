"""What a job on another machine needs to find the same home and database, with no secret in it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from study.errors import StudyError
from study.home import Home, data_root

STORAGE_VARIABLES = ("LMF_STORAGE", "LMF_STORAGE_FILE", "LMF_STORAGE_PASSWORD_FILE")
"""Variables that say where the database is; a job gets one of them and must not inherit the others."""

_FILES = ("PGPASSFILE",)


def job_environment(home: Home, storage: str | None) -> dict[str, str]:
    """Variables that give a job on another machine this home; all paths in them are absolute.

    The database's URL is named by a file where it may hold a password: the environment of a job is kept by the
    scheduler, and its script and arguments can be read by others.

    Args:
        home: the home, as `find_home(storage)` found it.
        storage: what `--storage` said.

    Raises:
        StudyError: the file cannot be written.
    """
    variables = {"LMF_HOME": str(home.root), "LMF_ARTIFACTS": home.artifacts}
    if home.storage_url.startswith("sqlite"):
        variables["LMF_STORAGE"] = _absolute_sqlite(home.storage_url)
    else:
        variables["LMF_STORAGE_FILE"] = str(_named_file(storage) or _write_url(home))
    data = data_root(None)
    if data is not None:
        variables["LMF_DATA"] = str(data)
    for name in _FILES:
        if os.environ.get(name):
            variables[name] = str(Path(os.environ[name]).expanduser().absolute())
    return variables


def _named_file(storage: str | None) -> Path | None:
    """The user's own file with the whole URL, if it is what decides."""
    named = os.environ.get("LMF_STORAGE_FILE")
    if storage or os.environ.get("LMF_STORAGE") or os.environ.get("LMF_STORAGE_PASSWORD_FILE") or not named:
        return None
    return Path(named).expanduser().absolute()


def _write_url(home: Home) -> Path:
    """Write the URL into a file that nobody else can read; the same database has the same file."""
    from storage.database import parse_url, show_url

    shown = show_url(parse_url(home.storage_url))
    path = home.root / "launch" / f"storage-{hashlib.sha256(shown.encode()).hexdigest()[:12]}.url"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(home.storage_url + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StudyError(
            f"{path}: cannot be written: {error.strerror or error}; jobs read the database's URL from it"
        ) from None
    return path


def _absolute_sqlite(url: str) -> str:
    from sqlalchemy import URL

    from storage.database import parse_url

    parsed = parse_url(url)
    database = parsed.database
    if not database or database == ":memory:" or Path(database).is_absolute():
        return url
    path = str(Path(database).absolute())
    return URL.create(parsed.drivername, database=path, query=parsed.query).render_as_string(hide_password=False)
