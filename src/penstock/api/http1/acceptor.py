"""Takes connections from a listening socket: few at a time, so that limits are looked at before descriptors run out."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

log = logging.getLogger("penstock.http")

BACKLOG: Final = 2048
ACCEPTS_A_TURN: Final = 32
MAX_PENDING: Final = 256
"""Connections that may be in their TLS handshake; beyond them nobody is accepted until one of them is over."""

HANDSHAKE_S: Final = 10.0
SLOW_HANDSHAKE_S: Final = 0.25
"""A handshake that has lasted longer is given up where others wait for its place."""

RETRY_S: Final = 0.1
"""So long nothing is accepted after the system had nothing left for a connection."""

SILENCE_S: Final = 60.0
"""That is said no more often."""


class Acceptor:
    """Makes a protocol by ``factory`` for each connection to ``sock``, with TLS if there is a ``context``; where the
    system has nothing left for one, ``make_room`` is called. Lives on one event loop."""

    def __init__(
        self,
        sock: socket.socket,
        factory: Callable[[], Any],
        context: ssl.SSLContext | None,
        make_room: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._factory = factory
        self._context = context
        self._make_room = make_room
        self._pending: dict[asyncio.Task[None], float] = {}  # and since when, by the clock of the loop
        self._is_full = False
        self._said = -SILENCE_S
        self._is_closed = False
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._go_on()

    def close(self) -> None:
        """Take who has connected already, and nobody after that."""
        if not self._is_closed:
            while self._accept():
                pass  # at most as many as may be pending
            self._is_closed = True
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def abort(self) -> None:
        """Give up whoever is still in its handshake."""
        for task in list(self._pending):
            task.cancel()

    def _go_on(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> bool:
        """Take some of who has connected; False where there is nobody else, or no place for them."""
        for _ in range(ACCEPTS_A_TURN):
            if len(self._pending) >= MAX_PENDING and not self._give_up_slow():
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

    def _give_up_slow(self) -> bool:
        """Give the oldest handshake up if it has had its time; whether it had."""
        oldest, began = next(iter(self._pending.items()))
        if self._loop.time() - began < SLOW_HANDSHAKE_S:
            return False
        del self._pending[oldest]
        oldest.cancel()
        return True

    def _pause(self) -> None:
        """Accept nobody until a handshake is over, or has lasted too long; who comes waits in the backlog."""
        if not self._is_closed:
            self._is_full = True
            self._loop.remove_reader(self._sock)
            self._loop.call_later(SLOW_HANDSHAKE_S, self._resume)

    def _resume(self) -> None:
        if self._is_full:
            self._is_full = False
            self._go_on()

    async def _connect(self, client: socket.socket) -> None:
        handshake_s = None if self._context is None else HANDSHAKE_S
        protocol = self._factory()
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._context, ssl_handshake_timeout=handshake_s
            )
        except (OSError, asyncio.CancelledError):  # TLS's errors and its timeout are among them
            client.close()
            protocol.connection_lost(None)  # uvloop tells it nothing where it was made a moment before

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._pending.pop(task, None)
        self._resume()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection could not be taken", exc_info=error)

    def _wait(self, error: OSError) -> None:
        """The system has no descriptor or memory left for a connection: others may be given up for it."""
        if self._is_closed:
            return
        self._make_room()
        self._loop.remove_reader(self._sock)
        self._loop.call_later(RETRY_S, self._go_on)
        now = self._loop.time()
        if now - self._said > SILENCE_S:
            self._said = now
            log.warning("no connection can be accepted for now: %s", error.strerror)
