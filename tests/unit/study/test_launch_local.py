"""Local workers: restarted when they die, left alone when they are done or refuse, stopped together."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lmf_testing.light import STUDY, plan_light

from storage.database import Database
from storage.lease import EpochFigures
from storage.ledger import Ledger
from storage.queries import read_study
from storage.workers import ProcessIdentity, Workers
from study.launch import base, local
from study.launch.base import WorkerRequest, no_tick
from study.launch.local import LocalWorkers, last_line


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url)
    yield database
    database.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)


def workers(database: Database, folder: Path, *codes: str) -> LocalWorkers:
    plan_light(database, 1)
    commands = [[sys.executable, "-c", code] for code in codes]
    return LocalWorkers(database, commands, {"COUNT": str(folder / "count")}, folder / "logs")


def run(supervisor: LocalWorkers) -> None:
    """Start the workers, and wait until they have ended."""
    supervisor.start()
    try:
        supervisor.wait(threading.Event(), no_tick)
    finally:
        supervisor.stop()


NOTE = "import os, sys, time\nopen(os.environ['COUNT'], 'a').write('x')\n"


def started(folder: Path) -> int:
    path = folder / "count"
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_worker_that_is_done_is_not_started_again(database: Database, tmp_path: Path, code: int) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}sys.exit({code})")
    run(supervisor)
    assert started(tmp_path) == 1
    assert supervisor.refusals == ()


def test_a_worker_that_refuses_is_heard_and_not_started_again(database: Database, tmp_path: Path) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}print('lmf: versions differ', file=sys.stderr); sys.exit(2)")
    run(supervisor)
    assert started(tmp_path) == 1
    assert supervisor.refusals == ("versions differ",)


def test_a_worker_that_dies_is_started_again(database: Database, tmp_path: Path) -> None:
    dies_twice = f"{NOTE}n = len(open(os.environ['COUNT']).read())\nos.kill(os.getpid(), 9) if n < 3 else None"
    supervisor = workers(database, tmp_path, dies_twice)
    run(supervisor)
    assert started(tmp_path) == 3
    assert supervisor.refusals == ()


def test_a_worker_that_dies_at_once_every_time_is_given_up(database: Database, tmp_path: Path) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}os._exit(70)")
    run(supervisor)
    assert started(tmp_path) == base.MOST_QUICK_DEATHS
    (refusal,) = supervisor.refusals
    assert "ended with code 70" in refusal
    assert str(tmp_path / "logs") in refusal


def test_all_workers_are_stopped_together(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    # One stops when asked, the other never listens and is killed.
    deaf = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{NOTE}time.sleep(600)"
    supervisor = workers(database, tmp_path, f"{NOTE}time.sleep(600)", deaf)

    def tick() -> None:
        if started(tmp_path) == 2:
            stop.set()

    monkeypatch.setattr(local, "STOP_SECONDS", 0.5)
    supervisor.start()
    processes = [slot.process for slot in supervisor._slots]
    supervisor.wait(stop, tick)
    assert [process.poll() for process in processes if process] == [None, None], "waiting stops nobody"
    supervisor.stop()
    assert [process.returncode for process in processes if process] == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_worker_that_got_somewhere_is_started_again_and_again(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}n = len(open(os.environ['COUNT']).read())\nos._exit(70 * (n < 9))")
    monkeypatch.setattr(Workers, "epochs_trained", lambda *_: 1)
    run(supervisor)
    assert started(tmp_path) == 9
    assert supervisor.refusals == ()


def test_what_other_workers_train_does_not_count_for_one_that_dies(database: Database, tmp_path: Path) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}os._exit(70)")
    study_id = read_study(database, STUDY).study_id
    other = Workers(database).register(ProcessIdentity.of(), "cpu", {})
    ledger = Ledger(database)
    lease = ledger.claim(study_id, other, 60.0)
    assert lease is not None
    ledger.begin_training(lease, 0)
    figures = iter(range(1, 1000))

    def train_on() -> None:
        epoch = EpochFigures(next(figures), 1.0, 1.0, 0.1, 100.0, 0.01, {"macro_f1": 0.5})
        ledger.record_epochs(lease, [epoch])

    supervisor.start()
    supervisor.wait(threading.Event(), train_on)
    supervisor.stop()
    assert Workers(database).epochs_trained(ProcessIdentity.of()) > 0
    assert started(tmp_path) == 5
    assert supervisor.refusals[0].startswith("worker 1 ended with code 70 5 times in a row")


def test_each_worker_gets_its_device_and_no_secret_is_in_its_command_line(database: Database, tmp_path: Path) -> None:
    database_url = "postgresql://lmf:hunter2@db/lmf"
    request = WorkerRequest(("skin", "eyes"), 3, ("cuda:0", "cuda:1"), ("--lease-seconds=9",))
    supervisor = LocalWorkers(
        database, [request.arguments(number) for number in range(3)], {"LMF_STORAGE": database_url}, tmp_path
    )
    assert supervisor.commands == [
        ["worker", f"--device=cuda:{number}", "--lease-seconds=9", "skin", "eyes"] for number in (0, 1, 0)
    ]
    assert "hunter2" not in repr(supervisor)
    assert base.lmf_command(["worker"])[1:] == ["-P", "-m", "study.cli.main", "worker"]


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert str(log) in last_line(log)
    log.write_text("first\nlmf: what went wrong\n\n")
    assert last_line(log) == "what went wrong"
