"""The registry's database, SQLite or PostgreSQL: opens it, migrates it, and translates its errors.

SQLite runs in WAL mode with full syncs, so that an acknowledged change survives a loss of power.
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

from penstock.core.errors import DataLoss, Fault, InvalidInput, NotReady
from penstock.registry.db import schema
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.own_connection import ChangeMark, OwnConnection
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.signing.reader import SignatureReader

SQLITE = "sqlite:///"
POOL = 4
_DEAD_PEER = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""libpq drops a connection with a dead peer after about 11 s (``tcp_user_timeout`` is in milliseconds); the usual value
is two hours."""

NEW_SQLITE = Path(__file__).with_name("new_sqlite.sql")
"""The statements, one a line, that give an empty SQLite database what all migrations together give it; a test compares
the two."""

MIGRATION_LOCK = 0x70656E73
"""Key of the advisory lock that lets one gateway at a time migrate a PostgreSQL database."""

AWAY = "the registry's database cannot be reached; serving goes on, try the change again later"
UNREACHED = "the registry's database cannot be reached"
DISK_FULL = "the registry's disk is full; free space and try again"
READ_ONLY = "the registry can only be read; make its folder or database writable"
BUSY = "the registry's database was busy for too long; try again"
UNREADABLE = "the registry's files cannot be read or written"
BROKEN = "the registry's database is damaged; restore it from a backup"
MIXED = "the registry's database does not have the tables of its version; restore it from a backup"
ENCODING = (
    "the registry's database has the encoding {}, which cannot hold every text; make another one as "
    "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
)
NEWER = "a newer Penstock made the registry's database; use that release"

_BOUNDS = (
    "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), "
    "set_config('idle_in_transaction_session_timeout', %s, true)"
)
"""Time limits for one transaction, because settings of a session do not last behind a pooler. They keep a frozen
process from holding a lock for ever."""

MIGRATION_S = 600.0
"""Time limit of a PostgreSQL migration, and of the wait for that of another gateway."""

CHECKPOINT_S = 0.5
"""Longest wait for others that use an SQLite file while it is closed."""

_AGAIN_S = 0.01
_PRIMARY = 0xFF  # of an extended result code

_OS_FAULTS = {errno.ENOSPC: DISK_FULL, errno.EDQUOT: DISK_FULL, errno.EROFS: READ_ONLY, errno.EACCES: READ_ONLY}

_SQLITE_FAULTS: dict[int, tuple[type[Fault], str]] = {
    sqlite3.SQLITE_FULL: (NotReady, DISK_FULL),
    sqlite3.SQLITE_READONLY: (NotReady, READ_ONLY),
    sqlite3.SQLITE_BUSY: (NotReady, BUSY),
    sqlite3.SQLITE_LOCKED: (NotReady, BUSY),
    sqlite3.SQLITE_CANTOPEN: (NotReady, UNREADABLE),
    sqlite3.SQLITE_IOERR: (NotReady, UNREADABLE),
    sqlite3.SQLITE_CORRUPT: (DataLoss, BROKEN),
    sqlite3.SQLITE_NOTADB: (DataLoss, BROKEN),
}

_POSTGRES_FAULTS: dict[str, tuple[type[Fault], str]] = {
    "53100": (NotReady, DISK_FULL),
    "25006": (NotReady, READ_ONLY),
    "55P03": (NotReady, BUSY),
    "57014": (NotReady, BUSY),
    "25P03": (NotReady, BUSY),
    "40001": (NotReady, BUSY),
    "40P01": (NotReady, BUSY),
    "28000": (NotReady, "the registry's database does not accept our user or password"),
    "28P01": (NotReady, "the registry's database does not accept our user or password"),
    "3D000": (NotReady, "the registry's database does not exist; create it"),
    "XX001": (DataLoss, BROKEN),
    "XX002": (DataLoss, BROKEN),
}


