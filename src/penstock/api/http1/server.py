"""A listener for HTTP/1.1: accepts connections of one application, looks after them, and drains them."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from time import monotonic_ns

from penstock.api.http1.acceptor import Acceptor
from penstock.api.http1.connection import Connection
from penstock.api.http1.connection_table import TICK_S, ConnectionTable
from penstock.api.http1.exchange import Application
from penstock.api.http1.limits import Limits
from penstock.serving.memory_budget import MemoryBudget

log = logging.getLogger("penstock.http")


class Http1Server:
    """Serves one application on one listening socket, with TLS if there is a ``certificate`` (files of chain and key);
    ``start``, then ``drain``, then ``stop``, all on one event loop."""

    def __init__(
        self,
        application: Application,
        limits: Limits,
        memory: MemoryBudget,
        certificate: tuple[str, str] | None = None,
        clock_ns: Callable[[], int] = monotonic_ns,
    ) -> None:
        self.table = ConnectionTable(application, limits, memory, clock_ns)
        self._certificate = certificate
        self._acceptor: Acceptor | None = None
        self._ticking: asyncio.Task[None] | None = None

    def connection(self) -> Connection:
        """A connection that waits for its transport."""
        return Connection(self.table)

    async def start(self, sock: socket.socket) -> None:
        """Listen on a bound socket; returns once connections are accepted."""
        self._acceptor = Acceptor(sock, self.connection, _context(self._certificate), self.table.evict)
        self._ticking = asyncio.create_task(self._tick())

    def drain(self) -> None:
        """Accept nobody any more and let every connection end with its last answer."""
        if self._acceptor is not None:
            self._acceptor.close()
        self.table.drain()

    async def stop(self, grace_s: float) -> None:
        """Wait for what is under way, at most ``grace_s`` seconds, then end whatever is left."""
        empty = asyncio.Event()
        self.table.on_empty = empty.set
        self.drain()
        if len(self.table):
            await asyncio.wait([asyncio.create_task(empty.wait())], timeout=grace_s)
        self.table.abort()
        if self._acceptor is not None:
            self._acceptor.abort()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.table.tick()
            except Exception as error:  # one connection's bug must not leave the others without deadlines
                log.exception("a look at the connections failed", exc_info=error)


def _context(certificate: tuple[str, str] | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["http/1.1"])
    return context
