"""What goes wrong in the simulation: a database that refuses or forgets to answer, and a bucket that does not take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

import sqlalchemy as sa

from penstock.core.errors import Damaged, NotReady
from penstock.registry.db.database import AWAY, Database


class Trouble(Enum):
    """What happens to one transaction."""

    NONE = "none"
    REFUSED = "refused"
    LOST = "lost"  # it is committed, and nobody hears of it


class FaultyDatabase:
    """A gateway's way to the database; ``trouble`` draws what happens to each transaction."""

    def __init__(self, database: Database, trouble: Callable[[], Trouble]) -> None:
        self._database = database
        self._trouble = trouble
        self.clock = database.clock
        self.lease = database.lease

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """For one consistent look."""
        if self._trouble() is not Trouble.NONE:
            raise NotReady(AWAY)
        with self._database.reading() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """For one change."""
        trouble = self._trouble()
        if trouble is Trouble.REFUSED:
            raise NotReady(AWAY)
        with self._database.writing() as connection:
            yield connection
        if trouble is Trouble.LOST:
            raise NotReady(AWAY)

    @contextmanager
    def recording(self) -> Iterator[sa.Connection]:
        """For a change of rows that no other change rests on."""
        trouble = self._trouble()
        if trouble is Trouble.REFUSED:
            raise NotReady(AWAY)
        with self._database.recording() as connection:
            yield connection
        if trouble is Trouble.LOST:
            raise NotReady(AWAY)

    def lead(self) -> bool:
        """Whether this gateway decides for all."""
        return self.lease.lead(self)


class Bucket:
    """Contents in memory, for all gateways; ``full`` takes nothing more."""

    def __init__(self) -> None:
        self.full = False
        self.contents: dict[str, bytes] = {}

    def keep(self, incoming: Path, digest: str) -> None:
        """See ``Blobs``."""
        if self.full:
            raise NotReady("the bucket takes nothing")
        self.contents[digest] = incoming.read_bytes()

    def fetch(self, digest: str) -> Path:
        """See ``Blobs``; the simulation lays nothing out."""
        raise NotImplementedError

    def check(self, digest: str) -> None:
        """See ``Blobs``."""
        if digest not in self.contents:
            raise Damaged("the content is gone")

    def delete(self, digest: str) -> None:
        """See ``Blobs``."""
        if self.full:
            raise NotReady("the bucket takes nothing")
        self.contents.pop(digest, None)

    def stored(self) -> Iterator[tuple[str, float]]:
        """See ``Blobs``; contents are as old as anybody wants."""
        yield from ((digest, 1e9) for digest in sorted(self.contents))
