"""`lmf launch slurm` on a real SLURM of one node: an array trains a study to its end, whatever SLURM does to it."""

from __future__ import annotations

import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from lmf_testing.checks import check_complete
from lmf_testing.cli import Ran, run_lmf, start_lmf
from lmf_testing.postgres import AWKWARD
from lmf_testing.real import STUDY, home_of, plan_real, short_spec
from lmf_testing.slurm import CPUS, Slurm, missing_programs, slurm_cluster, wait_for

from storage.agenda import open_studies
from storage.artifacts import Artifacts
from storage.database import Database
from storage.queries import StudyRecord, WorkerRecord, read_attempts, read_workers
from study.home import Home

PATIENCE = 240.0
EPOCHS = 12


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if missing_programs():
        pytest.skip(f"SLURM is not installed here: {', '.join(missing_programs())} not found")
    with slurm_cluster() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, postgres_url: str) -> Home:
    return home_of(tmp_path / "a home", postgres_url)


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url)
    yield database
    database.close()


def plan(home: Home, seeds: int, epochs: int = EPOCHS) -> int:
    """Plan one point a seed; again with more seeds, the study grows."""
    plan_real(home, short_spec(settings="beta", grid="1.0", seeds=",".join(map(str, range(seeds))), epochs=epochs))
    return seeds


def submit(slurm: Slurm, home: Home, *flags: str) -> str:
    """Submit workers of the study by `lmf launch slurm` and return the number of the job."""
    ran = run_lmf(home.root, "launch", "slurm", STUDY, "--device=cpu", *flags, changes=variables(slurm, home))
    check_said(ran)
    found = re.match(r"job (\d+) submitted", ran.out)
    assert found, ran.out
    return found[1]


def submit_script(slurm: Slurm, home: Home, *flags: str) -> str:
    """Submit workers by the script of `lmf launch slurm --print` and return the number of the job."""
    flags = ("--print", "--device=cpu", *flags)
    ran = run_lmf(home.root, "launch", "slurm", STUDY, *flags, changes=variables(slurm, home))
    check_said(ran)
    path = home.root / "workers.sh"
    path.write_text(ran.out)
    subprocess.run(["bash", "-n", path], check=True)
    assert AWKWARD not in ran.out
    return slurm.run("sbatch", "--parsable", str(path)).strip()


def check_said(ran: Ran) -> None:
    """It did what it should, and said no more than that the database is on loopback, where this one-node SLURM is."""
    assert ran.code == 0, ran.err
    assert all("only this machine reaches the database" in line for line in ran.err.splitlines()), ran.err


def variables(slurm: Slurm, home: Home) -> dict[str, str]:
    return {**slurm.variables, "LMF_STORAGE": home.storage_url, "LMF_ARTIFACTS": home.artifacts}


def worker_of(database: Database, task: int, least_epoch: int = 0) -> WorkerRecord | None:
    """The worker that trains within a task of an array, once its point has so many epochs."""
    for worker in read_workers(database):
        if worker.state == "training" and worker.trial is not None and (worker.epoch or 0) >= least_epoch:
            try:
                found = psutil.Process(worker.pid).environ().get("SLURM_ARRAY_TASK_ID")
            except psutil.NoSuchProcess:
                continue
            if found == str(task):
                return worker
    return None


def explain(slurm: Slurm, home: Home) -> Callable[[], str]:
    def text() -> str:
        logs = sorted((home.root / "logs" / "slurm").glob("*.[oel]*"))
        said = [f"{log.name}:\n{log.read_text()[-1500:]}" for log in logs if log.is_file()]
        return "\n".join([slurm.run("squeue"), *said, slurm.logs()])

    return text


def train_until_gone(slurm: Slurm, home: Home, jobs: list[str]) -> None:
    """Wait until the jobs have ended by themselves, and check that they ended well."""
    wait_for(lambda: not slurm.jobs(), "all jobs to end", PATIENCE, explain(slurm, home))
    assert {job: slurm.state(job) for job in jobs} == dict.fromkeys(jobs, "COMPLETED"), explain(slurm, home)()


def check_nothing_lost(database: Database, home: Home, points: int) -> StudyRecord:
    record = check_complete(database, STUDY, points, EPOCHS, Artifacts.open(home.artifacts))
    assert sum(point.lost_attempts for point in record.points) == 0
    assert sum(point.lost_epochs for point in record.points) == 0
    return record


