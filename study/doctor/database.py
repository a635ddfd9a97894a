"""Whether the database is there, near, of the right schema, and fit for those who share it."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from storage.database import Database, make_engine, now_seconds, parse_url, show_url
from storage.errors import StorageError
from storage.preparation import SCHEMA_VERSION, read_version
from storage.queries import WorkerRecord
from study.doctor.diagnosis import Diagnosis, ok, one_line, problem, warning
from study.doctor.mounts import Mount, mount_of

ROUNDS = 9
FAR_SECONDS = 0.05
CLOCK_SECONDS = 5.0
IDLE_SECONDS = 60.0
RECENT_SECONDS = 86400.0
OLDEST_SERVER = 14
UPGRADE = "`lmf db upgrade` brings it up to date"


def open_to_look(url: str) -> Database:
    """Open a database without making or changing anything in it.

    Raises:
        StorageError: the URL is malformed, or the driver is missing.
    """
    parsed = parse_url(url)
    return Database(parsed, make_engine(parsed))


def is_missing(database: Database) -> bool:
    """Whether it is a SQLite file that is not there; asking it anything would make it."""
    return database.path is not None and not database.path.exists()


@dataclass(frozen=True)
class Contact:
    """What a few questions to a database showed.

    Attributes:
        version: of the server, or of SQLite.
        major: its first number.
        seconds: median time of a question and its answer.
        ahead_seconds: how far the database's clock is ahead of this machine's.
    """

    version: str
    major: int
    seconds: float
    ahead_seconds: float


def contact(database: Database) -> Contact:
    """Ask a database a few simple things.

    Raises:
        StorageError: it cannot be reached.
    """
    rounds = []
    with database.read() as connection:
        if database.backend == "sqlite":
            version = sqlite3.sqlite_version
        else:
            version = str(connection.scalar(sa.text("SHOW server_version")))
        for _ in range(ROUNDS):
            before = time.time()
            there = float(connection.execute(sa.select(now_seconds())).scalar_one())
            after = time.time()
            rounds.append((after - before, there - (before + after) / 2))
    seconds = statistics.median(took for took, _ in rounds)
    return Contact(version, int(version.split(".")[0].split()[0]), seconds, min(rounds)[1])


def judge_contact(database: Database, found: Contact) -> Iterator[Diagnosis]:
    """Whether a database that answers is new and near enough, and whether its clock is right."""
    name = "SQLite" if database.backend == "sqlite" else "PostgreSQL"
    told = f"{name} {found.version} at {show_url(database.url)}, {1000 * found.seconds:.1f} ms a question"
    if name == "PostgreSQL" and found.major < OLDEST_SERVER:
        yield warning("database", told, f"lmf is not tested with less than PostgreSQL {OLDEST_SERVER}: upgrade it")
    elif found.seconds > FAR_SECONDS:
        advice = "each claim of a point takes several questions: keep the database near the workers"
        yield warning("database", told, advice)
    else:
        yield ok("database", told)
    if name == "SQLite":
        return
    side = "ahead of" if found.ahead_seconds > 0 else "behind"
    told = f"the database's clock is {abs(found.ahead_seconds):.2f} s {side} this machine's"
    if abs(found.ahead_seconds) > CLOCK_SECONDS:
        advice = "points are leased by the database's clock, but logs show this machine's: let NTP set both"
        yield warning("clock", told, advice)
    else:
        yield ok("clock", told)


def judge_refusal(database: Database, error: StorageError) -> Diagnosis:
    """What to do about a database that cannot be asked."""
    found, _, advice = one_line(error).partition("; ")
    if database.backend == "postgresql":
        advice = (
            "see that the server runs and lets this machine in (`lmf db status`, `docker compose ps`), and that host, "
            "port, user and password in LMF_STORAGE are right"
        )
    return problem("database", found, advice or "see that it is a SQLite file and that no program keeps it locked")


def check_schema(database: Database) -> Iterator[Diagnosis]:
    """Whether our tables and Optuna's are those of this lmf and this Optuna."""
    version = read_version(database)
    if version is None:
        yield ok("schema", "no studies of lmf in this database yet", "`lmf run` and `lmf db upgrade` prepare it")
        return
    if version > SCHEMA_VERSION:
        found = f"schema {version} is newer than this lmf knows ({SCHEMA_VERSION})"
        yield problem("schema", found, "use the newer lmf, here as well")
        return
    if version != SCHEMA_VERSION:
        found = f"schema {version} is older than this lmf's ({SCHEMA_VERSION})"
        yield warning("schema", found, f"{UPGRADE}; workers of an older lmf can no longer use it then")
        return
    yield ok("schema", f"schema {version}, as this lmf has it")
    yield from _check_optuna(database)


