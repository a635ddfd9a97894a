"""A database of each backend with a planner's, a worker's and a reader's view of it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from lmf_testing.postgres import Server
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from storage.database import Database
from storage.lease import EpochFigures, Lease
from storage.ledger import Ledger
from storage.outcomes import Outcomes
from storage.planning import DatasetFacts, NewPoint, _dataset_id, plan_points, save_study
from storage.queries import PointRecord, StudyRecord, read_study
from storage.schema import PointRow, StudyRow
from storage.search import Search
from storage.trials import TrialMirror
from storage.workers import ProcessIdentity, Workers

STUDY = "skin-small"
FACTS = DatasetFacts("skin", "f" * 64, "s" * 64, ("nv", "mel"), {"train": (8, 4), "val": (2, 1), "test": (2, 1)})
VERSION_TABLES = ("alembic_version", "version_info", "lmf_alembic_version")
SCORES = {"best_epoch": 2, "val": {"macro_f1": 0.5}, "test": {"macro_f1": 0.4}, "weights_sha256": "0" * 64}


class Lab:
    """An open database with both of its halves, and short ways to plan, claim and look."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database.open(url, create=False)
        self.ledger = Ledger(self.database)
        self.workers = Workers(self.database)
        self.outcomes = Outcomes(self.database)
        self.facts = FACTS
        self._pids = count(1)
        self._others: list[Database | TrialMirror] = []

    @cached_property
    def mirror(self) -> TrialMirror:
        """Optuna's half, opened where a test needs it."""
        return TrialMirror.open(self.database)

    def another(self) -> Database:
        """The same database with a connection of its own."""
        database = Database.open(self.url, create=False)
        self._others.append(database)
        return database

    def another_mirror(self) -> TrialMirror:
        """Optuna's half with a connection of its own, as another process has it."""
        mirror = TrialMirror.open(self.another())
        self._others.append(mirror)
        return mirror

    def clear(self) -> None:
        """Take out all that a test has put in."""
        self._close_others()
        self._pids = count(1)
        with self.database.begin() as connection:
            names = [name for name in sa.inspect(connection).get_table_names() if name not in VERSION_TABLES]
            if self.database.backend == "postgresql":
                connection.exec_driver_sql(f"TRUNCATE {', '.join(names)}")
                return
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
            for name in names:
                connection.exec_driver_sql(f"DELETE FROM {name}")

    def _close_others(self) -> None:
        while self._others:
            self._others.pop().close()

    def close(self) -> None:
        self._close_others()
        if "mirror" in self.__dict__:
            self.mirror.close()
        self.database.close()

    def new_points(self, number: int, first: int = 0) -> list[NewPoint]:
        """Points `p0`, `p1`, ... in the order in which they are to be claimed."""
        return [NewPoint(f"p{n}", 1.0, 0.5 + n / 1000, "lmf", 23, ("beta",)) for n in range(first, first + number)]

    def plan(self, points: int | Sequence[NewPoint] = 3, study: str = STUDY, facts: DatasetFacts = FACTS) -> int:
        """Plan a study; returns its id."""
        with self.database.lock("plan"):
            study_id = save_study(self.database, self.mirror, study, "small", {"recipe": {"epochs": 2}}, facts)
            new = self.new_points(points) if isinstance(points, int) else points
            plan_points(self.database, self.mirror, study_id, new)
        return study_id

    def plan_search(
        self,
        trials: int = 4,
        kind: str = "random",
        pruner: str = "none",
        epochs: int = 3,
        seed: int = 23,
        study: str = STUDY,
    ) -> int:
        """Plan a search, or give the one that is there this budget; returns its id."""
        spec = {"recipe": {"epochs": epochs}, "search": kind, "trials": trials, "pruner": pruner, "seeds": [seed]}
        with self.database.lock("plan"):
            return save_study(self.database, self.mirror, study, "small", spec, FACTS)

    def search(self, study_id: int) -> Search:
        """The search of a study."""
        search = Search.open(self.database, self.mirror, study_id)
        assert search is not None
        return search

    def plant(self, number: int = 3, study: str = STUDY) -> int:
        """Put a study's points into the ledger without Optuna, which the ledger does not know."""
        points = [asdict(point) for point in self.new_points(number)]
        with self.database.begin() as connection:
            dataset_id = _dataset_id(connection, FACTS)
            row = sa.insert(StudyRow).values(
                name=study, model="small", dataset_id=dataset_id, optuna_study_id=1, spec={}, created_at=0.0
            )
            study_id = int(connection.execute(row.returning(StudyRow.id)).scalar_one())
            rows = [
                {**point, "settings": list(point["settings"]), "study_id": study_id, "position": n}
                | {"trial_id": 100 + n, "trial_number": n}
                for n, point in enumerate(points)
            ]
            if rows:
                connection.execute(sa.insert(PointRow), rows)
        return study_id

    def worker(self, device: str = "cpu", host: str = "elsewhere") -> int:
        """Register a worker of another machine; returns its id."""
        pid = next(self._pids)
        return self.workers.register(ProcessIdentity(host, pid, 1000.0 + pid), device, {"torch": "2.6"})

    def claim(self, study_id: int, worker_id: int | None = None, seconds: float = 60.0) -> Lease:
        """Claim the next free point, which must be there."""
        lease = self.ledger.claim(study_id, self.worker() if worker_id is None else worker_id, seconds)
        assert lease is not None
        return lease

    def expire(self, lease: Lease) -> None:
        """Let a lease run out now."""
        with self.database.begin() as connection:
            connection.execute(sa.update(PointRow).where(PointRow.id == lease.point_id).values(lease_expires=0.0))

    def lose(self, lease: Lease, study_id: int) -> Lease:
        """Let a lease run out and another worker take the point."""
        self.expire(lease)
        taken = self.claim(study_id)
        assert taken.point_id == lease.point_id
        return taken

    def finish(self, lease: Lease, value: float = 0.5, weights: str | None = None) -> None:
        """Write scores and close, leaving Optuna out."""
        self.ledger.finish(lease, value, SCORES, [], weights)
        self.ledger.close(lease)

    def complete(self, study_id: int, value: float = 0.5, weights: str | None = None) -> Lease:
        """Claim the next point and finish it."""
        lease = self.claim(study_id)
        self.finish(lease, value, weights)
        return lease

    def fail_for_good(self, lease: Lease, message: str = "NaN loss in epoch 1") -> None:
        """Fail a point with its last attempt and close it."""
        assert self.ledger.fail(lease, message, 1)
        self.ledger.close(lease)

    def study(self, name: str = STUDY) -> StudyRecord:
        return read_study(self.database, name)

    def point(self, key: str, study: str = STUDY) -> PointRecord:
        """One point as readers see it."""
        return next(point for point in self.study(study).points if point.key == key)

    def column(self, name: str, point_id: int) -> object:
        """One value of a point's row."""
        with self.database.read() as connection:
            return connection.scalar(sa.select(getattr(PointRow, name)).where(PointRow.id == point_id))

    def trials(self, study_id: int) -> list[FrozenTrial]:
        """All of Optuna's trials of a study."""
        with self.database.read() as connection:
            optuna_id = connection.scalar(sa.select(StudyRow.optuna_study_id).where(StudyRow.id == study_id))
        assert optuna_id is not None
        return self.mirror.storage.get_all_trials(optuna_id)

    def trial(self, lease: Lease) -> FrozenTrial:
        return self.mirror.storage.get_trial(lease.trial_id)

    def epoch(self, number: int, **changes: object) -> EpochFigures:
        """What an epoch gave."""
        figures = EpochFigures(number, 1.0 / number, 1.5 / number, 0.1, 100.0, 2.0, {"macro_f1": number / 10})
        return replace(figures, **changes)  # type: ignore[arg-type]


