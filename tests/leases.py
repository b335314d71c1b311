"""What tests do about the lease of the gateway that leads."""

import itertools
from typing import TypeVar

from penstock.registry.db.database import Database
from penstock.registry.db.lease import LeaseHolder

T = TypeVar("T", bound=Database)


def looking(database: T, gateway: str = "") -> T:
    """The database, whose holder of the lease looks whenever it is asked: its time passes by the minute."""
    database.lease = LeaseHolder(gateway, steady=itertools.count(0, 60).__next__)
    return database


def leading(database: T, gateway: str = "") -> T:
    """The same, of the one that leads, unless another one does already."""
    looking(database, gateway).acquire_leadership()
    return database
