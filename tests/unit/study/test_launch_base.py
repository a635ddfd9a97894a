"""What launchers share: the request, a worker's command line, and how often a dying worker is started again."""

from __future__ import annotations

import threading

import pytest

from study.launch.base import Deaths, PrintedLaunch, WorkerRequest, death_text, lmf_command, no_tick, worker_flags


def test_devices_are_handed_out_in_turn() -> None:
    request = WorkerRequest(("skin", "eyes"), 3, ("cuda:0", "cuda:1"), ("--lease-seconds=9",))
    assert [request.arguments(number) for number in range(3)] == [
        ["worker", f"--device=cuda:{number}", "--lease-seconds=9", "skin", "eyes"] for number in (0, 1, 0)
    ]


def test_the_command_line_takes_no_package_of_the_current_folder() -> None:
    assert lmf_command(["worker", "skin"])[1:] == ["-P", "-m", "study.cli.main", "worker", "skin"]


def test_only_what_a_worker_takes_is_handed_on() -> None:
    given = {
        "storage": "postgresql://lmf:hunter2@db/lmf",
        "device": "cuda",
        "workers": "3",
        "per_gpu": "2",
        "lease_seconds": "9",
        "max_points": "4",
        "allow_versions": True,
        "log_json": False,
    }
    assert worker_flags(given) == ("--lease-seconds=9", "--max-points=4", "--allow-versions")


def test_pauses_grow_while_nothing_is_trained_until_it_is_given_up() -> None:
    deaths = Deaths()
    assert [deaths.add(fruitless=True) for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, None]


def test_a_worker_that_trained_something_has_all_its_chances_again() -> None:
    deaths = Deaths()
    assert [deaths.add(fruitless=True) for _ in range(4)][-1] == 8.0
    assert deaths.add(fruitless=False) == 1.0
    assert deaths.add(fruitless=True) == 2.0


def test_pauses_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.launch.base.MOST_QUICK_DEATHS", 100)
    deaths = Deaths()
    assert [deaths.add(fruitless=True) for _ in range(20)][-1] == 60.0


def test_how_a_process_died() -> None:
    assert death_text(-9) == "was killed by signal 9"
    assert death_text(70) == "ended with code 70"


def test_what_is_printed_runs_nowhere() -> None:
    printed = PrintedLaunch("text")
    printed.wait(threading.Event(), no_tick)
    printed.stop()
    assert (printed.description, printed.refusals) == ("text", ())
