"""One worker for all studies: which it serves, which it skips and why, and when it ends."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.light import LightObjective, plan_light

from storage.agenda import set_study_state
from storage.database import Database
from storage.errors import StorageUnavailableError
from storage.ledger import Ledger
from storage.planning import delete_study
from storage.queries import read_attempts, read_study, read_workers
from storage.schema import PAUSED
from storage.trials import TrialMirror
from storage.workers import ProcessIdentity, Workers
from study import serving, worker
from study.attempt import AttemptEnd
from study.errors import StudyError
from study.home import Home
from study.limits import Limits
from study.run_options import RunOptions
from study.serving import work_on_studies
from trainer.errors import DataError


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url)
    yield database
    database.close()


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Names of studies whose images are not here; all others are trained by pretence."""
    names: set[str] = set()

    class Pretended(LightObjective):
        recipe = type("Recipe", (), {"select": "macro_f1"})

    def open_objective(record: Any, *_: object) -> Pretended:
        if record.name in names:
            raise DataError(f"{record.name}: no images here")
        return Pretended(tmp_path)

    monkeypatch.setattr("study.objective.open_objective", open_objective)
    monkeypatch.setattr(serving, "check_versions", lambda *_: None)
    monkeypatch.setattr(worker, "POLL_SECONDS", (0.01, 0.02))
    return names


@pytest.fixture
def work(
    database: Database, lacking: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., serving.Served]:
    monkeypatch.setattr("study.serving.read_study", lambda *a: _with_versions(read_study(*a)))
    home = Home(tmp_path, "", str(tmp_path / "artifacts"))

    def go(*names: str, limits: Limits | None = None, stop: threading.Event | None = None) -> serving.Served:
        return work_on_studies(home, database, names, RunOptions(device="cpu"), stop or threading.Event(), limits)

    return go


def _with_versions(record: Any) -> Any:
    record.spec.setdefault("versions", {})
    return record


def states(database: Database, name: str) -> list[str]:
    return [point.state for point in read_study(database, name).points]


def test_all_open_studies_are_served_by_one_worker(database: Database, work: Any) -> None:
    plan_light(database, 2, "a")
    plan_light(database, 3, "b")
    served = work()
    assert (served.ends[AttemptEnd.COMPLETE], served.remaining) == (5, 0)
    assert states(database, "a") + states(database, "b") == ["complete"] * 5
    (record,) = read_workers(database)
    assert record.state == "stopped"
    assert set(record.versions) == {"torch", "timm", "device_name", "lmf", "python", "system"}


def test_only_named_ones_are_served(database: Database, work: Any) -> None:
    plan_light(database, 1, "a")
    plan_light(database, 1, "b")
    assert work("b").remaining == 0
    assert (states(database, "a"), states(database, "b")) == (["waiting"], ["complete"])


