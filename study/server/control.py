"""Starting and stopping a server, which goes on when the command that started it has ended."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from storage.postgresql_programs import Programs, choose_programs
from study.errors import StudyError
from study.server.addresses import (
    access_rules,
    check_networks,
    check_port,
    find_port,
    is_loopback,
    listen_addresses,
)
from study.server.creation import DATABASE, ROLE, create_data, last_line
from study.server.folder import ServerFolder, Settings, State
from study.server.system_user import SystemUser, check_way, choose_user, run_program

START_SECONDS = STOP_SECONDS = 120
ORPHAN_SECONDS = 30.0
_SHELL_CHARACTERS = "\"'$`\\\n"


@dataclass(frozen=True)
class Started:
    """A server that runs.

    Attributes:
        settings: how it was started.
        created: its data folder was made just now.
        was_running: nothing had to be done.
    """

    settings: Settings
    created: bool = False
    was_running: bool = False


def start_server(
    folder: ServerFolder,
    host: str | None = None,
    port: int | None = None,
    allow: tuple[str, ...] = (),
) -> Started:
    """Start the server of a folder; its data folder is made where it is missing.

    Args:
        folder: the server's folder.
        host: address to listen on; by default that of the last start, at first loopback.
        port: its port; by default that of the last start, at first a free one.
        allow: networks that may connect, by default those of the last start, at first those of this machine.

    Raises:
        StudyError: the server cannot be started, or runs already with other settings.
        StorageError: the server's programs are missing, or not of the version that made the data.
    """
    if any(character in str(folder.path) for character in _SHELL_CHARACTERS):
        raise StudyError(f"{folder.path}: PostgreSQL cannot live in a folder of such a name; set LMF_HOME elsewhere")
    programs = choose_programs(folder.major)
    _make_folder(folder.path)
    with folder.locked():
        state, settings = folder.state(), folder.settings()
        wanted = _merge(settings, host, port, allow)
        if state == State.ELSEWHERE:
            raise _elsewhere(folder, settings)
        if state == State.RUNNING:
            if wanted != settings:
                raise StudyError(
                    f"the server runs already, on port {settings.port} of {settings.host}; stop it first: lmf db stop"
                )
            return Started(settings, was_running=True)
        user = choose_user(folder.path.parent, folder.data)
        _prepare(folder, programs, user)
        _wait_for_orphans(folder)
        if not wanted.port:
            wanted = replace(wanted, port=find_port(wanted.host))
        check_port(wanted.host, wanted.port)
        created = state == State.ABSENT
        if created:
            create_data(folder, programs, user)
        folder.password()
        wanted = replace(wanted, machine=socket.gethostname())
        folder.write(folder.data / "lmf.conf", _configuration(folder, wanted), user)
        rules = access_rules(wanted.host, wanted.allow, ROLE, DATABASE)
        folder.write(folder.data / "pg_hba.conf", rules, user)
        folder.remember(wanted)
        folder.forget_stale_pid()
        try:
            _start(folder, programs, user)
        except StudyError:
            # What did not work is not what the next start shall try.
            folder.remember(settings)
            raise
        return Started(wanted, created)


def stop_server(folder: ServerFolder) -> bool:
    """Stop the server of a folder: whoever is connected is cut off, and nothing that was committed is lost.

    Returns:
        Whether it ran.

    Raises:
        StudyError: it does not stop, or runs on another machine.
        StorageError: the server's programs are missing.
    """
    if folder.state() in (State.ABSENT, State.STOPPED):
        return False
    programs = choose_programs(folder.major)
    with folder.locked():
        state = folder.state()
        if state == State.ELSEWHERE:
            raise _elsewhere(folder, folder.settings())
        if state != State.RUNNING:
            return False
        user = choose_user(folder.path.parent, folder.data)
        ran = run_program(
            user,
            programs.folder / "pg_ctl",
            *("-D", folder.data, "-m", "fast", "-w", "-t", str(STOP_SECONDS), "stop"),
            timeout_seconds=STOP_SECONDS + 60,
        )
        if ran.returncode:
            raise StudyError(
                f"{folder.data}: the server does not stop: {last_line(ran.stderr) or last_line(ran.stdout)}"
            )
        return True


def _merge(settings: Settings, host: str | None, port: int | None, allow: tuple[str, ...]) -> Settings:
    networks = check_networks(allow)
    merged = replace(
        settings,
        host=settings.host if host is None else host,
        port=settings.port if port is None else port,
        allow=networks or settings.allow,
    )
    if is_loopback(merged.host):
        if networks:
            raise StudyError("--allow: nobody can connect from elsewhere to a loopback address; give --host as well")
        merged = replace(merged, allow=())
    return merged


def _elsewhere(folder: ServerFolder, settings: Settings) -> StudyError:
    return StudyError(
        f"{folder.data}: {settings.machine} runs this server; stop it there, and if that machine is gone for good, "
        f"remove {folder.data / 'postmaster.pid'}"
    )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"{path}: cannot make this folder: {error.strerror}; set LMF_HOME elsewhere") from None


def _prepare(folder: ServerFolder, programs: Programs, user: SystemUser) -> None:
    """Give the server's user its folder, closed to others."""
    check_way(user, folder.path.parent)
    check_way(user, programs.folder / "postgres")
    try:
        if folder.path.stat().st_uid != user.uid:
            os.chown(folder.path, user.uid, user.gid)
        folder.path.chmod(0o700)
    except OSError as error:
        raise StudyError(f"{folder.path}: cannot be given to {user.name}: {error.strerror}") from None


