"""The same frames to our connection and to h2, a server's state machine of its own: they end the same streams, and the
connection at the same frame.

Where the two differ on purpose, ``ARGUED`` says why.
"""

import asyncio
from time import monotonic_ns
from typing import cast

import h2.config
import h2.connection
import h2.exceptions
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.connection import Connection
from penstock.api.grpc.http2.frames import frame
from penstock.api.grpc.http2.request_head import RequestHead
from penstock.api.grpc.http2.stream import Stream, StreamIo
from penstock.serving.memory_budget import MemoryBudget

BLOCK = b"\x83\x86\x04\x02/a\x01\x01x"  # literals only, so that the table stays as it is
TRAILERS = b"\x00\x01a\x01b"

ARGUED = (
    "frames on a stream that its peer has ended: RFC 9113 section 5.1 makes them errors of the stream (STREAM_CLOSED)",
    "field blocks that are no request, and second ones that do not end it: errors of the stream (section 8.1.1)",
    "frames on a stream that was skipped: nothing was ever sent on it, so it is an error of the connection",
)
"""Where the two differ, and why ours is right."""


class Silent(Stream):
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

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        pass

    abort = close


class Owner:
    """A server with nothing behind it."""

    def interpret(self, head: RequestHead) -> RequestHead:
        return head

    def open_stream(self, io: StreamIo, stream_id: int, head: RequestHead, send_window: int) -> Stream:
        return Silent(io, stream_id, head, send_window, monotonic_ns())

    def connection_opened(self, connection: Connection) -> None:
        pass

    def connection_closed(self, connection: Connection) -> None:
        pass

    def flush_soon(self, connection: object) -> None:
        connection.loop.call_soon(connection.flush)  # type: ignore[attr-defined]


Outcome = tuple[bool, frozenset[int]]
"""Whether the connection ended, and the streams that were reset."""


async def ours(parts: list[bytes]) -> list[Outcome]:
    wire, found = Wire(), []
    connection = Connection(Owner(), 100, 10**12, MemoryBudget(1 << 30))
    connection.connection_made(cast(asyncio.Transport, wire))
    connection.data_received(frames.PREFACE + frames.settings({}))
    for part in parts:
        connection.data_received(part)
        for _ in range(3):
            await asyncio.sleep(0)
        connection.flush()
        found.append(read(bytes(wire.written)))
    return found


def read(written: bytes) -> Outcome:
    at, over, resets = 0, False, set()
    while at < len(written):
        word, _, number = frames.FRAME_HEADER.unpack_from(written, at)
        stop = at + frames.FRAME_HEADER_BYTES + (word >> 8)
        if word & 0xFF == frames.GOAWAY:
            over = True
        elif word & 0xFF == frames.RST_STREAM:
            resets.add(number)
        at = stop
    return over, frozenset(resets)


def theirs(parts: list[bytes]) -> list[Outcome]:
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.receive_data(frames.PREFACE + frames.settings({}))
    connection.data_to_send()
    found, resets = list[Outcome](), set[int]()
    for part in parts:
        try:
            connection.receive_data(part)
        except h2.exceptions.ProtocolError:
            found.append((True, frozenset(resets)))
            return found
        resets |= read(connection.data_to_send() or b"")[1]
        found.append((False, frozenset(resets)))
    return found


def headers(number: int, ends: bool) -> bytes:
    return frame(frames.HEADERS, frames.END_HEADERS | (frames.END_STREAM if ends else 0), number, BLOCK)


STREAMS = st.sampled_from([1, 3, 5])
FRAMES = st.one_of(
    st.builds(headers, STREAMS, st.booleans()),
    st.builds(
        lambda number, ends, data: frame(frames.DATA, frames.END_STREAM if ends else 0, number, data),
        STREAMS,
        st.booleans(),
        st.binary(min_size=1, max_size=9),
    ),
    st.builds(lambda number: frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, TRAILERS), STREAMS),
    st.builds(frames.window_update, st.sampled_from([0, 1, 3, 5]), st.integers(1, 99)),
    st.just(frames.window_update(0, 0)),
    st.just(frames.window_update(0, frames.MAX_WINDOW)),
    st.just(frame(frames.PING, 0, 0, bytes(8))),
    st.just(frame(frames.PING, 0, 1, bytes(8))),
    st.just(frame(frames.PING, 0, 0, bytes(7))),
    st.just(frames.settings({frames.INITIAL_WINDOW_SIZE: 100})),
    st.just(frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31})),
    st.just(frames.settings({frames.MAX_FRAME_SIZE: 1})),
    st.just(frame(frames.SETTINGS, 0, 0, b"12345")),
    st.just(frame(frames.SETTINGS, 0, 1)),
    st.just(frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"")),
    st.just(frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2" + BLOCK)),
    st.just(frame(frames.DATA, 0, 0, b"x")),
    st.just(headers(2, True)),
    st.just(headers(0, True)),
    st.just(frame(0x42, 0, 0, b"unknown")),
)


def argued(parts: list[bytes]) -> bool:
    """Whether the two may differ at the last of these frames, by one of the reasons in ``ARGUED``."""
    begun, ended = set[int](), set[int]()
    for part in parts:
        word, flags, number = frames.FRAME_HEADER.unpack_from(part)
        kind = word & 0xFF
        if number in ended and kind in (frames.DATA, frames.HEADERS, frames.WINDOW_UPDATE):
            return True
        if kind != frames.HEADERS and number not in begun and number < max(begun, default=0):
            return True
        if kind == frames.HEADERS and (number in begun) != part.endswith(TRAILERS):
            return True
        if kind == frames.HEADERS:
            begun.add(number)
        if kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM:
            ended.add(number)
    return False


@settings(max_examples=1000)
@given(st.lists(FRAMES, max_size=10))
def test_the_same_frames_end_the_same(parts: list[bytes]) -> None:
    found, expected = asyncio.run(ours(parts)), theirs(parts)
    for number, (mine, oracle) in enumerate(zip(found, expected, strict=False)):
        if argued(parts[: number + 1]):
            return
        assert mine[0] == oracle[0], (number, parts[: number + 1])
        if mine[0]:
            return
        assert mine[1] == oracle[1], (number, parts[: number + 1])
        if mine[1]:
            return  # after an error of a stream, h2 and RFC 9113 leave open what late frames mean
