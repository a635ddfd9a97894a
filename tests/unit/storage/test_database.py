"""Opening and using a database: what is refused, and in which words."""

from __future__ import annotations

import sqlite3
import time
import traceback
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from storage import database as database_module
from storage.database import Database, now_seconds, parse_url, show_url, translate_error
from storage.errors import LeaseLostError, NoDatabaseError, StorageError, StorageUnavailableError
from storage.ledger import Ledger
from storage.queries import list_studies
from storage.schema import StudyRow
from storage.trials import TrialMirror

POSTGRES = "postgresql+psycopg://lmf:secret@localhost:5432/lmf"


def refusal(url, **options):
    """The error with which a URL is refused, checked to be one line."""
    with pytest.raises(StorageError) as caught:
        Database.open(url, **options).close()
    assert "\n" not in str(caught.value)
    return caught.value


def shown(error):
    """Everything of an error that a person may come to see."""
    return "".join([str(error), repr(error), repr(error.args), *traceback.format_exception(error)])


class TestUrls:
    @pytest.mark.parametrize(
        ("given", "driver"),
        [
            ("postgresql://lmf:secret@localhost/lmf", "postgresql+psycopg"),
            ("postgres://lmf:secret@localhost/lmf", "postgresql+psycopg"),
            (POSTGRES, "postgresql+psycopg"),
            ("sqlite:////data/lmf.db", "sqlite"),
        ],
    )
    def test_a_url_names_its_driver(self, given, driver):
        assert parse_url(given).drivername == driver

    @pytest.mark.parametrize(
        "url", ["", "lmf.db", "/data/lmf.db", "postgresql:secret@host/lmf", "postgresql://lmf:secret@host:port/lmf"]
    )
    def test_what_is_no_url_says_what_is_expected(self, url):
        error = refusal(url)
        assert "not a SQLAlchemy URL; expected sqlite:///FILE or postgresql+psycopg://" in str(error)
        assert "secret" not in shown(error)

    @pytest.mark.parametrize("url", ["mysql://lmf:secret@host/lmf", "oracle+oracledb://lmf:secret@host/lmf"])
    def test_other_databases_are_refused_by_name(self, url):
        error = refusal(url)
        assert str(error).endswith("is not supported; expected sqlite or postgresql")
        assert "secret" not in shown(error)

    @pytest.mark.parametrize(
        "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file::memory:?cache=shared&uri=true"]
    )
    def test_a_database_in_memory_is_refused(self, url, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert "in-memory SQLite database" in str(refusal(url))
        assert list(tmp_path.iterdir()) == []

    def test_a_missing_driver_says_what_to_install(self, monkeypatch):
        def fail(*_, **__):
            raise ModuleNotFoundError("No module named 'psycopg'")

        monkeypatch.setattr(sa, "create_engine", fail)
        error = refusal(POSTGRES)
        assert "the driver of postgresql+psycopg is missing (No module named 'psycopg')" in str(error)
        assert "pip install 'psycopg[binary]'" in str(error)
        assert "secret" not in shown(error)

    def test_a_driver_that_sqlalchemy_does_not_know(self):
        assert "the driver of postgresql+carrier is missing" in str(refusal("postgresql+carrier://lmf:secret@host/lmf"))

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            (POSTGRES, "postgresql+psycopg://lmf:***@localhost:5432/lmf"),
            ("postgresql+psycopg://host/lmf?user=lmf&password=secret", "postgresql+psycopg://host/lmf"),
            ("sqlite:////data/lmf.db", "/data/lmf.db"),
        ],
    )
    def test_a_url_is_shown_without_password(self, url, text):
        assert show_url(parse_url(url)) == text
        parsed = parse_url(url)
        database = Database(parsed, sa.create_engine("sqlite://"))
        assert "secret" not in repr(database) + str(database) + repr(TrialMirror(database, None))
        assert text in repr(database)


