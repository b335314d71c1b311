"""The lease of the gateway that leads the fleet, and its term, which every write of a leader checks.

A leader that was frozen or cut off finds a later term in the database when it comes back; its writes are refused within
their transactions.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import sqlalchemy as sa

from penstock.core import leases
from penstock.core.errors import NotReady
from penstock.core.leases import LEASE_S, LOOK_S, RENEW_S, Lease, LeaseAction
from penstock.registry.db import schema
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.signing.reader import SignatureReader

FLEET = "fleet"
"""Key of the only row of the table."""

_SQLITE_NOW = sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Float)
_POSTGRES_NOW = sa.literal_column("extract(epoch from clock_timestamp())::float8", sa.Float)


class NotLeading(NotReady):
    """This gateway does not lead, or no longer does: nothing was written, and the leader decides anew."""

    def __init__(self) -> None:
        super().__init__("another gateway leads the fleet now; this one has written nothing")


class Connected(Protocol):
    """Provides connections to the database."""

    def reading(self) -> AbstractContextManager[Any]:
        """Return a connection that sees one consistent state."""

    def renewing(self) -> AbstractContextManager[Any]:
        """Return a connection for what this process renews every few seconds."""


def database_now(connection: sa.Connection) -> sa.ColumnElement[float]:
    """Return the present time by the database's clock (seconds since the epoch) as an SQL expression."""
    return _SQLITE_NOW if connection.dialect.name == "sqlite" else _POSTGRES_NOW


def read_lease(connection: sa.Connection) -> Lease:
    """Return the lease with the seconds that are left of it."""
    table = schema.leadership
    left = (table.c.until - database_now(connection)).label("left_s")
    row = connection.execute(sa.select(table.c.holder, table.c.term, left).where(table.c.name == FLEET)).first()
    return Lease() if row is None else Lease(row.holder, row.term, float(row.left_s))


class LeaseHolder:
    """Acquires and renews the lease for this process; any thread may use it. ``gateway`` is the id of this gateway, and
    ``steady`` gives seconds that pass also while the process or its machine is frozen."""

    def __init__(self, gateway: str = "", steady: Callable[[], float] | None = None) -> None:
        self.gateway = gateway or f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self._steady = steady or (lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
        self._one_at_a_time = threading.Lock()
        self._term: int | None = None
        self._renewed = self._looked = float("-inf")

    @property
    def term(self) -> int | None:
        """The term in which this process leads, by its last look at the lease; None if it does not lead."""
        return self._term if self._steady() - self._renewed < LEASE_S else None

    def acquire_leadership(self, database: Connected) -> bool:
        """Acquire, renew or give up the lease if a look at it is due, and return whether this process leads now.

        Raises:
            NotReady: the database cannot be reached or written.
        """
        with self._one_at_a_time:
            now = self._steady()
            if self._is_due(now):
                self._step(database, now)
                self._looked = now
            return self._term is not None

    def is_due(self) -> bool:
        """Whether a look at the lease is due."""
        return self._is_due(self._steady())

    def _is_due(self, now: float) -> bool:
        return now - self._looked >= (LOOK_S if self._term is None else RENEW_S)

    def _step(self, database: Connected, now: float) -> None:
        if self._term is not None and self._write(database, self._term, self._term):
            self._on_acquired(self._term, now)
            return
        with database.reading() as connection:
            lease = read_lease(connection)
        match leases.decide(lease, self.gateway, self._term):
            case LeaseAction.RENEW:
                self._on_acquired(lease.term if self._write(database, lease.term, lease.term) else None, now)
            case LeaseAction.ACQUIRE:
                self._on_acquired(lease.term + 1 if self._write(database, lease.term, lease.term + 1) else None, now)
            case LeaseAction.STEP_DOWN:
                self._term = None

    def _on_acquired(self, term: int | None, now: float) -> None:
        self._term, self._renewed = term, now

    def _write(self, database: Connected, before: int, term: int) -> bool:
        """Acquire or renew the lease, if it still has the term that was read, and return whether that succeeded."""
        table = schema.leadership
        with database.renewing() as connection:
            until = database_now(connection) + LEASE_S
            where = (table.c.name == FLEET, table.c.term == before)
            values = {"holder": self.gateway, "term": term, "until": until}
            done: int = connection.execute(table.update().where(*where).values(**values)).rowcount
        return done == 1

    def check(self, connection: sa.Connection) -> None:
        """Check within a transaction that this process leads; no other process does before the transaction ends.

        Raises:
            NotLeading: this process does not lead.
        """
        table = schema.leadership
        query = sa.select(table.c.term).where(table.c.name == FLEET)
        if connection.dialect.name != "sqlite":
            query = query.with_for_update(read=True)
        own = self._term
        if own is None or connection.execute(query).scalar() != own:
            self._on_lost(own)
            raise NotLeading

    def _on_lost(self, term: int | None) -> None:
        if self._term == term:
            self._term = None

    def release(self, database: Connected) -> None:
        """Release the lease, so that another gateway can lead at once; raises ``NotReady``."""
        with self._one_at_a_time:
            own, self._term = self._term, None
            self._looked = float("inf")
        if own is None:
            return
        table = schema.leadership
        with database.renewing() as connection:
            where = (table.c.name == FLEET, table.c.term == own)
            connection.execute(table.update().where(*where).values(until=0.0))


class Leadable(Connected, Protocol):
    """A database whose lease can be held."""

    clock: SharedClock
    lease: LeaseHolder
    signatures: SignatureReader

    def writing(self) -> AbstractContextManager[Any]:
        """Return a connection for one change, the only one at its time."""

    def recording(self) -> AbstractContextManager[Any]:
        """Return a connection for a change of rows that no other change depends on."""

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every other change."""

    def acquire_leadership(self) -> bool:
        """Return whether this process leads the fleet."""

    def close(self) -> None:
        """Release the lease, and close the connections."""


class LeaderConnections:
    """Connections for changes that only a leader may make: every change checks the term within its transaction."""

    def __init__(self, database: Leadable) -> None:
        self._database = database
        self.clock = database.clock
        self.lease = database.lease
        self.signatures = database.signatures

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection that sees one consistent state."""
        return self._database.reading()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Return a connection for one change of a leader; raises ``NotLeading``."""
        with self._database.writing() as connection:
            self.lease.check(connection)
            yield connection

    @contextmanager
    def recording(self) -> Iterator[sa.Connection]:
        """Return a connection for a leader's change of rows that no other change depends on; raises ``NotLeading``."""
        with self._database.recording() as connection:
            self.lease.check(connection)
            yield connection

    @contextmanager
    def renewing(self) -> Iterator[sa.Connection]:
        """Return a connection for what a leader renews every few seconds; raises ``NotLeading``."""
        with self._database.renewing() as connection:
            self.lease.check(connection)
            yield connection

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every other change."""
        return self._database.change_mark()

    def acquire_leadership(self) -> bool:
        """Return whether this process leads the fleet."""
        return self._database.acquire_leadership()

    def close(self) -> None:
        """Release the lease, and close the connections."""
        self._database.close()
