"""Locks of PostgreSQL that last as long as the connection that took them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import sqlalchemy as sa
from sqlalchemy.engine import Connection


class AdvisoryLocks(threading.local):
    """The locks of a thread in PostgreSQL: all of them on one connection beside the pool, open while there are any."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._held = 0

    @property
    def is_open(self) -> bool:
        """Whether this thread holds any lock."""
        return self._connection is not None

    def take(self, key: int, connect: Callable[[], Connection]) -> bool:
        """Take a lock if it is free, opening the connection where there is none."""
        if self._connection is not None:
            self._refuse_if_lost()
        else:
            self._connection = connect().execution_options(isolation_level="AUTOCOMMIT")
        taken = False
        try:
            taken = bool(self._connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))))
        finally:
            self._held += taken
            self._close_if_idle()
        return taken

    def give_up(self, key: int) -> None:
        """Give a lock back; with the last one the connection is closed, and with it whatever it still held."""
        self._held -= 1
        if self._held and self._connection is not None:
            # A lost connection has lost its locks as well.
            with suppress(sa.exc.SQLAlchemyError):
                self._connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
        self._close_if_idle()

    def check(self) -> None:
        """Ask something of the server by the connection that holds the locks."""
        assert self._connection is not None
        self._refuse_if_lost()
        self._connection.execute(sa.select(1))

    def _refuse_if_lost(self) -> None:
        if self._connection is not None and self._connection.invalidated:
            raise sa.exc.OperationalError("lock", None, Exception("the connection that held a lock was lost"))

    def _close_if_idle(self) -> None:
        if self._held or self._connection is None:
            return
        connection, self._connection = self._connection, None
        with suppress(sa.exc.SQLAlchemyError):
            connection.close()
