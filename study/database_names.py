"""Databases as users name them on a command line, where no password should be."""

from __future__ import annotations

import os
from pathlib import Path

import click

from study.errors import StudyError

_SQLITE_MAGIC = b"SQLite format 3\0"
_FORMS = "expected a SQLAlchemy URL, a SQLite file, a file that holds a URL, or env:NAME"


def find_url(name: str, text: str) -> str:
    """The URL that a user means.

    Args:
        name: what the argument is called, for messages.
        text: a SQLAlchemy URL, the path of a SQLite database, the path of a file that holds a URL, or `env:` and the
            name of a variable that holds one.

    Raises:
        StudyError: it is none of these.
    """
    if "://" in text:
        _warn_of_password(name, text)
        return text
    if text.startswith("env:"):
        url = os.environ.get(text.removeprefix("env:"), "").strip()
        if "://" not in url:
            raise StudyError(f"{name}: the variable {text.removeprefix('env:')} holds no URL; {_FORMS}")
        return url
    from sqlalchemy import URL

    path = Path(text).expanduser().absolute()
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise StudyError(
            f"{name}: {path}: {error.strerror}; {_FORMS}; a new SQLite database is named sqlite:///{path}"
        ) from None
    if start.startswith(_SQLITE_MAGIC):
        return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    url = start.decode("utf-8", errors="replace").strip()
    if "://" not in url or len(url.splitlines()) != 1:
        raise StudyError(f"{name}: {path} is neither a SQLite database nor does it hold one URL; {_FORMS}")
    return url


def _warn_of_password(name: str, url: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        has_password = make_url(url).password is not None
    except (ArgumentError, ValueError):
        return
    if has_password:
        click.echo(
            f"warning: {name}: other users can read a command line, and this one holds a password; put the URL into a "
            "file and name that",
            err=True,
        )
