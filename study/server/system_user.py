"""As whom a server runs: PostgreSQL refuses to run as root, so root lends it to another user of the system."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from study.errors import StudyError

UNPRIVILEGED = ("postgres", "nobody")
_KEPT_VARIABLES = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "TZ")


@dataclass(frozen=True)
class SystemUser:
    """A user of this machine.

    Attributes:
        name: its name.
        uid: its number.
        gid: the number of its group.
    """

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> SystemUser:
        """The user with a number."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(str(uid), uid, os.getegid() if uid == os.geteuid() else uid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    def can_enter(self, path: Path) -> bool:
        """Whether the user may enter a folder, or run a file, by its mode alone."""
        found = path.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        return bool(found.st_mode & (stat.S_IXGRP if found.st_gid == self.gid else stat.S_IXOTH))


def choose_user(home: Path, data: Path) -> SystemUser:
    """The user as whom the server runs: this one, unless this is root.

    Args:
        home: the folder of LMF_HOME, which is there.
        data: the data folder, which may be missing.

    Raises:
        StudyError: the data belongs to somebody else, or root finds nobody to run it as.
    """
    me = os.geteuid()
    owner = data.stat().st_uid if data.exists() else None
    if me != 0:
        if owner not in (None, me):
            raise StudyError(f"{data}: belongs to {SystemUser.of(owner).name}; run this as that user")
        return SystemUser.of(me)
    if owner:
        return SystemUser.of(owner)
    if home.stat().st_uid != 0:
        return SystemUser.of(home.stat().st_uid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return SystemUser(name, entry.pw_uid, entry.pw_gid)
    raise StudyError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody; run this as another user"
    )


def check_way(user: SystemUser, path: Path) -> None:
    """Make sure that a user can get to a folder or a program.

    Raises:
        StudyError: a folder on the way is closed to the user; the message names it.
    """
    if user.uid == os.geteuid():
        return
    for step in (*reversed(path.parents), path):
        if not user.can_enter(step):
            raise StudyError(
                f"PostgreSQL does not run as root, and user {user.name} cannot get to {path}: {step} is closed to it; "
                f"run this as another user than root, set LMF_HOME elsewhere, or open it: chmod o+x {step}"
            )


def run_program(
    user: SystemUser, program: Path, *arguments: str | Path, text: str = "", timeout_seconds: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as a user, with nothing of this process's environment that it could leak.

    Args:
        user: as whom.
        program: its path.
        arguments: what it is given.
        text: what it reads from its standard input.
        timeout_seconds: how long it may take.

    Raises:
        StudyError: it cannot be run or takes too long.
    """
    # What a server inherits can be read by others of its user, and PGDATA and the like would mislead it.
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    is_other = user.uid != os.geteuid()
    try:
        return subprocess.run(
            [program, *arguments],
            env={**kept, "LC_ALL": "C"},
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            timeout=timeout_seconds,
            user=user.uid if is_other else None,
            group=user.gid if is_other else None,
            extra_groups=[] if is_other else None,
        )
    except subprocess.TimeoutExpired:
        raise StudyError(f"{program}: took longer than {timeout_seconds:.0f} s") from None
    except OSError as error:
        raise StudyError(f"{program}: cannot be run as {user.name}: {error.strerror}") from None
