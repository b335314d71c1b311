"""The registry's database, SQLite or PostgreSQL: opened, brought to the present shape, and its failures named.

SQLite runs in WAL mode with full syncs, so that what a change acknowledged survives a loss of power.
"""

import errno
import fcntl
import os
import socket
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from penstock.core.errors import Damaged, Fault, InvalidInput, NotReady
from penstock.registry.db import schema
from penstock.registry.db.shared_clock import SharedClock

SQLITE = "sqlite:///"
POOL = 4
SILENT_S = 10.0
"""A leader whose session has asked nothing for that long is frozen or cut off: another process may end the session."""

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

_END_SILENT = sa.text(
    "SELECT pg_terminate_backend(activity.pid) FROM pg_locks JOIN pg_stat_activity AS activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database() "
    "AND (classid::bigint << 32 | objid::bigint) = :key AND state <> 'active' "
    "AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)

AWAY = "the registry's database cannot be reached; what is served goes on, try the change again later"
NO_ROOM = "the registry has no room left; free some and try again"
READ_ONLY = "the registry can only be read; make its folder or database writable"
BUSY = "the registry's database was busy for too long; try again"
UNREADABLE = "the registry's files cannot be read or written"
BROKEN = "the registry's database is damaged; restore it from a backup"
NEWER = "the registry's database was made by a newer Penstock; use that one"

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
        self._leading: sa.Connection | None = None
        self._lead_file: int | None = None
        self.silent_s = SILENT_S

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

    def lead(self, key: int) -> bool:
        """Whether this process is the one that does a certain work for all; once it is, it stays so until it ends,
        loses the database, or does not ask here for ``silent_s``.

        PostgreSQL: an advisory lock on a connection of its own. A frozen or unreachable leader would hold it for as
        long as its session lasts, so another process ends a session that is silent. Changes that the old leader
        still sends are refused, since their revision is out of date. SQLite: a lock on a file beside the database.
        """
        if self._engine.dialect.name == "sqlite":
            return self._lead_here(key)
        with named_failures():
            if self._leading is not None:
                try:
                    self._leading.exec_driver_sql("SELECT 1")
                except exc.DBAPIError:
                    self._leading.invalidate()
                    self._leading = None
                else:
                    return True
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if connection.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar_one():
                self._leading = connection
                return True
            connection.execute(_END_SILENT, {"key": key, "seconds": self.silent_s})
            connection.close()
            return False

    def _lead_here(self, key: int) -> bool:
        if self._lead_file is None:
            path = Path(self._engine.url.database or "").with_suffix(f".lead-{key:x}")
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                return False
            self._lead_file = handle
        return True

    def close(self) -> None:
        """Give the connections and whatever is led back."""
        if self._lead_file is not None:
            os.close(self._lead_file)
            self._lead_file = None
        if self._leading is not None:
            self._leading.close()
            self._leading = None
        self._engine.dispose()


def open_database(url: str, timeout_s: float) -> Database:
    """Open, or make, the database at ``url``; ``timeout_s`` bounds connecting, waiting for locks and each statement.

    Raises:
        NotReady: it cannot be reached, read or written now.
        Damaged: it is no database.
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
        f"{SQLITE}{path}", connect_args={"timeout": timeout_s}, pool_size=POOL, pool_timeout=timeout_s
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


def _postgres(url: str, timeout_s: float) -> sa.Engine:
    milliseconds = int(timeout_s * 1000)
    bounds = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
    bounds += f" -c idle_in_transaction_session_timeout={milliseconds}"  # a frozen process holds no lock for ever
    try:
        return sa.create_engine(
            url,
            connect_args={
                "connect_timeout": max(1, int(timeout_s)),
                **_DEAD_PEER,
                "options": bounds,
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


def _bring_up(engine: sa.Engine) -> None:
    """Bring the tables to the present shape, one process at a time."""
    if _shape(engine) == schema.REVISIONS[-1]:
        return
    with engine.connect() as connection, connection.execution_options(writing=True).begin():
        if engine.dialect.name != "sqlite":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        _migrate(connection)
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
