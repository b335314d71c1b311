"""The connections of one listener: the open ones, those with an incomplete request, and which to close at the limit.

``check`` enforces deadlines; it is called about ten times a second while there are connections, so that a request needs
no timer, and a server without clients no processor time.
"""

from collections.abc import Callable
from itertools import islice
from random import uniform
from time import monotonic_ns, time
from typing import Final

from penstock.api.http1.answers import date_line
from penstock.api.http1.exchange import ConnectionIo, HttpApplication
from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.request_head import CHUNKED, HeadError, Http1RequestHead, read_head
from penstock.core.access.origins import OriginPolicy
from penstock.core.bounded_cache import BoundedCache
from penstock.serving.memory_budget import MemoryBudget

CHECK_INTERVAL_S: Final = 0.1
CHECKS_PER_ROUND: Final = 10
"""Calls of ``check`` after which every connection was checked once."""

AGE_JITTER: Final = 0.1
"""Random variation of the age limit of connections, so that clients do not reconnect at the same time."""

MAX_HEADS: Final = 1024
LONGEST_HEAD: Final = 2048
"""Maximum number of cached heads, and bytes of the longest; clients choose them."""

EVICTION_SCAN: Final = 256
"""Connections to check for an idle one."""

# The result of ``add``.
ADMITTED: Final = 0
RESERVED: Final = 1
REFUSED: Final = 2


class TableEntry(ConnectionIo):
    """A connection as the table sees it."""

    def check_deadline(self, now_ns: int) -> None:
        """Refuse a request that is incomplete after its deadline."""
        raise NotImplementedError

    def sweep(self, now_ns: int) -> None:
        """Close an unused connection; called about once a second."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Whether no request is open."""
        raise NotImplementedError

    def close_idle(self) -> None:
        """Close it if no request is open."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it after the queued bytes are sent."""
        raise NotImplementedError

    def retire(self) -> None:
        """Close it with its next answer."""
        raise NotImplementedError


class ConnectionTable:
    """Connections to one ``application``, on one event loop; the bytes they hold count against ``memory``, and the
    ``policy`` decides which hosts and origins their requests may state (None: any)."""

    def __init__(
        self,
        application: HttpApplication,
        limits: HttpLimits,
        memory: MemoryBudget,
        clock_ns: Callable[[], int] = monotonic_ns,
        policy: OriginPolicy | None = None,
    ) -> None:
        self.application = application
        self._policy = policy
        self.limits = limits
        self.memory = memory
        self.clock_ns = clock_ns
        self.is_ending = False
        self.is_draining = False
        self.date_line = date_line(time())
        self.heads: BoundedCache[bytes, Http1RequestHead] = BoundedCache(MAX_HEADS, MAX_HEADS * LONGEST_HEAD)
        self._connections: dict[TableEntry, None] = {}
        self._unfinished: dict[TableEntry, None] = {}
        self._headless: dict[TableEntry, None] = {}
        self.on_empty: Callable[[], None] | None = None
        self.on_occupied: Callable[[], None] | None = None
        self._round: list[TableEntry] = []
        self._round_at = 0

    def __len__(self) -> int:
        return len(self._connections)

    # Heads.

    def head(self, connection: ConnectionIo, data: bytes) -> Http1RequestHead:
        """Return the head in these bytes, which a connection has received.

        Raises:
            HeadError: it is invalid, or the policy or the application refuses it.
        """
        cached = self.heads.get(data)
        if cached is not None:
            return cached
        head = read_head(data)
        self._check_origin(connection, head)
        if self.application.route(head) and _is_repeatable(head):
            self.heads.put(data, head, head.size)
        return head

    def _check_origin(self, connection: ConnectionIo, head: Http1RequestHead) -> None:
        """Refuse a request before anything is routed; a cached head is not checked again."""
        if self._policy is not None:
            refusal = self._policy.refusal(head.method, head.authority, head.fields)
            if refusal is not None:
                self.application.count_origin_refusal(connection, refusal)
                raise HeadError(refusal.status, refusal.message)

    # Connections.

    def add(self, connection: TableEntry) -> int:
        """Add a new connection; return ``ADMITTED``, ``RESERVED`` (for essential requests only) or ``REFUSED``."""
        limits = self.limits
        if len(self._connections) >= limits.max_connections:
            self.evict()
        more = len(self._connections) - limits.max_connections
        if more >= max(0, limits.reserved_connections):
            return REFUSED
        if not self._connections:
            self._end_idle_time()
        self._connections[connection] = None
        self._headless[connection] = None
        return ADMITTED if more < 0 else RESERVED

    def _end_idle_time(self) -> None:
        """Have ``check`` called again: there is a connection."""
        self.date_line = date_line(time())
        if self.on_occupied is not None:
            self.on_occupied()

    def evict(self) -> None:
        """Close one connection to free its place: the oldest without a complete head, else an idle one."""
        victim = next(iter(self._headless), None)
        if victim is None:
            victim = next((item for item in islice(self._connections, EVICTION_SCAN) if item.is_idle()), None)
        if victim is not None:
            self.remove(victim)
            victim.abort()

    def remove(self, connection: TableEntry) -> None:
        """Remove a closed connection."""
        self._connections.pop(connection, None)
        self._unfinished.pop(connection, None)
        self._headless.pop(connection, None)
        if not self._connections and self.on_empty is not None:
            self.on_empty()

    def note_head(self, connection: TableEntry, *, is_whole: bool) -> None:
        """Note whether a connection has sent a complete head, and no part of the next one."""
        if is_whole:
            self._headless.pop(connection, None)
        else:
            self._headless[connection] = None

    def note_unfinished(self, connection: TableEntry, *, is_unfinished: bool) -> None:
        """Note whether a request of a connection is incomplete."""
        if is_unfinished:
            self._unfinished[connection] = None
        else:
            self._unfinished.pop(connection, None)

    def age_limit_ns(self) -> int:
        """Return the time (``clock_ns``) at which a new connection reaches its age limit."""
        return self.clock_ns() + int(self.limits.connection_s * uniform(1 - AGE_JITTER, 1 + AGE_JITTER) * 1e9)

    # Time.

    def check(self) -> None:
        """Check the deadlines of incomplete requests, and a part of all connections."""
        now_ns = self.clock_ns()
        for connection in list(self._unfinished):
            connection.check_deadline(now_ns)
        if self._round_at >= len(self._round):
            self.date_line = date_line(time())
            self._round, self._round_at = list(self._connections), 0
        stop = self._round_at + len(self._connections) // CHECKS_PER_ROUND + 1
        for connection in self._round[self._round_at : stop]:
            if connection in self._connections:
                connection.sweep(now_ns)
        self._round_at = stop
        if not self._connections:
            self._round, self._round_at = [], 0  # closed connections are not kept in memory

    def announce_end(self) -> None:
        """Let every connection end with its next answer, so that its client connects to another server; those that
        are idle stay open, as a client may be sending on them."""
        self.is_ending = True

    def drain(self) -> None:
        """Close idle connections; every other one ends with its last answer."""
        self.is_ending = self.is_draining = True
        for connection in list(self._connections):
            connection.close_idle()

    def retire_certified(self) -> None:
        """Retire the connections of clients with a certificate: the authorities have changed."""
        for connection in list(self._connections):
            if connection.certificate_names:
                connection.retire()

    def abort(self) -> None:
        """End every connection immediately."""
        for connection in list(self._connections):
            connection.abort()


def _is_repeatable(head: Http1RequestHead) -> bool:
    return head.keep_alive and head.length != CHUNKED and not head.expects_continue and head.size <= LONGEST_HEAD
