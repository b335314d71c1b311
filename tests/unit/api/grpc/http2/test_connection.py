"""What a connection makes of what its client does: its life, its requests, and every way to break a rule."""

import asyncio
from typing import cast

import pytest

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.connection import FRAME_WORK, IDLE_NS, STUCK_NS, WORK_PER_TURN, Http2Connection
from penstock.api.grpc.http2.connection_output import DROPPED_PER_TURN, MAX_BUFFERED_BYTES, RETIRING
from penstock.api.grpc.http2.frames import ErrorCode, encode_frame
from penstock.api.grpc.http2.request_input import GATHERED_BYTES, HEADER_BYTES, MAX_UNREAD
from penstock.serving.memory_budget import MemoryBudget
from tests.harness import PATIENCE_S
from tests.unit.api.grpc.http2.session import (
    AGE_NS,
    BLOCK,
    TRAILERS,
    Frame,
    Recorder,
    Server,
    Session,
    Transport,
    data,
    headers,
    on_loop,
    request,
)

SECOND = 1_000_000_000
KEEPALIVE, TIMEOUT = 600 * SECOND, 20 * SECOND
PING = encode_frame(frames.PING, 0, 0, bytes(8))
EMPTY_WINDOWS = {frames.INITIAL_WINDOW_SIZE: 0}


def goaway(found: list[Frame]) -> tuple[ErrorCode, str] | None:
    """The code and the reason with which a connection ended, if it did."""
    ends = [item.payload for item in found if item.kind == frames.GOAWAY]
    return (ErrorCode(int.from_bytes(ends[-1][4:8])), ends[-1][8:].decode()) if ends else None


# Life cycle.


@on_loop
async def test_a_tls_client_without_http2_is_counted_and_closed() -> None:
    transport, server = Transport(alpn="http/1.1"), Server(Recorder)
    connection = Http2Connection(server, 100, AGE_NS, MemoryBudget(1 << 20))
    connection.connection_made(cast(asyncio.Transport, transport))
    connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
    connection.flush()
    assert (server.without_alpn, server.connections) == (1, [])
    assert (transport.is_closed, bytes(transport.written)) == (True, b"")


@on_loop
async def test_a_tls_client_with_http2_is_greeted() -> None:
    transport, server = Transport(alpn="h2"), Server(Recorder)
    connection = Http2Connection(server, 100, AGE_NS, MemoryBudget(1 << 20))
    connection.connection_made(cast(asyncio.Transport, transport))
    assert server.connections == [connection]
    assert not connection.has_preface()
    connection.data_received(frames.PREFACE)
    assert connection.has_preface()


@on_loop
async def test_a_lost_connection_resets_its_streams_some_in_each_turn() -> None:
    session, count = Session(), DROPPED_PER_TURN + 3
    streams = [session.open(number) for number in range(1, 2 * count, 2)]
    streams[0].io.hold(streams[0], 5000)
    assert session.memory.used == 5000
    assert session.connection.eof_received() is False
    session.connection.connection_lost(None)
    assert sum(stream.events == ["reset"] for stream in streams) == DROPPED_PER_TURN
    await asyncio.sleep(0)
    assert all(stream.events == ["reset"] for stream in streams)
    assert (session.memory.used, session.server.connections) == (0, [])
    session.send(request(201, b"x"))  # what was still on its way is ignored
    assert 201 not in session.server.streams


@on_loop
async def test_a_connection_is_idle_without_streams_after_a_while() -> None:
    session = Session()
    now = session.connection.last_received_ns
    assert not session.connection.is_idle(now + IDLE_NS)
    assert session.connection.is_idle(now + IDLE_NS + 1)
    session.open(1)
    assert not session.connection.is_idle(session.connection.last_received_ns + IDLE_NS + 1)


@on_loop
async def test_what_the_transport_holds_is_counted_until_the_client_reads_it() -> None:
    session = Session()
    session.transport.buffered = 5000
    session.connection.pause_writing()
    assert session.memory.used == 5000
    session.transport.is_reading = False
    session.connection.resume_writing()
    assert (session.memory.used, session.transport.is_reading) == (0, True)
    session.transport.buffered = 2 << 30
    session.connection.pause_writing()
    assert session.memory.used == 0  # more than there is: the limit of the transport is all that bounds it
    session.connection.connection_lost(None)
    session.transport.is_reading = False
    session.connection.resume_writing()
    assert not session.transport.is_reading


