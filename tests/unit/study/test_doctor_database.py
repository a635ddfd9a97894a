"""What the doctor says of databases: real ones, and facts that no test machine has."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from lmf_testing.postgres import AWKWARD, Server

from storage.database import Database
from storage.errors import StorageError
from storage.preparation import SCHEMA_VERSION, VERSION_TABLE
from storage.queries import WorkerRecord
from study.doctor.database import (
    Contact,
    Sessions,
    check_schema,
    check_sqlite_place,
    contact,
    is_missing,
    judge_contact,
    judge_sessions,
    open_to_look,
    read_sessions,
)
from study.doctor.diagnosis import Level
from study.doctor.mounts import Mount, mount_of, read_mounts

NFS = (Mount("/", "ext4"), Mount("/home", "nfs4"), Mount("/home/me/fast", "xfs"))


@pytest.fixture
def database(storage_url: str) -> Iterator[Database]:
    """A prepared database, opened to look."""
    Database.open(storage_url).close()
    opened = open_to_look(storage_url)
    yield opened
    opened.close()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    opened = open_to_look(postgres_url)
    yield opened
    opened.close()


def worker(host: str, last_seen_seconds: float = 5.0) -> WorkerRecord:
    return WorkerRecord(f"{host}:1:2", host, 1, "cpu", "idle", last_seen_seconds, None, None, None)


def test_a_database_that_answers_is_told_with_version_and_time(database: Database) -> None:
    found = contact(database)
    assert 0 < found.seconds < 10
    assert abs(found.ahead_seconds) < 2
    first = next(judge_contact(database, found))
    assert first.check == "database"
    assert first.found.startswith("SQLite 3." if database.backend == "sqlite" else "PostgreSQL 18.")
    assert AWKWARD not in repr(list(judge_contact(database, found)))


def test_a_far_or_old_server_and_a_wrong_clock_are_warned_of(postgres_database: Database) -> None:
    fine = Contact("18.4", 18, 0.001, -0.01)
    assert [found.level for found in judge_contact(postgres_database, fine)] == [Level.OK, Level.OK]
    far, _ = judge_contact(postgres_database, Contact("18.4", 18, 0.2, 0.0))
    assert (far.level, "200.0 ms a question" in far.found) == (Level.WARNING, True)
    old, _ = judge_contact(postgres_database, Contact("12.1", 12, 0.001, 0.0))
    assert (old.level, "PostgreSQL 14" in old.advice) == (Level.WARNING, True)
    for seconds, side in ((90.0, "90.00 s ahead of"), (-90.0, "90.00 s behind")):
        _, clock = judge_contact(postgres_database, Contact("18.4", 18, 0.001, seconds))
        assert clock.level == Level.WARNING
        assert side in clock.found


def test_a_server_that_is_away_or_refuses_is_told_in_one_line(postgres: Server) -> None:
    away = postgres.url().replace(f":{postgres.port}/", ":1/")
    for url in (postgres.url("nothing"), postgres.url(password="wrong"), away):
        opened = open_to_look(url)
        with pytest.raises(StorageError) as refused:
            contact(opened)
        assert "127.0.0.1" in str(refused.value)
        assert AWKWARD not in str(refused.value)
        opened.close()


def test_looking_makes_no_file(tmp_path: Path) -> None:
    assert is_missing(open_to_look(f"sqlite:///{tmp_path / 'none.db'}"))
    assert list(tmp_path.iterdir()) == []


def test_a_schema_of_this_version_is_fine(database: Database) -> None:
    ours, optuna = check_schema(database)
    assert (ours.level, ours.found) == (Level.OK, f"schema {SCHEMA_VERSION}, as this lmf has it")
    assert (optuna.check, optuna.level) == ("optuna", Level.OK)


@pytest.mark.parametrize(("version", "level"), [("0001", Level.WARNING), ("9999", Level.PROBLEM)])
def test_another_schema_is_told_and_left_as_it_is(database: Database, version: str, level: Level) -> None:
    table = sa.table(VERSION_TABLE, sa.column("version_num"))
    with database.begin() as connection:
        connection.execute(sa.update(table).values(version_num=version))
    (found,) = check_schema(database)
    assert found.level == level
    assert found.found.startswith(f"schema {version} is ")
    with database.read() as connection:
        assert connection.scalar(sa.select(table.c.version_num)) == version


def test_tables_of_another_optuna_are_a_problem(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v2.6.0.a'"))
    _, optuna = check_schema(database)
    assert (optuna.check, optuna.level) == ("optuna", Level.PROBLEM)
    assert "v2.6.0.a" in optuna.found
    assert "lmf db upgrade" in optuna.advice


def test_an_empty_database_is_no_problem(storage_url: str) -> None:
    opened = open_to_look(storage_url)
    (found,) = check_schema(opened)
    assert found.level == Level.OK
    assert "`lmf db upgrade`" in found.advice
    opened.close()


def test_connections_are_counted_and_open_transactions_found(postgres: Server, postgres_database: Database) -> None:
    url = postgres_database.url
    with postgres.connect(str(url.database)) as other:
        other.autocommit = False
        other.execute("SELECT 1")
        pid = other.info.backend_pid
        found = read_sessions(postgres_database)
        assert found.most == 97
        assert 2 <= found.used <= found.most
        assert pid in [number for number, _ in found.idle]
        other.rollback()
    assert pid not in [number for number, _ in read_sessions(postgres_database).idle]


@pytest.mark.parametrize(("used", "level"), [(10, Level.OK), (80, Level.WARNING), (97, Level.PROBLEM)])
def test_a_server_that_fills_up_is_told(used: int, level: Level) -> None:
    connections, transactions = judge_sessions(Sessions(used, 97, ((5, 3.0),)))
    assert connections.level == level
    assert connections.found == f"{used} of 97 connections in use"
    assert transactions.level == Level.OK


def test_a_transaction_that_is_left_open_is_told() -> None:
    _, found = judge_sessions(Sessions(1, 97, ((5, 3.0), (6, 75.4))))
    assert (found.level, found.found) == (Level.WARNING, "idle in a transaction: process 6 for 75 s")


def test_sqlite_on_a_network_folder_is_a_problem() -> None:
    (found,) = check_sqlite_place(Path("/home/me/lmf-home/lmf.db"), NFS, ())
    assert (found.check, found.level) == ("sqlite", Level.PROBLEM)
    assert "network file system (nfs4 at /home)" in found.found
    assert "`lmf db start`" in found.advice
    (fine,) = check_sqlite_place(Path("/home/me/fast/lmf.db"), NFS, (worker("a"), worker("a")))
    assert fine.level == Level.OK


def test_sqlite_with_workers_of_many_machines_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "lmf.db"
    place, hosts = check_sqlite_place(path, read_mounts(), (worker("b"), worker("a"), worker("c", 10 * 86400)))
    assert place.level == Level.OK
    assert (hosts.check, hosts.level) == ("hosts", Level.PROBLEM)
    assert "2 machines" in hosts.found
    assert hosts.found.endswith("a, b")


def test_a_sqlite_file_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lmf.db"
    path.touch(mode=0o444)
    # Root may write everything, so the question is answered by the rights alone.
    monkeypatch.setattr("os.access", lambda place, _: bool(Path(place).stat().st_mode & stat.S_IWUSR))
    (found,) = check_sqlite_place(path, read_mounts(), ())
    assert (found.level, found.found) == (Level.PROBLEM, f"{path} cannot be written")


@pytest.mark.parametrize(
    ("path", "folder"),
    [("/home/me/x", "/home"), ("/homes/x", "/"), ("/home", "/home"), ("/home/me/fast/a/b", "/home/me/fast")],
)
def test_the_deepest_mount_counts(path: str, folder: str) -> None:
    found = mount_of(Path(path), NFS)
    assert found is not None
    assert found.folder == folder
    assert mount_of(Path(path), ()) is None


def test_of_two_mounts_at_one_place_the_last_counts() -> None:
    found = mount_of(Path("/srv/x"), (Mount("/srv", "ext4"), Mount("/srv", "cifs")))
    assert found is not None
    assert found.is_network


def test_the_mounts_of_this_machine_are_read(tmp_path: Path) -> None:
    found = mount_of(Path("/proc/self"), read_mounts())
    assert found == Mount("/proc", "proc")
    assert mount_of(tmp_path / "not" / "there", read_mounts()) is not None
