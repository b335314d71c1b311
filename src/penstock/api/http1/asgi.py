"""Runs ASGI applications behind HTTP/1.1: one task for each exchange, at most one new task in each turn of the loop."""

import asyncio
import logging
import re
import socket
import struct
from asyncio.trsock import TransportSocket
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

from penstock.api.http1.answers import STATUS_LINES, error_answer
from penstock.api.http1.exchange import WHOLE, ConnectionIo, Exchange, HttpApplication
from penstock.api.http1.request_head import Http1RequestHead
from penstock.core.access.attempts import address_key
from penstock.core.access.origins import OriginRefusal
from penstock.core.traces.log_fields import caller_fields
from penstock.serving.access.caller_access import CallerAccess

log = logging.getLogger("penstock.http")

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""An ASGI 3 application."""

BUFFERED_BYTES: Final = 64 << 10
"""Bytes of a streamed body to buffer for the application before reading pauses."""

_INVALID_NAME: Final = re.compile(rb"[^!#$%&'*+.^_`|~0-9a-z-]")
_INVALID_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_CREDENTIALS: Final = struct.Struct("iII")
"""What SO_PEERCRED returns: process, user and group."""

_BODILESS: Final = frozenset({204, 304})


class AsgiRunner:
    """Runs the exchanges of one application.

    At most one starts in each turn of the loop, so that many requests do not delay predictions. If the application
    ``streams``, an exchange starts with its head, and its body is passed on as it arrives.
    """

    def __init__(self, app: App, *, streams: bool) -> None:
        self.app = app
        self.streams = streams
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[AsgiExchange] = deque()

    def start(self, exchange: "AsgiExchange") -> None:
        """Schedule an exchange."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._start_next)
        self._waiting.append(exchange)

    def _start_next(self) -> None:
        loop = asyncio.get_running_loop()
        exchange = self._waiting.popleft()
        if self._waiting:
            loop.call_soon(self._start_next)
        task = loop.create_task(exchange.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Cancel the running exchanges."""
        for task in self._tasks:
            task.cancel()


CountRefusal = Callable[[OriginRefusal, str], None]
"""Counts a request that is refused by its host or origin, with the address of the client."""


class AsgiApplication(HttpApplication):
    """One ASGI application for all requests of a listener; requests without a body for ``essential`` paths are answered
    even at the limit of connections. ``count_refusal`` counts what is refused before the application sees it."""

    def __init__(
        self,
        app: App,
        *,
        streams: bool,
        essential: frozenset[bytes] = frozenset(),
        count_refusal: CountRefusal | None = None,
    ) -> None:
        super().__init__()
        self._runner = AsgiRunner(app, streams=streams)
        self._essential = essential
        self._count_refusal = count_refusal

    def route(self, head: Http1RequestHead) -> bool:
        """Return False: heads are not cached."""
        return False

    def open(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, access: CallerAccess) -> Exchange:
        """Return the exchange for a request."""
        return AsgiExchange(connection, head, began_ns, self._runner, access)

    def count_origin_refusal(self, connection: ConnectionIo, refusal: OriginRefusal) -> None:
        """Count a request that is refused by its host or origin."""
        if self._count_refusal is not None:
            self._count_refusal(refusal, address_key(connection.info("peername")))

    def is_essential(self, head: Http1RequestHead) -> bool:
        """Whether a request is answered even at the limit of connections."""
        return head.path in self._essential and head.length == 0

    def stop(self) -> None:
        """Cancel the running exchanges."""
        self._runner.cancel()


class AsgiExchange(Exchange):
    """A request that an ASGI application answers; it finds ``access`` in ``scope["access"]``. ``lines`` are fields in
    addition to the application's."""

    def __init__(
        self,
        connection: ConnectionIo,
        head: Http1RequestHead,
        began_ns: int,
        runner: AsgiRunner,
        access: CallerAccess,
        lines: bytes = b"",
    ) -> None:
        super().__init__(connection, head, began_ns)
        self._access = access
        self.streams = runner.streams
        self._runner = runner
        self._lines = lines
        self._event = asyncio.Event()
        self._arrived = bytearray()
        self._body_delivered = False
        self._is_gone = False
        self._is_complete = False
        self._head = b""
        self._missing = 0
        self._is_chunked = False

    # The connection's side.

    def begin(self) -> None:
        """Start the application."""
        self._runner.start(self)

    def receive(self, part: memoryview) -> None:
        """Buffer a part of the body."""
        if not self.streams:
            super().receive(part)
            return
        self._arrived += part
        self._event.set()
        if len(self._arrived) > BUFFERED_BYTES:
            self.connection.pause_body()

    def end_body(self) -> None:
        """Note that the body is complete."""
        super().end_body()
        self._event.set()

    def abandon(self) -> None:
        """Note that the client is gone."""
        self._is_gone = True
        self._event.set()

    # The application's side.

    async def run(self) -> None:
        """Call the application; an incomplete response becomes an error."""
        if self._is_gone:
            return
        try:
            await self._runner.app(self._scope(), self._receive, self._send)
            if not self._is_complete and not self._is_gone:
                log.error("an application ended without a complete response")
                self._fail()
        except asyncio.CancelledError:
            self._fail()
            raise
        except Exception as error:  # a defect must not end the connection
            if not self._is_gone:
                log.exception("a request failed", exc_info=error, extra={"fields": caller_fields(self.head.fields)})
                self._fail()

    def _fail(self) -> None:
        if self._is_complete or self._is_gone:
            return
        self._is_complete = True
        if self.is_answering:
            self.connection.abort()
        else:
            self.keep_alive = False
            self.connection.answer(self, error_answer(500, "the request failed", self.connection.last_fields(self)))

    def _scope(self) -> dict[str, Any]:
        head = self.head
        path = head.path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if head.http10 else "1.1",
            "scheme": "http" if self.connection.info("sslcontext") is None else "https",
            "method": head.method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": list(head.pairs),
            "server": _format_address(self.connection.info("sockname")),
            "client": _format_address(self.connection.info("peername")),
            "state": {
                "peer": peer_process(self.connection),
                "certificate_names": self.connection.certificate_names,
            },
            "access": self._access,
            "lease": self.lease,
        }

    async def _receive(self) -> Message:
        while True:
            if self._is_gone or self._is_complete:
                return {"type": "http.disconnect"}
            part = self._next_part()
            if part is not None:
                return {"type": "http.request", "body": part, "more_body": self.body_state != WHOLE}
            self._event.clear()
            await self._event.wait()

    def _next_part(self) -> bytes | None:
        """Return the part of the body that arrived since the last call; None if there is none."""
        if self._body_delivered or not (self._arrived or self.body_state == WHOLE):
            return None
        self._body_delivered = self.body_state == WHOLE
        if not self.streams:
            part, self.body = self.body, b""
            return part
        part = bytes(self._arrived)
        self._arrived.clear()
        self.connection.resume_body()
        return part

    async def _send(self, message: Message) -> None:
        if not self._is_gone:
            await self.connection.writable()
        if self._is_gone:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self._head and not self.is_answering:
            self._head = self._answer_head(message["status"], list(message.get("headers", ())))
        elif kind == "http.response.body" and (self._head or self.is_answering) and not self._is_complete:
            self._write(message.get("body", b""), bool(message.get("more_body", False)))
        else:
            raise RuntimeError(f"the message {kind} is not expected now")

    def _answer_head(self, status: int, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Return the head of the response; it is written with the first part of the body."""
        lines = [STATUS_LINES[status]]
        has_length = self.head.method == b"HEAD" or status in _BODILESS
        for name, value in fields:
            name = name.lower()  # noqa: PLW2901 - the same name
            if _INVALID_NAME.search(name) or _INVALID_VALUE.search(value):
                raise RuntimeError("a field of the answer is not valid")
            if name == b"content-length" and not has_length:
                self._missing = int(value)
                has_length = True
            if name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
            elif name != b"transfer-encoding":
                lines.append(b"%b: %b\r\n" % (name, value))
        if not has_length:
            if self.head.http10:
                self.keep_alive = False  # the end of the connection is the end of the body
            else:
                lines.append(b"transfer-encoding: chunked\r\n")
            self._is_chunked = not self.head.http10
            self._missing = -1
        return b"%b%b%b\r\n" % (b"".join(lines), self._lines, self.connection.last_fields(self))

    def _write(self, body: bytes, more: bool) -> None:
        parts = [self._head]
        self._head = b""
        if self._missing >= 0:
            self._count(len(body), more)
        if self.head.method != b"HEAD" and body:
            parts += (b"%x\r\n" % len(body), body, b"\r\n") if self._is_chunked else (body,)
        if self._is_chunked and not more:
            parts.append(b"0\r\n\r\n")
        self.is_answering = True
        self.connection.write(b"".join(parts))
        if not more:
            self._is_complete = True
            self._event.set()
            self.connection.finish(self)

    def _count(self, size: int, more: bool) -> None:
        """Check a part of the body against the content length."""
        if self.head.method == b"HEAD":
            return
        self._missing -= size
        if self._missing < 0 or (self._missing and not more):
            raise RuntimeError("the length of the response differs from its content-length")


def peer_process(connection: ConnectionIo) -> tuple[int, int] | None:
    """Return the process that connected to a unix socket, and its user, as the kernel noted them then; None for other
    sockets."""
    if isinstance(connection.info("peername"), tuple):
        return None
    sock = connection.info("socket")
    if not isinstance(sock, (TransportSocket, socket.socket)) or sock.family != socket.AF_UNIX:
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return pid, uid


def _format_address(address: object) -> tuple[str, int] | None:
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