@on_loop
async def test_nothing_more_is_read_of_a_client_that_reads_nothing() -> None:
    session = Session()
    session.connection.pause_writing()
    session.transport.buffered = MAX_BUFFERED_BYTES
    session.send(PING)
    session.read()
    assert session.transport.is_reading
    session.transport.buffered += 1
    session.send(PING)
    session.read()
    assert not session.transport.is_reading


# The sweep.


@on_loop
async def test_answers_that_nobody_reads_are_given_up() -> None:
    session = Session(EMPTY_WINDOWS)
    stream = session.open(1, ends=True)
    assert stream.io.send_data(stream, b"answer")
    began = stream.waits_since_ns
    session.connection.sweep(began + STUCK_NS, KEEPALIVE, TIMEOUT)
    assert session.resets() == {}
    session.connection.sweep(began + STUCK_NS + 1, KEEPALIVE, TIMEOUT)
    assert session.resets() == {1: ErrorCode.CANCEL}
    assert stream.events == ["end", "reset"]


@on_loop
async def test_a_connection_whose_window_stays_closed_gives_up_all_answers() -> None:
    session = Session({frames.INITIAL_WINDOW_SIZE: 1 << 20})
    streams = [session.open(number, ends=True) for number in (1, 3)]
    for stream in streams:
        assert stream.io.send_data(stream, bytes(100_000))
    sent = [reply for reply in session.read() if reply.kind == frames.DATA]
    assert sum(len(item.payload) for item in sent) == frames.DEFAULT_WINDOW
    session.connection.sweep(session.connection.last_received_ns + 2 * STUCK_NS, KEEPALIVE, TIMEOUT)
    assert session.resets() == {1: ErrorCode.CANCEL, 3: ErrorCode.CANCEL}


@on_loop
async def test_a_client_that_takes_data_need_not_answer_a_ping_in_time() -> None:
    session = Session()
    now = session.connection.last_received_ns
    session.connection.sweep(now + 2, 1, TIMEOUT)
    assert [reply.kind for reply in session.read()] == [frames.PING]
    stream = session.open(1, ends=True)
    assert stream.io.respond(stream, b"\x88", b"x", TRAILERS)
    session.connection.sweep(now + TIMEOUT + 3, 1, TIMEOUT)
    assert not session.transport.is_aborted
    session.connection.sweep(now + 2 * TIMEOUT + 4, 1, TIMEOUT)
    assert session.transport.is_aborted


# Turns.


@on_loop
async def test_a_turn_does_so_much_work_and_the_next_goes_on() -> None:
    session, per_turn = Session(), WORK_PER_TURN // FRAME_WORK
    session.send(PING * (per_turn + 3))
    assert len(session.read()) == per_turn
    assert not session.transport.is_reading
    session.send(PING)  # what the transport had already read
    assert session.read() == []
    session.connection.pause_writing()
    session.connection.resume_writing()
    assert not session.transport.is_reading  # still its own turn that it waits for
    await asyncio.sleep(0)
    assert len(session.read()) == 4
    assert session.transport.is_reading


@on_loop
async def test_a_lost_connection_has_no_next_turn() -> None:
    session = Session()
    session.send(PING * WORK_PER_TURN)
    session.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert session.read() == []
    assert not session.transport.is_reading


