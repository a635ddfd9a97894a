"""Bringing a database to this version, on both backends: migrations, versions, and many processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager

import optuna
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from storage import preparation
from storage.database import Database
from storage.errors import NoDatabaseError, StorageError
from storage.preparation import MIGRATIONS, SCHEMA_VERSION, VERSION_TABLE, read_version
from storage.queries import list_studies
from storage.schema import Base
from storage.trials import TrialMirror

OPENERS = 8
# Imports once and forks, so that the eight begin at the same moment.
OPEN = """
import os, sys, traceback
from storage.database import Database
from storage.trials import TrialMirror

def work():
    database = Database.open(os.environ["LMF_TEST_URL"])
    mirror = TrialMirror.open(database)
    mirror.ensure_study("skin")
    mirror.close()
    database.close()

gate, opener = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child:
        children.append(child)
        continue
    os.close(opener)
    os.read(gate, 1)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
os.close(opener)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def config_on(connection):
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def opened(url):
    database = Database.open(url)
    try:
        yield database
    finally:
        database.close()


def tables(database):
    """Every table's columns with their types, and every index, by table."""
    with database.read() as connection:
        inspector = sa.inspect(connection)
        return {
            name: (
                [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)],
                sorted(str(index["name"]) for index in inspector.get_indexes(name)),
            )
            for name in inspector.get_table_names()
        }


class TestMigrations:
    def test_the_scripts_make_what_the_models_say(self, storage_url):
        with opened(storage_url) as database, database.read() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "version_table": VERSION_TABLE,
                    "compare_type": True,
                    "include_object": lambda item, name, kind, *_: kind != "table" or name.startswith("lmf_"),
                },
            )
            assert compare_metadata(context, Base.metadata) == []

    def test_the_version_is_that_of_the_last_script(self):
        scripts = ScriptDirectory(str(MIGRATIONS))
        assert scripts.get_heads() == [SCHEMA_VERSION]
        names = sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
        assert names == sorted(script.revision for script in scripts.walk_revisions())

    def test_down_to_nothing_and_up_again_leaves_optuna_alone(self, storage_url):
        with opened(storage_url) as database:
            mirror = TrialMirror.open(database)
            study = mirror.ensure_study("skin")
            mirror.add_waiting(study, "p0", 1.0, 0.5, {})
            before = tables(database)
            with database.begin() as connection:
                command.downgrade(config_on(connection), "base")
            ours = {name for name in before if name.startswith("lmf_")}
            assert ours == {*Base.metadata.tables, VERSION_TABLE}
            assert tables(database) == {
                name: found for name, found in before.items() if name not in ours or name == VERSION_TABLE
            }
            assert read_version(database) is None
            with database.begin() as connection:
                command.upgrade(config_on(connection), "head")
            assert tables(database) == before
            assert list(mirror.trials_by_point(study)) == ["p0"]
            mirror.close()

    def test_a_study_of_optuna_that_was_there_before_stays(self, storage_url):
        url = storage_url.replace("{", "{{").replace("}", "}}")
        storage = optuna.storages.RDBStorage(url)
        optuna.create_study(study_name="theirs", storage=storage).enqueue_trial({"x": 1.0})
        storage.remove_session()
        storage.engine.dispose()
        with opened(storage_url) as database:
            mirror = TrialMirror.open(database)
            assert optuna.get_all_study_names(mirror.storage) == ["theirs"]
            assert len(optuna.load_study(study_name="theirs", storage=mirror.storage).get_trials()) == 1
            mirror.close()

    def test_a_migration_cut_short_leaves_nothing_and_is_made_again(self, storage_url, monkeypatch):
        made = Operations.create_index

        def fail(self, name, *arguments, **options):
            if name == "ix_lmf_epochs_attempt_id":
                raise OSError("no more")
            return made(self, name, *arguments, **options)

        monkeypatch.setattr(Operations, "create_index", fail)
        with pytest.raises(OSError, match="no more"):
            Database.open(storage_url)
        monkeypatch.undo()
        with opened(storage_url) as database:
            assert read_version(database) == SCHEMA_VERSION
            assert set(Base.metadata.tables) <= set(tables(database))


class TestVersions:
    def test_a_prepared_database_is_opened_without_another_look(self, prepared_url, monkeypatch):
        monkeypatch.setattr(preparation, "_migrate", None)
        monkeypatch.setattr(preparation, "_create_optuna_tables", None)
        with opened(prepared_url) as database:
            assert read_version(database) == SCHEMA_VERSION

    @pytest.mark.parametrize("create", [True, False])
    def test_a_newer_schema_is_refused(self, storage_url, create):
        with opened(storage_url) as database, database.begin() as connection:
            connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
        with pytest.raises(StorageError) as caught:
            Database.open(storage_url, create=create)
        assert "its schema 0999 is newer than this lmf knows (0001); use the newer lmf" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_newer_optuna_is_refused(self, prepared_url):
        with opened(prepared_url) as database:
            with database.begin() as connection:
                found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
                connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v9.9.9.a'"))
            try:
                with pytest.raises(StorageError) as caught:
                    TrialMirror.open(database)
                said = str(caught.value)
                assert f"Optuna's tables are of schema v9.9.9.a, this Optuna {optuna.__version__} has {found}" in said
                assert "install the matching Optuna" in said
                assert list_studies(database) == (), "what needs no Optuna still works"
            finally:
                with database.begin() as connection:
                    connection.execute(sa.text("UPDATE alembic_version SET version_num = :found"), {"found": found})

    def test_a_database_without_lmf_is_not_changed_where_nothing_is_to_be_made(self, storage_url, tmp_path):
        engine = sa.create_engine(storage_url)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE theirs (id INTEGER)"))
        with pytest.raises(NoDatabaseError, match="holds no studies of lmf yet"):
            Database.open(storage_url, create=False)
        assert sa.inspect(engine).get_table_names() == ["theirs"]
        engine.dispose()


class TestAtOnce:
    def test_eight_processes_open_an_empty_database(self, storage_url):
        openers = subprocess.run(
            [sys.executable, "-W", "error", "-c", OPEN, str(OPENERS)],
            env={**os.environ, "LMF_TEST_URL": storage_url},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert (openers.returncode, openers.stderr) == (0, "")
        with opened(storage_url) as database:
            assert read_version(database) == SCHEMA_VERSION
            mirror = TrialMirror.open(database)
            assert optuna.get_all_study_names(mirror.storage) == ["skin"]
            mirror.close()
