"""Opens a URL with a deadline for the whole exchange: name resolution, connections, the TLS handshake and the answer.

A server that sends a byte now and then, a name that is not resolved, or many addresses that say nothing hold no thread.
"""

import http.client
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

WHOLE = 3.0
"""The maximum time of an exchange, in waits for the other side."""

RESOLVERS = 8
"""Maximum concurrent name resolutions: the system's resolver has no deadline, so it has its own threads."""

_resolvers = threading.BoundedSemaphore(RESOLVERS)

SocketAddress = tuple[socket.AddressFamily, socket.SocketKind, int, Any]
"""An address to connect to: family, kind, protocol and address."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: what is sent only goes to the stated address."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
        return


@contextmanager
def send_request(
    request: urllib.request.Request,
    wait_s: float,
    *handlers: urllib.request.BaseHandler,
    permits: Callable[[str], bool] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Yield the answer to a request while the block reads it.

    Each wait takes at most ``wait_s``, and the whole exchange ``WHOLE`` times that: then the connection ends. A name is
    resolved once, and a connection is opened only to an address that ``permits`` allows (any by default).

    Raises:
        TimeoutError: the connection was ended; what the block has read may be cut off, which it does not see.
        OSError, HTTPException, ValueError: as ``urllib`` does.
    """
    deadline = ConnectionDeadline(wait_s * WHOLE, permits)
    timer = threading.Timer(wait_s * WHOLE, deadline.end)
    timer.daemon = True
    timer.start()
    try:
        opener = urllib.request.build_opener(_PlainHandler(deadline), _SecureHandler(deadline), *handlers)
        with opener.open(request, timeout=wait_s) as answer:
            yield answer
        if deadline.is_over:
            raise TimeoutError("timed out")
    finally:
        timer.cancel()
        deadline.close()


class ConnectionDeadline:
    """The deadline of an exchange, and its connections, which another thread ends.

    ``connect`` opens a connection, as ``http.client`` asks for it.
    """

    def __init__(self, after_s: float, permits: Callable[[str], bool] | None = None) -> None:
        self._permits = permits
        self._at = time.monotonic() + after_s
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False

    def connect(self, address: tuple[str, int], wait_s: float, *_: object) -> socket.socket:
        """Connect to the first address of a name that accepts, as ``socket.create_connection`` does."""
        failed = OSError("the name has no address")
        for candidate in self._resolve(*address):
            try:
                return self._connect(candidate, wait_s)
            except OSError as error:
                failed = error
        raise failed

    def end(self) -> None:
        """End all connections, which wakes every thread that waits for one of them."""
        with self._lock:
            self._over = True
            for item in self._sockets:
                with suppress(OSError):
                    item.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for item in self._sockets:
                item.close()
            self._sockets.clear()

    @property
    def is_over(self) -> bool:
        """Whether it has ended the connections."""
        return self._over

    def renew(self, after_s: float) -> None:
        """Let another exchange begin, which is to end after so many seconds."""
        self._at = time.monotonic() + after_s

    def _left_s(self) -> float:
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def _connect(self, candidate: SocketAddress, wait_s: float) -> socket.socket:
        family, kind, protocol, where = candidate
        if self._permits is not None and not self._permits(where[0]):
            raise OSError("the address is not permitted")
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(min(wait_s, self._left_s()))
            opened.connect(where)
            self._add(opened)
        except BaseException:
            opened.close()
            raise
        return opened

    def _add(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.append(opened.dup())  # TLS takes the descriptor of the other one before its handshake
            over = self._over
        if over:
            self.end()

    def _resolve(self, host: str, port: int) -> list[SocketAddress]:
        if not _resolvers.acquire(timeout=self._left_s()):
            raise TimeoutError("names are not resolved")
        addresses: Future[list[SocketAddress]] = Future()
        try:
            threading.Thread(target=_resolve, args=(host, port, addresses), name="resolver", daemon=True).start()
        except RuntimeError as error:  # no thread can be started
            _resolvers.release()
            raise OSError(str(error)) from None
        return addresses.result(self._left_s())


def _resolve(host: str, port: int, addresses: "Future[list[SocketAddress]]") -> None:
    try:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses.set_result([(family, kind, protocol, where) for family, kind, protocol, _, where in resolved])
    except Exception as error:
        addresses.set_exception(error)
    finally:
        _resolvers.release()


class PlainConnection(http.client.HTTPConnection):
    """A connection within a deadline."""

    def __init__(self, deadline: ConnectionDeadline, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._create_connection = deadline.connect


class SecureConnection(PlainConnection, http.client.HTTPSConnection):
    """A connection over TLS; the next base in the method resolution order connects."""


class _PlainHandler(urllib.request.HTTPHandler):
    def __init__(self, deadline: ConnectionDeadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(PlainConnection, self._deadline), req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, deadline: ConnectionDeadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(SecureConnection, self._deadline), req)
