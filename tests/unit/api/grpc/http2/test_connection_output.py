"""What a connection sends: whole answers at once, long ones as windows and memory allow, and nothing twice."""

import asyncio

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.common.parts import Payload
from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.answer_memory import MAX_MOVING_BYTES, MAX_STALLED_BYTES, SMALL_BYTES, SPARE_BYTES
from penstock.api.grpc.http2.connection_output import STALLED_NS
from penstock.api.grpc.http2.frames import ErrorCode
from penstock.api.grpc.http2.header_encoding import STATUS_OK, encode_literal, encode_status
from tests.harness import PATIENCE_S
from tests.unit.api.grpc.http2.session import TRAILERS, Frame, Session, data, on_loop

OPEN = {frames.INITIAL_WINDOW_SIZE: 1 << 30}
CLOSED = {frames.INITIAL_WINDOW_SIZE: 0}
SECOND = 1_000_000_000


def opened(settings: dict[int, int], memory: int = 1 << 30) -> Session:
    """A session whose client has opened the connection's window."""
    session = Session(settings, memory=memory)
    session.send(frames.window_update(0, 1 << 30))
    return session


def parts(found: list[Frame]) -> list[tuple[int, int, bool]]:
    """Of each frame its kind, the size of its payload and whether it ends its stream."""
    return [(item.kind, len(item.payload), bool(item.flags & frames.END_STREAM)) for item in found]


HEAD, END = (frames.HEADERS, 1, False), (frames.HEADERS, len(TRAILERS), True)


@pytest.mark.parametrize("message", [b"answer", [b"answ", b"er"]], ids=["bytes", "parts"])
@on_loop
async def test_a_whole_answer_is_two_field_blocks_around_its_data(message: Payload) -> None:
    session = Session()
    stream = session.open(1, ends=True)
    assert stream.io.respond(stream, STATUS_OK, message, TRAILERS)
    found = session.read()
    assert (parts(found)[0], parts(found)[-1]) == (HEAD, END)
    assert b"".join(item.payload for item in found[1:-1]) == b"answer"
    assert session.memory.used == 0
    assert session.connection.streams.live == {}
    stream.io.reset(stream, ErrorCode.CANCEL)  # it is over
    assert session.read() == []


@on_loop
async def test_an_answer_that_fits_no_frame_or_window_waits_for_its_turn() -> None:
    session = opened({frames.INITIAL_WINDOW_SIZE: 20_000})
    stream = session.open(1, ends=True)
    assert stream.io.respond(stream, STATUS_OK, bytes(30_000), TRAILERS)
    assert parts(session.read()) == [HEAD, (frames.DATA, 16_384, False), (frames.DATA, 3616, False)]
    assert session.memory.used == 30_000
    session.send(frames.window_update(1, 20_000))
    assert parts(session.read()) == [(frames.DATA, 10_000, False), END]
    assert session.memory.used == 0


@on_loop
async def test_without_memory_nothing_of_an_answer_is_sent() -> None:
    session = Session(CLOSED, memory=10_000)
    stream, small = session.open(1, ends=True), session.open(3, ends=True)
    assert not stream.io.respond(stream, STATUS_OK, bytes(20_000), TRAILERS)
    assert not stream.io.send_data(stream, bytes(20_000))
    assert session.memory.take(session.memory.limit)
    assert small.io.send_data(small, bytes(SPARE_BYTES))  # that little is answered without
    assert session.read() == []


@on_loop
async def test_data_that_is_nothing_or_comes_too_late_is_taken_and_not_sent() -> None:
    session = Session()
    stream = session.open(1, ends=True)
    assert stream.io.send_data(stream, b"")
    stream.io.reset(stream, ErrorCode.CANCEL)
    session.read()
    assert stream.io.send_data(stream, b"late")
    assert session.read() == []


@on_loop
async def test_a_stream_waits_until_its_data_is_on_its_way() -> None:
    session = opened(CLOSED)
    stream = session.open(1, ends=True)
    await stream.io.wait_sent(stream)  # nothing is unsent
    assert stream.io.send_data(stream, b"part")
    waiting = asyncio.ensure_future(stream.io.wait_sent(stream))
    await asyncio.sleep(0)
    assert not waiting.done()
    session.send(frames.window_update(1, 4))
    assert parts(session.read()) == [(frames.DATA, 4, False)]
    await asyncio.wait_for(waiting, PATIENCE_S)
    assert session.memory.used == 0
    assert list(session.connection.streams.live) == [1]  # it may send more


@on_loop
async def test_a_reset_stream_waits_for_nothing() -> None:
    session = Session(CLOSED)
    stream = session.open(1, ends=True)
    assert stream.io.send_data(stream, b"part")
    waiting = asyncio.ensure_future(stream.io.wait_sent(stream))
    await asyncio.sleep(0)
    stream.io.reset(stream, ErrorCode.INTERNAL_ERROR)
    await asyncio.wait_for(waiting, PATIENCE_S)
    assert (session.resets(), session.memory.used) == ({1: ErrorCode.INTERNAL_ERROR}, 0)


@on_loop
async def test_a_stream_that_has_sent_everything_is_not_notified_of_its_reset() -> None:
    session = Session(CLOSED)
    stream = session.open(1)
    stream.io.send_data(stream, b"part")
    stream.io.send_trailers(stream, TRAILERS)
    stream.local_closed = True
    stream.io.reset(stream, ErrorCode.CANCEL)
    assert (stream.events, session.resets()) == ([], {1: ErrorCode.CANCEL})


