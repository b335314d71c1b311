"""A listener for HTTP/1.1: accepts the connections of one application, checks their deadlines, and drains them."""

import asyncio
import logging
import socket
from collections.abc import Callable
from time import monotonic_ns

from penstock.api.http1.acceptor import Acceptor
from penstock.api.http1.connection import Http1Connection
from penstock.api.http1.connection_table import CHECK_INTERVAL_S, ConnectionTable
from penstock.api.http1.exchange import HttpApplication
from penstock.api.http1.limits import HttpLimits
from penstock.api.tls import ContextSource
from penstock.core.access.origins import OriginPolicy
from penstock.serving.memory_budget import MemoryBudget

log = logging.getLogger("penstock.http")


class Http1Server:
    """Serves one application on one listening socket, with TLS if there is a source of contexts (``tls``); ``start``,
    then ``drain``, then ``stop``, all on one event loop. The ``policy`` decides which hosts and origins requests may
    state (None: any)."""

    def __init__(
        self,
        application: HttpApplication,
        limits: HttpLimits,
        memory: MemoryBudget,
        tls: ContextSource | None = None,
        clock_ns: Callable[[], int] = monotonic_ns,
        policy: OriginPolicy | None = None,
    ) -> None:
        self.table = ConnectionTable(application, limits, memory, clock_ns, policy)
        self._tls = tls
        self._acceptor: Acceptor | None = None
        self._check_task: asyncio.Task[None] | None = None
        self._occupied = asyncio.Event()
        self.table.on_occupied = self._occupied.set

    def connection(self) -> Http1Connection:
        """Return a connection that waits for its transport."""
        return Http1Connection(self.table)

    async def start(self, sock: socket.socket) -> None:
        """Listen on a bound socket."""
        self._acceptor = Acceptor(sock, self.connection, self._tls, self.table.evict)
        self._check_task = asyncio.create_task(self._check())

    def announce_end(self) -> None:
        """Accept connections, and let each end with its next answer."""
        self.table.announce_end()

    def drain(self) -> None:
        """Stop accepting; every connection ends with its last answer."""
        if self._acceptor is not None:
            self._acceptor.close()
        self.table.drain()

    async def stop(self, grace_s: float) -> None:
        """Drain for at most ``grace_s`` seconds, then end the remaining connections."""
        empty = asyncio.Event()
        self.table.on_empty = empty.set
        self.drain()
        if len(self.table):
            await asyncio.wait([asyncio.create_task(empty.wait())], timeout=grace_s)
        self.table.abort()
        if self._acceptor is not None:
            self._acceptor.abort()
        if self._check_task is not None:
            self._check_task.cancel()
            await asyncio.gather(self._check_task, return_exceptions=True)

    async def _check(self) -> None:
        while True:
            await self._occupied.wait()
            await asyncio.sleep(CHECK_INTERVAL_S)
            try:
                self.table.check()
            except Exception as error:  # a defect of one connection must not disable the deadlines of others
                log.exception("the check of the connections failed", exc_info=error)
            if not len(self.table):
                self._occupied.clear()
