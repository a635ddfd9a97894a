"""The doctor as a whole: the installation first, and with what is installed the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator

from study.doctor.diagnosis import Check, Diagnosis, one_line, problem
from study.doctor.installation import check_installation
from study.errors import StudyError
from study.home import find_home


def examine(storage: str | None = None) -> Iterator[Diagnosis]:
    """Look at everything that a study needs here, and tell one after another what was found; nothing is changed.

    Args:
        storage: what `--storage` was given.
    """
    yield from Check("installation", lambda: check_installation(_needed_extras(storage))).run()
    try:
        from study.doctor.rounds import look_around
    except ImportError as error:
        found = f"nothing else can be looked at: {one_line(error)}"
        yield problem("installation", found, "install lmf anew: pip install --upgrade lmf")
        return
    yield from look_around(storage, os.environ)


def _needed_extras(storage: str | None) -> set[str]:
    """The extras that the settings ask for; what is wrong with the settings is found later."""
    try:
        home = find_home(storage)
    except (StudyError, ImportError):
        return set()
    needed = {"s3"} if home.artifacts.startswith("s3://") else set()
    return needed | ({"postgresql"} if home.storage_url.startswith("postgres") else set())
