"""A database that is opened on first use, so that a gateway can start while it cannot be reached."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from penstock.core.errors import FaultReason, NotReady
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.signing.reader import SignatureReader

PAUSE_S = 1.0
"""Pause after a failed attempt to open; calls meanwhile raise the same error."""


class OpenDatabase(Protocol):
    """A database that has been opened."""

    clock: SharedClock
    lease: LeaseHolder
    signatures: SignatureReader

    def reading(self) -> AbstractContextManager[Any]:
        """Return a connection that sees one consistent state."""

    def writing(self) -> AbstractContextManager[Any]:
        """Return a connection for one change, the only one at its time."""

    def recording(self) -> AbstractContextManager[Any]:
        """Return a connection for a change of rows that no other change depends on."""

    def renewing(self) -> AbstractContextManager[Any]:
        """Return a connection for what this process renews every few seconds."""

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every other change."""

    def acquire_leadership(self) -> bool:
        """Return whether this process leads the fleet."""

    def close(self) -> None:
        """Release the lease, and close the connections."""


class LazyDatabase:
    """Opens a database on first use and forwards to it; any thread may use it. The parameter ``clock`` is monotonic, in
    seconds; the attribute ``clock`` is the time that all users of the database agree on, that of this machine before it
    is opened."""

    def __init__(self, opening: Callable[[], OpenDatabase], clock: Callable[[], float] = time.monotonic) -> None:
        self._opening = opening
        self._clock = clock
        self.clock = SharedClock()
        self.lease = LeaseHolder()
        self.signatures = SignatureReader()
        self._opened: OpenDatabase | None = None
        self._one_at_a_time = threading.Lock()
        self._failed: tuple[float, FaultReason] | None = None

    def reading(self) -> AbstractContextManager[Any]:
        """Return a connection that sees one consistent state; raises ``NotReady`` while the database is away."""
        return self._database().reading()

    def writing(self) -> AbstractContextManager[Any]:
        """Return a connection for one change; raises ``NotReady`` while the database is away."""
        return self._database().writing()

    def recording(self) -> AbstractContextManager[Any]:
        """Return a connection for a change of rows that no other change depends on; raises ``NotReady`` while the
        database is away."""
        return self._database().recording()

    def renewing(self) -> AbstractContextManager[Any]:
        """Return a connection for what this process renews every few seconds; raises ``NotReady`` while the database is
        away."""
        return self._database().renewing()

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every other change, None before the database is open."""
        return None if self._opened is None else self._opened.change_mark()

    def acquire_leadership(self) -> bool:
        """Return whether this process leads the fleet; raises ``NotReady`` while the database is away."""
        return self._database().acquire_leadership()

    def close(self) -> None:
        """Release the lease, and close the connections, if the database was opened."""
        if self._opened is not None:
            self._opened.close()

    def _database(self) -> OpenDatabase:
        if self._opened is None:
            with self._one_at_a_time:
                if self._opened is None:
                    self._opened = self._attempt()
        return self._opened

    def _attempt(self) -> OpenDatabase:
        if self._failed is not None and self._clock() < self._failed[0]:
            raise NotReady(self._failed[1].text, self._failed[1].detail)
        try:
            opened = self._opening()
        except NotReady as fault:
            self._failed = self._clock() + PAUSE_S, fault.reason
            raise
        opened.clock, opened.lease = self.clock, self.lease  # users may hold these objects already
        opened.signatures = self.signatures
        return opened