def _check_optuna(database: Database) -> Iterator[Diagnosis]:
    from storage.trials import TrialMirror

    try:
        mirror = TrialMirror.open(database)
    except StorageError as error:
        found, _, advice = str(error).partition("; ")
        yield problem("optuna", found, advice or UPGRADE)
        return
    try:
        yield ok("optuna", f"Optuna's schema {mirror.storage.get_current_version()}, as this Optuna has it")
    finally:
        mirror.close()


@dataclass(frozen=True)
class Sessions:
    """Who is connected to a PostgreSQL server.

    Attributes:
        used: connections in use, of all databases.
        most: connections that it gives to others than administrators.
        idle: process number and age in seconds of transactions that somebody left open.
    """

    used: int
    most: int
    idle: tuple[tuple[int, float], ...]


def read_sessions(database: Database) -> Sessions:
    """Who is connected; of other users' sessions nothing but their number is seen without the right to see more."""
    limits = sa.text(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - coalesce(current_setting('reserved_connections', true)::int, 0)"
    )
    used = sa.text("SELECT coalesce(sum(numbackends), 0) FROM pg_stat_database")
    idle = sa.text(
        "SELECT pid, extract(epoch FROM clock_timestamp() - state_change)::float8 FROM pg_stat_activity"
        " WHERE state LIKE 'idle in transaction%' AND pid <> pg_backend_pid() ORDER BY state_change"
    )
    with database.read() as connection:
        found = tuple((int(pid), float(age)) for pid, age in connection.execute(idle))
        return Sessions(int(connection.scalar(used) or 0), int(connection.scalar(limits) or 0), found)


def judge_sessions(found: Sessions) -> Iterator[Diagnosis]:
    """Whether there is room for more connections, and whether somebody keeps a transaction open."""
    told = f"{found.used} of {found.most} connections in use"
    advice = "each worker takes one or two: end what is idle, or raise max_connections and restart the server"
    if found.used >= found.most:
        yield problem("connections", told, advice)
    elif found.used >= 0.8 * found.most:
        yield warning("connections", told, advice)
    else:
        yield ok("connections", told)
    old = [(pid, age) for pid, age in found.idle if age > IDLE_SECONDS]
    if old:
        who = ", ".join(f"process {pid} for {age:.0f} s" for pid, age in old)
        yield warning(
            "transactions",
            f"idle in a transaction: {who}",
            "it blocks upgrades and cleaning: end that program, or SELECT pg_terminate_backend(PROCESS)",
        )
    else:
        yield ok("transactions", "nobody is idle in a transaction")


def check_sqlite_place(path: Path, mounts: Sequence[Mount], workers: Sequence[WorkerRecord]) -> Iterator[Diagnosis]:
    """Whether a SQLite file lies where it can be written and locked, and is used by one machine alone.

    Args:
        path: the file, which need not exist yet.
        mounts: the file systems there are.
        workers: those on record.
    """
    mount = mount_of(path, mounts)
    unwritable = [str(place) for place in (path, path.parent) if place.exists() and not os.access(place, os.W_OK)]
    if mount is not None and mount.is_network:
        yield problem(
            "sqlite",
            f"{path} lies on a network file system ({mount.kind} at {mount.folder}), where SQLite loses data",
            "keep it on a disk of this machine, or use PostgreSQL: `lmf db start`, then `lmf db copy`",
        )
    elif unwritable:
        yield problem("sqlite", f"{' and '.join(unwritable)} cannot be written", "change its owner or its rights")
    else:
        yield ok("sqlite", f"{path} lies on {f'{mount.kind} at {mount.folder}' if mount else 'a disk'}")
    hosts = sorted({worker.host for worker in workers if worker.last_seen_seconds < RECENT_SECONDS})
    if len(hosts) > 1:
        yield problem(
            "hosts",
            f"workers of {len(hosts)} machines used this SQLite file within a day: {', '.join(hosts[:5])}",
            "SQLite is for one machine: `lmf db start` and `lmf db copy` move it to PostgreSQL",
        )
