"""Bringing a database to this version on request."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing

import optuna
import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.errors import StorageError
from storage.preparation import SCHEMA_VERSION
from storage.trials import TrialMirror
from storage.upgrading import Schemas, upgrade_database

STUDY = "skin-small"


def upgrade(url, wait_seconds=0.0):
    waits: list[str] = []
    return upgrade_database(url, wait_seconds, waits.append), waits


def optunas_head(url):
    mirror = TrialMirror.open(Database.open(url))
    try:
        return mirror.storage.get_head_version()
    finally:
        mirror.close()
        mirror.database.close()


def take_back_optuna(url):
    """Undo the last change of Optuna's schema."""
    database = Database.open(url)
    with database.begin() as connection:
        connection.execute(sa.text("DROP INDEX ix_trials_study_id"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
        connection.execute(sa.text("UPDATE version_info SET library_version = '3.1.0'"))
    database.close()


def test_an_empty_database_gets_both_schemas_once(storage_url):
    first, waits = upgrade(storage_url)
    assert first.before == Schemas(None, None)
    assert first.after == Schemas(SCHEMA_VERSION, optunas_head(storage_url))
    assert waits == []
    again, _ = upgrade(storage_url)
    assert again.before == again.after == first.after


def test_optunas_tables_are_brought_to_its_version(prepared_url, make_lab):
    lab = make_lab(prepared_url)
    lab.plan(3)
    lab.close()
    take_back_optuna(prepared_url)
    with pytest.raises(StorageError, match=r"Optuna's tables are of schema v3.0.0.d"):
        TrialMirror.open(lab.database)
    done, _ = upgrade(prepared_url)
    assert (done.before.optunas, done.after.optunas) == ("v3.0.0.d", optunas_head(prepared_url))
    again = make_lab(prepared_url)
    assert len(again.trials(again.study().study_id)) == 3
    with again.database.read() as connection:
        assert "trials_study_id_key" in [index["name"] for index in sa.inspect(connection).get_indexes("trials")]
        assert connection.scalar(sa.text("SELECT library_version FROM version_info")) == optuna.__version__


def test_newer_tables_of_optuna_are_refused(prepared_url):
    database = Database.open(prepared_url)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v9.0.0'"))
    database.close()
    with pytest.raises(StorageError, match=r"of schema v9.0.0, which is newer than Optuna .* knows"):
        upgrade(prepared_url)


def test_a_newer_schema_of_ours_is_refused(prepared_url):
    database = Database.open(prepared_url)
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE lmf_alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(StorageError, match="its schema 9999 is newer than this lmf knows"):
        upgrade(prepared_url)


def test_a_server_that_stays_away_is_waited_for_and_then_named():
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://lmf:secret@127.0.0.1:{taken.getsockname()[1]}/lmf"
        with pytest.raises(StorageError) as caught:
            upgrade(url, 1.0)
    assert "; waited 1 s; check that the server runs" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_starts_late_is_waited_for(postgres_url, postgres):
    postgres.control("-m", "fast", "stop")
    waits: list[str] = []
    started = threading.Event()

    def start_when_waited_for():
        while not waits:
            time.sleep(0.05)
        postgres.start()
        started.set()

    starter = threading.Thread(target=start_when_waited_for)
    starter.start()
    try:
        done = upgrade_database(postgres_url, 300.0, waits.append)
    finally:
        waits.append("go on")
        starter.join()
    assert started.is_set()
    assert done.after.ours == SCHEMA_VERSION
    assert "connection" in waits[0]


def test_a_wrong_password_is_not_waited_for(postgres):
    waits: list[str] = []
    with pytest.raises(StorageError, match="password authentication failed"):
        upgrade_database(postgres.url(password="wrong"), 3600.0, waits.append)
    assert waits == []
