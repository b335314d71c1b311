"""A connection over HTTP that stays open between requests, each with a deadline for the whole exchange."""

import http.client
import select
import socket
import threading
from collections.abc import Mapping
from email.message import Message
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from penstock.control.calls.http_deadline import WHOLE, ConnectionDeadline, PlainConnection, SecureConnection

_ENDED: Final = (http.client.RemoteDisconnected, ConnectionError)
"""What a request meets whose connection the server has closed meanwhile."""


class HttpAnswer(NamedTuple):
    """An answer: its status, its header fields, and the beginning of its body."""

    status: int
    fields: Message
    content: bytes


class KeptConnection:
    """The connection to the server of a URL (http or https); of one thread at a time. Each wait for the server takes at
    most ``wait_s`` seconds. Redirects are not followed, and proxies are not used."""

    def __init__(self, url: str, wait_s: float) -> None:
        parts = urlsplit(url)
        self._target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        self._wait_s = wait_s
        kind = SecureConnection if parts.scheme == "https" else PlainConnection
        self._create = partial(kind, host=parts.hostname or "", port=parts.port, timeout=wait_s)
        self._open: tuple[PlainConnection, ConnectionDeadline] | None = None

    def post(self, body: bytes, fields: Mapping[str, str], most_content: int) -> HttpAnswer:
        """Send a request and return its answer, with at most ``most_content`` bytes of its body.

        A server may close a connection at any time: if one that was kept ends before an answer begins, the request is
        sent once more on a new one.

        Raises:
            OSError, HTTPException, ValueError: as ``http.client`` does.
        """
        if self._open is not None and _has_ended(self._open[0].sock):
            self.close()
        kept = self._open
        try:
            return self._exchange(body, fields, most_content)
        except _ENDED:
            if kept is None or kept[1].is_over:
                raise
        return self._exchange(body, fields, most_content)

    def _exchange(self, body: bytes, fields: Mapping[str, str], most_content: int) -> HttpAnswer:
        connection, deadline = self._open = self._open or self._create_connection()
        deadline.renew(self._wait_s * WHOLE)
        timer = threading.Timer(self._wait_s * WHOLE, deadline.end)
        timer.daemon = True
        timer.start()
        is_reusable = False
        try:
            connection.request("POST", self._target, body, dict(fields))
            with connection.getresponse() as answer:
                content = answer.read(most_content)
                if deadline.is_over:  # an answer that was cut off looks like one that has ended
                    raise TimeoutError("timed out")
                is_reusable = answer.isclosed() and connection.sock is not None  # read to its end, and kept by both
                return HttpAnswer(answer.status, answer.headers, content)
        finally:
            timer.cancel()
            if not is_reusable:
                self.close()

    def _create_connection(self) -> tuple[PlainConnection, ConnectionDeadline]:
        deadline = ConnectionDeadline(self._wait_s * WHOLE)
        return self._create(deadline), deadline

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._open is not None:
            connection, deadline = self._open
            self._open = None
            connection.close()
            deadline.close()


def _has_ended(kept: socket.socket | None) -> bool:
    """Return whether a connection on which nothing is expected has something to read: its end, or nonsense."""
    if kept is None:
        return True
    poll = select.poll()
    poll.register(kept, select.POLLIN)
    return bool(poll.poll(0))
