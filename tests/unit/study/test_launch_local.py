"""Local workers: restarted when they die, left alone when they are done or refuse, stopped together."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from lmf_testing.light import plan_light

from storage.database import Database
from study.launch import local
from study.launch.local import LocalWorkers, last_line, worker_command


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url)
    yield database
    database.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(local, "POLL_SECONDS", 0.02)


def workers(database: Database, folder: Path, *codes: str) -> LocalWorkers:
    study_id = plan_light(database, 1)
    commands = [[sys.executable, "-c", code] for code in codes]
    return LocalWorkers(database, study_id, commands, {"COUNT": str(folder / "count")}, folder / "logs")


NOTE = "import os, sys, time\nopen(os.environ['COUNT'], 'a').write('x')\n"


def started(folder: Path) -> int:
    path = folder / "count"
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("code", [0, 1, 3])
def test_a_worker_that_is_done_is_not_started_again(database: Database, tmp_path: Path, code: int) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}sys.exit({code})")
    supervisor.run(threading.Event(), lambda: None)
    assert started(tmp_path) == 1
    assert supervisor.refusals == []


def test_a_worker_that_refuses_is_heard_and_not_started_again(database: Database, tmp_path: Path) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}sys.exit('lmf: torch 1 planned, 2 here')".replace("1 p", "1.0 p"))
    supervisor.commands = [[sys.executable, "-c", f"{NOTE}print('lmf: versions differ', file=sys.stderr); sys.exit(2)"]]
    supervisor.run(threading.Event(), lambda: None)
    assert started(tmp_path) == 1
    assert supervisor.refusals == ["versions differ"]


def test_a_worker_that_dies_is_started_again(database: Database, tmp_path: Path) -> None:
    dies_twice = f"{NOTE}n = len(open(os.environ['COUNT']).read())\nos.kill(os.getpid(), 9) if n < 3 else None"
    supervisor = workers(database, tmp_path, dies_twice)
    supervisor.run(threading.Event(), lambda: None)
    assert started(tmp_path) == 3
    assert supervisor.refusals == []


def test_a_worker_that_dies_at_once_every_time_is_given_up(database: Database, tmp_path: Path) -> None:
    supervisor = workers(database, tmp_path, f"{NOTE}os._exit(70)")
    supervisor.run(threading.Event(), lambda: None)
    assert started(tmp_path) == local.MOST_QUICK_DEATHS
    (refusal,) = supervisor.refusals
    assert "ended with code 70" in refusal
    assert str(tmp_path / "logs") in refusal


def test_all_workers_are_stopped_together(database: Database, tmp_path: Path) -> None:
    stop = threading.Event()
    # One stops when asked, the other never listens and is killed.
    deaf = f"{NOTE}import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"
    supervisor = workers(database, tmp_path, f"{NOTE}time.sleep(600)", deaf)

    def tick() -> None:
        if started(tmp_path) == 2:
            stop.set()

    before = local.STOP_SECONDS
    local.STOP_SECONDS = 0.5
    try:
        supervisor.run(stop, tick)
    finally:
        local.STOP_SECONDS = before
    assert stop.is_set()


def test_no_secret_is_in_a_command_line() -> None:
    command = worker_command("skin", ["--device=cpu"])
    assert command[1:] == ["-P", "-m", "study.cli.main", "worker", "skin", "--device=cpu"]


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert str(log) in last_line(log)
    log.write_text("first\nlmf: what went wrong\n\n")
    assert last_line(log) == "what went wrong"
