"""What a job of SLURM does: one worker, kept alive, and requeued by submitit when the scheduler wants the node back.

There is one owner of the requeue, submitit's handler of its warning signal. It asks `SlurmWorker.checkpoint` to stop
the worker, and then requeues the job. Where the worker was stopped by another signal, such as the SIGTERM at the start
of a preemption's grace time, and the job still runs, the same handler is called; a job that SLURM itself is about to
end, since it was cancelled or requeued, is left alone.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from study.cli.main import BAD_REQUEST, DONE, INTERRUPTED, POINTS_FAILED
from study.launch.base import ENDED_CODES, Deaths, death_text, lmf_command
from study.launch.job_environment import STORAGE_VARIABLES
from study.lease_keeper import SUPERVISOR_VARIABLE

logger = logging.getLogger("submitit")
"""Whoever reads the log of a job reads what submitit says in the same place."""

POLL_SECONDS = 0.2
LONG_LIFE_SECONDS = 600.0
"""After so long a life, a worker's death is put down to chance."""


@dataclass
class SlurmWorker:
    """Runs a worker within a job of submitit until nothing is left for it.

    Attributes:
        arguments: what `lmf` is given.
        environment: variables of the worker, none of them a secret.
        stop_seconds: how long a worker may take to write its checkpoint before the job is requeued in any case.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    stop_seconds: float
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False, compare=False)
    _told: bool = field(default=False, init=False, repr=False, compare=False)

    def __call__(self) -> int:
        """Work until no point is left.

        Returns:
            0; with another code of `lmf worker` the process exits, so that SLURM shows the job as failed.
        """
        signal.signal(signal.SIGTERM, self._pass_on)
        code, deaths = INTERRUPTED, Deaths()
        while not self._told:
            began = time.monotonic()
            code = self._run_worker()
            if code in ENDED_CODES or self._told:
                break
            pause = deaths.add(fruitless=time.monotonic() - began < LONG_LIFE_SECONDS)
            if pause is None:
                logger.error("the worker %s %d times in a row: this job ends", death_text(code), deaths.in_a_row)
                break
            logger.warning("the worker %s; starting another in %.0f s", death_text(code), pause)
            self._sleep(pause)
        if self._told and code not in (DONE, POINTS_FAILED, BAD_REQUEST):
            self._be_requeued()
            code = INTERRUPTED
        logger.info("the worker ended with code %d", code)
        if code != DONE:
            sys.exit(code if code > 0 else 128 - code)
        return code

    def checkpoint(self) -> Any:
        """Stop the worker and say how the job goes on; submitit calls this in its handler of the warning signal."""
        from submitit.helpers import DelayedSubmission

        # One warning is enough: another would requeue the job a second time.
        signal.signal(_warning_signal(), signal.SIG_IGN)
        self._pass_on()
        until = time.monotonic() + self.stop_seconds
        while not self._has_ended() and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        if self._process is not None:
            self._process.poll()
        return DelayedSubmission(SlurmWorker(self.arguments, self.environment, self.stop_seconds))

    def _run_worker(self) -> int:
        inherited = {name: value for name, value in os.environ.items() if name not in STORAGE_VARIABLES}
        process = subprocess.Popen(
            lmf_command(self.arguments),
            stdin=subprocess.DEVNULL,
            env={**inherited, **self.environment, SUPERVISOR_VARIABLE: str(os.getpid())},
        )
        self._process = process
        if self._told:
            self._pass_on()
        # No lock of `process` is held while waiting: signal handlers look at it too.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        self._process = None
        return process.wait()

    def _has_ended(self) -> bool:
        if self._process is None:
            return True
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True

    def _pass_on(self, *_: object) -> None:
        """Tell the worker to stop; it may have got the signal itself, since SLURM sends it to every process."""
        self._told = True
        if self._process is not None and not self._has_ended():
            os.kill(self._process.pid, signal.SIGTERM)

    def _be_requeued(self) -> None:
        """Let submitit requeue the job, unless SLURM is about to end it."""
        state = _job_state()
        if state != "RUNNING":
            logger.info("the worker was stopped, and SLURM has the job as %s: not requeued", state)
            return
        signal.raise_signal(_warning_signal())

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._told and time.monotonic() < until:
            time.sleep(POLL_SECONDS)


def _warning_signal() -> signal.Signals:
    """The signal that submitit takes for the scheduler's warning."""
    from submitit import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _job_state() -> str:
    """The state in which SLURM has this job."""
    name, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # By its own number, the last task of an array would stand for all of them.
    job = f"{name}_{task}" if name and task else os.environ.get("SLURM_JOB_ID", "")
    try:
        ran = subprocess.run(
            ["squeue", "--noheader", "--format=%T", f"--jobs={job}"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return "UNKNOWN"
    return ran.stdout.strip() or "UNKNOWN"
