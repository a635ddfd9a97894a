"""What all launchers share: what is asked of them, what they give back, and a worker's command line."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from study.cli.main import BAD_REQUEST, DONE, INTERRUPTED, POINTS_FAILED

ENDED_CODES = (DONE, POINTS_FAILED, BAD_REQUEST, INTERRUPTED)
"""Exit codes with which a worker says that it has ended; with any other one it died."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
MOST_QUICK_DEATHS = 5

_NOT_FOR_WORKERS = ("device", "storage", "workers", "per_gpu", "dry_run")

Tick = Callable[[], None]
"""Called now and then while somebody waits."""


def no_tick() -> None:
    """Do nothing while waiting."""


@dataclass(frozen=True)
class WorkerRequest:
    """Workers that somebody wants.

    Attributes:
        studies: the studies that they serve; none for every open study whose data they can see.
        count: how many workers, at least 1.
        devices: where they train, in turn; at least one name that `lmf worker --device` takes.
        flags: of `lmf worker`, such as `--lease-seconds=60`; no secret may be in one.
    """

    studies: tuple[str, ...]
    count: int
    devices: tuple[str, ...] = ("auto",)
    flags: tuple[str, ...] = ()

    def arguments(self, number: int = 0) -> list[str]:
        """What `lmf` is given to be one of the workers.

        Args:
            number: which of them, from 0; the devices are handed out by it.
        """
        device = self.devices[number % len(self.devices)]
        return ["worker", f"--device={device}", *self.flags, *self.studies]


class Launch(Protocol):
    """Workers that were launched."""

    @property
    def description(self) -> str:
        """What the user should see of it: what was started and how it is watched, or a text to use elsewhere."""
        ...

    def wait(self, stop: threading.Event, on_tick: Tick) -> None:
        """Wait until every worker has ended, or until `stop` is set; where nothing was started, do not wait.

        Args:
            stop: set to wait no longer; the workers go on.
            on_tick: called now and then by the thread that waits.

        Raises:
            StorageError: the database refuses for good.
            StudyError: there is no asking how the workers are.
        """
        ...

    def stop(self, on_tick: Tick = no_tick) -> None:
        """Let every worker write a checkpoint, free its point and end; wait until they have.

        Args:
            on_tick: called now and then by the thread that waits.
        """
        ...

    @property
    def refusals(self) -> tuple[str, ...]:
        """What workers said so far that refused to work or could not be kept alive."""
        ...


class Launcher(Protocol):
    """Brings workers to life in one place or another."""

    def launch(self, request: WorkerRequest) -> Launch:
        """Start the workers, or write down how they are started.

        Raises:
            StudyError: they cannot be started here.
            StorageError: the database or a folder cannot be used.
        """
        ...


@dataclass(frozen=True)
class PrintedLaunch:
    """A text that starts workers elsewhere, once the user has handed it on: nothing runs yet."""

    description: str
    refusals: tuple[str, ...] = ()

    def wait(self, stop: threading.Event, on_tick: Tick) -> None:
        """Return at once."""

    def stop(self, on_tick: Tick = no_tick) -> None:
        """Leave everything as it is."""


@dataclass
class Deaths:
    """Counts how often a worker died without having got anywhere, and says how long to wait before the next."""

    in_a_row: int = 0

    def add(self, *, fruitless: bool) -> float | None:
        """Note that a worker died.

        Args:
            fruitless: nothing was trained while it lived.

        Returns:
            Seconds to wait before another is started, more with every fruitless death; None to start no other.
        """
        self.in_a_row = self.in_a_row + 1 if fruitless else 1
        if self.in_a_row >= MOST_QUICK_DEATHS:
            return None
        return float(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (self.in_a_row - 1)))


def lmf_command(arguments: Sequence[str], python: str = sys.executable) -> list[str]:
    """The command line of `lmf` with this installation."""
    # Without the current folder on the path, a package of the user's that lies there shadows none of ours.
    return [python, "-P", "-m", "study.cli.main", *arguments]


def worker_flags(given: Mapping[str, object]) -> tuple[str, ...]:
    """Flags of `lmf worker` from those that a command was given, without what each launcher says by itself.

    Args:
        given: values by name, as `flag_values` returns them.
    """
    flags = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        if name in _NOT_FOR_WORKERS or value is False:
            continue
        flags.append(flag if value is True else f"{flag}={value}")
    return tuple(flags)


def death_text(code: int) -> str:
    """How a process died, in words."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