def fault_of(error: exc.SQLAlchemyError) -> Fault | None:
    """Return the fault for an error of the database, None if it is a bug; the text has no path and no password. For
    operators, it has what the driver says of a server that cannot be reached: its host, the user, a missing file."""
    if isinstance(error, exc.TimeoutError):  # no connection of the pool became free
        return NotReady(BUSY)
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    if isinstance(original, sqlite3.DatabaseError):
        fault = _SQLITE_FAULTS.get(getattr(original, "sqlite_errorcode", 0) & _PRIMARY)
    elif original is not None:
        fault = _POSTGRES_FAULTS.get(getattr(original, "sqlstate", None) or "")
        if fault is None and isinstance(error, exc.OperationalError | exc.InterfaceError):
            return NotReady(AWAY, f"{UNREACHED}: {_first_line(original)}")
    else:
        fault = None
    return None if fault is None else fault[0](fault[1])


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def translating_errors() -> Iterator[None]:
    """Raise errors of the database within the block as faults."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        fault = fault_of(error)
        if fault is None:
            raise
        raise fault from None


class Database:
    """An open database; any thread may use it. ``clock`` is the time that all its users agree on."""

    def __init__(self, engine: sa.Engine, own: OwnConnection | None = None) -> None:
        self._engine = engine
        self._own = own
        self.clock = SharedClock()
        self.lease = LeaseHolder()
        self.signatures = SignatureReader()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Return a connection that sees one consistent state during the block."""
        with translating_errors(), self._engine.connect() as connection:
            level = {} if self._engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
            with connection.execution_options(**level).begin():
                self.clock.observe(connection)
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Return a connection for one change, the only one at its time; the change is durable after the block."""
        with (
            translating_errors(),
            self._engine.connect() as connection,
            connection.execution_options(writing=True).begin(),
        ):
            if self._engine.dialect.name != "sqlite":
                connection.execute(sa.select(schema.registry.c.revision).with_for_update())
            self.clock.observe(connection)
            yield connection

    @contextmanager
    def recording(self) -> Iterator[sa.Connection]:
        """Return a connection for a change of rows that no other change depends on: it waits only for changes of the
        same rows, and no other change waits for it. The change is durable after the block."""
        with (
            translating_errors(),
            self._engine.connect() as connection,
            connection.execution_options(writing=True).begin(),
        ):
            self.clock.observe(connection)
            yield connection

    @contextmanager
    def renewing(self) -> Iterator[sa.Connection]:
        """Return a connection as ``recording`` does, for what this process renews every few seconds and no loop looks
        for: its ``change_mark`` stays the same."""
        with translating_errors(), self.recording() if self._own is None else self._own.renewing() as connection:
            yield connection

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change, but for those of ``renewing`` here; does not wait.

        None where the database cannot say whether it has changed: then whoever wants to know has to read it.
        """
        return None if self._own is None else self._own.change_mark()

    def acquire_leadership(self) -> bool:
        """Return whether this process leads the fleet; see ``LeaseHolder.lead``. Raises ``NotReady``."""
        return self.lease.acquire_leadership(self)

    def close(self) -> None:
        """Release the lease, move what is in SQLite's log into the one file, and close the connections."""
        with suppress(Fault):  # the lease expires anyway
            self.lease.release(self)
        if self._own is not None:
            self._own.close()
        if self._engine.dialect.name == "sqlite":
            _checkpoint_wal(self._engine)
        self._engine.dispose()


def open_database(url: str, timeout_s: float) -> Database:
    """Open or create the database at ``url``; ``timeout_s`` limits connecting, waiting for locks and each statement.

    Raises:
        NotReady: it cannot be reached, read or written now.
        Damaged: it is not a database, or does not have the tables of its version.
        InvalidInput: it is newer than this program, its encoding is not UTF-8, or its driver is not installed.
    """
    engine = _open_sqlite(url, timeout_s) if url.startswith(SQLITE) else _open_postgres(url, timeout_s)
    try:
        with translating_errors():
            _migrate_if_old(engine)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, OwnConnection(engine, timeout_s) if url.startswith(SQLITE) else None)


