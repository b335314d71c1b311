"""A connection without a socket: a transport that keeps what is written, and a server with nothing behind it."""

import asyncio
from time import monotonic_ns
from typing import cast

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.connection import Http2Connection
from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.api.grpc.http2.stream import Http2Stream, StreamIo
from penstock.serving.memory_budget import MemoryBudget
from tests.plain import NeedsPlain


class Silent(NeedsPlain, Http2Stream):
    """A stream that takes everything and answers nothing."""

    def on_data(self, data: bytes) -> None:
        pass

    def on_end(self) -> None:
        pass

    def on_reset(self) -> None:
        pass


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        for part in parts:
            self.written += part

    def get_extra_info(self, name: str) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close


class Owner:
    """A server with nothing behind it but streams of one kind."""

    def __init__(self, kind: type[Http2Stream] = Silent) -> None:
        self._kind = kind

    def interpret(self, head: Http2RequestHead) -> Http2RequestHead:
        return head

    def open_stream(self, io: StreamIo, stream_id: int, head: Http2RequestHead, send_window: int) -> Http2Stream:
        return self._kind(io, stream_id, head, send_window, monotonic_ns())

    def connection_opened(self, connection: Http2Connection) -> None:
        pass

    def connection_closed(self, connection: Http2Connection) -> None:
        pass

    def alpn_missing(self) -> None:
        pass

    def flush_soon(self, connection: object) -> None:
        connection.loop.call_soon(connection.flush)  # type: ignore[attr-defined]


def connected(
    wire: Wire, owner: Owner, greeting: bytes = frames.PREFACE + frames.encode_settings({})
) -> Http2Connection:
    """A connection whose client has greeted; on the running loop."""
    connection = Http2Connection(owner, 100, 10**12, MemoryBudget(1 << 30))
    connection.connection_made(cast(asyncio.Transport, wire))
    connection.data_received(greeting)
    return connection
