"""Opens a URL with a deadline of the whole exchange: a server that sends a byte now and then holds no thread."""

import http.client
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

WHOLE = 3.0
"""How many waits for the other side one exchange takes at most."""


@contextmanager
def exchanging(
    request: urllib.request.Request, wait_s: float, *handlers: urllib.request.BaseHandler
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request, while the block reads it. Each wait takes ``wait_s`` at most, and all that is sent and
    read ``WHOLE`` times that: then the connection ends.

    Raises:
        OSError, HTTPException, ValueError: as ``urllib`` does.
    """
    deadline = _Deadline()
    timer = threading.Timer(wait_s * WHOLE, deadline.end)
    timer.daemon = True
    timer.start()
    try:
        opener = urllib.request.build_opener(_Plain(deadline), _Secure(deadline), *handlers)
        with opener.open(request, timeout=wait_s) as answer:
            yield answer
    finally:
        timer.cancel()


class _Deadline:
    """The sockets of an exchange, to be ended by another thread."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False

    def add(self, opened: socket.socket) -> None:
        with self._lock:
            self._sockets.append(opened)
            over = self._over
        if over:
            self.end()

    def end(self) -> None:
        with self._lock:
            self._over = True
            for one in self._sockets:
                with suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)  # also of a TLS socket: it wakes who reads


class _PlainConnection(http.client.HTTPConnection):
    def __init__(self, deadline: _Deadline, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self._deadline.add(self.sock)


class _SecureConnection(_PlainConnection, http.client.HTTPSConnection):
    """The same over TLS: what it connects with comes next in the order of its bases."""


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_PlainConnection, self._deadline), req)


class _Secure(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_SecureConnection, self._deadline), req)
