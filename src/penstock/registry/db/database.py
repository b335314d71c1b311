"""The registry's database, SQLite or PostgreSQL: opened, brought to the present shape, and its failures named.

SQLite runs in WAL mode with full syncs, so that what a change acknowledged survives a loss of power.
"""

import errno
import json
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from penstock.core.errors import Damaged, Fault, InvalidInput, NotReady
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.shared_clock import SharedClock

SQLITE = "sqlite:///"
POOL = 4
_DEAD_PEER = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq gives a connection up whose other side is gone without a word: after some 11 s (``tcp_user_timeout`` is in
milliseconds), instead of the two hours that are usual."""

MIGRATION_LOCK = 0x70656E73
"""Key of the advisory lock that lets one gateway at a time bring a PostgreSQL database to the present shape."""

AWAY = "the registry's database cannot be reached; what is served goes on, try the change again later"
NO_ROOM = "the registry has no room left; free some and try again"
READ_ONLY = "the registry can only be read; make its folder or database writable"
BUSY = "the registry's database was busy for too long; try again"
UNREADABLE = "the registry's files cannot be read or written"
BROKEN = "the registry's database is damaged; restore it from a backup"
MIXED = "the registry's database has not the tables that its version says; restore it from a backup"
NEWER = "the registry's database was made by a newer Penstock; use that one"

_BOUNDS = (
    "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), "
    "set_config('idle_in_transaction_session_timeout', %s, true)"
)
"""For one transaction: behind a pooler nothing else lasts. So a frozen process holds no lock for ever."""

MIGRATION_S = 600.0
"""What bounds a migration of PostgreSQL, and the wait for another gateway's: a large database takes its time."""

_AGAIN_S = 0.01
_PRIMARY = 0xFF  # of an extended result code

_OS_FAULTS = {errno.ENOSPC: NO_ROOM, errno.EDQUOT: NO_ROOM, errno.EROFS: READ_ONLY, errno.EACCES: READ_ONLY}

_SQLITE_FAULTS: dict[int, tuple[type[Fault], str]] = {
    sqlite3.SQLITE_FULL: (NotReady, NO_ROOM),
    sqlite3.SQLITE_READONLY: (NotReady, READ_ONLY),
    sqlite3.SQLITE_BUSY: (NotReady, BUSY),
    sqlite3.SQLITE_LOCKED: (NotReady, BUSY),
    sqlite3.SQLITE_CANTOPEN: (NotReady, UNREADABLE),
    sqlite3.SQLITE_IOERR: (NotReady, UNREADABLE),
    sqlite3.SQLITE_CORRUPT: (Damaged, BROKEN),
    sqlite3.SQLITE_NOTADB: (Damaged, BROKEN),
}

_POSTGRES_FAULTS: dict[str, tuple[type[Fault], str]] = {
    "53100": (NotReady, NO_ROOM),
    "25006": (NotReady, READ_ONLY),
    "55P03": (NotReady, BUSY),
    "57014": (NotReady, BUSY),
    "25P03": (NotReady, BUSY),
    "40001": (NotReady, BUSY),
    "40P01": (NotReady, BUSY),
    "28000": (NotReady, "the registry's database does not accept our user or password"),
    "28P01": (NotReady, "the registry's database does not accept our user or password"),
    "3D000": (NotReady, "the registry's database does not exist; create it"),
    "XX001": (Damaged, BROKEN),
    "XX002": (Damaged, BROKEN),
}


def fault_of(error: exc.SQLAlchemyError) -> Fault | None:
    """What a failure of the database means, None if it is a bug of ours; the text names no path and no password."""
    if isinstance(error, exc.TimeoutError):  # no connection of the pool came free
        return NotReady(BUSY)
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    if isinstance(original, sqlite3.DatabaseError):
        known = _SQLITE_FAULTS.get(getattr(original, "sqlite_errorcode", 0) & _PRIMARY)
    elif original is not None:
        known = _POSTGRES_FAULTS.get(getattr(original, "sqlstate", None) or "")
        if known is None and isinstance(error, exc.OperationalError | exc.InterfaceError):
            known = (NotReady, AWAY)
    else:
        known = None
    return None if known is None else known[0](known[1])


