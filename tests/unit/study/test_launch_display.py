"""What is shown while workers train, without a terminal: plain lines of every study, later ones too."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from lmf_testing.light import plan_light
from rich.console import Console

from storage.database import Database
from storage.errors import StorageUnavailableError
from study.launch import display
from study.launch.display import LaunchDisplay


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url)
    yield database
    database.close()


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOK_SECONDS", "LIST_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(display, name, 0.0)


def test_studies_that_are_planned_later_are_shown_too(database: Database) -> None:
    out = io.StringIO()
    plan_light(database, 2, "first")
    with LaunchDisplay(database, (), Console(file=out, width=200)) as shown:
        shown.tick()
        assert "first: 0 of 2 points" in out.getvalue()
        plan_light(database, 3, "later")
        shown.tick()
    assert "later: 0 of 3 points" in out.getvalue()


def test_only_the_named_studies_are_shown(database: Database) -> None:
    out = io.StringIO()
    plan_light(database, 2, "first")
    plan_light(database, 3, "other")
    with LaunchDisplay(database, ("other",), Console(file=out, width=200)) as shown:
        shown.tick()
    assert "other: 0 of 3 points" in out.getvalue()
    assert "first" not in out.getvalue()


class Terminal(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_table_lives_through_an_outage_of_the_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    plan_light(database, 2, "first")
    console = Console(file=out, width=160, force_terminal=True)
    with LaunchDisplay(database, (), console) as shown:
        with monkeypatch.context() as outage:

            def away(*_: object) -> None:
                raise StorageUnavailableError("db: cannot be reached")

            outage.setattr(display, "status_view", away)
            shown.tick()
        assert "db: cannot be reached" in out.getvalue()
        shown.tick()
    assert "0/2" in out.getvalue()


def test_the_log_comes_above_the_table_and_goes_back_to_stderr(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr, file, out = Terminal(), io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    seen, kept = logging.StreamHandler(stderr), logging.StreamHandler(file)
    monkeypatch.setattr(logging.getLogger(), "handlers", [seen, kept])
    with LaunchDisplay(database, (), Console(file=out, width=160, force_terminal=True)):
        logging.getLogger("lmf").warning("a worker died")
    assert "a worker died" in out.getvalue()
    assert stderr.getvalue() == ""
    assert file.getvalue() == "a worker died\n"
    assert seen.stream is stderr