def test_requeue_and_signals_lose_nothing(slurm: Slurm, home: Home, database: Database) -> None:
    points = plan(home, 4, epochs=EPOCHS)
    job = submit(slurm, home, "--count=3", "--time=30")
    tasks = [f"{job}_{number}" for number in range(3)]
    check_secrecy(slurm, home, job)
    blows = {
        0: ("scontrol", "requeue", tasks[0]),
        1: ("scancel", "--signal=USR2", tasks[1]),
        2: ("scancel", "--signal=TERM", tasks[2]),
    }
    struck = set()
    until = time.monotonic() + PATIENCE
    while struck != set(blows):
        assert time.monotonic() < until, explain(slurm, home)()
        for task in set(blows) - struck:
            worker = worker_of(database, task, least_epoch=1)
            if worker is not None:
                slurm.run(*blows[task])
                struck.add(task)
                psutil.wait_procs([psutil.Process(worker.pid)], timeout=0)
        time.sleep(0.1)
    train_until_gone(slurm, home, tasks)
    assert [slurm.restarts(task) for task in tasks] == [1, 1, 1], explain(slurm, home)()
    check_nothing_lost(database, home, points)
    ends = [attempt.end for attempt in read_attempts(database, STUDY)]
    assert ends.count("released") == 3, ends
    assert all(
        AWKWARD not in path.read_text(errors="replace") for path in (home.root / "logs").rglob("*") if path.is_file()
    )


def check_secrecy(slurm: Slurm, home: Home, job: str) -> None:
    """The database's password is in one file that nobody else reads, and nowhere where SLURM tells it."""
    (file,) = (home.root / "launch").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().strip() == home.storage_url
    secrets = (AWKWARD, home.storage_url)
    folder = home.root / "logs" / "slurm"
    written = [path.read_bytes() for path in [*folder.iterdir(), *slurm.folder.glob("state/**/*")] if path.is_file()]
    shown = slurm.run("scontrol", "show", "job", "--details", job).encode()
    for secret in secrets:
        assert not any(secret.encode() in text for text in [*written, shown])
    command_lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not any(secret in line for secret in secrets for line in command_lines)


def test_a_time_limit_loses_nothing(slurm: Slurm, home: Home, database: Database) -> None:
    points = plan(home, 3)
    limit = ("--time=1", "--warn-seconds=10")
    job = submit(slurm, home, "--count=1", *limit)
    script = submit_script(slurm, home, "--count=1", *limit)
    jobs = [job, f"{script}_0"]

    def both_were_requeued() -> bool:
        # The study grows until the time limit of both has come.
        nonlocal points
        left = sum(study.open_points for study in open_studies(database))
        if left < 4:
            points = plan(home, points + 2)
        return all(slurm.restarts(name) >= 1 for name in jobs)

    wait_for(both_were_requeued, "the time limit of both jobs", PATIENCE, explain(slurm, home), poll=0.5)
    train_until_gone(slurm, home, jobs)
    check_nothing_lost(database, home, points)


def test_the_printed_script_requeues_itself_and_is_requeued_once(slurm: Slurm, home: Home, database: Database) -> None:
    points = plan(home, 3)
    job = submit_script(slurm, home, "--count=2", "--setup=export SET_UP=yes")
    warned, preempted = f"{job}_0", f"{job}_1"
    wait_for(lambda: worker_of(database, 0, 1) is not None, "an epoch", PATIENCE, explain(slurm, home))
    slurm.run("scancel", "--batch", "--signal=USR2", warned)
    wait_for(lambda: slurm.restarts(warned) == 1, "the requeue", 60, explain(slurm, home))
    wait_for(lambda: worker_of(database, 1, 1) is not None, "an epoch", PATIENCE, explain(slurm, home))
    # This job needs the whole node, so SLURM requeues what runs there at a lower priority.
    slurm.run("sbatch", "--partition=urgent", f"--cpus-per-task={CPUS}", "--output=/dev/null", "--wrap=sleep 1")
    wait_for(lambda: slurm.restarts(preempted) == 1, "the preemption", 60, explain(slurm, home))
    train_until_gone(slurm, home, [warned, preempted])
    assert slurm.restarts(preempted) == 1, "SLURM requeues what it preempts, and nobody else does"
    check_nothing_lost(database, home, points)


def test_a_cancelled_job_is_not_requeued_and_the_wait_ends(slurm: Slurm, home: Home, database: Database) -> None:
    plan(home, 1, epochs=200)
    flags = ("--device=cpu", "--count=1", "--wait")
    waiting = start_lmf(home.root, "launch", "slurm", STUDY, *flags, changes=variables(slurm, home))
    try:
        wait_for(
            lambda: any(worker.epoch for worker in read_workers(database)), "an epoch", PATIENCE, explain(slurm, home)
        )
        (job,) = slurm.jobs()
        slurm.run("scancel", job)
        out, err = waiting.communicate(timeout=120)
    finally:
        waiting.kill()
    assert (waiting.returncode, err) == (3, ""), out
    assert slurm.state(job) == "CANCELLED"
    assert [attempt.end for attempt in read_attempts(database, STUDY)] == ["released"]
