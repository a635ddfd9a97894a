"""One URL to one engine: SQLite (WAL, BEGIN IMMEDIATE) or PostgreSQL (pre-ping); passwords are never shown."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from filelock import Timeout as LockTimeout
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.ext.compiler import compiles

from storage.advisory_locks import AdvisoryLocks
from storage.errors import NoDatabaseError, StorageError, StorageUnavailableError

BACKENDS = ("sqlite", "postgresql")
BUSY_SECONDS = 60.0
# A server whose cable was pulled answers nothing, not even an error: these find out within half a minute.
POSTGRESQL_ARGUMENTS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "fallback_application_name": "lmf",
}
# The same, as the server asks it of us.
POSTGRESQL_SETTINGS = {
    "idle_in_transaction_session_timeout": 10_000,
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
LOCK_POLL_SECONDS = (0.05, 0.2)
# What a server says that will not say anything else in a minute.
_REFUSALS = (
    "password authentication failed",
    "no pg_hba.conf entry",
    "FATAL:  database",
    "FATAL:  role",
    "no password supplied",
)
_READ_ONLY: dict[str, dict[str, Any]] = {
    "sqlite": {"lmf_read_only": True},
    "postgresql": {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}


class now_seconds(sa.sql.functions.FunctionElement[float]):
    """The database's clock in Unix seconds, read when the statement runs, not when its transaction began."""

    type = sa.Double()
    inherit_cache = True