def _wait_for_orphans(folder: ServerFolder) -> None:
    """Processes of a crashed server end by themselves; a new one must not start before."""
    until = time.monotonic() + ORPHAN_SECONDS
    while orphans := folder.orphans():
        if time.monotonic() > until:
            numbers = ", ".join(map(str, orphans))
            raise StudyError(f"{folder.data}: processes of a crashed server still run: {numbers}; end them with kill")
        time.sleep(0.2)


def _configuration(folder: ServerFolder, settings: Settings) -> str:
    """What differs from PostgreSQL's own defaults; nothing that makes it less safe."""
    values = {
        "listen_addresses": ",".join(listen_addresses(settings.host)),
        "port": str(settings.port),
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "logging_collector": "on",
        "log_directory": str(folder.logs),
        "log_filename": "postgresql-%a.log",
        "log_file_mode": "0600",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
    }
    return "".join(f"{name} = '{value}'\n" for name, value in values.items())


def _start(folder: ServerFolder, programs: Programs, user: SystemUser) -> None:
    folder.start_log.unlink(missing_ok=True)
    sizes = {path: path.stat().st_size for path in _logs(folder)}
    ran = run_program(
        user,
        programs.folder / "pg_ctl",
        *("-D", folder.data, "-l", folder.start_log, "-s", "-w", "-t", str(START_SECONDS), "start"),
        timeout_seconds=START_SECONDS + 60,
    )
    if ran.returncode:
        said = [path.read_bytes()[sizes.get(path, 0) :].decode(errors="replace") for path in _logs(folder)]
        reason = _complaint("\n".join(said)) or last_line(ran.stderr) or "pg_ctl failed"
        raise StudyError(f"{folder.data}: the server does not start: {reason}; its log is in {folder.logs}")


def _logs(folder: ServerFolder) -> list[Path]:
    return [path for path in (*folder.logs.glob("*.log"), folder.start_log) if path.exists()]


def _complaint(log: str) -> str:
    """Why a server did not start, in its own words."""
    # That it could not bind says more than that it then could not listen anywhere.
    for marks in (("could not bind",), ("FATAL:", "PANIC:")):
        for line in log.splitlines():
            if any(mark in line for mark in marks):
                return line.rpartition("] ")[2].strip()
    return ""
