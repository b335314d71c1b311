"""The connection of an SQLite database that says whether other connections have changed it.

A gateway has a dozen loops that look for changes in the database. SQLite counts the commits of all other connections
and processes in shared memory, and a look at that count (`PRAGMA data_version`, https://sqlite.org/pragma.html) takes
some microseconds on the thread that wants to know, where a read takes a thread and a hundred times as long. It does not
count the commits of the same connection: so the lease and the heartbeat, which a gateway renews every few seconds and
no loop looks for, are written by this connection.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

ChangeMark = tuple[int, int]
"""Two marks are equal only if no other connection has committed anything between them."""


class OwnConnection:
    """One connection, which is opened by the first write; any thread may use it, one at a time. ``timeout_s`` limits
    how long a write waits for others."""

    def __init__(self, engine: sa.Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_ms = int(timeout_s * 1000)
        self._one_at_a_time = threading.Lock()
        self._connection: sa.Connection | None = None
        self._opened = 0

    @contextmanager
    def renewing(self) -> Iterator[sa.Connection]:
        """Return the connection for one change; see ``Database.renewing``."""
        with self._one_at_a_time:
            try:
                connection = self._open()
                self._wait_at_most(self._timeout_ms)
                with connection.begin():
                    yield connection
            except exc.SQLAlchemyError:
                self._close()
                raise
            finally:
                self._wait_at_most(0)  # the event loop looks at marks, and waits for nobody

    def _open(self) -> sa.Connection:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(writing=True)
            self._opened += 1
        return self._connection

    def _wait_at_most(self, milliseconds: int) -> None:
        if (driver := self._driver()) is not None:
            driver.execute(f"PRAGMA busy_timeout = {milliseconds}")

    def _driver(self) -> Any:
        return None if self._connection is None else self._connection.connection.driver_connection

    def change_mark(self) -> ChangeMark | None:
        """Return the mark of the present state; None where it is not known, or only after a wait."""
        if not self._one_at_a_time.acquire(blocking=False):
            return None
        try:
            driver = self._driver()
            return None if driver is None else (self._opened, driver.execute("PRAGMA data_version").fetchone()[0])
        except (exc.SQLAlchemyError, sqlite3.Error):
            self._close()
            return None
        finally:
            self._one_at_a_time.release()

    def close(self) -> None:
        """Close the connection; the next write opens it again."""
        with self._one_at_a_time:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(exc.SQLAlchemyError):
                connection.invalidate()  # no other user is to have it, and its time limit
                connection.close()