@on_loop
async def test_trailers_alone_end_an_answer() -> None:
    session = Session()
    stream = session.open(1, ends=True)
    stream.io.send_head(stream, STATUS_OK)
    stream.io.send_trailers(stream, TRAILERS)
    assert parts(session.read()) == [HEAD, END]
    assert session.connection.streams.live == {}


# Memory of requests.


@on_loop
async def test_unfinished_requests_hold_at_most_half_of_the_memory_but_for_a_first_kilobyte() -> None:
    session = Session(memory=10_000)
    first, second = session.open(1), session.open(3)
    assert first.io.hold(first, 4000)
    assert not second.io.hold(second, 2000)
    assert second.io.hold(second, SPARE_BYTES)
    assert session.memory.used == 4000 + (SPARE_BYTES if second.held_bytes else 0)
    first.io.let_go(first, 1500)
    first.io.let_go(first, 1 << 20)  # no more than it has
    assert first.held_bytes == 0
    second.received_bytes = SPARE_BYTES + 1
    assert session.memory.take(session.memory.limit - session.memory.used)
    assert not second.io.hold(second, SPARE_BYTES)


@on_loop
async def test_a_window_is_opened_again_for_a_request_that_goes_on() -> None:
    session = Session()
    stream = session.open(1)
    stream.io.replenish(stream)  # nothing has come
    session.send(*[data(1, bytes(1 << 16))] * 9)
    stream.io.replenish(stream)
    (update,) = session.read()
    assert (update.kind, update.stream, int.from_bytes(update.payload)) == (frames.WINDOW_UPDATE, 1, 9 << 16)
    session.send(*[data(1, bytes(1 << 16))] * 8)
    stream.local_closed = True
    stream.io.replenish(stream)
    assert session.read() == []


# Admission of answers.


@on_loop
async def test_an_answer_that_is_not_admitted_in_time_runs_all_the_same() -> None:
    session = opened(CLOSED)
    first, second, third = (session.open(number, ends=True) for number in (1, 3, 5))
    now = first.began_ns
    assert first.io.admit_answer(first, MAX_MOVING_BYTES, now + 3600 * SECOND)
    assert not second.io.admit_answer(second, SMALL_BYTES + 1, now + 3600 * SECOND)
    assert not third.io.admit_answer(third, SMALL_BYTES + 1, now + 1_000_000)
    await asyncio.wait_for(third.was_expired.wait(), PATIENCE_S)
    assert (second.events, third.events) == (["end"], ["end", "admitted"])
    session.connection.connection_lost(None)
    assert second.events == ["end", "reset"]


@on_loop
async def test_a_client_that_reads_all_gets_one_more_answer_made_at_each_sweep() -> None:
    session = opened(OPEN)
    first, second, third = (session.open(number, ends=True) for number in (1, 3, 5))
    assert first.io.admit_answer(first, MAX_MOVING_BYTES, 1 << 62)
    assert not second.io.admit_answer(second, MAX_MOVING_BYTES, 1 << 62)
    assert not third.io.admit_answer(third, MAX_MOVING_BYTES, 1 << 62)
    sweep(session)
    assert (second.events, third.events) == (["end", "admitted"], ["end"])


@on_loop
async def test_a_client_with_answers_to_read_gets_no_more_made_at_a_sweep() -> None:
    session = Session(OPEN)
    first, second = session.open(1, ends=True), session.open(3, ends=True)
    assert first.io.send_data(first, bytes(1 << 20))
    session.read()  # the window of the connection is closed now
    assert first.io.admit_answer(first, SMALL_BYTES, 1 << 62)
    assert not second.io.admit_answer(second, MAX_MOVING_BYTES, 1 << 62)
    sweep(session)
    assert second.events == ["end"]


@on_loop
async def test_the_youngest_of_paused_readers_is_given_up_where_they_hold_too_much() -> None:
    session = opened(CLOSED)
    streams = [session.open(number, ends=True) for number in (1, 3, 5)]
    for stream in streams:
        assert stream.io.send_data(stream, bytes(MAX_STALLED_BYTES // 3 + 1))
    sweep(session, after_ns=STALLED_NS // 2)
    assert session.resets() == {}
    sweep(session)
    assert session.resets() == {5: ErrorCode.ENHANCE_YOUR_CALM}
    assert [stream.events for stream in streams] == [["end"], ["end"], ["end", "reset"]]


def sweep(session: Session, after_ns: int = 2 * STALLED_NS) -> None:
    now = max(
        session.connection.last_received_ns, *[stream.waits_since_ns for stream in session.server.streams.values()]
    )
    session.connection.sweep(now + after_ns, 1 << 62, 1 << 62)


# Field blocks.


@given(st.binary(min_size=1, max_size=400), st.binary(max_size=40_000), st.integers(100, 999))
def test_any_field_says_to_a_decoder_what_it_was_made_of(name: bytes, value: bytes, code: int) -> None:
    decoder = hpack.Decoder(1 << 20)
    assert decoder.decode(encode_literal(name, value), raw=True) == [(name, value)]
    codes = [value for _, value in decoder.decode(encode_status(code) + STATUS_OK, raw=True)]
    assert codes == [str(code).encode(), b"200"]


@pytest.mark.parametrize("size", [126, 127, 254, 255, 127 + 16_383, 127 + 16_384])
def test_lengths_at_the_edges_of_their_encoding(size: int) -> None:
    assert hpack.Decoder(1 << 20).decode(encode_literal(b"a", b"v" * size), raw=True) == [(b"a", b"v" * size)]
