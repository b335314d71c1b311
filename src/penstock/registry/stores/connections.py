"""What every store asks of the database: connections, its clock, and who leads."""

from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa

from penstock.registry.db.lease import LeaseHolder
from penstock.registry.db.shared_clock import SharedClock


class Connections(Protocol):
    """Lends connections to one database, and knows the time that those who share it agree on."""

    clock: SharedClock
    lease: LeaseHolder

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """For one consistent look."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """For one change."""

    def recording(self) -> AbstractContextManager[sa.Connection]:
        """For a change of rows that no other change rests on."""

    def lead(self) -> bool:
        """Whether this process decides for all."""
