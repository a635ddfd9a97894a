"""What a job asks of SLURM, read from flags and checked before anything is submitted."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from study.errors import StudyError

LEAST_WARN_SECONDS = 10

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_MEMORY = re.compile(r"\d+[KMGT]?", re.IGNORECASE)
_WORD = re.compile(r"[^\s'\"\\]+")


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """What each job of the array asks of SLURM; None leaves it to the cluster.

    Attributes:
        partition: where to run.
        time_minutes: the time limit, at least 1; a job that reaches it is requeued.
        gres: generic resources of a job, such as `gpu:1`.
        qos: quality of service.
        account: who pays.
        cpus_per_task: processor cores, at least 1.
        mem: memory, such as `16G`.
        constraint: features that the node must have.
        exclude: nodes not to run on.
        setup: lines of shell that run before the worker.
        warn_seconds: how long before the time limit a worker is told to write its checkpoint.
        log_dir: takes the logs of the jobs; all nodes must see it.
    """

    partition: str | None = None
    time_minutes: int
    gres: str | None = None
    qos: str | None = None
    account: str | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    setup: tuple[str, ...] = ()
    warn_seconds: int = 120
    log_dir: Path

    def __post_init__(self) -> None:
        """Refuse what SLURM, or the script, could not take.

        Raises:
            StudyError: values are wrong; one line with every problem.
        """
        problems = [
            f"--{name}: {value!r} cannot be part of a batch script; expected no space, quote or backslash"
            for name in ("partition", "gres", "qos", "account", "constraint", "exclude")
            if (value := getattr(self, name)) is not None and not _WORD.fullmatch(value)
        ]
        if self.mem is not None and not _MEMORY.fullmatch(self.mem):
            problems.append(f"--mem: {self.mem!r} is no amount of memory; expected such as 16G")
        if self.cpus_per_task is not None and self.cpus_per_task < 1:
            problems.append(f"--cpus-per-task: {self.cpus_per_task} is less than 1")
        problems += [
            f"--setup: {line!r} has a line break; give --setup once for each line"
            for line in self.setup
            if "\n" in line
        ]
        if not LEAST_WARN_SECONDS <= self.warn_seconds < 60 * self.time_minutes:
            problems.append(
                f"--warn-seconds: {self.warn_seconds} is outside [{LEAST_WARN_SECONDS}, {60 * self.time_minutes}), "
                f"from {LEAST_WARN_SECONDS} s to the time limit"
            )
        if problems:
            raise StudyError("; ".join(problems))

    def make_log_dir(self) -> None:
        """Make the folder of the logs: a job whose log cannot be opened fails without a word.

        Raises:
            StudyError: it cannot be made.
        """
        try:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"--log-dir: cannot make {self.log_dir}: {error.strerror}") from None

    def parameters(self) -> dict[str, str | int]:
        """Flags of `sbatch` beside array, logs and signals, by name without the dashes."""
        chosen = {
            "job-name": "lmf",
            "partition": self.partition,
            "time": self.time_minutes,
            "gres": self.gres,
            "qos": self.qos,
            "account": self.account,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.mem,
            "constraint": self.constraint,
            "exclude": self.exclude,
        }
        return {name: value for name, value in chosen.items() if value is not None}


def read_minutes(text: str) -> int:
    """A time limit as SLURM writes it: `90` minutes, `90:00`, `1:30:00`, `2-12`, `2-12:30` or `2-12:30:00`.

    Returns:
        Minutes, rounded up, at least 1.

    Raises:
        StudyError: it is none of these, or no time at all.
    """
    found = _TIME.fullmatch(text.strip())
    if found:
        days, *parts = (int(part) if part else 0 for part in found.groups())
        if found["days"] is not None:
            hours, minutes, seconds = parts
        elif found["third"] is not None:
            hours, minutes, seconds = parts
        else:
            hours, (minutes, seconds) = 0, parts[:2]
        total = math.ceil(((24 * days + hours) * 3600 + 60 * minutes + seconds) / 60)
        if total > 0:
            return total
    raise StudyError(f"--time: {text!r} is no time limit; expected minutes, H:MM:SS, D-HH or D-HH:MM:SS")
