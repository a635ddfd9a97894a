"""The lease keeper: renews, outlives a database that is away, and gives up when the lease is over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.light import plan_light

from storage.agenda import set_study_state
from storage.database import Database
from storage.errors import LeaseLostError, StorageError, StorageUnavailableError
from storage.lease import Lease
from storage.ledger import Ledger
from storage.schema import CANCELLED, PAUSED
from storage.workers import ProcessIdentity, Workers
from study import lease_keeper
from study.lease_keeper import LeaseKeeper


@pytest.fixture
def ledger(sqlite_url: str) -> Iterator[Ledger]:
    database = Database.open(sqlite_url)
    yield Ledger(database)
    database.close()


@pytest.fixture
def claim(ledger: Ledger, tmp_path: Path) -> Callable[[float], Lease]:
    study_id = plan_light(ledger.database, 1)
    worker_id = Workers(ledger.database).register(ProcessIdentity.of(), "cpu", {})

    def take(seconds: float) -> Lease:
        lease = ledger.claim(study_id, worker_id, seconds)
        assert lease is not None
        return lease

    return take


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_it_renews_far_beyond_the_first_expiry(ledger: Ledger, claim: Callable[[float], Lease]) -> None:
    lease = claim(1.0)
    with LeaseKeeper(ledger, lease, threading.Event()) as keeper:
        time.sleep(2.5)
        assert keeper.control() is None
        assert ledger.claim(lease.study_id, lease.worker_id, 1.0) is None, "nobody else gets the point"


def test_it_notices_that_another_worker_has_the_point(ledger: Ledger, claim: Callable[[float], Lease]) -> None:
    lease = claim(1.0)
    with LeaseKeeper(ledger, lease, threading.Event()) as keeper:
        ledger.expire_leases(lease.worker_id)
        assert claim(60.0).point_id == lease.point_id
        wait_for(lambda: keeper.control() == "abandon")


def test_it_passes_on_that_it_should_stop(ledger: Ledger, claim: Callable[[float], Lease]) -> None:
    stop = threading.Event()
    with LeaseKeeper(ledger, claim(60.0), stop) as keeper:
        assert keeper.control() is None
        stop.set()
        assert keeper.control() == "stop"


def test_a_database_that_is_away_is_outlived_while_the_lease_lasts(
    ledger: Ledger, claim: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "RETRY_SECONDS", 0.05)
    lease = claim(1.5)
    away = threading.Event()
    renew = Ledger.renew

    def renew_unless_away(self: Ledger, lease: Lease) -> str:
        if away.is_set():
            raise StorageUnavailableError("the server is away")
        return renew(self, lease)

    monkeypatch.setattr(Ledger, "renew", renew_unless_away)
    with LeaseKeeper(ledger, lease, threading.Event(), patience_seconds=0.0) as keeper:
        away.set()
        time.sleep(0.8)
        assert keeper.control() is None
        away.clear()
        time.sleep(1.5)
        assert keeper.control() is None, "it went on renewing"
        away.set()
        wait_for(lambda: keeper.control() == "abandon")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, leases cannot be renewed, since the database is away."""
    monkeypatch.setattr(lease_keeper, "RETRY_SECONDS", 0.05)
    renew, event = Ledger.renew, threading.Event()

    def renew_unless_away(self: Ledger, lease: Lease) -> str:
        if event.is_set():
            raise StorageUnavailableError("the server is away")
        return renew(self, lease)

    monkeypatch.setattr(Ledger, "renew", renew_unless_away)
    return event


def test_while_the_database_is_away_work_goes_on_beyond_the_lease(
    ledger: Ledger, claim: Callable[[float], Lease], away: threading.Event
) -> None:
    lease = claim(1.0)
    with LeaseKeeper(ledger, lease, threading.Event()) as keeper:
        away.set()
        time.sleep(2.0)
        assert keeper.control() is None
        away.clear()
        time.sleep(1.0)
        assert keeper.control() is None, "nobody took the point meanwhile"
        assert ledger.claim(lease.study_id, lease.worker_id, 1.0) is None, "the lease was renewed"


def test_a_server_that_does_not_answer_is_as_good_as_away(
    ledger: Ledger, claim: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    renew, answers = Ledger.renew, threading.Event()

    def renew_late(self: Ledger, lease: Lease) -> str:
        answers.wait(20)
        return renew(self, lease)

    monkeypatch.setattr(Ledger, "renew", renew_late)
    with LeaseKeeper(ledger, claim(1.0), threading.Event()) as keeper:
        time.sleep(1.5)
        assert keeper.control() is None
        answers.set()
        time.sleep(0.5)
        assert keeper.control() is None


def test_what_was_taken_while_the_database_was_away_is_lost(
    ledger: Ledger, claim: Callable[[float], Lease], away: threading.Event
) -> None:
    with LeaseKeeper(ledger, claim(1.0), threading.Event()) as keeper:
        away.set()
        time.sleep(1.2)
        claim(60.0)
        assert keeper.control() is None
        away.clear()
        wait_for(lambda: keeper.control() == "abandon")


@pytest.mark.parametrize("state", [PAUSED, CANCELLED])
def test_a_paused_or_cancelled_study_stops_its_trainings(
    ledger: Ledger, claim: Callable[[float], Lease], state: str
) -> None:
    lease = claim(1.0)
    with LeaseKeeper(ledger, lease, threading.Event()) as keeper:
        assert keeper.control() is None
        set_study_state(ledger.database, lease.study_id, state)
        wait_for(lambda: keeper.control() == "stop")
        assert keeper.is_cancelled == (state == CANCELLED)


def test_a_suspended_machine_has_lost_its_lease_when_it_wakes(
    ledger: Ledger, claim: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LeaseKeeper(ledger, claim(60.0), threading.Event()) as keeper:
        assert keeper.control() is None
        now = lease_keeper.suspend_proof_seconds()
        monkeypatch.setattr(lease_keeper, "suspend_proof_seconds", lambda: now + 61.0)
        assert keeper.control() == "abandon"


def test_writes_are_repeated_while_the_database_is_away(
    ledger: Ledger, claim: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "RETRY_SECONDS", 0.01)
    answers: list[Any] = [StorageUnavailableError("away"), StorageUnavailableError("away"), 7]

    def write() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    with LeaseKeeper(ledger, claim(60.0), threading.Event()) as keeper:
        assert keeper.patiently(write) == 7
        answers.append(StorageError("refused for good"))
        with pytest.raises(StorageError, match="for good"):
            keeper.patiently(write)


def test_a_write_gives_up_with_the_lease(
    ledger: Ledger, claim: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "RETRY_SECONDS", 0.01)

    def write() -> None:
        raise StorageUnavailableError("away")

    monkeypatch.setattr(Ledger, "renew", lambda self, lease: write())
    keeping = LeaseKeeper(ledger, claim(0.3), threading.Event(), patience_seconds=0.1)
    with keeping as keeper, pytest.raises(LeaseLostError, match="ran out"):
        keeper.patiently(write)


def test_a_worker_stops_when_who_started_it_is_gone(
    ledger: Ledger, claim: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMF_SUPERVISOR", str(os.getppid()))
    stop = threading.Event()
    with LeaseKeeper(ledger, claim(0.6), stop):
        assert not stop.wait(1)
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert stop.wait(20)


def test_a_worker_that_was_started_by_hand_outlives_its_shell(
    ledger: Ledger, claim: Callable[[float], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    with LeaseKeeper(ledger, claim(0.3), stop):
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert not stop.wait(1)
