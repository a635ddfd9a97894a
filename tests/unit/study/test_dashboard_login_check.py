from __future__ import annotations

import base64
import threading
import time

import pytest
from lmf_testing.web import basic

from study.dashboard import login_check
from study.dashboard.login_check import (
    FORGET_SECONDS,
    FREE_FAILURES,
    LONGEST_WAIT_SECONDS,
    NAME_GROUPS,
    FailureWaits,
    LoginCheck,
)
from study.dashboard.login_file import Login

PASSWORD = "päss:word €"
HOME, ELSEWHERE = "10.0.0.1", "10.0.0.2"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names whose scrypt was computed, one entry a time; it is replaced by something cheap."""
    names = []

    def count(self: Login, password: str) -> bytes:
        names.append(self.name)
        return password.encode().ljust(32, b"\0")

    monkeypatch.setattr(Login, "hash", count)
    return names


@pytest.fixture
def check(clock, hashed) -> LoginCheck:
    made = LoginCheck([Login.make("ada", PASSWORD), Login.make("bob", "another one")], clock)
    hashed.clear()
    return made


def fail(check: LoginCheck, times: int, address: str = HOME) -> None:
    for _ in range(times):
        assert check.check(basic("ada", "wrong"), address).name is None


def test_the_right_password_comes_in_by_real_hashes():
    check = LoginCheck([Login.make("ada", PASSWORD)])
    assert check.check(basic("ada", PASSWORD), HOME).name == "ada"
    assert check.check(basic("ada", PASSWORD + "x"), HOME).name is None


def test_a_password_belongs_to_its_name(check):
    assert check.check(basic("ada", PASSWORD), HOME).name == "ada"
    assert check.check(basic("bob", PASSWORD), HOME).name is None
    assert check.check(basic("", PASSWORD), HOME).name is None


def test_without_a_login_nobody_comes_in_and_no_failure_is_counted(check):
    for _ in range(3 * FREE_FAILURES):
        assert check.check(None, HOME) == login_check.Verdict(None)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Bearer abc",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
    ],
)
def test_a_header_that_is_no_login_is_a_failure(check, hashed, header):
    for _ in range(FREE_FAILURES):
        assert check.check(header, HOME).name is None
    assert hashed == []
    assert check.check(header, HOME).wait_seconds > 0


def test_only_the_first_of_equal_requests_costs_a_hash(check, hashed):
    for _ in range(3):
        assert check.check(basic("ada", PASSWORD), HOME).name == "ada"
    assert hashed == ["ada"]
    assert check.check(basic("ada", PASSWORD), ELSEWHERE).name == "ada"
    assert hashed == ["ada"]


def test_a_wrong_password_is_never_remembered(check, hashed):
    fail(check, 2)
    assert hashed == ["ada", "ada"]


def test_no_password_is_kept_as_it_is(check):
    check.check(basic("ada", PASSWORD), HOME)
    kept = repr(vars(check))
    assert PASSWORD not in kept
    assert basic("ada", PASSWORD).split()[1] not in kept


def test_an_unknown_name_costs_a_hash_as_well(check, hashed):
    assert check.check(basic("eve", PASSWORD), HOME).name is None
    assert len(hashed) == 1


def test_after_some_failures_an_address_must_wait_and_costs_nothing(check, hashed, clock):
    fail(check, FREE_FAILURES)
    hashed.clear()
    verdict = check.check(basic("ada", PASSWORD), HOME)
    assert (verdict.name, verdict.wait_seconds) == (None, 1)
    assert hashed == []
    clock.now += 1
    assert check.check(basic("ada", PASSWORD), HOME).name == "ada"
    fail(check, 1)
    assert check.check(basic("ada", "wrong"), HOME).wait_seconds == 0, "who came in begins anew"


def test_waiting_grows_to_a_limit(check, clock):
    fail(check, FREE_FAILURES)
    waits = []
    for _ in range(8):
        waits.append(check.check(basic("ada", "wrong"), HOME).wait_seconds)
        clock.now += waits[-1]
        fail(check, 1)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert max(waits) == LONGEST_WAIT_SECONDS


def test_others_and_those_who_were_in_already_need_not_wait(check):
    check.check(basic("ada", PASSWORD), HOME)
    fail(check, FREE_FAILURES)
    assert check.check(basic("ada", PASSWORD), HOME).name == "ada"
    assert check.check(basic("ada", "wrong again"), HOME).wait_seconds > 0
    assert check.check(basic("ada", "wrong again"), ELSEWHERE).wait_seconds == 0


def test_behind_a_proxy_one_guesser_keeps_no_other_name_out(check):
    fail(check, FREE_FAILURES)
    assert check.check(basic("ada", "wrong"), HOME).wait_seconds > 0
    assert check.check(basic("bob", "another one"), HOME).name == "bob"


def test_guesses_that_come_all_at_once_are_counted(check, hashed, monkeypatch):
    arrived = threading.Barrier(4 * FREE_FAILURES + 1)
    slow = Login.hash

    def hash_slowly(self: Login, password: str) -> bytes:
        time.sleep(0.05)
        return slow(self, password)

    monkeypatch.setattr(Login, "hash", hash_slowly)
    verdicts = []

    def guess(number: int) -> None:
        arrived.wait()
        verdicts.append(check.check(basic("ada", f"guess {number}"), HOME))

    guessers = [threading.Thread(target=guess, args=(number,)) for number in range(4 * FREE_FAILURES)]
    for guesser in guessers:
        guesser.start()
    arrived.wait()
    for guesser in guessers:
        guesser.join()
    assert len(hashed) == FREE_FAILURES
    assert sum(verdict.wait_seconds > 0 for verdict in verdicts) == 3 * FREE_FAILURES


def test_a_page_that_asks_for_much_at_once_logs_in_once(check, hashed):
    verdicts = []

    def ask() -> None:
        verdicts.append(check.check(basic("ada", PASSWORD), HOME))

    askers = [threading.Thread(target=ask) for _ in range(3 * FREE_FAILURES)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert {verdict.name for verdict in verdicts} == {"ada"}
    assert hashed == ["ada"]


def test_made_up_names_are_counted_in_groups(check, clock):
    tried = NAME_GROUPS * FREE_FAILURES * 4
    verdicts = [check.check(basic(f"name {number}", "wrong"), HOME) for number in range(tried)]
    assert sum(verdict.wait_seconds == 0 for verdict in verdicts) <= NAME_GROUPS * FREE_FAILURES
    assert check.check(basic("ada", PASSWORD), HOME).wait_seconds > 0, "a known name is told from others by nothing"


def test_old_failures_are_forgotten(check, clock):
    fail(check, FREE_FAILURES - 1)
    clock.now += FORGET_SECONDS + 1
    fail(check, 1)
    assert check.check(basic("ada", PASSWORD), HOME).name == "ada"


def test_what_is_remembered_is_bounded(clock, hashed, monkeypatch):
    monkeypatch.setattr(login_check, "MOST_ADDRESSES", 3)
    waits = FailureWaits(clock)
    for number in range(10):
        for _ in range(FREE_FAILURES):
            assert waits.note_try(f"10.0.0.{number}", "ada") == 0
    assert [number for number in reversed(range(10)) if waits.note_try(f"10.0.0.{number}", "ada")] == [9, 8, 7]

    monkeypatch.setattr(login_check, "MOST_REMEMBERED", 1)
    check = LoginCheck([Login.make("ada", PASSWORD), Login.make("bob", "another one")], clock)
    hashed.clear()
    for name, password in (("ada", PASSWORD), ("bob", "another one"), ("bob", "another one"), ("ada", PASSWORD)):
        assert check.check(basic(name, password), HOME).name == name
    assert hashed == ["ada", "bob", "ada"]