class TestFiles:
    def test_the_folder_is_made(self, tmp_path):
        path = tmp_path / "new" / "home" / "lmf.db"
        Database.open(f"sqlite:///{path}").close()
        assert path.exists()

    @pytest.mark.parametrize("name", ["50%20 off.db", "{SCHEMA_VERSION}.db", "späße #2?.db", "a+b@c.db"])
    def test_any_file_name_serves_both_halves(self, tmp_path, name):
        url = sa.URL.create("sqlite", database=str(tmp_path / name)).render_as_string()
        database = Database.open(url)
        mirror = TrialMirror.open(database)
        mirror.ensure_study("skin")
        mirror.close()
        database.close()
        assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == [name]

    def test_a_file_in_the_way_of_the_folder(self, tmp_path):
        (tmp_path / "home").write_text("a file")
        error = refusal(f"sqlite:///{tmp_path / 'home' / 'lmf.db'}")
        assert f"{tmp_path / 'home'}: cannot make this folder" in str(error)
        assert "LMF_HOME names another place" in str(error)

    def test_a_folder_that_cannot_be_made(self):
        assert "/proc/lmf: cannot make this folder" in str(refusal("sqlite:////proc/lmf/lmf.db"))

    def test_a_folder_in_the_place_of_the_file(self, tmp_path):
        (tmp_path / "lmf.db").mkdir()
        error = refusal(f"sqlite:///{tmp_path / 'lmf.db'}")
        assert str(error).startswith(f"{tmp_path / 'lmf.db'}: unable to open database file")
        assert "check that the disk has room and that the file may be written" in str(error)

    def test_a_folder_that_cannot_be_written(self):
        error = refusal("sqlite:////proc/lmf.db")
        assert str(error).startswith("/proc/lmf.db: unable to open database file; check that")

    def test_a_read_only_file(self, prepared_sqlite):
        url = sa.make_url(prepared_sqlite.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true")
        database = Database(url, database_module.make_engine(url))
        with pytest.raises(StorageError, match="readonly database; check that the disk has room and that the file may"):
            Ledger(database).expire_leases(1)
        assert list_studies(database) == ()
        database.close()

    def test_a_file_that_is_no_database(self, tmp_path):
        path = tmp_path / "lmf.db"
        path.write_text("alpha,beta\n1.0,0.5\n" * 100)
        assert str(refusal(f"sqlite:///{path}")) == f"{path}: file is not a database"
        assert path.read_text().startswith("alpha"), "it is left as it was"

    def test_no_file_is_made_where_none_is_to_be(self, tmp_path):
        path = tmp_path / "home" / "lmf.db"
        error = refusal(f"sqlite:///{path}", create=False)
        assert isinstance(error, NoDatabaseError)
        assert f"{path}: there is no database here yet; `lmf run` or `lmf demo` makes one" in str(error)
        assert not path.parent.exists()

    def test_a_full_disk_while_the_schema_is_made(self, tmp_path, monkeypatch):
        make = database_module.make_engine

        def small(url, **options):
            engine = make(url, **options)
            sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count = 4"))
            return engine

        monkeypatch.setattr(database_module, "make_engine", small)
        url = f"sqlite:///{tmp_path / 'lmf.db'}"
        error = refusal(url)
        assert "full; check that the disk has room" in str(error)
        monkeypatch.undo()
        Database.open(url).close()

    def test_a_full_disk_later_leaves_what_was_written_before(self, prepared_sqlite, make_lab):
        lab = make_lab(prepared_sqlite)
        study_id = lab.plan(2)
        before = lab.study()
        for engine in (lab.database.engine, lab.mirror.storage.engine):
            with engine.connect() as connection:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        lease = lab.claim(study_id)
        with pytest.raises(StorageError, match="full; check that the disk has room"):
            lab.ledger.finish(lease, 0.5, {"val": {"note": "x" * 100_000}}, [], None)
        with pytest.raises(StorageError, match="full; check that the disk has room"):
            lab.mirror.describe(lease.trial_id, {"note": "x" * 100_000})
        with pytest.raises(StorageError, match="full; check that the disk has room"):
            lab.plan(500)
        assert lab.study().points[1:] == before.points[1:]
        assert lab.point("p0").scores is None

    def test_a_locked_file_is_unavailable_for_a_while(self, tmp_path, monkeypatch):
        monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
        url = f"sqlite:///{tmp_path / 'lmf.db'}"
        database = Database.open(url)
        with closing(sqlite3.connect(tmp_path / "lmf.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert list_studies(database) == (), "who only reads does not wait"
            with pytest.raises(StorageUnavailableError, match=r"lmf.db: database is locked$"), database.begin():
                pass
            other.execute("COMMIT")
        with database.begin():
            pass
        database.close()

    def test_a_file_locked_whole_while_it_is_opened(self, tmp_path, monkeypatch):
        monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
        with closing(sqlite3.connect(tmp_path / "lmf.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("CREATE TABLE other (id INTEGER)")
            error = refusal(f"sqlite:///{tmp_path / 'lmf.db'}")
        assert str(error) == f"{tmp_path / 'lmf.db'}: database is locked", "no word of servers and passwords"


class TestTransactions:
    def test_an_error_inside_undoes_the_writes(self, lab):
        lab.plant(1)

        def write():
            with lab.database.begin() as connection:
                connection.execute(sa.update(StudyRow).values(model="half-written"))
                raise LeaseLostError

        with pytest.raises(LeaseLostError):
            write()
        assert lab.study().model == "small"

    def test_who_only_reads_cannot_write(self, prepared_postgres, make_lab):
        lab = make_lab(prepared_postgres)
        with pytest.raises(StorageError, match="read-only transaction"), lab.database.read() as connection:
            connection.execute(sa.update(StudyRow).values(model="other"))
        lab.plant(1)

    def test_statements_and_parameters_are_not_shown(self, lab):
        # Tracebacks show lines of source, so the value is on none that runs the statement.
        given = {"value": "private"}
        assert lab.mirror.storage.engine is lab.database.engine, "Optuna's translation of errors is on it, too"
        with pytest.raises(StorageError) as caught, lab.database.begin() as connection:
            connection.execute(sa.text("SELECT :value FROM nowhere"), given)
        assert "nowhere" in str(caught.value)
        assert "private" not in shown(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_pool_that_stays_empty_is_unavailable(self, lab):
        engine = database_module.make_engine(lab.database.url, pool_timeout=0.1)
        database = Database(lab.database.url, engine)
        with (
            database.read(),
            pytest.raises(StorageUnavailableError, match="no connection became free in time"),
            database.read(),
        ):
            pass
        database.close()

    def test_the_clock_moves_within_a_transaction(self, lab):
        with lab.database.begin() as connection:
            first = connection.scalar(sa.select(now_seconds()))
            until = first
            for _ in range(10_000):
                until = connection.scalar(sa.select(now_seconds()))
                if until > first:
                    break
        assert until > first

    def test_the_clock_is_that_of_unix_time(self, lab):
        with lab.database.read() as connection:
            assert connection.scalar(sa.select(now_seconds())) == pytest.approx(time.time(), abs=5.0)

    def test_the_file_of_a_sqlite_database_is_known(self, lab):
        expected = Path(lab.database.url.database) if lab.database.backend == "sqlite" else None
        assert lab.database.path == expected

    def test_a_password_within_a_drivers_message_is_covered(self):
        error = sa.exc.OperationalError(None, None, psycopg.OperationalError("bad dsn: password=secret\nsecond line"))
        found = translate_error(error, sa.make_url(POSTGRES))
        assert str(found) == "postgresql+psycopg://lmf:***@localhost:5432/lmf: bad dsn: password=*** second line"
