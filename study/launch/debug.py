"""A worker in this process: for tests and debuggers, which then see all that it does."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from storage.database import Database
from study.errors import StudyError
from study.home import Home
from study.launch.base import Tick, WorkerRequest, no_tick
from study.limits import Limits
from study.run_options import RunOptions
from trainer.errors import TrainerError


@dataclass(frozen=True)
class DebugLauncher:
    """Runs one worker in the thread that waits for it.

    Attributes:
        database: where the studies are planned.
        home: where images, files and scratch are.
        options: how to work; workers that are processes are told the same by the request's flags.
        limits: when the worker ends.
    """

    database: Database
    home: Home
    options: RunOptions
    limits: Limits

    def launch(self, request: WorkerRequest) -> DebugWorker:
        """Prepare the worker.

        Raises:
            StudyError: more than one is asked for.
        """
        if request.count != 1:
            raise StudyError(f"a process can be one worker, not {request.count}; `lmf launch local` starts more")
        return DebugWorker(self, request.studies)


@dataclass
class DebugWorker:
    """A worker that works while somebody waits for it."""

    launcher: DebugLauncher
    studies: tuple[str, ...]
    _stopped: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _refusals: list[str] = field(default_factory=list, init=False, repr=False)

    @property
    def description(self) -> str:
        """Which process the worker is."""
        return f"the worker is this process, {os.getpid()}"

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the worker refused to work, if it did."""
        return tuple(self._refusals)

    def wait(self, stop: threading.Event, on_tick: Tick) -> None:
        """Work until no point is left, or until `stop` is set; `on_tick` is called before and after.

        Raises:
            StorageError: the database refuses for good, or stays away longer than the patience lasts.
        """
        from study.serving import work_on_studies

        on_tick()
        launcher = self.launcher
        if not self._stopped.is_set():
            try:
                work_on_studies(launcher.home, launcher.database, self.studies, launcher.options, stop, launcher.limits)
            except (StudyError, TrainerError) as error:
                self._refusals.append(str(error))
        on_tick()

    def stop(self, on_tick: Tick = no_tick) -> None:
        """Let no other `wait` begin to work; one that works is stopped by its own event."""
        self._stopped.set()
