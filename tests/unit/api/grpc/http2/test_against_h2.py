"""The same frames to our connection and to h2, a server's state machine of its own: they end the same streams, and the
connection at the same frame.

The codes have to be the same too. Where the two differ on purpose, ``ARGUED`` says why.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.exceptions
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.frames import ErrorCode, encode_frame
from tests.budgets import examples
from tests.unit.api.grpc.http2.fakes import Owner, Wire, connected

BLOCK = b"\x83\x86\x04\x02/a\x01\x01x"  # literals only, so that the table stays as it is
UNDECODABLE = b"\xbf"
ACK_WITH_PAYLOAD = encode_frame(frames.SETTINGS, frames.ACK, 0, bytes(6))
TRAILERS = b"\x00\x01a\x01b"


@dataclass
class History:
    """What frames have said of streams before the one that is looked at."""

    begun: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    reset: set[int] = field(default_factory=set)

    def add(self, kind: int, flags: int, number: int) -> None:
        if kind == frames.HEADERS:
            self.begun.add(number)
        if kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM:
            self.ended.add(number)
        if kind == frames.RST_STREAM:
            self.reset.add(number)


Differs = Callable[[History, int, int, bytes], bool]
"""Whether the two may differ at a frame: what was before it, its kind, its stream, all of it."""

ARGUED: dict[str, Differs] = {
    # h2 ends the connection; RFC 9113 section 5.1 makes it an error of the stream (STREAM_CLOSED)
    "frames on a stream that its peer has ended": lambda before, kind, number, _: (
        number in before.ended and kind in (frames.DATA, frames.HEADERS, frames.WINDOW_UPDATE)
    ),
    # h2 ends the connection; section 8.1.1 makes a malformed request an error of the stream
    "field blocks that are not a request, and second ones that do not end it": lambda before, kind, number, part: (
        kind == frames.HEADERS and (number in before.begun) != part.endswith(TRAILERS)
    ),
    # h2 resets the stream; nothing can have been sent on it, so it is an error of the connection, as on an idle one
    "frames on a stream that was skipped": lambda before, kind, number, _: (
        kind != frames.HEADERS and number not in before.begun and number < max(before.begun, default=0)
    ),
    # h2 takes no notice once there are streams; section 6.4 makes it an error of the connection
    "a reset of an idle stream": lambda before, kind, number, _: (
        kind == frames.RST_STREAM and number > max(before.begun, default=number)
    ),
    # h2 calls it PROTOCOL_ERROR; section 4.3 calls it COMPRESSION_ERROR
    "a field block that cannot be decoded": lambda _, kind, number, part: (
        kind == frames.HEADERS and part.endswith(UNDECODABLE)
    ),
    # h2 calls it PROTOCOL_ERROR; section 6.5 calls it FRAME_SIZE_ERROR
    "an acknowledgement of settings with a payload": lambda _, kind, number, part: part == ACK_WITH_PAYLOAD,
    # h2 has forgotten who reset it; section 5.1 makes DATA and HEADERS after the peer's own reset STREAM_CLOSED
    "frames on a stream that its peer has reset": lambda before, kind, number, _: (
        number in before.reset and kind in (frames.DATA, frames.HEADERS, frames.WINDOW_UPDATE, frames.RST_STREAM)
    ),
}
"""Where the two differ, and why this one is right."""


Codes = tuple[int | None, frozenset[tuple[int, int]]]
"""The code with which the connection ended, if it did; the streams that were reset, and their codes."""


async def read_by_server(parts: list[bytes]) -> list[Codes]:
    wire, found = Wire(), []
    connection = connected(wire, Owner())
    for part in parts:
        connection.data_received(part)
        for _ in range(3):
            await asyncio.sleep(0)
        connection.flush()
        found.append(read(bytes(wire.written)))
    return found


def read(written: bytes) -> Codes:
    at, over, resets = 0, None, dict[int, int]()
    while at < len(written):
        word, _, number = frames.FRAME_HEADER.unpack_from(written, at)
        payload = written[at + frames.FRAME_HEADER_BYTES : at + frames.FRAME_HEADER_BYTES + (word >> 8)]
        if word & 0xFF == frames.GOAWAY:
            over = int.from_bytes(payload[4:8])
        elif word & 0xFF == frames.RST_STREAM:
            resets.setdefault(number, int.from_bytes(payload))
        at += frames.FRAME_HEADER_BYTES + len(payload)
    return over, frozenset(resets.items())


def read_by_h2(parts: list[bytes]) -> list[Codes]:
    config = h2.config.H2Configuration(client_side=False, header_encoding=None)
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    connection.receive_data(frames.PREFACE + frames.encode_settings({}))
    written, found = connection.data_to_send()[:0], list[Codes]()
    for part in parts:
        try:
            connection.receive_data(part)
        except h2.exceptions.ProtocolError:
            found.append(read(written + connection.data_to_send()))
            return found
        written += connection.data_to_send()
        found.append(read(written))
    return found


def headers(number: int, ends: bool) -> bytes:
    return encode_frame(frames.HEADERS, frames.END_HEADERS | (frames.END_STREAM if ends else 0), number, BLOCK)


STREAMS = st.sampled_from([1, 3, 5])
FRAMES = st.one_of(
    st.builds(headers, STREAMS, st.booleans()),
    st.builds(
        lambda number, ends, data: encode_frame(frames.DATA, frames.END_STREAM if ends else 0, number, data),
        STREAMS,
        st.booleans(),
        st.binary(min_size=1, max_size=9),
    ),
    st.builds(
        lambda number: encode_frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, TRAILERS), STREAMS
    ),
    st.builds(frames.window_update, st.sampled_from([0, 1, 3, 5]), st.integers(1, 99)),
    st.just(frames.window_update(0, 0)),
    st.just(frames.window_update(0, frames.MAX_WINDOW)),
    st.just(encode_frame(frames.PING, 0, 0, bytes(8))),
    st.just(encode_frame(frames.PING, 0, 1, bytes(8))),
    st.just(encode_frame(frames.PING, 0, 0, bytes(7))),
    st.just(frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 100})),
    st.just(frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 1 << 31})),
    st.just(frames.encode_settings({frames.MAX_FRAME_SIZE: 1})),
    st.just(encode_frame(frames.SETTINGS, 0, 0, b"12345")),
    st.just(encode_frame(frames.SETTINGS, 0, 1)),
    st.just(encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"")),
    st.just(encode_frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, b"\0\0\0\2" + BLOCK)),
    st.just(encode_frame(frames.DATA, 0, 0, b"x")),
    st.just(headers(2, True)),
    st.just(headers(0, True)),
    st.just(encode_frame(0x42, 0, 0, b"unknown")),
    st.builds(frames.reset, st.sampled_from([0, 1, 3, 5]), st.sampled_from([ErrorCode.CANCEL, ErrorCode.NO_ERROR])),
    st.builds(lambda number: encode_frame(frames.PRIORITY, 0, number, b"\0\0\0\x07\x10"), st.sampled_from([0, 1, 3])),
    st.builds(frames.window_update, STREAMS, st.just(frames.MAX_WINDOW)),
    st.just(encode_frame(frames.RST_STREAM, 0, 1, b"123")),
    st.just(encode_frame(frames.WINDOW_UPDATE, 0, 0, b"123")),
    st.just(ACK_WITH_PAYLOAD),
    st.just(encode_frame(frames.GOAWAY, 0, 1, bytes(8))),
    st.just(frames.encode_settings({frames.ENABLE_PUSH: 2})),
    st.builds(lambda number: encode_frame(frames.DATA, frames.PADDED, number, b"\x09short"), STREAMS),
    st.builds(lambda number: encode_frame(frames.HEADERS, frames.END_HEADERS, number, UNDECODABLE), STREAMS),
)


def argued(parts: list[bytes]) -> bool:
    """Whether the two may differ at one of these frames."""
    history = History()
    for part in parts:
        word, flags, number = frames.FRAME_HEADER.unpack_from(part)
        kind = word & 0xFF
        if any(differs(history, kind, number, part) for differs in ARGUED.values()):
            return True
        history.add(kind, flags, number)
    return False


@settings(max_examples=examples(1000))
@example([headers(1, False), frames.reset(3, ErrorCode.CANCEL)])
@given(st.lists(FRAMES, max_size=10))
def test_the_same_frames_end_the_same_with_the_same_code(parts: list[bytes]) -> None:
    found, expected = asyncio.run(read_by_server(parts)), read_by_h2(parts)
    for number, (own, oracle) in enumerate(zip(found, expected, strict=False)):
        if argued(parts[: number + 1]):
            return
        assert own == oracle, (number, parts[: number + 1])
        if own[0] is not None:
            return
        if own[1]:
            return  # after an error of a stream, h2 and RFC 9113 leave open what late frames mean
