"""What every store needs from the database: connections, a shared clock, the lease, and whose signatures count."""

from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa

from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.own_connection import ChangeMark
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.signing.reader import SignatureReader


class Connections(Protocol):
    """Provides connections to one database, and the time that all its users agree on."""

    clock: SharedClock
    lease: LeaseHolder
    signatures: SignatureReader

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection that sees one consistent state."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection for one change, the only one at its time."""

    def recording(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection for a change of rows that no other change depends on."""

    def renewing(self) -> AbstractContextManager[sa.Connection]:
        """Return a connection for what this process renews every few seconds; ``change_mark`` does not count it."""

    def change_mark(self) -> ChangeMark | None:
        """Return a mark that is another one after every change, None where it cannot be known; does not wait."""

    def acquire_leadership(self) -> bool:
        """Return whether this process leads the fleet; acquire or renew the lease if that is due."""

    def close(self) -> None:
        """Release the lease, and close the connections."""
