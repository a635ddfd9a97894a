"""Pausing, resuming and cancelling, while a worker is at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from lmf_testing.light import SLOW, STUDY, LightObjective, open_bench, plan_light

from storage.database import Database
from storage.ledger import Ledger
from storage.planning import retry_failed
from storage.queries import read_attempts, read_study, read_workers
from storage.trials import TrialMirror
from storage.workers import ProcessIdentity, Workers
from study import halting, worker
from study.errors import StudyError
from study.halting import cancel, pause, resume
from study.home import Home
from study.worker import WorkerOptions, serve


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    database = Database.open(storage_url)
    yield database
    database.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, "", str(tmp_path / "artifacts"))


@pytest.fixture
def at_work(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Thread]:
    """A worker at a study of four points that take their time, with a lease of a second."""
    monkeypatch.setattr(worker, "POLL_SECONDS", (0.02, 0.05))
    monkeypatch.setattr(halting, "POLL_SECONDS", 0.05)
    study_id = plan_light(database, 4)
    (tmp_path / SLOW).touch()
    stop = threading.Event()
    bench = open_bench(database, tmp_path, stop)
    objective = LightObjective(tmp_path, epochs=30)
    thread = threading.Thread(daemon=True, target=lambda: serve(bench, study_id, objective, WorkerOptions("cpu", 1.0)))
    thread.start()
    wait_for(lambda: running(database) == 1)
    yield thread
    (tmp_path / SLOW).unlink(missing_ok=True)
    stop.set()
    thread.join(30)
    bench.mirror.close()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def running(database: Database) -> int:
    return sum(point.state == "running" for point in read_study(database, STUDY).points)


def test_a_pause_frees_the_points_and_a_resume_goes_on_from_their_checkpoints(
    database: Database, tmp_path: Path, at_work: threading.Thread
) -> None:
    ((holder, seconds),) = pause(database, STUDY)
    assert holder == read_workers(database)[0].worker
    assert 0 < seconds <= 1.0
    wait_for(lambda: running(database) == 0)
    (attempt,) = read_attempts(database, STUDY)
    assert (attempt.end, attempt.message) == ("released", "the study is paused")
    assert at_work.is_alive()
    (tmp_path / SLOW).unlink()
    time.sleep(0.3)
    assert running(database) == 0
    assert resume(database, STUDY)
    at_work.join(60)
    record = read_study(database, STUDY)
    assert [point.state for point in record.points] == ["complete"] * 4
    assert [point.attempts for point in record.points] == [2, 1, 1, 1]
    epochs = (tmp_path / "epochs.txt").read_text().splitlines()
    assert len(epochs) == len(set(epochs)) == 120, "no epoch was trained twice"


def test_a_cancelled_study_ends_within_a_lease_and_keeps_what_is_trained(
    database: Database, home: Home, tmp_path: Path, at_work: threading.Thread
) -> None:
    (tmp_path / SLOW).unlink()
    wait_for(lambda: any(point.state == "complete" for point in read_study(database, STUDY).points))
    (tmp_path / SLOW).touch()
    wait_for(lambda: running(database) == 1)
    waited: list[object] = []
    closed, held = cancel(database, home, STUDY, waited.append)
    at_work.join(30)
    assert not at_work.is_alive(), "nothing is left to do"
    record = read_study(database, STUDY)
    states = [point.state for point in record.points]
    assert held == 0
    assert record.state == "cancelled"
    assert states.count("failed") == closed >= 1
    assert states.count("complete") == 4 - closed
    assert {point.message for point in record.points if point.state == "failed"} == {"cancelled"}
    mirror = TrialMirror.open(database)
    trials = optuna.load_study(study_name=STUDY, storage=mirror.storage).get_trials()
    assert sorted(trial.state.name.lower() for trial in trials) == sorted(
        {"complete": "complete", "failed": "fail"}[state] for state in states
    )
    mirror.close()
    with pytest.raises(StudyError, match="it is cancelled; `lmf study retry`"):
        resume(database, STUDY)
    with pytest.raises(StudyError, match="it is cancelled; `lmf study retry`"):
        pause(database, STUDY)


def test_points_of_workers_that_are_gone_are_closed_when_their_leases_end(database: Database, home: Home) -> None:
    study_id = plan_light(database, 2)
    gone = Workers(database).register(ProcessIdentity("elsewhere", 1, 0.0), "cpu", {})
    assert Ledger(database).claim(study_id, gone, 1.0) is not None
    waited: list[list[tuple[str, float]]] = []
    assert cancel(database, home, STUDY, waited.append) == (2, 0)
    assert [[worker for worker, _ in holders] for holders in waited] == [["elsewhere:1:0"]]
    assert [point.state for point in read_study(database, STUDY).points] == ["failed"] * 2
    assert cancel(database, home, STUDY) == (0, 0)


def test_points_that_are_held_on_and_on_are_told(
    database: Database, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halting, "GRACE_SECONDS", -59.5)
    study_id = plan_light(database, 2)
    busy = Workers(database).register(ProcessIdentity("elsewhere", 1, 0.0), "cpu", {})
    assert Ledger(database).claim(study_id, busy, 60.0) is not None
    assert cancel(database, home, STUDY) == (1, 1)


def test_a_study_that_is_retried_meanwhile_is_left_alone(
    database: Database, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = plan_light(database, 2)
    busy = Workers(database).register(ProcessIdentity("elsewhere", 1, 0.0), "cpu", {})
    held = Ledger(database).claim(study_id, busy, 60.0)
    assert held is not None

    def retry(_: object) -> None:
        Ledger(database).release(held)
        mirror = TrialMirror.open(database)
        with database.lock("plan"):
            retry_failed(database, mirror, study_id)
        mirror.close()

    assert cancel(database, home, STUDY, retry) == (0, 0)
    record = read_study(database, STUDY)
    assert (record.state, [point.state for point in record.points]) == ("open", ["waiting"] * 2)


def test_what_is_not_paused_is_not_resumed(database: Database) -> None:
    plan_light(database, 1)
    assert not resume(database, STUDY)