@on_loop
async def test_a_turn_goes_on_but_reads_nothing_more_for_a_client_that_reads_nothing() -> None:
    session = Session()
    session.send(PING * (WORK_PER_TURN // FRAME_WORK + 1))
    session.connection.pause_writing()
    session.transport.buffered = MAX_BUFFERED_BYTES + 1
    session.read()
    await asyncio.sleep(0)
    assert len(session.read()) == 1
    assert not session.transport.is_reading


# Requests.


@on_loop
async def test_a_request_means_the_same_in_whatever_frames_it_comes() -> None:
    session = Session()
    session.send(request(1, b"known from now on"))
    session.send(request(3, b"ab"))
    session.send(headers(5), data(5, b"a"), data(5, b"b", ends=True))
    session.send(headers(7), data(7, b"ab"), headers(7, TRAILERS, ends=True))
    session.send(
        encode_frame(frames.HEADERS, 0, 9, BLOCK[:3]),
        encode_frame(frames.CONTINUATION, frames.END_HEADERS, 9, BLOCK[3:]),
    )
    session.send(encode_frame(frames.DATA, frames.END_STREAM | frames.PADDED, 9, b"\x03ab\0\0\0"))
    session.send(headers(11), frames.window_update(0, 1), data(11, b"ab", ends=True))
    session.send(headers(13, ends=True))
    assert session.stream(1).events == [b"known from now on", "end"]
    assert [
        b"".join(part for part in session.stream(n).events if isinstance(part, bytes)) for n in (3, 5, 7, 9, 11)
    ] == [b"ab"] * 5
    assert all(session.stream(number).events[-1] == "end" for number in (3, 5, 7, 9, 11, 13))
    assert session.resets() == {}


@on_loop
async def test_a_request_that_is_answered_early_is_not_ended_and_its_rest_is_let_pass() -> None:
    class Hasty(Recorder):
        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            self.io.respond(self, b"\x88", b"no", TRAILERS)

    session = Session(kind=Hasty)
    session.send(request(1, b"whole"), headers(3), data(3, b"part"), data(3, b""))
    session.send(data(3, b"rest", ends=True), headers(5), data(5, b"x", ends=True))
    assert [session.stream(number).events for number in (1, 3, 5)] == [[b"whole"], [b"part"], [b"x"]]
    assert session.resets()[3] == ErrorCode.NO_ERROR


@on_loop
async def test_a_stream_that_its_client_resets_is_reset_once() -> None:
    session = Session()
    stream, answered = session.open(1), session.open(3)
    answered.io.send_head(answered, b"\x88")
    answered.local_closed = True
    session.send(
        frames.reset(1, ErrorCode.CANCEL), frames.reset(3, ErrorCode.CANCEL), frames.reset(1, ErrorCode.CANCEL)
    )
    assert stream.events == ["reset"]
    assert answered.events == []
    assert session.resets() == {}


@on_loop
async def test_requests_over_the_limit_are_refused_and_cost_no_one_else() -> None:
    session = Session(max_streams=2)
    session.open(1)
    session.open(3)
    session.send(headers(5))
    assert session.resets() == {5: ErrorCode.REFUSED_STREAM}
    session.send(frames.reset(1, ErrorCode.CANCEL))
    session.open(7)
    assert session.resets() == {}


@on_loop
async def test_a_client_that_reads_in_tiny_pieces_starts_no_new_request_while_much_is_unread() -> None:
    session = Session(EMPTY_WINDOWS)
    for number in range(1, 2 * MAX_UNREAD, 2):
        stream = session.open(number, ends=True)
        assert stream.io.send_data(stream, b"answer")
    session.send(headers(2 * MAX_UNREAD + 1))
    assert session.resets() == {2 * MAX_UNREAD + 1: ErrorCode.REFUSED_STREAM}


class Impatient(Recorder):
    """A request that has to be whole almost at once."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.expires_ns = self.began_ns + 1_000_000 * self.id


@on_loop
async def test_requests_have_to_be_whole_in_time_each_in_its_own() -> None:
    session = Session(kind=Impatient)
    delayed, whole, later = session.open(1), session.open(3, ends=True), session.open(5)
    await asyncio.wait_for(delayed.was_expired.wait(), PATIENCE_S)
    await asyncio.wait_for(later.was_expired.wait(), PATIENCE_S)
    assert (delayed.events, later.events, whole.events) == (["reset"], ["reset"], ["end"])
    assert session.resets() == {1: ErrorCode.CANCEL, 5: ErrorCode.CANCEL}


@on_loop
async def test_a_large_field_block_is_decoded_as_it_comes_and_ends_its_stream_alone() -> None:
    session = Session()
    field = b"\x00\x01a" + b"\x7f\x81\x7e" + bytes(b"v" * (127 + 1 + (0x7E << 7)))
    block = BLOCK + field * 5
    assert len(block) > GATHERED_BYTES > HEADER_BYTES
    session.send(encode_frame(frames.HEADERS, frames.END_STREAM, 1, block[:60_000]))
    session.send(encode_frame(frames.CONTINUATION, 0, 1, block[60_000:70_000]))
    await asyncio.sleep(0)
    session.send(encode_frame(frames.CONTINUATION, 0, 1, block[70_000:80_000]))
    await asyncio.sleep(0)
    session.send(encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[80_000:]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert session.stream(1).head.too_large
    assert session.stream(1).events == ["end"]
    session.send(request(3, b"next"))
    assert session.stream(3).events == [b"next", "end"]


# Rules.

LENGTH_9 = BLOCK + b"\x00\x0econtent-length\x019"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (headers(1, b"\x83"), ErrorCode.PROTOCOL_ERROR),  # no path
        (headers(1, LENGTH_9, ends=True), ErrorCode.PROTOCOL_ERROR),
        (headers(1, LENGTH_9) + data(1, b"x", ends=True), ErrorCode.PROTOCOL_ERROR),
        (headers(1, LENGTH_9) + data(1, b"0123456789"), ErrorCode.PROTOCOL_ERROR),
        (headers(1) + headers(1, TRAILERS), ErrorCode.PROTOCOL_ERROR),  # a second block that does not end it
        (headers(1) + headers(1, b"\x83", ends=True), ErrorCode.PROTOCOL_ERROR),  # a pseudo-header field in trailers
        (headers(1, ends=True) + data(1, b"x"), ErrorCode.STREAM_CLOSED),
        (headers(1) + frames.window_update(1, 0), ErrorCode.PROTOCOL_ERROR),
        (headers(1) + frames.window_update(1, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
        (headers(1) + encode_frame(frames.PRIORITY, 0, 1, b"1234"), ErrorCode.FRAME_SIZE_ERROR),
        (headers(1) + frames.reset(1, ErrorCode.CANCEL) + data(1, b"x"), ErrorCode.STREAM_CLOSED),
    ],
)
def test_an_error_of_a_stream_ends_that_stream_alone(sent: bytes, code: ErrorCode) -> None:
    @on_loop
    async def check() -> None:
        session = Session()
        session.send(sent)
        found = session.read()
        assert [ErrorCode(int.from_bytes(item.payload)) for item in found if item.kind == frames.RST_STREAM] == [code]
        assert goaway(found) is None
        session.send(request(3, b"next"))
        assert session.stream(3).events == [b"next", "end"]

    check()


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (encode_frame(frames.HEADERS, 0, 1, BLOCK) + PING, ErrorCode.PROTOCOL_ERROR, "interrupted"),
        (encode_frame(frames.HEADERS, 0, 1, BLOCK) + headers(3), ErrorCode.PROTOCOL_ERROR, "interrupted"),
        (
            encode_frame(frames.HEADERS, 0, 1, BLOCK) + encode_frame(frames.CONTINUATION, 0, 3, b""),
            ErrorCode.PROTOCOL_ERROR,
            "has not begun",
        ),
        (headers(2), ErrorCode.PROTOCOL_ERROR, "HEADERS is not allowed"),
        (data(1, b"x"), ErrorCode.PROTOCOL_ERROR, "is not allowed"),
        (encode_frame(frames.DATA, frames.PADDED, 1, b"\x09ab"), ErrorCode.PROTOCOL_ERROR, "longer than the frame"),
        (
            encode_frame(frames.HEADERS, frames.END_HEADERS | frames.HAS_PRIORITY, 1, b"1234"),
            ErrorCode.FRAME_SIZE_ERROR,
            "short",
        ),
        (encode_frame(frames.PRIORITY, 0, 0, b"12345"), ErrorCode.PROTOCOL_ERROR, "stream 0"),
        (encode_frame(frames.PRIORITY, 0, 1, b"1234"), ErrorCode.FRAME_SIZE_ERROR, "five bytes"),
        (encode_frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR, "on a stream"),
        (encode_frame(frames.DATA, 0, 1)[:3] + b"\x00" + bytes(5), ErrorCode.PROTOCOL_ERROR, "is not allowed"),
        (encode_frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR, "has a payload"),
        (frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR, "too large"),
        (frames.window_update(0, frames.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR, "too large"),
        (b"\xff\xff\xff" + bytes(6), ErrorCode.FRAME_SIZE_ERROR, ""),
    ],
)
def test_an_error_of_the_connection_ends_it_and_says_why(sent: bytes, code: ErrorCode, reason: str) -> None:
    @on_loop
    async def check() -> None:
        session = Session()
        session.send(sent)
        found = goaway(session.read())
        assert found is not None
        assert found[0] == code
        assert reason in found[1]
        assert session.transport.is_closed
        session.send(PING)
        assert session.read() == []

    check()


@pytest.mark.parametrize(
    "sent",
    [
        encode_frame(frames.PRIORITY, 0, 1, b"12345"),  # of a stream that has not begun
        headers(1) + frames.reset(1, ErrorCode.CANCEL) + encode_frame(frames.PRIORITY, 0, 1, b"1234"),
        headers(1) + frames.reset(1, ErrorCode.CANCEL) + frames.window_update(1, 5),
        encode_frame(frames.GOAWAY, 0, 0, bytes(8)),
        encode_frame(0x42, 0, 0, b"unknown"),
        headers(1) + data(1, b""),
        encode_frame(frames.HEADERS, 0, 1, BLOCK)
        + encode_frame(frames.CONTINUATION, 0, 1, b"")
        + encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1),
    ],
)
def test_what_is_merely_late_or_unknown_is_let_pass(sent: bytes) -> None:
    @on_loop
    async def check() -> None:
        session = Session()
        session.send(sent)
        assert session.read() == []

    check()


def session_before_preface() -> Session:
    """A session whose client has sent nothing yet."""
    session = Session()
    session.connection = Http2Connection(session.server, 100, AGE_NS, session.memory)
    session.connection.connection_made(cast(asyncio.Transport, session.transport))
    return session


@on_loop
async def test_settings_come_first() -> None:
    session = session_before_preface()
    session.send(frames.PREFACE, PING)
    assert goaway(session.read()) == (ErrorCode.PROTOCOL_ERROR, "the first frame has to be SETTINGS")


@on_loop
async def test_a_client_that_does_not_use_http2_is_answered_so() -> None:
    session = session_before_preface()
    session.send(b"GET / HTTP/1.1\r\n\r\n")
    found = goaway(session.read())
    assert found is not None
    assert "prior knowledge" in found[1]


# The end.


@on_loop
async def test_a_retiring_connection_takes_what_is_on_the_wire_and_then_refuses_and_closes() -> None:
    session = Session()
    session.connection.retire()
    session.connection.retire()
    announced = session.read()
    assert [item.kind for item in announced] == [frames.GOAWAY, frames.PING]
    assert int.from_bytes(announced[0].payload[:4]) == frames.STREAM_MASK
    stream = session.open(1, ends=True)
    session.send(encode_frame(frames.PING, frames.ACK, 0, RETIRING))
    (last,) = session.read()
    assert (last.kind, int.from_bytes(last.payload[:4])) == (frames.GOAWAY, 1)
    session.send(headers(3))
    assert session.resets() == {3: ErrorCode.REFUSED_STREAM}
    assert not session.transport.is_closed
    assert stream.io.respond(stream, b"\x88", b"x", TRAILERS)
    await asyncio.sleep(0)
    assert session.transport.is_closed
    session.send(encode_frame(frames.PING, frames.ACK, 0, RETIRING))
    assert [reply.kind for reply in session.read()] == [frames.HEADERS, frames.DATA, frames.HEADERS]


@on_loop
async def test_a_dismissed_connection_says_which_requests_it_has_seen_and_closes() -> None:
    session = Session()
    session.open(1, ends=True)
    session.send(frames.reset(1, ErrorCode.CANCEL))
    session.connection.dismiss()
    (last,) = session.read()
    assert (last.kind, int.from_bytes(last.payload[:4])) == (frames.GOAWAY, 1)
    assert session.transport.is_closed


@on_loop
async def test_a_connection_that_failed_is_neither_retired_nor_dismissed() -> None:
    session = Session()
    session.send(data(1, b"x"))
    session.read()
    session.connection.retire()
    session.connection.dismiss()
    assert session.read() == []
