"""Workers as jobs of SLURM: an array of one-GPU jobs, submitted through submitit."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from study.errors import StudyError
from study.home import Home
from study.launch.base import Tick, WorkerRequest, no_tick
from study.launch.job_environment import PASSWORD_VARIABLE, STORAGE_VARIABLES, job_environment
from study.launch.slurm_job import SlurmWorker
from study.launch.slurm_options import SlurmOptions

logger = logging.getLogger(__name__)

MOST_REQUEUES = 1_000_000
"""How often submitit may requeue a job that reached its time limit: as often as there is something left to train."""

POLL_SECONDS = 10.0
STOP_SECONDS = 300.0
TICK_SECONDS = 0.5


@dataclass(frozen=True)
class SlurmLauncher:
    """Submits workers to SLURM.

    Attributes:
        home: the home that the workers get; all nodes must see its folder.
        storage: what `--storage` said.
        options: what each job asks for.
    """

    home: Home
    storage: str | None
    options: SlurmOptions

    def launch(self, request: WorkerRequest) -> SlurmJobs:
        """Submit the workers.

        Raises:
            StudyError: there is no SLURM here, submitit is missing, a file cannot be written, or SLURM refuses.
        """
        submitit = _import_submitit()
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise StudyError(
                "sbatch and srun are not here; run this on a login node of the cluster, or use --print and submit "
                "the script there"
            )
        options = self.options
        environment = job_environment(self.home, self.storage)
        options.make_log_dir()
        executor = submitit.SlurmExecutor(options.log_dir, max_num_timeout=MOST_REQUEUES)
        executor.update_parameters(**_submitit_parameters(options))
        stop_seconds = max(5.0, options.warn_seconds / 2)
        workers = [
            SlurmWorker(tuple(request.arguments(number)), environment, stop_seconds) for number in range(request.count)
        ]
        with _submission():
            jobs = executor.submit_array(workers)
        return SlurmJobs(str(jobs[0].job_id).partition("_")[0], tuple(str(job.job_id) for job in jobs), options.log_dir)


@dataclass(frozen=True)
class SlurmJobs:
    """Workers that were submitted.

    Attributes:
        job: the number of the job, or of the whole array.
        tasks: the number of each worker's job.
        log_dir: where its logs are.
    """

    job: str
    tasks: tuple[str, ...]
    log_dir: Path

    @property
    def description(self) -> str:
        """The number of the job, and how it is watched and ended."""
        return (
            f"job {self.job} submitted: {len(self.tasks)} worker{'s' if len(self.tasks) > 1 else ''}\n"
            f"watch:  lmf status --watch   or   squeue --job {self.job}\n"
            f"end:    scancel {self.job}   (points are kept: each worker writes a checkpoint first)\n"
            f"logs:   {self.log_dir}/{self.job}_*"
        )

    @property
    def refusals(self) -> tuple[str, ...]:
        """What workers said in their logs that refused to work."""
        said = []
        for task in self.tasks:
            log = self.log_dir / f"{task}_0_log.err"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
            refused = [line.removeprefix("lmf: ") for line in lines if line.startswith("lmf: ")]
            said += refused[-1:]
        return tuple(said)

    def wait(self, stop: threading.Event, on_tick: Tick) -> None:
        """Wait until none of the jobs waits or runs, or until `stop` is set; the jobs go on then.

        Raises:
            StudyError: SLURM cannot be asked for longer than some minutes.
        """
        next_look, failures = 0.0, 0
        while not stop.is_set():
            if time.monotonic() >= next_look:
                try:
                    if not self._alive():
                        return
                    failures = 0
                except StudyError:
                    failures += 1
                    if failures > STOP_SECONDS / POLL_SECONDS:
                        raise
                next_look = time.monotonic() + POLL_SECONDS
            on_tick()
            stop.wait(TICK_SECONDS)

    def stop(self, on_tick: Tick = no_tick) -> None:
        """Cancel the jobs and wait until they are gone: their workers write checkpoints first.

        Raises:
            StudyError: SLURM refuses.
        """
        if self._alive():
            _ask("scancel", self.job)
        until = time.monotonic() + STOP_SECONDS
        while self._alive() and time.monotonic() < until:
            on_tick()
            time.sleep(TICK_SECONDS)

    def _alive(self) -> list[str]:
        """Those of the jobs that wait or run."""
        known = _ask("squeue", "--noheader", "--array", "--me", "--format=%i").split()
        return [name for name in known if name == self.job or name.startswith(f"{self.job}_")]


def _submitit_parameters(options: SlurmOptions) -> dict[str, Any]:
    parameters: dict[str, Any] = {name.replace("-", "_"): value for name, value in options.parameters().items()}
    # Without the current folder on the path, a package of the user's that lies there shadows none of ours.
    parameters["setup"] = ["export PYTHONSAFEPATH=1", *options.setup]
    parameters["signal_delay_s"] = options.warn_seconds
    parameters["additional_parameters"] = {"requeue": True}
    parameters["wckey"] = None
    parameters["array_parallelism"] = 1_000_000
    if options.cpus_per_task is not None:
        # srun does not take over what sbatch was told.
        parameters["srun_args"] = [f"--cpus-per-task={options.cpus_per_task}"]
    return parameters


def _import_submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise StudyError(
            "submitit is not installed; `pip install 'lmf[slurm]'` brings it, and --print needs it not"
        ) from None
    return submitit


@contextmanager
def _submission() -> Iterator[None]:
    """Let sbatch inherit no variable that may hold the database's password, and turn its refusal into an error."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    secret = (*STORAGE_VARIABLES, PASSWORD_VARIABLE)
    hidden = {name: os.environ.pop(name) for name in secret if name in os.environ}
    said = StringIO()
    try:
        with redirect_stderr(said):
            yield
    except (FailedJobError, FailedSubmissionError) as error:
        lines = (str(error) or said.getvalue()).strip().splitlines()
        raise StudyError(f"SLURM refuses the jobs: {lines[-1] if lines else 'it did not say why'}") from None
    except OSError as error:
        raise StudyError(f"cannot submit the jobs: {error.strerror or error}") from None
    finally:
        os.environ.update(hidden)


def _ask(*command: str) -> str:
    """Run a command of SLURM and return what it printed.

    Raises:
        StudyError: it failed.
    """
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StudyError(f"{command[0]}: cannot be asked: {error}") from None
    if ran.returncode:
        lines = ran.stderr.strip().splitlines()
        raise StudyError(f"{command[0]}: {lines[-1] if lines else f'ended with code {ran.returncode}'}")
    return ran.stdout
