"""The folder of a server: its data, its password, how it was started, and whether it runs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

import psutil
from filelock import FileLock
from filelock import Timeout as LockTimeout

from study.errors import StudyError
from study.private_files import write_private
from study.server.addresses import LOOPBACK
from study.server.system_user import SystemUser

LOCK_SECONDS = 180.0


class State(Enum):
    """What a server's folder tells of it."""

    ABSENT = "absent"
    STOPPED = "stopped"
    RUNNING = "running"
    CRASHED = "crashed"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Settings:
    """How a server is started, remembered from one start to the next.

    Attributes:
        host: address or name that it listens on.
        port: its port; 0 before one was chosen.
        allow: networks that may connect; none means the networks that its machine is in.
        machine: name of the machine that started it last.
    """

    host: str = LOOPBACK
    port: int = 0
    allow: tuple[str, ...] = ()
    machine: str = ""


@dataclass(frozen=True)
class ServerFolder:
    """The folder of one server.

    Attributes:
        path: the folder, `postgresql` in LMF_HOME.
    """

    path: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.path / "data"

    @property
    def logs(self) -> Path:
        """The folder of the server's log, a file for each day of the week."""
        return self.path / "log"

    @property
    def start_log(self) -> Path:
        """What the server says while it starts."""
        return self.path / "start.log"

    @property
    def password_file(self) -> Path:
        """The file of the password that workers need."""
        return self.path / "password"

    @property
    def major(self) -> int | None:
        """The major version of PostgreSQL that made the data, None where there is none."""
        text = self._read(self.data / "PG_VERSION")
        return int(text) if text is not None and text.strip().isdigit() else None

    def settings(self) -> Settings:
        """How the server was started last.

        Raises:
            StudyError: the file cannot be read.
        """
        path = self.path / "server.json"
        text = self._read(path)
        if text is None:
            return Settings()
        try:
            stored = json.loads(text)
            return Settings(**{**stored, "allow": tuple(stored["allow"])})
        except (ValueError, TypeError, KeyError):
            raise StudyError(f"{path}: cannot be understood; remove it, and name --host and --port again") from None

    def remember(self, settings: Settings) -> None:
        """Store how the server is started."""
        self.write(self.path / "server.json", json.dumps(asdict(settings), indent=2) + "\n")

    def password(self) -> str:
        """The password that workers need.

        Raises:
            StudyError: its file is missing or cannot be read.
        """
        text = self._read(self.password_file)
        if not text:
            raise StudyError(f"{self.password_file}: the server's password is missing; put the file back")
        return text.strip()

    def state(self) -> State:
        """Whether the server runs, as far as its folder and the processes of this machine tell."""
        if self.major is None:
            return State.ABSENT
        pid = self.pid()
        if pid is None:
            return State.STOPPED
        if self.settings().machine not in ("", socket.gethostname()):
            return State.ELSEWHERE
        return State.RUNNING if self._is_postmaster(pid) else State.CRASHED

    def pid(self) -> int | None:
        """The process that says it serves the data, alive or not."""
        text = self._read(self.data / "postmaster.pid")
        first = text.partition("\n")[0].strip() if text else ""
        return int(first) if first.isdigit() else None

    def forget_stale_pid(self) -> None:
        """Remove what a crashed server left, where another process has its number by now."""
        pid = self.pid()
        if pid is not None and psutil.pid_exists(pid) and not self._is_postmaster(pid):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def orphans(self) -> list[int]:
        """Processes of a crashed server that have not ended yet."""
        return sorted(process.pid for process in psutil.process_iter() if self._serves_here(process))

    def write(self, path: Path, text: str, owner: SystemUser | None = None) -> None:
        """Write a file of this folder, whole and for its owner's eyes only.

        Args:
            path: the file.
            text: its content.
            owner: to whom it is to belong; by default to whoever writes it.

        Raises:
            StudyError: the file cannot be written.
        """
        write_private(path, text, owner)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, so that no two commands start or stop the server at once.

        Raises:
            StudyError: another command holds it all the time, or the folder cannot be written.
        """
        try:
            lock = FileLock(self.path / "lock", timeout=LOCK_SECONDS)
            lock.acquire()
        except LockTimeout:
            raise StudyError(f"{self.path}: another `lmf db` command is at work there; wait for it to end") from None
        except OSError as error:
            raise StudyError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        try:
            yield
        finally:
            lock.release()

    def _is_postmaster(self, pid: int) -> bool:
        try:
            return self._serves_here(psutil.Process(pid))
        except psutil.NoSuchProcess:
            return False

    def _serves_here(self, process: psutil.Process) -> bool:
        """Whether a process is a server's: all of those work in its data folder."""
        try:
            return process.name() == "postgres" and Path(process.cwd()) == self.data.resolve()
        except psutil.Error:
            return False

    @staticmethod
    def _read(path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StudyError(
                f"{path}: cannot be read: {error.strerror}; run this as the user whose server it is"
            ) from None