class PowerCut(Exception):
    """What a test raises to end a writer at a place of its choice."""


@contextmanager
def _cut_at(lab: Lab, number: int, error: Exception | None = None) -> Iterator[None]:
    """Cut a planner short at one of its writes.

    With an error, the write arrives and the error hides that it did; without, it does not arrive.
    """
    writes = 0
    engine = lab.database.engine
    wrote: set[str] = set()
    commit = engine.dialect.do_commit

    def note(_connection, _cursor, statement, *_):  # type: ignore[no-untyped-def]
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            wrote.add(statement)

    def do_commit(connection):  # type: ignore[no-untyped-def]
        nonlocal writes
        is_the_one = False
        if wrote:
            wrote.clear()
            writes += 1
            is_the_one = writes == number
        if is_the_one and error is None:
            raise PowerCut
        commit(connection)
        if is_the_one:
            raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.dialect, "do_commit", do_commit)
        sa.event.listen(engine, "after_cursor_execute", note)
        try:
            yield
        finally:
            sa.event.remove(engine, "after_cursor_execute", note)


@pytest.fixture
def power_cut() -> type[PowerCut]:
    return PowerCut


@pytest.fixture
def cut_at() -> Callable[..., AbstractContextManager[None]]:
    """Cuts a writer short at one of its writes: `with cut_at(lab, 3): ...` raises `PowerCut` at the third."""
    return _cut_at


