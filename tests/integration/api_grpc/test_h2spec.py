"""Every case of h2spec (generic, http2 and hpack), by raw frames against a running server.

A row is one case, under the number that h2spec gives it. Where h2spec takes an error of the stream or of the
connection, the row says which one it has to be here: what is wrong on a stream must not end its connection.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.frames import ErrorCode, encode_frame
from penstock.api.grpc.services import GrpcOptions
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.raw import HEALTH, Raw
from tests.integration.api_grpc.requests import pair, slow
from tests.integration.api_grpc.worker import Worker

E, S = frames.END_HEADERS, frames.END_STREAM
MESSAGE = pair(1, 1, 1).SerializeToString()
BODY = b"\0" + len(MESSAGE).to_bytes(4) + MESSAGE
SLOW = slow().SerializeToString()
SLOW_BODY = b"\0" + len(SLOW).to_bytes(4) + SLOW
STREAMS = 8
"""Streams at a time that the server allows."""

FRAME_BYTES = 64 << 10
"""Payload of the largest frame that it takes."""

Send = Callable[[Raw], bytes]
Expect = Callable[[Raw], None]


@dataclass(frozen=True)
class Case:
    """What is sent, and what has to come of it; ``argued`` says why it is not what h2spec wants."""

    id: str
    send: Send
    expect: Expect
    argued: str = ""


# What is sent.


def headers(raw: Raw, flags: int = E, number: int = 1, **more: str) -> bytes:
    return encode_frame(frames.HEADERS, flags, number, raw.head(**more))


def fields(raw: Raw, *pairs: tuple[str, str], flags: int = E | S, number: int = 1) -> bytes:
    """A field block of just these."""
    return encode_frame(frames.HEADERS, flags, number, raw.encoder.encode(list(pairs)))


def data(flags: int = S, number: int = 1, body: bytes = BODY) -> bytes:
    return encode_frame(frames.DATA, flags, number, body)


def call(raw: Raw, number: int = 1) -> bytes:
    return headers(raw, number=number) + data(number=number)


def slow_call(raw: Raw) -> bytes:
    """A request that is whole, and not answered at once."""
    return headers(raw) + data(body=SLOW_BODY)


def priority(number: int, depends_on: int = 0, weight: int = 255, exclusive: bool = False) -> bytes:
    word = depends_on | (1 << 31 if exclusive else 0)
    return encode_frame(frames.PRIORITY, 0, number, word.to_bytes(4) + bytes((weight,)))


def with_field(field: bytes) -> Send:
    """A call with one more field, as it is encoded."""
    return lambda raw: encode_frame(frames.HEADERS, E, 1, raw.head() + field) + data()


def with_update(update: bytes) -> Send:
    """A call whose field block begins with changes of the table's size."""
    return lambda raw: encode_frame(frames.HEADERS, E, 1, update + raw.head()) + data()


def string(text: bytes, huffman: bool = False) -> bytes:
    if huffman:
        text = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text)
    return bytes((len(text) | (0x80 if huffman else 0),)) + text


def literal(first: bytes, name: bytes | None, huffman: bool) -> Send:
    """A call with a literal field of this kind, its name indexed (user-agent) or spelled out."""
    spelled = b"" if name is None else string(name, huffman)
    return with_field(first + spelled + string(b"h2", huffman))


def answered_first(raw: Raw) -> None:
    """Complete a call, so that its stream is closed."""
    raw.write(call(raw))
    assert raw.answer(1).reset is None


def after_a_call(send: Send) -> Send:
    def sent(raw: Raw) -> bytes:
        answered_first(raw)
        return send(raw)

    return sent


PATHS = ((":method", "POST"), (":scheme", "http"), (":path", HEALTH), (":authority", "localhost"))
GRPC = ("content-type", "application/grpc")
PING = encode_frame(frames.PING, 0, 0, b"pingpong")


# What has to come of it.


def alive(raw: Raw) -> None:
    """The connection is as good as before."""
    raw.write(encode_frame(frames.PING, 0, 0, b"yetalive"))
    while raw.frames_until(frames.PING).payload != b"yetalive":
        pass
    assert not any(item.kind == frames.GOAWAY for item in raw.other)


