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
from storage.queries import list_studies, read_parts, read_study
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

FIRST_ROWS = {
    "lmf_datasets": {
        "id": 7,
        "title": "skin",
        "fingerprint": "f" * 64,
        "split_fingerprint": "s" * 64,
        "class_names": '["nv", "mel"]',
        "counts": '{"train": [8, 4], "val": [2, 1], "test": [2, 1]}',
    },
    "lmf_studies": {
        "id": 3,
        "name": "skin-small",
        "model": "small",
        "dataset_id": 7,
        "optuna_study_id": 1,
        "spec": '{"recipe": {"epochs": 2}}',
        "created_at": 1000.5,
    },
    "lmf_points": {
        "id": 5,
        "study_id": 3,
        "key": "lmf a=1 b=0.5 seed=23",
        "position": 1,
        "alpha": 1.0,
        "beta": 0.5,
        "loss": "lmf",
        "seed": 23,
        "settings": '["beta"]',
        "generation": 1,
        "state": "complete",
        "last_epoch": 2,
        "failures": 0,
        "fruitless_losses": 0,
        "lost_epochs": 0,
        "scores": '{"val": {"macro_f1": 0.5}}',
    },
}


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


@contextmanager
def at_revision(url, revision):
    """A new database as the lmf of that schema made it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparation, "SCHEMA_VERSION", revision)
        with opened(url) as database:
            yield database


def plant_in_first_tables(database):
    """Put a study with a complete point into the first tables."""
    tables = {name: sa.table(name, *map(sa.column, columns)) for name, columns in FIRST_ROWS.items()}
    with database.begin() as connection:
        for name, values in FIRST_ROWS.items():
            connection.execute(sa.insert(tables[name]).values(values))


def rows_of(database):
    """All rows of our tables, by table."""
    with database.read() as connection:
        return {
            name: [dict(row._mapping) for row in connection.execute(sa.text(f"SELECT * FROM {name}"))]
            for name in FIRST_ROWS
        }


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


class TestFromAnOlderVersion:
    def test_a_database_of_the_first_tables_keeps_all_that_it_holds(self, storage_url):
        with at_revision(storage_url, "0001") as database:
            assert read_version(database) == "0001"
            plant_in_first_tables(database)
            before = rows_of(database)
        with opened(storage_url) as database:
            assert read_version(database) == SCHEMA_VERSION
            after = rows_of(database)
            (dataset,) = after["lmf_datasets"]
            assert (dataset.pop("parts"), dataset.pop("leakage")) == (None, None)
            (point,) = after["lmf_points"]
            assert point.pop("warnings") is None
            (stored,) = after["lmf_studies"]
            assert stored.pop("state") == "open"
            assert after == before
            study = read_study(database, "skin-small")
            assert (study.leakage, read_parts(database, "skin-small")) == ((), "")
            assert study.counts == {"train": (8, 4), "val": (2, 1), "test": (2, 1)}
            assert study.points[0].scores == {"val": {"macro_f1": 0.5}}
            assert study.points[0].warnings == ()

    def test_it_is_upgraded_by_a_command_that_makes_no_database(self, storage_url):
        with at_revision(storage_url, "0001") as database:
            plant_in_first_tables(database)
        database = Database.open(storage_url, create=False)
        try:
            assert read_version(database) == SCHEMA_VERSION
            assert list_studies(database) == ("skin-small",)
        finally:
            database.close()

    def test_an_upgrade_cut_short_leaves_the_older_one_and_is_made_again(self, storage_url, monkeypatch):
        with at_revision(storage_url, "0001") as database:
            plant_in_first_tables(database)
            before = rows_of(database)
        made = Operations.add_column

        def fail(self, table, column, **options):
            if column.name == "leakage":
                raise OSError("no more")
            return made(self, table, column, **options)

        monkeypatch.setattr(Operations, "add_column", fail)
        with pytest.raises(OSError, match="no more"):
            Database.open(storage_url)
        monkeypatch.undo()
        with at_revision(storage_url, "0001") as database:
            assert rows_of(database) == before
        with opened(storage_url) as database:
            assert read_version(database) == SCHEMA_VERSION
            assert list_studies(database) == ("skin-small",)

    def test_back_to_the_first_tables_loses_the_new_columns_only(self, storage_url):
        with at_revision(storage_url, "0001") as database:
            plant_in_first_tables(database)
            before, first = rows_of(database), tables(database)
        with opened(storage_url) as database:
            with database.begin() as connection:
                command.downgrade(config_on(connection), "0001")
            assert rows_of(database) == before
            assert tables(database) == first


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
        assert f"its schema 0999 is newer than this lmf knows ({SCHEMA_VERSION}); use the newer lmf" in str(
            caught.value
        )
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