def _open_sqlite(url: str, timeout_s: float) -> sa.Engine:
    path = Path(url.removeprefix(SQLITE))
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass  # opening and closing it would release every lock that this process holds on it
    except OSError as error:
        raise NotReady(_OS_FAULTS.get(error.errno or 0, UNREADABLE)) from None
    engine = sa.create_engine(
        f"{SQLITE}{path}",
        connect_args={"timeout": timeout_s},
        pool_size=POOL + 1,  # one is kept, see OwnConnection
        pool_timeout=timeout_s,
        json_deserializer=_parse_document,
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin explicitly, below
        _enable_wal(connection, time.monotonic() + timeout_s)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _enable_wal(connection: sqlite3.Connection, until: float) -> None:
    """Enable the write-ahead log; SQLite does not wait for that while others open the same new database."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


def _checkpoint_wal(engine: sa.Engine) -> None:
    """Copy the write-ahead log into the database and empty it, if no other process reads or writes for long; what
    stays in the log is as durable, and the next process copies it."""
    with suppress(exc.SQLAlchemyError, sqlite3.Error):
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {int(CHECKPOINT_S * 1000)}")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        finally:
            connection.close()


def _parse_document(text: str) -> Any:
    """Return the JSON value of a column, or the text itself if it is not JSON, so that only readers of this row
    fail."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _open_postgres(url: str, timeout_s: float) -> sa.Engine:
    try:
        engine = sa.create_engine(
            url,
            connect_args={
                "connect_timeout": max(1, int(timeout_s)),
                **_DEAD_PEER,
                "prepare_threshold": None,  # a prepared statement belongs to a session, which a pooler may change
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

    @sa.event.listens_for(engine, "connect", insert=True)  # before SQLAlchemy's own, which fails with other encodings
    def check(connection: Any, _record: Any) -> None:
        _check_encoding(connection)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        bound_s = connection.get_execution_options().get("bound_s", timeout_s)
        connection.exec_driver_sql(_BOUNDS, (str(int(bound_s * 1000)),) * 3)

    return engine


def _check_encoding(connection: Any) -> None:
    """Check the encoding of a PostgreSQL database, as the server reports it; raises ``InvalidInput``."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ("UTF8", None):  # a pooler may not report it
        connection.close()
        raise InvalidInput(ENCODING.format(encoding))


def _migrate_if_old(engine: sa.Engine) -> None:
    """Migrate the tables to the present version, one process at a time."""
    if _read_version(engine) == schema.REVISIONS[-1]:
        return
    with engine.connect() as connection, connection.execution_options(writing=True, bound_s=MIGRATION_S).begin():
        if engine.dialect.name != "sqlite":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        try:
            _migrate(connection)
        except exc.SQLAlchemyError as error:
            raise fault_of(error) or DataLoss(MIXED) from error
        if connection.execute(sa.select(schema.registry.c.id)).first() is None:
            connection.execute(schema.registry.insert().values(id=str(uuid.uuid4()), revision=0))


def _read_version(engine: sa.Engine) -> str | None:
    """Return the last migration of the database, None for an empty one; raises ``InvalidInput`` if it is unknown."""
    with engine.connect() as connection, connection.begin():
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if version is not None and version not in schema.REVISIONS:
        raise InvalidInput(NEWER)
    return version


def _migrate(connection: sa.Connection) -> None:
    """Bring the tables to the present version; a new SQLite file gets them at once, in a tenth of the time."""
    if connection.dialect.name == "sqlite" and not sa.inspect(connection).get_table_names():
        for statement in NEW_SQLITE.read_text("utf-8").splitlines():
            connection.exec_driver_sql(statement)
    else:
        _upgrade(connection)


def _upgrade(connection: sa.Connection) -> None:
    """Run every migration that the database does not have yet."""
    from alembic import command  # noqa: PLC0415 - seldom needed, and slow to import
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