def answered(raw: Raw) -> None:
    answer = raw.answer(1)
    assert ":status" in answer.fields
    assert answer.reset in (None, ErrorCode.NO_ERROR)
    alive(raw)


def succeeded(raw: Raw) -> None:
    assert raw.answer(1).status == 0
    alive(raw)


def stream_error(code: ErrorCode, number: int = 1) -> Expect:
    def expect(raw: Raw) -> None:
        assert raw.answer(number).reset == code
        alive(raw)

    return expect


def connection_error(code: ErrorCode) -> Expect:
    def expect(raw: Raw) -> None:
        assert raw.until_closed() == code

    return expect


def sent_so_far(count: int, more: bytes = b"", then: int | None = None) -> Expect:
    """Only ``count`` bytes of the answer come; after ``more`` is sent, ``then`` of them."""

    def expect(raw: Raw) -> None:
        while len(raw.answers[1].data if 1 in raw.answers else b"") < count or 1 not in raw.answers:
            raw.read()
        alive(raw)
        assert len(raw.answers[1].data) == count
        if then is not None:
            raw.write(more)
            while len(raw.answers[1].data) < then:
                raw.read()
            alive(raw)
            assert len(raw.answers[1].data) == then

    return expect


def server_preface(raw: Raw) -> None:
    while not raw.other:
        raw.read()
    first = raw.other[0]
    assert (first.kind, first.flags & frames.ACK, first.stream) == (frames.SETTINGS, 0, 0)


def settings_acknowledged(raw: Raw) -> None:
    alive(raw)
    acknowledged = [item for item in raw.other if item.kind == frames.SETTINGS and item.flags & frames.ACK]
    assert [item.payload for item in acknowledged] == [b"", b""]  # the first ones, and those of the case


def only_the_second_ping(raw: Raw) -> None:
    one = raw.frames_until(frames.PING)
    assert (one.flags, one.payload) == (frames.ACK, b"question")


def ping_answered(raw: Raw) -> None:
    one = raw.frames_until(frames.PING)
    assert (one.flags, one.payload, one.stream) == (frames.ACK, b"pingpong", 0)


PROTOCOL = connection_error(ErrorCode.PROTOCOL_ERROR)
FRAME_SIZE = connection_error(ErrorCode.FRAME_SIZE_ERROR)
FLOW_CONTROL = connection_error(ErrorCode.FLOW_CONTROL_ERROR)
COMPRESSION = connection_error(ErrorCode.COMPRESSION_ERROR)
MALFORMED = stream_error(ErrorCode.PROTOCOL_ERROR)
STREAM_CLOSED = stream_error(ErrorCode.STREAM_CLOSED)

OBSOLETE_PRIORITIES = (
    "RFC 9113 section 5.3 deprecates priorities and no longer calls this an error; they are read and mean nothing"
)