@contextmanager
def named_failures() -> Iterator[None]:
    """Let failures of the database leave the block as faults."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise fault from None


class Database:
    """An open database; any thread may use it. ``clock`` is the time that those who share it agree on."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.clock = SharedClock()
        self.lease = LeaseHolder()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that sees one consistent state for the time of a block."""
        with named_failures(), self._engine.connect() as connection:
            level = {} if self._engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
            with connection.execution_options(**level).begin():
                self.clock.observe(connection)
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A connection for one change, which is the only one at its time; durable when the block ends."""
        with (
            named_failures(),
            self._engine.connect() as connection,
            connection.execution_options(writing=True).begin(),
        ):
            if self._engine.dialect.name != "sqlite":
                connection.execute(sa.select(schema.registry.c.revision).with_for_update())
            self.clock.observe(connection)
            yield connection

    @contextmanager
    def recording(self) -> Iterator[sa.Connection]:
        """A connection for a change of rows that no other change rests on: it waits for none but those of the same
        rows, and others do not wait for it; durable when the block ends."""
        with (
            named_failures(),
            self._engine.connect() as connection,
            connection.execution_options(writing=True).begin(),
        ):
            self.clock.observe(connection)
            yield connection

    def lead(self) -> bool:
        """Whether this process is the one that decides for all; see ``lease``. Raises ``NotReady``."""
        return self.lease.lead(self)

    def close(self) -> None:
        """Give the lease and the connections back."""
        with suppress(Fault):  # the lease ends by itself
            self.lease.release(self)
        self._engine.dispose()


def open_database(url: str, timeout_s: float) -> Database:
    """Open, or make, the database at ``url``; ``timeout_s`` bounds connecting, waiting for locks and each statement.

    Raises:
        NotReady: it cannot be reached, read or written now.
        Damaged: it is no database, or has other tables than its version says.
        InvalidInput: it is newer than this program, or its driver is not installed.
    """
    engine = _sqlite(url, timeout_s) if url.startswith(SQLITE) else _postgres(url, timeout_s)
    try:
        with named_failures():
            _bring_up(engine)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine)


def _sqlite(url: str, timeout_s: float) -> sa.Engine:
    path = Path(url.removeprefix(SQLITE))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass  # to open and close it would let go of every lock that this process has on it
    except OSError as error:
        raise NotReady(_OS_FAULTS.get(error.errno or 0, UNREADABLE)) from None
    engine = sa.create_engine(
        f"{SQLITE}{path}",
        connect_args={"timeout": timeout_s},
        pool_size=POOL,
        pool_timeout=timeout_s,
        json_deserializer=_document,
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so, below
        _keep_a_log(connection, time.monotonic() + timeout_s)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _keep_a_log(connection: sqlite3.Connection, until: float) -> None:
    """Write ahead into a log: the one thing that SQLite does not wait for while others open the same new database."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


def _document(text: str) -> Any:
    """A column's JSON; a text that is none as it is, so that it hinders only those who read this row."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _postgres(url: str, timeout_s: float) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url,
            connect_args={
                "connect_timeout": max(1, int(timeout_s)),
                **_DEAD_PEER,
                "prepare_threshold": None,  # what is prepared stays with a session, which a pooler may change
                "fallback_application_name": f"penstock {socket.gethostname()[:40]} {os.getpid()}",
            },
            pool_size=POOL,
            pool_timeout=timeout_s,
            pool_pre_ping=True,
        )
    except ModuleNotFoundError:
        raise InvalidInput("PostgreSQL needs the extra 'postgres': pip install 'penstock[postgres]'") from None
    except exc.ArgumentError:
        raise InvalidInput("--registry: the PostgreSQL URL cannot be read") from None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        bound_s = connection.get_execution_options().get("bound_s", timeout_s)
        connection.exec_driver_sql(_BOUNDS, (str(int(bound_s * 1000)),) * 3)

    return engine


def _bring_up(engine: sa.Engine) -> None:
    """Bring the tables to the present shape, one process at a time."""
    if _shape(engine) == schema.REVISIONS[-1]:
        return
    with engine.connect() as connection, connection.execution_options(writing=True, bound_s=MIGRATION_S).begin():
        if engine.dialect.name != "sqlite":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        try:
            _migrate(connection)
        except exc.SQLAlchemyError as error:
            raise fault_of(error) or Damaged(MIXED) from error
        if connection.execute(sa.select(schema.registry.c.id)).first() is None:
            connection.execute(schema.registry.insert().values(id=str(uuid.uuid4()), revision=0))


def _shape(engine: sa.Engine) -> str | None:
    """The newest step the database has been through, None for an empty one."""
    with engine.connect() as connection, connection.begin():
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        shape = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if shape is not None and shape not in schema.REVISIONS:
        raise InvalidInput(NEWER)
    return shape


def _migrate(connection: sa.Connection) -> None:
    from alembic import command  # noqa: PLC0415 - seldom needed, and slow to import
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
