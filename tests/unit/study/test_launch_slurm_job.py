"""A worker within a job of SLURM: stopped once, requeued by submitit alone, and only if SLURM does not end the job."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import pytest
from submitit.core.utils import DelayedSubmission

from study.launch import base, slurm_job
from study.launch.slurm_job import SlurmWorker

# What stands for `lmf worker`: it notes its start, and what its environment says.
IMPORTS = "import os, sys, signal, time"
NOTE = "print(os.environ['LMF_HOME'], os.environ.get('LMF_STORAGE'), file=open(os.environ['NOTES'], 'a'))"
START = f"{IMPORTS}; {NOTE}"
LISTENING = f"{IMPORTS}; signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); {NOTE}; time.sleep(60)"


class Requeued(BaseException):
    """What stands for the end of the process, once submitit has requeued the job."""


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers note their starts; `squeue` says that the job runs, unless `state` says another thing."""
    (tmp_path / "state").write_text("RUNNING\n")
    (tmp_path / "squeue").write_text(f'#!/bin/bash\n[ "${{@: -1}}" = --jobs=7_1 ] && cat "{tmp_path}/state"\n')
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name, value in (("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "1"), ("SLURM_JOB_ID", "9")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(base, "FIRST_PAUSE_SECONDS", 0.01)
    return tmp_path / "notes"


def worker(notes: Path, monkeypatch: pytest.MonkeyPatch, code: str, stop_seconds: float = 30.0) -> SlurmWorker:
    def command(arguments: Sequence[str]) -> list[str]:
        assert list(arguments) == ["worker", "skin"]
        return [sys.executable, "-c", code]

    monkeypatch.setattr(slurm_job, "lmf_command", command)
    monkeypatch.setenv("LMF_STORAGE", "postgresql://lmf:inherited@db/lmf")
    return SlurmWorker(("worker", "skin"), {"LMF_HOME": "/there", "NOTES": str(notes)}, stop_seconds)


def starts(notes: Path) -> list[str]:
    return notes.read_text().splitlines() if notes.exists() else []


def send_when_started(notes: Path, *kinds: signal.Signals) -> threading.Thread:
    """Send signals to this process once a worker has started."""

    def send() -> None:
        until = time.monotonic() + 60
        while not starts(notes) and time.monotonic() < until:
            time.sleep(0.02)
        for kind in kinds:
            os.kill(os.getpid(), kind)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def requeue_as_submitit_does(worker: SlurmWorker) -> list[object]:
    """Handle the warning signal as submitit does; returns the list of what the jobs go on with."""
    continued: list[object] = []

    def handle(_: int, __: FrameType | None) -> None:
        continued.append(worker.checkpoint())
        raise Requeued

    signal.signal(signal.SIGUSR2, handle)
    return continued


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_job_ends_as_its_worker_does(notes: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    job = worker(notes, monkeypatch, f"{START}; sys.exit({code})")
    if code == 0:
        assert job() == 0
    else:
        with pytest.raises(SystemExit) as ended:
            job()
        assert ended.value.code == code
    assert starts(notes) == ["/there None"], "it gets the job's home, and no inherited database"


def test_at_the_warning_the_worker_stops_and_submitit_requeues(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = worker(notes, monkeypatch, LISTENING)
    continued = requeue_as_submitit_does(job)
    # A second warning while the first is handled must not requeue again.
    sender = send_when_started(notes, signal.SIGUSR2, signal.SIGUSR2)
    with pytest.raises(Requeued):
        job()
    sender.join()
    (goes_on,) = continued
    assert isinstance(goes_on, DelayedSubmission)
    assert goes_on.function == SlurmWorker(("worker", "skin"), job.environment, 30.0)
    assert goes_on.function._told is False
    assert len(starts(notes)) == 1


def test_a_worker_that_takes_too_long_does_not_keep_the_job_from_being_requeued(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = LISTENING.replace("lambda *_: sys.exit(3)", "signal.SIG_IGN").replace("sleep(60)", "sleep(3)")
    job = worker(notes, monkeypatch, deaf, stop_seconds=0.3)
    continued = requeue_as_submitit_does(job)
    sender = send_when_started(notes, signal.SIGUSR2)
    with pytest.raises(Requeued):
        job()
    sender.join()
    assert len(continued) == 1
    assert job._process is not None
    job._process.wait()


def test_a_job_told_to_end_while_slurm_lets_it_run_is_requeued(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = worker(notes, monkeypatch, LISTENING)
    continued = requeue_as_submitit_does(job)
    sender = send_when_started(notes, signal.SIGTERM)
    with pytest.raises(Requeued):
        job()
    sender.join()
    assert len(continued) == 1


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", ""])
def test_a_job_that_slurm_ends_is_left_alone(notes: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    (notes.parent / "state").write_text(f"{state}\n")
    job = worker(notes, monkeypatch, LISTENING)
    continued = requeue_as_submitit_does(job)
    sender = send_when_started(notes, signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        job()
    sender.join()
    assert ended.value.code == 3
    assert continued == []


def test_a_worker_that_dies_is_started_again_some_times(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = worker(notes, monkeypatch, f"{START}; os.kill(os.getpid(), 9)")
    with pytest.raises(SystemExit) as ended:
        job()
    assert ended.value.code == 137
    assert len(starts(notes)) == base.MOST_QUICK_DEATHS