GENERIC = [
    Case("generic/1/1", lambda raw: b"", server_preface),
    Case("generic/2/1", lambda raw: priority(1) + call(raw), succeeded),
    Case("generic/2/2", lambda raw: slow_call(raw) + frames.window_update(1, 100), succeeded),
    Case("generic/2/3", lambda raw: slow_call(raw) + priority(1), succeeded),
    Case("generic/2/4", lambda raw: slow_call(raw) + frames.reset(1, ErrorCode.CANCEL), alive),
    Case("generic/2/5", after_a_call(lambda raw: priority(1)), alive),
    Case("generic/3.1/1", call, succeeded),
    Case("generic/3.1/2", lambda raw: headers(raw) + data(0, body=BODY[:9]) + data(body=BODY[9:]), succeeded),
    Case("generic/3.1/3", lambda raw: headers(raw) + data(S | 8, body=b"\3" + BODY + bytes(3)), succeeded),
    Case("generic/3.2/1", lambda raw: headers(raw, E | S), answered),
    Case(
        "generic/3.2/2", lambda raw: encode_frame(frames.HEADERS, E | S | 8, 1, b"\3" + raw.head() + bytes(3)), answered
    ),
    Case(
        "generic/3.2/3", lambda raw: encode_frame(frames.HEADERS, E | S | 32, 1, b"\0\0\0\0\x10" + raw.head()), answered
    ),
    Case("generic/3.3/1", lambda raw: priority(1, weight=0) + call(raw), succeeded),
    Case("generic/3.3/2", lambda raw: priority(1, weight=255) + call(raw), succeeded),
    Case("generic/3.3/3", lambda raw: priority(1) + priority(3, depends_on=1) + call(raw), succeeded),
    Case("generic/3.3/4", lambda raw: priority(1, exclusive=True) + call(raw), succeeded),
    Case("generic/3.3/5", lambda raw: priority(5) + call(raw), succeeded),
    Case("generic/3.4/1", lambda raw: headers(raw) + frames.reset(1, ErrorCode.CANCEL), alive),
    Case("generic/3.5/1", lambda raw: frames.encode_settings({1: 0}), settings_acknowledged),
    Case("generic/3.7/1", lambda raw: PING, ping_answered),
    Case("generic/3.8/1", lambda raw: call(raw) + frames.encode_goaway(0, ErrorCode.NO_ERROR), succeeded),
    Case("generic/3.9/1", lambda raw: frames.window_update(0, 1) + call(raw), succeeded),
    Case("generic/3.9/2", lambda raw: headers(raw) + frames.window_update(1, 1) + data(), succeeded),
    Case("generic/3.10/1", lambda raw: pieces(raw, 2), succeeded),
    Case("generic/3.10/2", lambda raw: pieces(raw, 4), succeeded),
    Case("generic/4/1", lambda raw: headers(raw, E | S, method="GET"), answered),
    Case("generic/4/2", lambda raw: headers(raw, E | S, method="HEAD"), answered),
    Case("generic/4/3", call, succeeded),
    Case("generic/4/4", lambda raw: headers(raw) + data(0) + fields(raw, ("x-after", "1")), succeeded),
    Case("generic/5/1", with_field(b"\x90"), succeeded),
    Case("generic/5/2", literal(b"\x7a", None, False), succeeded),
    Case("generic/5/3", literal(b"\x7a", None, True), succeeded),
    Case("generic/5/4", literal(b"\x40", b"x-test", False), succeeded),
    Case("generic/5/5", literal(b"\x40", b"x-test", True), succeeded),
    Case("generic/5/6", literal(b"\x0f\x2b", None, False), succeeded),
    Case("generic/5/7", literal(b"\x0f\x2b", None, True), succeeded),
    Case("generic/5/8", literal(b"\x00", b"x-test", False), succeeded),
    Case("generic/5/9", literal(b"\x00", b"x-test", True), succeeded),
    Case("generic/5/10", literal(b"\x1f\x2b", None, False), succeeded),
    Case("generic/5/11", literal(b"\x1f\x2b", None, True), succeeded),
    Case("generic/5/12", literal(b"\x10", b"x-test", False), succeeded),
    Case("generic/5/13", literal(b"\x10", b"x-test", True), succeeded),
    Case("generic/5/14", with_update(b"\x20"), succeeded),
    Case("generic/5/15", with_update(b"\x20\x3f\xe1\x1f"), succeeded),
]


