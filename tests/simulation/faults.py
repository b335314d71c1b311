"""What goes wrong in the simulation: a database that refuses or forgets to answer, and a bucket that does not take."""

import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.control.periodic import ProblemLog
from penstock.core.errors import DataLoss, Fault, NotReady
from penstock.registry.db.database import AWAY, Database
from penstock.registry.db.lease import LeaderConnections

WRITTEN: list[str] = []
FAILED: list[str] = []
"""What the watchers below have found in the present run, of writes and of failures; there should be nothing."""

LAST_LINE = sa.text("SELECT max(seq) FROM audit")
ACTORS_SINCE = sa.text("SELECT DISTINCT actor FROM audit WHERE seq > :first")

CHANGES: Counter[str] = Counter()
"""By actor, the transactions of the present run that have added lines to the audit."""


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
        self.signatures = database.signatures

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
            first = connection.execute(LAST_LINE).scalar() or 0
            yield connection
            actors = set(connection.execute(ACTORS_SINCE, {"first": first}).scalars())
        CHANGES.update(actors)
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

    @contextmanager
    def renewing(self) -> Iterator[sa.Connection]:
        """For what a gateway renews."""
        with self.recording() as connection:
            yield connection

    def change_mark(self) -> None:
        """Nobody knows whether it has changed."""

    def acquire_leadership(self) -> bool:
        """Whether this gateway decides for all."""
        return self.lease.acquire_leadership(self)

    def close(self) -> None:
        """Release the lease, and close the connections."""
        self._database.close()


class Bucket:
    """Contents in memory, for all gateways; ``full`` takes nothing more, ``forgetful`` does what it is asked, and
    may not say so."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.full = self.forgetful = False
        self.contents: dict[str, bytes] = {}

    def _answer(self) -> None:
        if self.forgetful and self._chance.random() < 0.5:
            raise NotReady("the bucket does not answer")

    def keep(self, incoming: Path, digest: str) -> None:
        """See ``Blobs``."""
        if self.full:
            raise NotReady("the bucket takes nothing")
        self.contents[digest] = incoming.read_bytes()
        self._answer()

    def fetch(self, digest: str) -> Path:
        """See ``Blobs``; the simulation lays nothing out."""
        raise NotImplementedError

    def check(self, digest: str) -> None:
        """See ``Blobs``."""
        self._answer()
        if digest not in self.contents:
            raise DataLoss("the content is gone")

    def delete(self, digest: str) -> None:
        """See ``Blobs``."""
        if self.full:
            raise NotReady("the bucket takes nothing")
        self.contents.pop(digest, None)
        self._answer()

    def stored(self) -> Iterator[tuple[str, float]]:
        """See ``Blobs``; contents are as old as anybody wants."""
        yield from ((digest, 1e9) for digest in sorted(self.contents))


class WatchedLeaderConnections(LeaderConnections):
    """Looks itself whether whoever writes as the leader is the leader, at the end of each such transaction."""

    def _look(self, connection: sa.Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        (term,) = raw.execute("SELECT term FROM leadership").fetchone()
        own = self.lease._term
        if term != own:
            WRITTEN.append(f"{self.lease.gateway} has written as the leader of term {own}, in term {term}")

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """See ``LeaderConnections``."""
        with super().writing() as connection:
            yield connection
            self._look(connection)

    @contextmanager
    def recording(self) -> Iterator[sa.Connection]:
        """See ``LeaderConnections``."""
        with super().recording() as connection:
            yield connection
            self._look(connection)


def report_problem(_: ProblemLog, subject: Hashable, text: str, error: BaseException | None = None) -> None:
    """Stands in for ``ProblemLog.tell``: whatever goes wrong, tasks are to fail with faults that explain themselves."""
    if error is not None and not isinstance(error, Fault):
        FAILED.append(f"{text} ({subject}): {error!r}")
