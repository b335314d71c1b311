"""The connections of one listener: which are open, which have a request under way, and which go when they are too many.

Deadlines are looked at by ``tick``, called about ten times a second, so that a request costs no timer.
"""

from collections.abc import Callable
from itertools import islice
from random import uniform
from time import monotonic_ns, time
from typing import Final

from penstock.api.http1.answers import date_line
from penstock.api.http1.exchange import Application, ConnectionIo
from penstock.api.http1.limits import Limits
from penstock.api.http1.request_head import CHUNKED, RequestHead, read_head
from penstock.serving.memory_budget import MemoryBudget

TICK_S: Final = 0.1
TICKS_A_ROUND: Final = 10
"""Ticks in which every connection is looked at once."""

AGE_JITTER: Final = 0.1
"""Ages of connections differ by this share, that not all clients come back at once."""

MAX_HEADS: Final = 1024
LONGEST_HEAD: Final = 2048
"""Heads that are remembered, and bytes of the longest; clients choose them."""

EVICTION_SCAN: Final = 256
"""Connections that are looked at to find an idle one."""

# What becomes of a new connection.
ADMITTED: Final = 0
RESERVED: Final = 1
REFUSED: Final = 2


class TableEntry(ConnectionIo):
    """A connection as the table sees it."""

    def check_deadline(self, now_ns: int) -> None:
        """Refuse a request that has not come to its end in time."""
        raise NotImplementedError

    def sweep(self, now_ns: int) -> None:
        """Close a connection that nobody uses; called about once a second."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Whether no request is under way."""
        raise NotImplementedError

    def close_idle(self) -> None:
        """Close it if no request is under way."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it."""
        raise NotImplementedError


class ConnectionTable:
    """Connections to one ``application``, on one event loop; what they keep is taken from ``memory``."""

    def __init__(
        self,
        application: Application,
        limits: Limits,
        memory: MemoryBudget,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.application = application
        self.limits = limits
        self.memory = memory
        self.clock_ns = clock_ns
        self.is_draining = False
        self.date_line = date_line(time())
        self.heads: dict[bytes, RequestHead] = {}
        self.refused = 0
        self.evicted = 0
        self._connections: dict[TableEntry, None] = {}
        self._unfinished: dict[TableEntry, None] = {}
        self._headless: dict[TableEntry, None] = {}
        self.on_empty: Callable[[], None] | None = None
        self._round: list[TableEntry] = []
        self._round_at = 0

    def __len__(self) -> int:
        return len(self._connections)

    # Heads.

    def head(self, data: bytes) -> RequestHead:
        """The head that these bytes are.

        Raises:
            HeadError: they are none, or the application refuses it.
        """
        known = self.heads.get(data)
        if known is not None:
            return known
        head = read_head(data)
        if self.application.route(head) and _is_repeatable(head):
            if len(self.heads) >= MAX_HEADS:
                self.heads.clear()
            self.heads[data] = head
        return head

    # Connections.

    def add(self, connection: TableEntry) -> int:
        """A client has connected: ``ADMITTED``, ``RESERVED`` (for essential requests alone) or ``REFUSED``."""
        limits = self.limits
        if len(self._connections) >= limits.max_connections:
            self.evict()
        more = len(self._connections) - limits.max_connections
        if more >= max(0, limits.reserved_connections):
            self.refused += 1
            return REFUSED
        self._connections[connection] = None
        self._headless[connection] = None
        return ADMITTED if more < 0 else RESERVED

    def evict(self) -> None:
        """Close a connection that does nothing, to make room: first the oldest that owes its head, then an idle one."""
        victim = next(iter(self._headless), None)
        if victim is None:
            victim = next((one for one in islice(self._connections, EVICTION_SCAN) if one.is_idle()), None)
        if victim is not None:
            self.evicted += 1
            self.remove(victim)
            victim.abort()

    def remove(self, connection: TableEntry) -> None:
        """It is gone."""
        self._connections.pop(connection, None)
        self._unfinished.pop(connection, None)
        self._headless.pop(connection, None)
        if not self._connections and self.on_empty is not None:
            self.on_empty()

    def note_head(self, connection: TableEntry, *, is_whole: bool) -> None:
        """Whether a connection has sent a whole head, and no part of the next one."""
        if is_whole:
            self._headless.pop(connection, None)
        else:
            self._headless[connection] = None

    def note_unfinished(self, connection: TableEntry, *, is_unfinished: bool) -> None:
        """Whether a request has begun to come and is not whole yet."""
        if is_unfinished:
            self._unfinished[connection] = None
        else:
            self._unfinished.pop(connection, None)

    def age_limit_ns(self) -> int:
        """Until when a new connection is not old."""
        return self.clock_ns() + int(self.limits.connection_s * uniform(1 - AGE_JITTER, 1 + AGE_JITTER) * 1e9)

    # Time.

    def tick(self) -> None:
        """Look at requests that are not whole, and at a part of all connections."""
        now_ns = self.clock_ns()
        for connection in list(self._unfinished):
            connection.check_deadline(now_ns)
        if self._round_at >= len(self._round):
            self.date_line = date_line(time())
            self._round, self._round_at = list(self._connections), 0
        stop = self._round_at + len(self._connections) // TICKS_A_ROUND + 1
        for connection in self._round[self._round_at : stop]:
            if connection in self._connections:
                connection.sweep(now_ns)
        self._round_at = stop

    def drain(self) -> None:
        """Close what is idle; every other connection ends with its last answer."""
        self.is_draining = True
        for connection in list(self._connections):
            connection.close_idle()

    def abort(self) -> None:
        """End every connection at once."""
        for connection in list(self._connections):
            connection.abort()


def _is_repeatable(head: RequestHead) -> bool:
    return head.keep_alive and head.length != CHUNKED and not head.expects_continue and head.size <= LONGEST_HEAD
