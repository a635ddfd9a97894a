"""The worker's loop: versions, patience, signals, and staying until the last point is closed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lmf_testing.light import STUDY, LightObjective, open_bench, plan_light, plan_light_search

from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.hardware import read_hardware
from storage.lease import Lease
from storage.ledger import Ledger
from storage.queries import read_study, read_workers
from storage.workers import ProcessIdentity, Workers
from study import worker
from study.attempt import AttemptEnd, Progress, Scored
from study.devices import describe_device
from study.errors import StudyError
from study.worker import WorkerOptions, check_versions, library_versions, serve, stop_on_signals


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url)
    yield database
    database.close()


def test_versions_of_what_results_depend_on_are_known() -> None:
    assert set(library_versions()) == {"torch", "timm"}
    assert all(version[0].isdigit() for version in library_versions().values())


@pytest.mark.parametrize("here", ["2.6.0", "2.6.9", "2.6.1+cu124"])
def test_a_patch_version_makes_no_difference(here: str) -> None:
    check_versions({"torch": "2.6.0"}, {"torch": here}, "skin")


@pytest.mark.parametrize("here", ["2.7.0", "3.6.0", "2.60.0"])
def test_another_minor_version_is_refused(here: str) -> None:
    with pytest.raises(StudyError, match=rf"skin: torch 2\.6\.0 planned, {here} here.*--allow-versions"):
        check_versions({"torch": "2.6.0", "timm": "1.0.15"}, {"torch": here, "timm": "1.0.31"}, "skin")


def test_it_works_until_nothing_is_left(database: Database, tmp_path: Path) -> None:
    study_id = plan_light(database, 3)
    bench = open_bench(database, tmp_path, threading.Event())
    ends = serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu"))
    bench.mirror.close()
    assert ends == {**dict.fromkeys(AttemptEnd, 0), AttemptEnd.COMPLETE: 3}
    (record,) = read_workers(database)
    assert (record.state, record.device) == ("stopped", "cpu")
    assert record.versions == {**library_versions(), **describe_device("cpu")}
    (hardware,) = read_hardware(database, STUDY)
    assert (hardware.kind, hardware.name, hardware.attempts) == ("cpu", record.versions["device_name"], 3)


def test_in_a_search_it_chooses_points_until_the_budget_is_used_up(database: Database, tmp_path: Path) -> None:
    study_id = plan_light_search(database, 3, "random")
    bench = open_bench(database, tmp_path, threading.Event())
    ends = serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu"))
    assert ends == {**dict.fromkeys(AttemptEnd, 0), AttemptEnd.COMPLETE: 3}
    assert len(read_study(database, STUDY).points) == 3
    plan_light_search(database, 4, "random")
    assert read_study(database, STUDY).remaining == 1
    assert serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu"))[AttemptEnd.COMPLETE] == 1
    bench.mirror.close()


def test_it_chooses_no_point_once_it_is_asked_to_stop(database: Database, tmp_path: Path) -> None:
    study_id = plan_light_search(database, 3, "random")
    stop = threading.Event()

    class StopsAfterOne(LightObjective):
        def __call__(self, lease: Lease, progress: Progress) -> Scored:
            stop.set()
            return super().__call__(lease, progress)

    bench = open_bench(database, tmp_path, stop)
    serve(bench, study_id, StopsAfterOne(tmp_path), WorkerOptions("cpu"))
    bench.mirror.close()
    assert len(read_study(database, STUDY).points) == 1


def test_it_stays_for_a_point_that_another_holds_and_takes_it_over(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "POLL_SECONDS", (0.02, 0.05))
    study_id = plan_light(database, 1)
    other = Workers(database).register(ProcessIdentity("elsewhere", 1, 0.0), "cpu", {})
    held = Ledger(database).claim(study_id, other, 1.5)
    assert held is not None
    bench = open_bench(database, tmp_path, threading.Event())
    ends = serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu"))
    bench.mirror.close()
    assert ends[AttemptEnd.COMPLETE] == 1
    (point,) = read_study(database, STUDY).points
    assert (point.state, point.attempts, point.lost_attempts) == ("complete", 2, 1)


def test_it_stops_between_points_when_asked(database: Database, tmp_path: Path) -> None:
    study_id = plan_light(database, 3)
    stop = threading.Event()
    stop.set()
    bench = open_bench(database, tmp_path, stop)
    ends = serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu"))
    bench.mirror.close()
    assert sum(ends.values()) == 0
    assert Ledger(database).open_points(study_id) == 3


def test_a_database_that_is_away_is_waited_for(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = plan_light(database, 1)
    failures = iter([True, True])
    claim = Ledger.claim

    def sometimes_away(self: Ledger, study: int, holder: int, seconds: float, token: str, **named: bool) -> object:
        if next(failures, False):
            raise StorageUnavailableError("the server is away")
        return claim(self, study, holder, seconds, token, **named)

    monkeypatch.setattr(Ledger, "claim", sometimes_away)
    bench = open_bench(database, tmp_path, threading.Event())
    ends = serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu"))
    bench.mirror.close()
    assert ends[AttemptEnd.COMPLETE] == 1


def test_patience_ends(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = plan_light(database, 1)

    def away(*_: object, **__: object) -> None:
        raise StorageUnavailableError("the server is away")

    monkeypatch.setattr(Ledger, "claim", away)
    bench = open_bench(database, tmp_path, threading.Event())
    with pytest.raises(StorageError, match="the server is away"):
        serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu", patience_seconds=0.3))
    bench.mirror.close()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_ask_to_stop_and_are_put_back(kind: signal.Signals) -> None:
    before = signal.getsignal(kind)
    stop = threading.Event()
    with stop_on_signals(stop):
        os.kill(os.getpid(), kind)
        until = time.monotonic() + 10
        while not stop.is_set() and time.monotonic() < until:
            time.sleep(0.01)
        assert stop.is_set()
    assert signal.getsignal(kind) == before


def test_signals_upon_signals_do_not_hang() -> None:
    stop = threading.Event()
    with stop_on_signals(stop):
        for _ in range(5000):
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(20)
