"""What a job on another machine needs to find the same home and database, with no secret in it."""

from __future__ import annotations

import hashlib
import os
from ipaddress import ip_address
from pathlib import Path

from study.home import Home
from study.private_files import make_folder, write_private

STORAGE_VARIABLES = ("LMF_STORAGE", "LMF_STORAGE_FILE", "LMF_STORAGE_PASSWORD_FILE")
"""Variables that say where the database is; a job gets one of them and must not inherit the others."""

PASSWORD_VARIABLE = "PGPASSWORD"
"""PostgreSQL's own variable of a password; what it says goes into the file of the URL."""

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
        url = _with_password(home.storage_url)
        named = _named_file(storage) if url == home.storage_url else None
        variables["LMF_STORAGE_FILE"] = str(named or _write_url(home, url))
    folders = [_absolute(folder) for folder in os.environ.get("LMF_DATA", "").split(os.pathsep) if folder]
    if folders:
        variables["LMF_DATA"] = os.pathsep.join(folders)
    for name in _FILES:
        if os.environ.get(name):
            variables[name] = _absolute(os.environ[name])
    return variables


def is_local(storage_url: str) -> bool:
    """Whether a URL leads to a server that only this machine reaches: by its loopback, or by a socket."""
    from storage.database import parse_url

    url = parse_url(storage_url)
    if url.get_backend_name() == "sqlite":
        return False
    host = url.host or url.query.get("host") or os.environ.get("PGHOST")
    if not host:
        # PostgreSQL takes its socket then, unless a service file says where to go.
        return not (os.environ.get("PGSERVICE") or "service" in url.query)
    if not isinstance(host, str):
        return False
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _with_password(storage_url: str) -> str:
    """A URL with the password that PostgreSQL would have taken from the environment, if it has none itself."""
    from storage.database import parse_url

    password = os.environ.get(PASSWORD_VARIABLE)
    url = parse_url(storage_url)
    if not password or url.password is not None or "password" in url.query:
        return storage_url
    # Without a user there is no place for a password before the host.
    whole = url.set(password=password) if url.username else url.update_query_dict({"password": password})
    return whole.render_as_string(hide_password=False)


def _named_file(storage: str | None) -> Path | None:
    """The user's own file with the whole URL, if it is what decides."""
    named = os.environ.get("LMF_STORAGE_FILE")
    if storage or os.environ.get("LMF_STORAGE") or os.environ.get("LMF_STORAGE_PASSWORD_FILE") or not named:
        return None
    return Path(named).expanduser().absolute()


def _write_url(home: Home, storage_url: str) -> Path:
    """Write the URL into a file that nobody else can read; the same database has the same file."""
    from storage.database import parse_url, show_url

    shown = show_url(parse_url(storage_url))
    path = home.root / "launch" / f"storage-{hashlib.sha256(shown.encode()).hexdigest()[:12]}.url"
    advice = "jobs read the database's URL from it"
    make_folder(path.parent, advice=advice, mode=0o700)
    write_private(path, storage_url + "\n", advice=advice)
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
