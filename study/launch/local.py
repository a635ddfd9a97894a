"""Workers of this machine: processes that are started, watched, started again when they die, and stopped together."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.ledger import Ledger
from storage.workers import Workers
from study.lease_keeper import SUPERVISOR_VARIABLE

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
MOST_QUICK_DEATHS = 5
STOP_SECONDS = 120.0
EXIT_REFUSED = 2


@dataclass
class _Slot:
    """One place for a worker: its process now, and how earlier ones fared."""

    number: int
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    epochs_at_start: int = 0
    start_after: float = 0.0
    over: bool = False


@dataclass
class LocalWorkers:
    """Supervises the workers of one study on this machine.

    Attributes:
        database: where the study is planned.
        study_id: the study.
        commands: the command line of each worker; no secret may be in one.
        environment: variables that every worker gets beside this process's own; secrets go here.
        logs: a folder for the workers' logs.
        refusals: what workers said that refused to work, to be shown to the user.
    """

    database: Database
    study_id: int
    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str] = field(repr=False)
    logs: Path
    refusals: list[str] = field(default_factory=list)

    def run(self, stop: threading.Event, on_tick: Callable[[], None]) -> None:
        """Run all workers until no point is left to them, or until `stop` is set.

        Args:
            stop: set to checkpoint, release and end everything.
            on_tick: called about twice a second.

        Raises:
            StorageError: the log folder cannot be made.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.logs}: cannot make this folder: {error.strerror}") from None
        slots = [
            _Slot(number, command, self.logs / f"worker-{number}.log")
            for number, command in enumerate(self.commands, start=1)
        ]
        try:
            while not stop.is_set() and not all(slot.over for slot in slots):
                for slot in slots:
                    self._look_after(slot)
                on_tick()
                stop.wait(POLL_SECONDS)
        finally:
            self._stop_all(slots, on_tick)

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
        if code in (0, 1, 3):
            slot.over = True
        elif code == EXIT_REFUSED:
            slot.over = True
            self.refusals.append(last_line(slot.log))
        else:
            self._bury(slot, code)

    def _bury(self, slot: _Slot, code: int) -> None:
        """Free what a dead worker held, and start another one after a pause that grows while nothing is trained."""
        self._release_dead()
        slot.deaths = slot.deaths + 1 if self._epochs() == slot.epochs_at_start else 1
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        if slot.deaths >= MOST_QUICK_DEATHS:
            slot.over = True
            self.refusals.append(f"worker {slot.number} {how} {slot.deaths} times in a row; see {slot.log}")
            return
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (slot.deaths - 1))
        slot.start_after = time.monotonic() + pause
        logger.warning("worker %d %s; starting another in %.0f s (log: %s)", slot.number, how, pause, slot.log)

    def _start(self, slot: _Slot) -> None:
        slot.epochs_at_start = self._epochs()
        with slot.log.open("ab") as log:
            slot.process = subprocess.Popen(
                slot.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment, SUPERVISOR_VARIABLE: str(os.getpid())},
                start_new_session=True,
            )

    def _stop_all(self, slots: Sequence[_Slot], on_tick: Callable[[], None]) -> None:
        """Ask all workers to stop, wait until they have, and kill those that do not."""
        alive = [slot.process for slot in slots if slot.process is not None and slot.process.poll() is None]
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

    def _release_dead(self) -> None:
        try:
            Workers(self.database).release_dead()
        except StorageUnavailableError as error:
            logger.warning("cannot free the points of dead workers now, their leases will run out: %s", error)

    def _epochs(self) -> int:
        try:
            return Ledger(self.database).epochs_on_record(self.study_id)
        except StorageUnavailableError:
            return -1


def worker_command(study: str, flags: Sequence[str]) -> list[str]:
    """The command line of a worker of a study on this machine."""
    # Without the current folder on the path, a package of the user's that lies there shadows none of ours.
    return [sys.executable, "-P", "-m", "study.cli.main", "worker", study, *flags]


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line.removeprefix("lmf: ") for line in reversed(lines) if line.strip()), f"no word in {log}")
