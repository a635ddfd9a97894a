"""Making a server's data folder, once: with one role, one database and a generated password."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from storage.postgresql_programs import Programs
from study.errors import StudyError
from study.server.folder import ServerFolder
from study.server.system_user import SystemUser, run_program

ROLE = DATABASE = "lmf"
_ADVICE = "see that the disk has room and that the folder may be written, or set LMF_HOME elsewhere"
_INCLUDE = (
    "\n# Written by `lmf db start`; settings made with ALTER SYSTEM win over it.\ninclude_if_exists = 'lmf.conf'\n"
)


def create_data(folder: ServerFolder, programs: Programs, user: SystemUser) -> None:
    """Make the data folder, whole or not at all.

    Nobody can log in as the superuser: its password is thrown away, and `pg_hba.conf` never names it. Workers log in
    as an ordinary role that owns one database, so their password opens neither the machine nor other databases.

    Raises:
        StudyError: the folder cannot be made.
    """
    new = folder.path / "data.new"
    secret = folder.path / "superuser"
    shutil.rmtree(new, ignore_errors=True)
    try:
        folder.write(secret, secrets.token_urlsafe(32) + "\n", user)
        ran = run_program(
            user,
            programs.folder / "initdb",
            *("-D", new, "-U", "postgres", "-E", "UTF8", "--locale", "C"),
            *("-A", "scram-sha-256", "--pwfile", secret),
        )
        if ran.returncode:
            raise StudyError(f"{folder.data}: cannot be made: {last_line(ran.stderr) or 'initdb failed'}; {_ADVICE}")
        password = secrets.token_urlsafe(32)
        _make_database(programs, user, new, password)
        with (new / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(_INCLUDE)
        folder.write(folder.password_file, password + "\n")
        os.replace(new, folder.data)
    except OSError as error:
        raise StudyError(f"{folder.data}: cannot be made: {error.strerror or error}; {_ADVICE}") from None
    finally:
        secret.unlink(missing_ok=True)
        shutil.rmtree(new, ignore_errors=True)


def _make_database(programs: Programs, user: SystemUser, data: Path, password: str) -> None:
    """Let a server without connections make role and database; the password goes to it through a pipe."""
    statements = [
        f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'",
        f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
    ]
    ran = run_program(
        user,
        programs.folder / "postgres",
        # A statement that fails would be logged, and with it the password.
        *("--single", "-D", data, "-c", "log_min_error_statement=panic", "postgres"),
        text="".join(f"{statement}\n" for statement in statements),
    )
    failed = [line for line in ran.stderr.splitlines() if "ERROR:" in line or "FATAL:" in line or "PANIC:" in line]
    if ran.returncode or failed:
        reason = failed[0] if failed else last_line(ran.stderr)
        raise StudyError(f"{data}: cannot be made: {reason.replace(password, '***')}; {_ADVICE}")


def last_line(text: str) -> str:
    """The last line of a program's output that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
