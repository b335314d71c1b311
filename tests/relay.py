"""A relay before a server, which can swallow everything: connections stay open, nothing arrives, as in a partition."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.harness import PATIENCE_S

READ_BYTES = 1 << 16


class Relay:
    """Takes connections at ``port`` and passes them on to a port of this machine, for the time of ``relaying``."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._over = False
        self._start(self._accept)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Pass nothing on for the time of a block, on connections old and new; afterwards what waited goes on."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def lead_to(self, target: int) -> None:
        """Pass new connections on to another port; present ones stay where they are."""
        self._target = target

    def cut(self) -> None:
        """End all present connections at once; new ones may begin."""
        for sock in list(self._sockets):
            with suppress(OSError):  # one side was first
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections and threads."""
        self._over = True
        self._open.set()
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over:
            try:
                client, _ = self._listener.accept()
                self._open.wait()
                server = socket.create_connection(("127.0.0.1", self._target), 10)
            except OSError:
                continue
            server.settimeout(None)
            self._sockets += [client, server]
            self._start(self._pass_on, client, server)
            self._start(self._pass_on, server, client)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(READ_BYTES):
                self._open.wait()
                target.sendall(data)
        with suppress(OSError):
            self._open.wait()
            target.shutdown(socket.SHUT_WR)


@contextmanager
def relaying(target: int) -> Iterator[Relay]:
    """A relay to a port of this machine for the time of a block."""
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.close()