@compiles(now_seconds, "postgresql")
def _now_postgresql(element: now_seconds, compiler: Any, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


@compiles(now_seconds, "sqlite")
def _now_sqlite(element: now_seconds, compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@dataclass(frozen=True)
class Database:
    """An open database.

    Attributes:
        url: where it is.
        engine: a pool of one connection unless more were asked for, which the threads of a process, and Optuna, share
            in turn.
    """

    url: URL = field(repr=False)
    engine: Engine = field(repr=False)
    _locks: AdvisoryLocks = field(default_factory=AdvisoryLocks, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"Database({show_url(self.url)!r})"

    @classmethod
    def open(cls, url: str, *, create: bool = True, connections: int = 1) -> Database:
        """Open a database and bring its schema, ours and Optuna's, to this version.

        Args:
            url: a SQLAlchemy URL of a SQLite file or of PostgreSQL.
            create: make the database file and the schema where they are missing.
            connections: how many connections this process may have at once.

        Raises:
            StorageError: the URL is malformed, the server refuses, the file cannot be written, the schema is newer
                than this version, or it is missing and `create` is false.
        """
        from storage.preparation import prepare_schema

        parsed = parse_url(url)
        _check_sqlite_file(parsed, create=create)
        database = cls(parsed, make_engine(parsed, pool_size=connections))
        try:
            prepare_schema(database, create=create)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def backend(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.url.get_backend_name()

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self.url.database) if self.backend == "sqlite" and self.url.database else None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction; on SQLite it waits for other writers before it starts, so it never fails half-way.

        Raises:
            StorageUnavailableError: the server is away or busy.
            StorageError: anything else that the database refuses.
        """
        with translated_errors(self.url), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: one consistent view, which blocks no writer.

        Raises:
            StorageUnavailableError: the server is away or busy.
            StorageError: anything else that the database refuses.
        """
        with translated_errors(self.url), self.engine.connect() as connection:
            connection.execution_options(**_READ_ONLY[self.backend])
            with connection.begin():
                yield connection

    @contextmanager
    def lock(self, name: str, timeout_seconds: float = 600.0) -> Iterator[None]:
        """Hold a lock of this database that only one process has at a time; it ends with the process.

        Args:
            name: what is locked, such as `schema` or `plan`.
            timeout_seconds: how long to wait for another holder.

        Raises:
            StorageError: another process held the lock all that time.
        """
        if self.backend == "sqlite":
            with self._file_lock(name, timeout_seconds):
                yield
        else:
            with self._advisory_lock(name, timeout_seconds):
                yield

    @contextmanager
    def _file_lock(self, name: str, timeout_seconds: float) -> Iterator[None]:
        lock = FileLock(f"{self.path}.{name}.lock", timeout=timeout_seconds)
        try:
            lock.acquire()
        except LockTimeout:
            raise StorageUnavailableError(
                f"{lock.lock_file}: another process has held this lock for {timeout_seconds:.0f} s; wait for it to end"
            ) from None
        except OSError as error:
            raise StorageError(f"{lock.lock_file}: cannot be locked: {error.strerror or error}") from None
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _advisory_lock(self, name: str, timeout_seconds: float) -> Iterator[None]:
        key = int.from_bytes(hashlib.sha256(f"lmf:{name}".encode()).digest()[:8], "big", signed=True)
        until = time.monotonic() + timeout_seconds
        while not self._try_advisory_lock(key):
            if time.monotonic() > until:
                raise StorageUnavailableError(
                    f"{show_url(self.url)}: another process has held the lock `{name}` for "
                    f"{timeout_seconds:.0f} s; wait for it to end"
                )
            time.sleep(random.uniform(*LOCK_POLL_SECONDS))
        try:
            yield
        finally:
            self._locks.give_up(key)

    def _try_advisory_lock(self, key: int) -> bool:
        """Take a lock if it is free; who waits for it asks by the connection that it has, and opens none."""
        with translated_errors(self.url):
            if not self._locks.is_open:
                with self.engine.begin() as connection:
                    if not connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(key))):
                        return False
            return self._locks.take(key, self._connect_beside_the_pool)

    def _connect_beside_the_pool(self) -> Connection:
        return make_engine(self.url, poolclass=sa.NullPool).connect()

    def check_locks(self) -> None:
        """Make sure that this thread still holds what it locked: PostgreSQL frees a lock whose connection it lost.

        Raises:
            StorageUnavailableError: the server was restarted, or the connection was cut; nothing is locked any more.
        """
        if self._locks.is_open:
            with translated_errors(self.url):
                self._locks.check()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _use_write_ahead_log(connection: Any) -> None:
    """Switch a SQLite file to its write-ahead log; SQLite does not wait here by itself while others do the same."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.01, 0.1))


def parse_url(url: str) -> URL:
    """Check a SQLAlchemy URL and name the PostgreSQL driver where none is named.

    Raises:
        StorageError: it is no URL of a supported database; the message shows no password.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise StorageError(
            "storage: this is not a SQLAlchemy URL; expected sqlite:///FILE or "
            "postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in BACKENDS:
        raise StorageError(f"storage: {parsed.get_backend_name()} is not supported; expected sqlite or postgresql")
    if parsed.get_backend_name() == "sqlite" and (parsed.database or ":").startswith((":", "file:")):
        raise StorageError(
            "storage: an in-memory SQLite database or a file: URI cannot be shared by workers; name a file: sqlite:///FILE"
        )
    return parsed


def make_engine(url: URL, **options: Any) -> Engine:
    """An engine set up the way both halves of a database need it.

    Raises:
        StorageError: the driver is not installed.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    arguments = {"timeout": BUSY_SECONDS, "check_same_thread": False} if is_sqlite else dict(POSTGRESQL_ARGUMENTS)
    if "poolclass" not in options:
        options = {
            "poolclass": sa.QueuePool,
            "pool_size": 1,
            "max_overflow": 0,
            "pool_timeout": 120,
            **options,
        }
    try:
        engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=not is_sqlite, **options)
    except (ImportError, sa.exc.NoSuchModuleError) as error:
        raise StorageError(
            f"storage: the driver of {url.drivername} is missing ({error}); for PostgreSQL write "
            "postgresql+psycopg:// and install it with: pip install 'psycopg[binary]'"
        ) from None
    if is_sqlite:
        begin_sqlite_at_once(engine)
    else:
        let_server_forget_the_gone(engine)
    return engine


def allow_idling(connection: Connection) -> None:
    """Let the transaction of a connection wait for this process as long as it likes, which PostgreSQL else ends."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def let_server_forget_the_gone(engine: Engine) -> None:
    """Let PostgreSQL end the connection of a machine that is gone, or that fell asleep within a transaction.

    A row that such a transaction has written stays locked, whatever the lease says, and nobody could take the point.
    """

    @sa.event.listens_for(engine, "connect")
    def set_limits(connection: Any, _: object) -> None:
        was, connection.autocommit = connection.autocommit, True
        for name, value in POSTGRESQL_SETTINGS.items():
            connection.execute(f"SET {name} = {value}")
        connection.autocommit = was


def begin_sqlite_at_once(engine: Engine) -> None:
    """Make every transaction of a SQLite engine take the write lock when it begins, unless it only reads.

    Without it two processes read the same row and then both write it, or one fails in the middle.
    """

    @sa.event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _: object) -> None:
        connection.isolation_level = None
        _use_write_ahead_log(connection)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("lmf_read_only")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def translated_errors(url: URL) -> Iterator[None]:
    """Turn the driver's errors into ours: one line, and neither a statement nor a password in it."""
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise translate_error(error, url) from None


def translate_error(error: BaseException, url: URL) -> StorageError:
    """Our error for one of SQLAlchemy's."""
    where = show_url(url)
    if isinstance(error, sa.exc.TimeoutError):
        return StorageUnavailableError(f"{where}: no connection became free in time")
    origin = getattr(error, "orig", None) or error
    text = " ".join(str(origin).split()) or type(origin).__name__
    if url.password:
        text = text.replace(str(url.password), "***")
    if url.get_backend_name() == "postgresql" and any(mark in text for mark in _REFUSALS):
        return StorageError(f"{where}: {text}; check user, password and database of the URL, and pg_hba.conf")
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or getattr(
        error, "connection_invalidated", False
    ):
        if url.get_backend_name() == "postgresql" or "locked" in text or "busy" in text:
            return StorageUnavailableError(f"{where}: {text}")
        return StorageError(f"{where}: {text}; check that the disk has room and that the file may be written")
    return StorageError(f"{where}: {text}")


def show_url(url: URL) -> str:
    """A URL as people may see it: without password and without query, where passwords also hide."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}).render_as_string(hide_password=True)


def _check_sqlite_file(url: URL, *, create: bool) -> None:
    if url.get_backend_name() != "sqlite":
        return
    path = Path(str(url.database))
    if not create:
        if not path.exists():
            raise NoDatabaseError(
                f"{path}: there is no database here yet; `lmf run` or `lmf demo` makes one, "
                "LMF_HOME or LMF_STORAGE names another place"
            )
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path.parent}: cannot make this folder: {error.strerror}; LMF_HOME names another place"
        ) from None
