"""A connection without a socket: a clock that stands until it is moved, and a client that reads on request."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from penstock.api.http1.asgi import App, AsgiApplication
from penstock.api.http1.connection import Http1Connection
from penstock.api.http1.connection_table import ConnectionTable
from penstock.api.http1.limits import HttpLimits
from penstock.core.access.origins import OriginPolicy
from penstock.serving.memory_budget import MemoryBudget

TURNS = 12
"""Turns of the loop after each piece of input: what a request sets off is done by then."""

HIGH_WATER = 64 << 10
SECOND = 1_000_000_000

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]


class Clock:
    """Nanoseconds that pass on request."""

    def __init__(self) -> None:
        self.now_ns = SECOND

    def __call__(self) -> int:
        return self.now_ns

    def pass_seconds(self, seconds: float) -> None:
        """Move on."""
        self.now_ns += int(seconds * SECOND)


class Wire(asyncio.Transport):
    """The client's end: takes what it is sent at once, or, while it ``is_stalled``, not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Http1Connection | None = None
        self.written = bytearray()
        self.waiting = bytearray()
        self.is_stalled = False
        self.reads = True
        self.has_ended = False
        self.closed = False
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Taken, or kept."""
        assert not self.closed
        assert not self.has_ended
        if not self.is_stalled:
            self.written += data
            return
        was = len(self.waiting)
        self.waiting += data
        if was <= HIGH_WATER < len(self.waiting) and self.protocol is not None:
            self.protocol.pause_writing()

    def take(self, size: int) -> None:
        """The client reads some of what waits for it."""
        was = len(self.waiting)
        self.written += self.waiting[:size]
        del self.waiting[:size]
        if was > HIGH_WATER >= len(self.waiting) and self.protocol is not None:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait."""
        return len(self.waiting)

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def write_eof(self) -> None:
        """The server's side has ended."""
        self.has_ended = True

    def close(self) -> None:
        """Ended."""
        self.closed = True

    def abort(self) -> None:
        """Ended at once."""
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses."""
        return {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 4711)}.get(name, default)

    def pause_reading(self) -> None:
        """The server reads no more."""
        self.reads = False

    def resume_reading(self) -> None:
        """It goes on."""
        self.reads = True


class Reply(NamedTuple):
    """One answer."""

    status: int
    fields: dict[str, str]
    body: bytes


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the method, the path and the body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body, more = body + message["body"], message["more_body"]
    content = b"%b %b %b" % (scope["method"].encode(), scope["path"].encode("utf-8", "replace"), body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


def get(path: str = "/a", *fields: str, version: str = "1.1") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"GET {path} HTTP/{version}", "host: a", *fields, "", ""]).encode("latin-1")


def post(body: bytes, *fields: str, version: str = "1.1", path: str = "/a") -> bytes:
    """A request with a body of stated length."""
    lines = [f"POST {path} HTTP/{version}", "host: a", *fields, f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A request with a body in chunks."""
    head = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def replies(data: bytes) -> Iterator[Reply]:
    """Answers, one after the other; all of them state their length, come in chunks, or have no body."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        status = int(first.split()[1])
        body = b""
        if "content-length" in fields and status != 304:
            size = int(fields["content-length"])
            body, data = data[:size], data[size:]
        elif fields.get("transfer-encoding") == "chunked":
            while match := re.match(rb"([0-9a-f]+)\r\n", data):
                size = int(match[1], 16)
                data = data[match.end() :]
                body, data = body + data[:size], data[size + 2 :]
                if not size:
                    break
        yield Reply(status, fields, body)


class Server:
    """A table of connections with its application, on a loop that is turned by hand."""

    def __init__(
        self,
        app: App = echo,
        limits: HttpLimits | None = None,
        *,
        streams: bool = False,
        memory_bytes: int = 1 << 30,
        essential: frozenset[bytes] = frozenset(),
        policy: OriginPolicy | None = None,
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.memory = MemoryBudget(memory_bytes)
        application = AsgiApplication(app, streams=streams, essential=essential)
        self.table = ConnectionTable(application, limits or HttpLimits(), self.memory, self.clock, policy)

    def connect(self) -> "Client":
        """A client."""
        return Client(self)

    def turn(self, act: Callable[[], None] = lambda: None) -> None:
        """Do something on the loop, and have it go on for a while."""

        async def turned() -> None:
            act()
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turned())

    def pass_time(self, seconds: float = 0.0) -> None:
        """Let time pass, and have the connections looked at."""
        self.clock.pass_seconds(seconds)

        def check() -> None:
            for _ in range(len(self.table) + 1):  # each connection once
                self.table.check()

        self.turn(check)


class Client:
    """Says things on one connection, and hears what is answered."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.wire = Wire()
        self.connection = Http1Connection(server.table)
        self.wire.protocol = self.connection
        self.connection.connection_made(self.wire)

    def say(self, *pieces: bytes) -> list[Reply]:
        """What is answered to this, interim answers included."""
        for piece in pieces:
            self.server.turn(partial(self.connection.data_received, piece))
        return self.replies_read()

    def replies_read(self) -> list[Reply]:
        """What has been answered since this was last asked."""
        found = list(replies(bytes(self.wire.written)))
        self.wire.written.clear()
        return found

    def end(self) -> list[Reply]:
        """Say no more."""
        kept: list[bool] = []
        self.server.turn(lambda: kept.append(self.connection.eof_received()))
        if not kept[0]:
            self.wire.close()
        return self.replies_read()

    def hang_up(self) -> None:
        """Be gone."""
        self.server.turn(lambda: self.connection.connection_lost(None))

    @property
    def is_over(self) -> bool:
        """Whether the server has ended its side."""
        return self.wire.closed or self.wire.has_ended


@contextmanager
def serving(app: App = echo, limits: HttpLimits | None = None, **options: Any) -> Iterator[Server]:
    """A server for the time of a block; no task of it may be left, and no byte kept."""
    server = Server(app, limits, **options)
    try:
        yield server
    finally:
        tasks = asyncio.all_tasks(server.loop)
        for task in tasks:
            task.cancel()
        server.turn()
        server.loop.close()