@pytest.fixture(scope="session", autouse=True)
def _optunas_scripts_are_read_once() -> Iterator[None]:
    """Optuna reads all its migrations to know its newest version; that does not change while the tests run."""
    read = RDBStorage.get_head_version
    with pytest.MonkeyPatch.context() as patch:
        known: list[str] = []

        def get_head_version(storage: RDBStorage) -> str:
            if not known:
                known.append(read(storage))
            return known[0]

        patch.setattr(RDBStorage, "get_head_version", get_head_version)
        yield


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared, empty SQLite database to copy."""
    path = tmp_path_factory.mktemp("template") / "lmf.db"
    Database.open(f"sqlite:///{path}").close()
    assert not path.with_name("lmf.db-wal").exists(), "the file alone is the database"
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: Server) -> str:
    """Name of a prepared, empty PostgreSQL database to copy."""
    name = postgres.create_database()
    Database.open(postgres.url(name)).close()
    return name


@pytest.fixture
def prepared_sqlite(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a prepared SQLite database without studies."""
    return f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'prepared.db')}"


@pytest.fixture
def prepared_postgres(postgres: Server, postgres_template: str) -> Iterator[str]:
    """The URL of a prepared PostgreSQL database without studies."""
    name = f"copy_of_{postgres_template}"
    with postgres.connect() as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"')  # type: ignore[call-overload]
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def prepared_url(request: pytest.FixtureRequest) -> str:
    """The URL of a prepared database without studies, on each backend in turn."""
    url = request.getfixturevalue("prepared_sqlite" if request.param == "sqlite" else "prepared_postgres")
    assert isinstance(url, str)
    return url


@pytest.fixture
def make_lab() -> Iterator[Callable[[str], Lab]]:
    """Opens labs and closes them at the end."""
    labs: list[Lab] = []

    def make(url: str) -> Lab:
        labs.append(Lab(url))
        return labs[-1]

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture(scope="session")
def sqlite_lab(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab on SQLite that tests share, one after another."""
    lab = Lab(f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path_factory.mktemp('lab') / 'lmf.db')}")
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def postgresql_lab(postgres: Server) -> Iterator[Lab]:
    """A lab on PostgreSQL that tests share, one after another."""
    url = postgres.url(postgres.create_database())
    Database.open(url).close()
    lab = Lab(url)
    yield lab
    lab.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab without studies, on each backend in turn; a test that breaks its database makes one of its own."""
    lab: Lab = request.getfixturevalue(f"{request.param}_lab")
    yield lab
    lab.clear()


@pytest.fixture
def this_host() -> str:
    """The name of this machine, as workers register it."""
    return socket.gethostname()
