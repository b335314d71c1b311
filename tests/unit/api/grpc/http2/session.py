"""A client of a connection without a socket: it sends frames, reads what is written, and steps through turns."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from types import SimpleNamespace
from typing import NamedTuple, ParamSpec, cast

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.connection import Http2Connection
from penstock.api.grpc.http2.frames import ErrorCode, encode_frame
from penstock.api.grpc.http2.stream import Http2Stream
from penstock.serving.memory_budget import MemoryBudget
from tests.unit.api.grpc.http2.fakes import Owner, Silent, Wire

Args = ParamSpec("Args")

BLOCK = b"\x83\x86\x04\x02/a\x01\x01x"
"""POST http://x/a, literals only, so that the table stays as it is."""

TRAILERS = b"\x00\x01a\x01b"
AGE_NS = 10**12


def on_loop(test: Callable[Args, Awaitable[None]]) -> Callable[Args, None]:
    """Run a test on an event loop of its own."""

    @wraps(test)
    def run(*args: Args.args, **kwargs: Args.kwargs) -> None:
        async def body() -> None:
            await test(*args, **kwargs)

        asyncio.run(body())

    return run


class Frame(NamedTuple):
    """One frame that was written."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Recorder(Silent):
    """A stream that remembers what came of it; ``was_expired`` is set when its request took too long."""

    events: "list[str | bytes]"
    was_expired: asyncio.Event

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.events = []
        self.was_expired = asyncio.Event()

    def on_data(self, data: bytes) -> None:
        self.events.append(data)

    def on_end(self) -> None:
        self.events.append("end")

    def on_admitted(self) -> None:
        self.events.append("admitted")
        self.was_expired.set()

    def on_expired(self) -> None:
        super().on_expired()
        self.was_expired.set()

    def on_reset(self) -> None:
        self.events.append("reset")


class Transport(Wire):
    """A transport that remembers what was done to it; ``buffered`` bytes are not yet with the client."""

    def __init__(self, alpn: str | None = None) -> None:
        super().__init__()
        self.buffered = 0
        self.is_reading = True
        self.is_closed = False
        self.is_aborted = False
        self._tls = alpn and SimpleNamespace(selected_alpn_protocol=lambda: alpn)

    def get_extra_info(self, name: str) -> None:
        return cast(None, self._tls)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class Server(Owner):
    """A server that remembers its connections and streams, those that have ended too."""

    def __init__(self, kind: type[Http2Stream]) -> None:
        super().__init__(kind)
        self.connections: list[Http2Connection] = []
        self.without_alpn = 0
        self.streams: dict[int, Http2Stream] = {}

    def open_stream(self, *args: object) -> Http2Stream:
        stream = super().open_stream(*args)  # type: ignore[arg-type]
        self.streams[stream.id] = stream
        return stream

    def connection_opened(self, connection: Http2Connection) -> None:
        self.connections.append(connection)

    def connection_closed(self, connection: Http2Connection) -> None:
        self.connections.remove(connection)

    def alpn_missing(self) -> None:
        self.without_alpn += 1


class Session:
    """A connection and its client; what the server says in its greeting is already read."""

    def __init__(
        self,
        settings: dict[int, int] | None = None,
        kind: type[Http2Stream] = Recorder,
        max_streams: int = 100,
        memory: int = 1 << 30,
    ) -> None:
        self.transport = Transport()
        self.server = Server(kind)
        self.memory = MemoryBudget(memory)
        self.connection = Http2Connection(self.server, max_streams, AGE_NS, self.memory)
        self.connection.connection_made(cast(asyncio.Transport, self.transport))
        self.send(frames.PREFACE + frames.encode_settings(settings or {}))
        self.read()

    def send(self, *parts: bytes) -> None:
        """Send bytes at once."""
        self.connection.data_received(b"".join(parts))

    def open(self, number: int, block: bytes = BLOCK, ends: bool = False) -> Recorder:
        """Begin a request; its stream."""
        self.send(headers(number, block, ends))
        return self.stream(number)

    def stream(self, number: int) -> Recorder:
        """A stream that has begun."""
        return cast(Recorder, self.server.streams[number])

    def read(self) -> list[Frame]:
        """What the server has to say now, and said since the last look."""
        self.connection.flush()
        found, at, written = [], 0, bytes(self.transport.written)
        while at < len(written):
            word, flags, number = frames.FRAME_HEADER.unpack_from(written, at)
            stop = at + frames.FRAME_HEADER_BYTES + (word >> 8)
            found.append(Frame(word & 0xFF, flags, number, written[at + frames.FRAME_HEADER_BYTES : stop]))
            at = stop
        self.transport.written.clear()
        return found

    def resets(self) -> dict[int, ErrorCode]:
        """The streams that were reset since the last look, and why."""
        return {
            reply.stream: ErrorCode(int.from_bytes(reply.payload))
            for reply in self.read()
            if reply.kind == frames.RST_STREAM
        }


def headers(number: int, block: bytes = BLOCK, ends: bool = False) -> bytes:
    """The frame of a whole field block."""
    return encode_frame(frames.HEADERS, frames.END_HEADERS | (frames.END_STREAM if ends else 0), number, block)


def data(number: int, content: bytes, ends: bool = False) -> bytes:
    """A DATA frame."""
    return encode_frame(frames.DATA, frames.END_STREAM if ends else 0, number, content)


def request(number: int, content: bytes) -> bytes:
    """A whole request."""
    return headers(number) + data(number, content, ends=True)