def test_a_study_without_its_data_is_skipped_with_one_line(
    database: Database, work: Any, lacking: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    plan_light(database, 2, "a")
    plan_light(database, 2, "b")
    lacking.add("a")
    with caplog.at_level(logging.WARNING):
        served = work()
    assert served.remaining == 0, "of those that it serves"
    assert states(database, "b") == ["complete"] * 2
    assert states(database, "a") == ["waiting"] * 2
    assert [record.message for record in caplog.records] == ["study a is skipped: a: no images here"]


def test_a_named_study_without_its_data_is_refused(database: Database, work: Any, lacking: set[str]) -> None:
    plan_light(database, 1, "a")
    lacking.add("a")
    with pytest.raises(StudyError, match="a: no images here"):
        work("a")


def test_a_worker_that_can_serve_nothing_is_refused(database: Database, work: Any, lacking: set[str]) -> None:
    plan_light(database, 1, "a")
    plan_light(database, 1, "b")
    lacking.update("ab")
    with pytest.raises(StudyError, match="a: no images here; b: no images here"):
        work()
    assert read_attempts(database, "a") == ()


def test_a_study_of_other_versions_is_refused(database: Database, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_light(database, 1, "a")
    monkeypatch.undo()
    monkeypatch.setattr("study.serving.read_study", lambda *a: _of_another_torch(read_study(*a)))
    with pytest.raises(StudyError, match=r"a: torch 1\.0\.0 planned, .* here"):
        work()


def _of_another_torch(record: Any) -> Any:
    record.spec["versions"] = {"torch": "1.0.0"}
    return record


def test_without_studies_it_ends_at_once_or_after_being_idle(database: Database, work: Any) -> None:
    assert work().remaining == 0
    assert read_workers(database) == ()
    assert work(limits=Limits(idle_exit_seconds=0.2)).remaining == 0
    assert [record.state for record in read_workers(database)] == ["stopped"]


def test_it_waits_for_studies_that_are_planned_later(database: Database, work: Any) -> None:
    stop = threading.Event()
    thread = threading.Thread(daemon=True, target=lambda: work(limits=Limits(idle_exit_seconds=None), stop=stop))
    thread.start()
    plan_light(database, 2, "later")
    _wait_for(lambda: states(database, "later") == ["complete"] * 2)
    assert thread.is_alive()
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_it_stays_while_a_study_is_paused(database: Database, work: Any) -> None:
    study_id = plan_light(database, 2, "a")
    set_study_state(database, study_id, PAUSED)
    thread = threading.Thread(daemon=True, target=work)
    thread.start()
    _wait_for(lambda: bool(read_workers(database)))
    time.sleep(0.3)
    assert states(database, "a") == ["waiting"] * 2
    set_study_state(database, study_id, "open")
    thread.join(20)
    assert states(database, "a") == ["complete"] * 2


def test_it_ends_after_so_many_points(database: Database, work: Any) -> None:
    plan_light(database, 2, "a")
    plan_light(database, 2, "b")
    assert work(limits=Limits(max_points=3)).remaining == 1
    assert states(database, "a") + states(database, "b") == ["complete"] * 3 + ["waiting"]


def test_it_stops_after_so_many_hours(database: Database, work: Any) -> None:
    stop = threading.Event()
    work(limits=Limits(max_hours=0.3 / 3600, idle_exit_seconds=None), stop=stop)
    assert stop.is_set()


def test_a_claim_that_was_taken_though_it_seemed_to_fail_is_not_lost(
    database: Database, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_light(database, 2, "a")
    claim, hidden = Ledger.claim, iter([True, False, True])

    def claim_unheard(*arguments: Any, **named: Any) -> Any:
        lease = claim(*arguments, **named)
        if next(hidden, False):
            raise StorageUnavailableError("the connection was cut")
        return lease

    monkeypatch.setattr(Ledger, "claim", claim_unheard)
    work()
    assert [attempt.end for attempt in read_attempts(database, "a")] == ["complete"] * 2


def test_an_idle_worker_does_not_outlive_who_started_it(
    database: Database, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMF_SUPERVISOR", "1" if os.getppid() != 1 else "2")
    stop = threading.Event()
    work(limits=Limits(idle_exit_seconds=None), stop=stop)
    assert stop.is_set()


def test_the_last_points_of_others_are_waited_for(database: Database, work: Any) -> None:
    study_id = plan_light(database, 1, "a")
    other = Workers(database).register(ProcessIdentity("elsewhere", 1, 0.0), "cpu", {})
    assert Ledger(database).claim(study_id, other, 1.0) is not None
    assert work().ends[AttemptEnd.COMPLETE] == 1


def test_a_study_that_is_deleted_meanwhile_stops_nobody(
    database: Database, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_light(database, 1, "a")
    plan_light(database, 1, "b")
    read = read_study

    def read_deleted(database: Database, name: str) -> Any:
        if name == "a":
            mirror = TrialMirror.open(database)
            delete_study(database, mirror, name)
        return _with_versions(read(database, name))

    monkeypatch.setattr("study.serving.read_study", read_deleted)
    work()
    assert states(database, "b") == ["complete"]


def test_a_study_with_the_id_of_a_deleted_one_is_another_study(
    database: Database, work: Any, lacking: set[str]
) -> None:
    lacking.add("old")
    plan_light(database, 1, "old")
    stop = threading.Event()
    thread = threading.Thread(daemon=True, target=lambda: work(limits=Limits(idle_exit_seconds=None), stop=stop))
    thread.start()
    _wait_for(lambda: bool(read_workers(database)))
    time.sleep(0.3)
    mirror = TrialMirror.open(database)
    old_id = read_study(database, "old").study_id
    delete_study(database, mirror, "old")
    mirror.close()
    assert plan_light(database, 1, "new") == old_id
    _wait_for(lambda: states(database, "new") == ["complete"])
    stop.set()
    thread.join(20)


def test_a_worker_that_waited_for_others_though_it_skipped_a_study_has_served(
    database: Database, work: Any, lacking: set[str]
) -> None:
    lacking.add("b")
    plan_light(database, 1, "b")
    study_id = plan_light(database, 1, "a")
    ledger = Ledger(database)
    other = Workers(database).register(ProcessIdentity("elsewhere", 1, 0.0), "cpu", {})
    lease = ledger.claim(study_id, other, 60.0)
    assert lease is not None
    ended: list[serving.Served] = []
    thread = threading.Thread(daemon=True, target=lambda: ended.append(work()))
    thread.start()
    time.sleep(0.5)
    ledger.finish(lease, 0.5, {"val": {}, "test": {}}, [], None)
    ledger.close(lease)
    thread.join(20)
    assert [served.remaining for served in ended] == [0]


def test_a_stop_while_the_database_is_away_is_a_stop(
    database: Database, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_light(database, 1, "a")
    stop = threading.Event()

    def away(*_: Any, **__: Any) -> None:
        stop.set()
        raise StorageUnavailableError("the server is away")

    monkeypatch.setattr(Ledger, "claim", away)
    assert work(stop=stop).remaining == 1


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(max_points=0), "--max-points: 0 is less than 1"),
        (Limits(max_hours=0.0), "--max-hours: 0 is outside (0, 8760]"),
        (Limits(idle_exit_seconds=-1.0), "--idle-exit: -1 is less than 0"),
    ],
)
def test_limits_have_their_ranges(limits: Limits, problem: str) -> None:
    assert limits.problems() == [problem]


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
