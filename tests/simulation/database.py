"""The one SQLite database of a run, in memory; its engine is made once in a process, with all that it has compiled.

Everything in a run happens on one thread, one transaction after the other, so that all gateways share one connection.
Opening one for each transaction would take half of a run's time.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.registry.db.database import Database, open_database, translating_errors


class SharedDatabase(Database):
    """One gateway's way to it, over a connection for which SQLAlchemy's own transaction never ends."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection.engine)
        self._connection = connection
        self._raw: Any = connection.connection.dbapi_connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        self._raw.execute(begin)
        try:
            with translating_errors():
                self.clock.observe(self._connection)
                yield self._connection
        except BaseException:
            self._raw.execute("ROLLBACK")
            raise
        self._raw.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """See ``Database``."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """See ``Database``."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    recording = writing


class Databases:
    """Gives each run a database of its own that begins with what ``fill`` has written."""

    def __init__(self, fill: Callable[[Database], None]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "registry.db"
            database = open_database(f"sqlite:///{path}", 5.0)
            fill(database)
            database.close()
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")  # memory has no write-ahead log
                self._content = connection.serialize()
        self._engine = database._engine
        self._fresh: list[sqlite3.Connection] = []
        sa.event.listen(self._engine, "do_connect", self._connect)

    def _connect(self, *_: Any) -> sqlite3.Connection:
        return self._fresh.pop()  # a second connection would see another database

    @contextmanager
    def begun(self, wall: Callable[[], float]) -> Iterator[Callable[[], Database]]:
        """A new database, in which it is ``wall()`` (seconds since the epoch): what opens it, as often as wanted."""
        with closing(sqlite3.connect(":memory:")) as raw:
            raw.deserialize(self._content)
            raw.create_function("julianday", 1, lambda _: wall() / 86_400 + 2_440_587.5)
            self._fresh.append(raw)
            try:
                with self._engine.connect() as connection, connection.begin():
                    raw.execute("COMMIT")  # what SQLAlchemy has begun: transactions are those of gateways from here on
                    try:
                        yield lambda: SharedDatabase(connection)
                    finally:
                        raw.execute("BEGIN")
            finally:
                self._engine.dispose()