def pieces(raw: Raw, count: int) -> bytes:
    """A call whose field block comes in so many frames."""
    block = raw.head()
    size = -(-len(block) // count)
    parts = [block[at : at + size] for at in range(0, len(block), size)]
    found = encode_frame(frames.HEADERS, 0, 1, parts[0])
    for part in parts[1:-1]:
        found += encode_frame(frames.CONTINUATION, 0, 1, part)
    return found + encode_frame(frames.CONTINUATION, E, 1, parts[-1]) + data()


def continuation(flags: int = E, number: int = 1, block: bytes = b"\x00\x01a\x01b") -> bytes:
    return encode_frame(frames.CONTINUATION, flags, number, block)


def too_many_streams(raw: Raw) -> bytes:
    return b"".join(headers(raw, number=2 * index + 1) for index in range(STREAMS + 1))


STREAMS_AND_FRAMES = [
    Case("http2/3.5/1", lambda raw: b"", server_preface),
    Case("http2/3.5/2", lambda raw: b"INVALID CONNECTION PREFACE\r\n\r\n", PROTOCOL),
    Case("http2/4.1/1", lambda raw: encode_frame(0xFF, 0, 0, b"unknown") + call(raw), succeeded),
    Case("http2/4.1/2", lambda raw: encode_frame(frames.PING, 0x16, 0, b"pingpong"), ping_answered),
    Case("http2/4.1/3", lambda raw: frames.FRAME_HEADER.pack(8 << 8 | frames.PING, 0, 1 << 31) + b"pingpong", alive),
    Case("http2/4.2/1", lambda raw: headers(raw) + data(body=bytes(1 << 14)), answered),
    Case("http2/4.2/2", lambda raw: headers(raw) + data(body=bytes(FRAME_BYTES + 1)), FRAME_SIZE),
    Case("http2/4.2/3", lambda raw: encode_frame(frames.HEADERS, E | S, 1, bytes(FRAME_BYTES + 1)), FRAME_SIZE),
    Case("http2/4.3/1", lambda raw: encode_frame(frames.HEADERS, E | S, 1, b"\x10\x01a"), COMPRESSION),
    Case("http2/4.3/2", lambda raw: headers(raw, 0) + priority(1) + continuation(), PROTOCOL),
    Case("http2/4.3/3", lambda raw: headers(raw, 0) + headers(raw, number=3) + continuation(), PROTOCOL),
    Case("http2/5.1/1", lambda raw: data(), PROTOCOL),
    Case("http2/5.1/2", lambda raw: frames.reset(1, ErrorCode.CANCEL), PROTOCOL),
    Case("http2/5.1/3", lambda raw: frames.window_update(1, 100), PROTOCOL),
    Case("http2/5.1/4", lambda raw: continuation(), PROTOCOL),
    Case("http2/5.1/5", lambda raw: slow_call(raw) + data(), STREAM_CLOSED),
    Case("http2/5.1/6", lambda raw: slow_call(raw) + headers(raw, E | S), STREAM_CLOSED),
    Case("http2/5.1/7", lambda raw: slow_call(raw) + continuation(), PROTOCOL),
    Case("http2/5.1/8", lambda raw: headers(raw) + frames.reset(1, ErrorCode.CANCEL) + data(), STREAM_CLOSED),
    Case(
        "http2/5.1/9", lambda raw: headers(raw) + frames.reset(1, ErrorCode.CANCEL) + headers(raw, E | S), STREAM_CLOSED
    ),
    Case("http2/5.1/10", lambda raw: headers(raw) + frames.reset(1, ErrorCode.CANCEL) + continuation(), PROTOCOL),
    Case("http2/5.1/11", after_a_call(lambda raw: data()), connection_error(ErrorCode.STREAM_CLOSED)),
    Case("http2/5.1/12", after_a_call(lambda raw: headers(raw, E | S)), connection_error(ErrorCode.STREAM_CLOSED)),
    Case("http2/5.1/13", after_a_call(lambda raw: continuation()), PROTOCOL),
    Case("http2/5.1.1/1", lambda raw: headers(raw, E | S, number=2), PROTOCOL),
    Case("http2/5.1.1/2", lambda raw: call(raw, 5) + headers(raw, E | S, number=3), PROTOCOL),
    Case("http2/5.1.2/1", too_many_streams, stream_error(ErrorCode.REFUSED_STREAM, 2 * STREAMS + 1)),
    Case(
        "http2/5.3.1/1",
        lambda raw: encode_frame(frames.HEADERS, E | 32, 1, b"\0\0\0\1\x10" + raw.head()) + data(),
        succeeded,
        OBSOLETE_PRIORITIES,
    ),
    Case("http2/5.3.1/2", lambda raw: priority(1, depends_on=1) + call(raw), succeeded, OBSOLETE_PRIORITIES),
    Case("http2/5.4.1/1", lambda raw: encode_frame(frames.PING, 0, 3, bytes(8)), PROTOCOL),
    Case("http2/5.4.1/2", lambda raw: encode_frame(frames.PING, 0, 3, bytes(8)), PROTOCOL),
    Case("http2/5.5/1", lambda raw: encode_frame(0x16, 0, 0, bytes(8)) + PING, ping_answered),
    Case("http2/5.5/2", lambda raw: headers(raw, 0) + encode_frame(0x16, 0, 1, bytes(8)) + continuation(), PROTOCOL),
    Case("http2/6.1/1", lambda raw: headers(raw) + data(number=0), PROTOCOL),
    Case("http2/6.1/2", lambda raw: slow_call(raw) + data(), STREAM_CLOSED),
    Case("http2/6.1/3", lambda raw: headers(raw) + data(S | 8, body=b"\x06Test"), PROTOCOL),
    Case("http2/6.2/1", lambda raw: headers(raw, 0) + priority(1), PROTOCOL),
    Case("http2/6.2/2", lambda raw: headers(raw, 0) + headers(raw, number=3), PROTOCOL),
    Case("http2/6.2/3", lambda raw: headers(raw, E | S, number=0), PROTOCOL),
    Case("http2/6.2/4", lambda raw: encode_frame(frames.HEADERS, E | S | 8, 1, b"\xff" + raw.head()), PROTOCOL),
    Case("http2/6.3/1", lambda raw: priority(0), PROTOCOL),
    Case(
        "http2/6.3/2",
        lambda raw: headers(raw) + encode_frame(frames.PRIORITY, 0, 1, bytes(4)),
        stream_error(ErrorCode.FRAME_SIZE_ERROR),
    ),
    Case("http2/6.4/1", lambda raw: frames.reset(0, ErrorCode.CANCEL), PROTOCOL),
    Case("http2/6.4/2", lambda raw: frames.reset(1, ErrorCode.CANCEL), PROTOCOL),
    Case("http2/6.4/3", lambda raw: headers(raw) + encode_frame(frames.RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE),
    Case("http2/6.5/1", lambda raw: encode_frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), FRAME_SIZE),
    Case("http2/6.5/2", lambda raw: encode_frame(frames.SETTINGS, 0, 1, b"\0\3\0\0\0\x64"), PROTOCOL),
    Case("http2/6.5/3", lambda raw: encode_frame(frames.SETTINGS, 0, 0, bytes(3)), FRAME_SIZE),
    Case("http2/6.5.2/1", lambda raw: frames.encode_settings({2: 2}), PROTOCOL),
    Case("http2/6.5.2/2", lambda raw: frames.encode_settings({4: 1 << 31}), FLOW_CONTROL),
    Case("http2/6.5.2/3", lambda raw: frames.encode_settings({5: (1 << 14) - 1}), PROTOCOL),
    Case("http2/6.5.2/4", lambda raw: frames.encode_settings({5: 1 << 24}), PROTOCOL),
    Case("http2/6.5.2/5", lambda raw: frames.encode_settings({0xFF: 1}) + call(raw), succeeded),
    Case(
        "http2/6.5.3/1",
        lambda raw: encode_frame(frames.SETTINGS, 0, 0, b"\0\4\0\0\0\x64\0\4\0\0\0\1") + call(raw),
        sent_so_far(1),
    ),
    Case("http2/6.5.3/2", lambda raw: frames.encode_settings({2: 0}), settings_acknowledged),
    Case("http2/6.7/1", lambda raw: PING, ping_answered),
    Case(
        "http2/6.7/2",
        lambda raw: (
            encode_frame(frames.PING, frames.ACK, 0, b"an reply") + encode_frame(frames.PING, 0, 0, b"question")
        ),
        only_the_second_ping,
    ),
    Case("http2/6.7/3", lambda raw: encode_frame(frames.PING, 0, 1, bytes(8)), PROTOCOL),
    Case("http2/6.7/4", lambda raw: encode_frame(frames.PING, 0, 0, bytes(6)), FRAME_SIZE),
    Case("http2/6.8/1", lambda raw: encode_frame(frames.GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    Case("http2/6.9/1", lambda raw: frames.window_update(0, 0), PROTOCOL),
    Case("http2/6.9/2", lambda raw: headers(raw) + frames.window_update(1, 0), MALFORMED),
    Case("http2/6.9/3", lambda raw: encode_frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE),
    Case("http2/6.9.1/1", lambda raw: frames.encode_settings({4: 1}) + call(raw), sent_so_far(1)),
    Case("http2/6.9.1/2", lambda raw: frames.window_update(0, frames.MAX_WINDOW) * 2, FLOW_CONTROL),
    Case(
        "http2/6.9.1/3",
        lambda raw: headers(raw) + frames.window_update(1, frames.MAX_WINDOW) * 2,
        stream_error(ErrorCode.FLOW_CONTROL_ERROR),
    ),
    Case(
        "http2/6.9.2/1",
        lambda raw: frames.encode_settings({4: 0}) + call(raw) + frames.encode_settings({4: 1}),
        sent_so_far(1),
    ),
    Case(
        "http2/6.9.2/2",
        lambda raw: frames.encode_settings({4: 3}) + call(raw),
        sent_so_far(3, frames.encode_settings({4: 2}) + frames.window_update(1, 2), 4),
    ),
    Case("http2/6.9.2/3", lambda raw: frames.encode_settings({4: 1 << 31}), FLOW_CONTROL),
    Case("http2/6.10/1", lambda raw: headers(raw, 0) + continuation(0) + continuation() + data(), succeeded),
    Case("http2/6.10/2", lambda raw: headers(raw, 0) + continuation(0) + data(), PROTOCOL),
    Case("http2/6.10/3", lambda raw: headers(raw, 0) + continuation(number=0), PROTOCOL),
    Case("http2/6.10/4", lambda raw: headers(raw) + continuation(), PROTOCOL),
    Case("http2/6.10/5", lambda raw: headers(raw, 0) + continuation() + continuation(), PROTOCOL),
    Case("http2/6.10/6", lambda raw: headers(raw, 0) + data() + continuation(), PROTOCOL),
    Case("http2/7/1", lambda raw: encode_frame(frames.GOAWAY, 0, 0, bytes(4) + b"\0\0\0\xff") + PING, ping_answered),
    Case(
        "http2/7/2",
        lambda raw: headers(raw) + encode_frame(frames.RST_STREAM, 0, 1, b"\0\0\0\xff") + PING,
        ping_answered,
    ),
]


def trailers(*pairs: tuple[str, str], flags: int = E | S) -> Send:
    return lambda raw: headers(raw) + data(0) + fields(raw, *pairs, flags=flags)


def only(*pairs: tuple[str, str]) -> Send:
    """A request with these fields and a content type."""
    return lambda raw: fields(raw, *pairs, GRPC)


MESSAGES = [
    Case("http2/8.1/1", trailers(("x-after", "1"), flags=E), MALFORMED),
    Case("http2/8.1.2/1", only(*PATHS, ("X-TEST", "ok")), MALFORMED),
    Case("http2/8.1.2.1/1", only(*PATHS, (":test", "ok")), MALFORMED),
    Case("http2/8.1.2.1/2", only(*PATHS, (":status", "200")), MALFORMED),
    Case("http2/8.1.2.1/3", trailers((":method", "200")), MALFORMED),
    Case("http2/8.1.2.1/4", only(*PATHS[:-1], ("x-test", "ok"), PATHS[-1]), MALFORMED),
    Case("http2/8.1.2.2/1", only(*PATHS, ("connection", "keep-alive")), MALFORMED),
    Case("http2/8.1.2.2/2", only(*PATHS, ("trailers", "test"), ("te", "trailers, deflate")), MALFORMED),
    Case("http2/8.1.2.3/1", only((":method", "POST"), (":scheme", "http"), (":path", "")), MALFORMED),
    Case("http2/8.1.2.3/2", only(*PATHS[1:]), MALFORMED),
    Case("http2/8.1.2.3/3", only(PATHS[0], *PATHS[2:]), MALFORMED),
    Case("http2/8.1.2.3/4", only(*PATHS[:2], PATHS[3]), MALFORMED),
    Case("http2/8.1.2.3/5", only(*PATHS, PATHS[0]), MALFORMED),
    Case("http2/8.1.2.3/6", only(*PATHS, PATHS[1]), MALFORMED),
    Case("http2/8.1.2.3/7", only(*PATHS, PATHS[2]), MALFORMED),
    Case("http2/8.1.2.6/1", lambda raw: headers(raw, content_length="1") + data(), MALFORMED),
    Case("http2/8.1.2.6/2", lambda raw: headers(raw, content_length="1") + data(0) + data(), MALFORMED),
    Case("http2/8.2/1", lambda raw: encode_frame(frames.PUSH_PROMISE, E, 1, b"\0\0\0\3" + raw.head()), PROTOCOL),
]

HPACK = [
    Case("hpack/2.3.3/1", with_field(b"\xff\x00"), COMPRESSION),
    Case("hpack/2.3.3/2", with_field(b"\x7f\x40" + string(b"x")), COMPRESSION),
    Case("hpack/4.2/1", with_field(b"\x21"), COMPRESSION),
    Case("hpack/5.2/1", with_field(b"\x00" + string(b"x-test") + b"\x82\x1f\xff"), COMPRESSION),
    Case("hpack/5.2/2", with_field(b"\x00" + string(b"x-test") + b"\x81\x18"), COMPRESSION),
    Case("hpack/5.2/3", with_field(b"\x00" + string(b"x-test") + b"\x84\xff\xff\xff\xff"), COMPRESSION),
    Case("hpack/6.1/1", with_field(b"\x80"), COMPRESSION),
    Case("hpack/6.3/1", with_update(b"\x3f\xe2\x1f"), COMPRESSION),
]

CASES = [*GENERIC, *STREAMS_AND_FRAMES, *MESSAGES, *HPACK]
COUNTS = {
    "generic": "1:1 2:5 3.1:3 3.2:3 3.3:5 3.4:1 3.5:1 3.7:1 3.8:1 3.9:2 3.10:2 4:4 5:15",
    "http2": "3.5:2 4.1:3 4.2:3 4.3:3 5.1:13 5.1.1:2 5.1.2:1 5.3.1:2 5.4.1:2 5.5:2 6.1:3 6.2:4 6.3:2 6.4:3 6.5:3 "
    "6.5.2:5 6.5.3:2 6.7:4 6.8:1 6.9:3 6.9.1:3 6.9.2:3 6.10:6 7:2 8.1:1 8.1.2:1 8.1.2.1:4 8.1.2.2:2 8.1.2.3:7 "
    "8.1.2.6:2 8.2:1",
    "hpack": "2.3.3:2 4.2:1 5.2:3 6.1:1 6.3:1",
}
"""How many cases h2spec 2.6 has in each section."""


@pytest.fixture(scope="module")
def own(models: Path) -> Iterator[Worker]:
    with workers.running(models, GrpcOptions(max_concurrent_streams=STREAMS)) as running:
        yield running


def test_the_table_is_complete() -> None:
    expected = {
        f"{suite}/{section.split(':')[0]}": int(section.split(":")[1])
        for suite, sections in COUNTS.items()
        for section in sections.split()
    }
    assert Counter(case.id.rpartition("/")[0] for case in CASES) == expected
    assert len({case.id for case in CASES}) == len(CASES) == 147


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_h2spec_passes_but_for_known_differences(own: Worker, case: Case) -> None:
    with closing(Raw(own.address, greet=case.id != "http2/3.5/2")) as raw:
        raw.write(case.send(raw))
        case.expect(raw)


def test_differences_from_h2spec_are_few_and_argued() -> None:
    assert [case.id for case in CASES if case.argued] == ["http2/5.3.1/1", "http2/5.3.1/2"]


def test_the_server_still_answers_afterwards(own: Worker) -> None:
    own.settles("slow")
    with closing(Raw(own.address)) as raw:
        raw.write(call(raw))
        succeeded(raw)
    assert own.plane.memory.used == 0
