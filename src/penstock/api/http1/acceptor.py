"""Accepts connections from a listening socket: few at a time, so that limits apply before descriptors run out."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from penstock.api.tls import ContextSource

log = logging.getLogger("penstock.http")

BACKLOG: Final = 2048
ACCEPTS_A_TURN: Final = 32
MAX_PENDING: Final = 256
"""Maximum of connections in their TLS handshake; at the limit, nothing is accepted until one is over."""

HANDSHAKE_S: Final = 10.0
SLOW_HANDSHAKE_S: Final = 0.25
"""Age after which a handshake is cancelled if other connections wait."""

RETRY_S: Final = 0.1
"""Pause after the system had no resources for a connection."""

WARNING_INTERVAL_S: Final = 60.0
"""Shortest time between two warnings about it."""


class Acceptor:
    """Makes a protocol by ``factory`` for each connection to ``sock``, with TLS by the present context of ``tls`` if
    there is one; ``evict`` is called when the system has no resources for another one. Runs on one event loop."""

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], Any],
        tls: ContextSource | None,
        evict: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._factory = factory
        self._tls = tls
        self._evict = evict
        self._pending: dict[asyncio.Task[None], float] = {}  # and since when, by the clock of the loop
        self._is_full = False
        self._warned_at = -WARNING_INTERVAL_S
        self._is_closed = False
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._resume_accepting()

    def close(self) -> None:
        """Accept the connections in the backlog, then close the socket."""
        if not self._is_closed:
            while self._accept():
                pass  # at most as many as may be pending
            self._is_closed = True
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def abort(self) -> None:
        """Cancel all handshakes."""
        for task in list(self._pending):
            task.cancel()

    def _resume_accepting(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> bool:
        """Accept some connections; return False if there are no more, or no capacity for them."""
        for _ in range(ACCEPTS_A_TURN):
            if len(self._pending) >= MAX_PENDING and not self._cancel_slow():
                self._pause()
                return False
            try:
                client, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:
                self._wait(error)
                return False
            self._take(client)
        return True

    def _take(self, client: socket.socket) -> None:
        client.setblocking(False)
        task = self._loop.create_task(self._connect(client))
        self._pending[task] = self._loop.time()
        task.add_done_callback(self._settled)

    def _cancel_slow(self) -> bool:
        """Cancel the oldest handshake if it is slow; return whether it was."""
        oldest, began = next(iter(self._pending.items()))
        if self._loop.time() - began < SLOW_HANDSHAKE_S:
            return False
        del self._pending[oldest]
        oldest.cancel()
        return True

    def _pause(self) -> None:
        """Accept nothing until a handshake is over or slow; new connections wait in the backlog."""
        if not self._is_closed:
            self._is_full = True
            self._loop.remove_reader(self._sock)
            self._loop.call_later(SLOW_HANDSHAKE_S, self._resume)

    def _resume(self) -> None:
        if self._is_full:
            self._is_full = False
            self._resume_accepting()

    async def _connect(self, client: socket.socket) -> None:
        context = None if self._tls is None else self._tls()
        handshake_s = None if context is None else HANDSHAKE_S
        protocol = self._factory()
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, client, ssl=context, ssl_handshake_timeout=handshake_s
            )
        except (OSError, asyncio.CancelledError):  # includes errors and the timeout of TLS
            client.close()
            protocol.connection_lost(None)  # uvloop does not call it for a connection that was just made

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._pending.pop(task, None)
        self._resume()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection could not be accepted", exc_info=error)

    def _wait(self, error: OSError) -> None:
        """Pause accepting and evict a connection: the system has no descriptor or memory left."""
        if self._is_closed:
            return
        self._evict()
        self._loop.remove_reader(self._sock)
        self._loop.call_later(RETRY_S, self._resume_accepting)
        now = self._loop.time()
        if now - self._warned_at > WARNING_INTERVAL_S:
            self._warned_at = now
            log.warning("cannot accept connections: %s; retrying", error.strerror)
