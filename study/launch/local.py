"""Workers of this machine: processes that are started, watched, started again when they die, and stopped together."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.workers import ProcessIdentity, Workers
from study.cli.main import BAD_REQUEST
from study.home import Home
from study.launch.base import ENDED_CODES, Deaths, Tick, WorkerRequest, death_text, lmf_command, no_tick
from study.lease_keeper import SUPERVISOR_VARIABLE

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
STOP_SECONDS = 120.0


@dataclass(frozen=True)
class LocalLauncher:
    """Starts workers as processes of this machine.

    Attributes:
        database: where the studies are planned.
        home: the home that the workers get.
    """

    database: Database
    home: Home

    def launch(self, request: WorkerRequest) -> LocalWorkers:
        """Start the workers; whoever called must in the end call `stop`.

        Raises:
            StorageError: the log folder cannot be made.
        """
        commands = [lmf_command(request.arguments(number)) for number in range(request.count)]
        workers = LocalWorkers(self.database, commands, self.home.environment(), self.home.root / "logs")
        workers.start()
        return workers


@dataclass
class _Slot:
    """One place for a worker: its process now, and how earlier ones fared."""

    number: int
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    deaths: Deaths = field(default_factory=Deaths)
    identity: ProcessIdentity | None = None
    start_after: float = 0.0
    over: bool = False


@dataclass
class LocalWorkers:
    """Supervises worker processes on this machine.

    Attributes:
        database: where the studies are planned.
        commands: the command line of each worker; no secret may be in one.
        environment: variables that every worker gets beside this process's own; secrets go here.
        logs: a folder for the workers' logs.
    """

    database: Database
    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str] = field(repr=False)
    logs: Path
    _slots: list[_Slot] = field(default_factory=list, init=False, repr=False)
    _refusals: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def description(self) -> str:
        """Where the logs are."""
        return f"logs: {self.logs}"

    @property
    def refusals(self) -> tuple[str, ...]:
        """What workers said that refused to work, and which were given up."""
        return tuple(self._refusals)

    def start(self) -> None:
        """Start all workers.

        Raises:
            StorageError: the log folder cannot be made, or a log cannot be written.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.logs}: cannot make this folder: {error.strerror}") from None
        # Several machines may share the folder.
        host = socket.gethostname()
        for number, command in enumerate(self.commands, start=1):
            self._slots.append(_Slot(number, command, self.logs / f"{host}-worker-{number}.log"))
        try:
            for slot in self._slots:
                self._start(slot)
        except BaseException:
            self.stop()
            raise

    def wait(self, stop: threading.Event, on_tick: Tick) -> None:
        """Keep the workers alive until no point is left to them, or until `stop` is set.

        Args:
            stop: set to return; the workers then go on, unwatched, until `stop()`.
            on_tick: called about twice a second.

        Raises:
            StorageError: a log cannot be written.
        """
        while not stop.is_set() and not all(slot.over for slot in self._slots):
            for slot in self._slots:
                self._look_after(slot)
            on_tick()
            stop.wait(POLL_SECONDS)

    def stop(self, on_tick: Tick = no_tick) -> None:
        """Ask all workers to stop, wait until they have, and kill those that do not."""
        alive = [slot.process for slot in self._slots if slot.process is not None and slot.process.poll() is None]
        for process in alive:
            process.terminate()
        until = time.monotonic() + STOP_SECONDS
        try:
            while time.monotonic() < until and any(process.poll() is None for process in alive):
                on_tick()
                time.sleep(0.1)
        finally:
            for process in alive:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            self._release_dead()

    def _look_after(self, slot: _Slot) -> None:
        if slot.over:
            return
        if slot.process is None:
            if time.monotonic() >= slot.start_after:
                self._start(slot)
            return
        code = slot.process.poll()
        if code is None:
            return
        slot.process = None
        if code not in ENDED_CODES:
            self._bury(slot, code)
            return
        slot.over = True
        if code == BAD_REQUEST:
            self._refusals.append(last_line(slot.log))

    def _bury(self, slot: _Slot, code: int) -> None:
        """Free what a dead worker held, and start another one after a pause that grows while nothing is trained."""
        self._release_dead()
        pause = slot.deaths.add(fruitless=not self._trained_anything(slot))
        if pause is None:
            slot.over = True
            self._refusals.append(
                f"worker {slot.number} {death_text(code)} {slot.deaths.in_a_row} times in a row; see {slot.log}"
            )
            return
        slot.start_after = time.monotonic() + pause
        logger.warning(
            "worker %d %s; starting another in %.0f s (log: %s)", slot.number, death_text(code), pause, slot.log
        )

    def _start(self, slot: _Slot) -> None:
        try:
            log = slot.log.open("ab")
        except OSError as error:
            raise StorageError(f"{slot.log}: cannot write this file: {error.strerror}") from None
        with log:
            slot.process = subprocess.Popen(
                slot.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, SUPERVISOR_VARIABLE: str(os.getpid())},
                start_new_session=True,
            )
        with suppress(psutil.Error):
            slot.identity = ProcessIdentity.of(slot.process.pid)

    def _release_dead(self) -> None:
        try:
            Workers(self.database).release_dead()
        except StorageUnavailableError as error:
            logger.warning("cannot free the points of dead workers now, their leases will run out: %s", error)

    def _trained_anything(self, slot: _Slot) -> bool:
        """Whether the process that died put an epoch on record; what others train meanwhile says nothing of it."""
        if slot.identity is None:
            return False
        try:
            return Workers(self.database).epochs_trained(slot.identity) > 0
        except StorageError:
            # The database is away: that is reason enough to have died.
            return True


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line.removeprefix("lmf: ") for line in reversed(lines) if line.strip()), f"no word in {log}")
