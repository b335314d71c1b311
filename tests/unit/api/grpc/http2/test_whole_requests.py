"""A request that comes whole is handled at once, and means the same as in frames that come one by one."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.abuse_limits import UPDATES_AT_ONCE
from penstock.api.grpc.http2.frames import AnswerFrames, ErrorCode, encode_frame
from penstock.api.grpc.http2.request_input import MAX_UNREAD, SMALL_WINDOW, STREAM_WINDOW
from penstock.api.grpc.http2.stream import Http2Stream
from penstock.api.grpc.http2.stream_state import StreamState
from tests.budgets import examples
from tests.unit.api.grpc.http2.session import BLOCK, TRAILERS, Frame, Recorder, Session, data, headers, on_loop, request

OF_TWO_BYTES = BLOCK + b"\x0f\x0d\x012"
"""The field block of a request that states its content length."""

BLOCKS = (BLOCK, OF_TWO_BYTES)
COUNTS = ("streams_opened", "data_frames_received", "answers", "_window_updates", "_empty_frames", "_unsent_control")

TURNS = 10
"""Turns of the loop that the longest story takes."""


class Echo(Recorder):
    """A stream that answers at the end of its request."""

    def on_end(self) -> None:
        super().on_end()
        self.io.respond(self, b"\x88", b"answer", TRAILERS)


def greeted(first_settings: dict[int, int], kind: type[Http2Stream], max_streams: int) -> Session:
    """A session whose server knows both field blocks."""
    session = Session(kind=kind, max_streams=max_streams)
    for number, block in zip((1, 3), BLOCKS, strict=True):
        session.send(headers(number, block), data(number, b"ab", ends=True))
        session.send(frames.reset(number, ErrorCode.CANCEL))
    session.send(frames.encode_settings(first_settings))
    session.read()
    return session


def send_window(stream: Http2Stream) -> int | None:
    """The window for the answer; of a stream that has ended nobody counts it."""
    return None if stream.state is StreamState.CLOSED else stream.send_window.available


def story(session: Session) -> tuple[Any, ...]:
    """What the server has said, what the streams have heard, and the state of the connection."""
    connection = session.connection
    streams = {
        number: (stream.events, stream.state, stream.received_bytes, send_window(stream), stream.unsent_bytes)
        for number, stream in session.server.streams.items()
        if isinstance(stream, Recorder)
    }
    table = [connection.streams.state(number) for number in range(30)]
    counts = [getattr(connection.limits, name) for name in COUNTS]
    windows = (connection._queue.window.available, connection._receive.outstanding)
    queued = (sorted(connection._queue.ready), sorted(connection._queue.blocked))
    written = sorted(session.read(), key=lambda item: item.stream)  # a stream's answer may stand before another's
    return written, streams, table, connection.streams.last_id, counts, windows, queued, session.memory.used


async def stories(
    parts: list[bytes], first_settings: dict[int, int], kind: type[Http2Stream] = Echo, max_streams: int = 100
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What comes of frames that are read together, and of those that are read one by one."""
    together, alone = (greeted(first_settings, kind, max_streams) for _ in range(2))
    together.send(*parts)
    for part in parts:
        alone.send(part)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return story(together), story(alone)


NUMBERS = st.sampled_from([3, 8, 5, 7, 9, 11, 15])
INCREMENTS = st.sampled_from([0, 1, 5, 100_000, frames.MAX_WINDOW - frames.DEFAULT_WINDOW, frames.MAX_WINDOW, 1 << 31])
UPDATES = st.one_of(
    st.builds(frames.window_update, NUMBERS, INCREMENTS),
    st.builds(frames.window_update, st.just(0), INCREMENTS),
    st.builds(lambda number: encode_frame(frames.WINDOW_UPDATE, 0, number, b"123"), NUMBERS),
)
OTHERS = st.one_of(
    UPDATES,
    st.just(encode_frame(frames.PING, 0, 0, bytes(8))),
    st.builds(frames.reset, NUMBERS, st.just(ErrorCode.CANCEL)),
    st.builds(lambda number, ends: headers(number, TRAILERS, ends), NUMBERS, st.booleans()),
    st.builds(lambda size: frames.encode_settings({frames.INITIAL_WINDOW_SIZE: size}), st.sampled_from([0, 3, 70_000])),
)


@st.composite
def requests(draw: st.DrawFn) -> list[bytes]:
    """The frames of a request, mostly as clients send them, with at most one thing that is unusual."""
    number, block = draw(NUMBERS), draw(st.sampled_from(BLOCKS))
    content = draw(st.sampled_from([b"ab", b"ab", b"a", b""]))
    parts = [headers(number, block), data(number, content, ends=True)]
    if draw(st.booleans()):
        parts.insert(1, frames.window_update(number, draw(INCREMENTS)))
    if draw(st.booleans()):
        parts.append(frames.window_update(0, 90))
    unusual = draw(st.integers(0, 7))
    if unusual == 0:
        parts.insert(draw(st.integers(0, len(parts))), draw(OTHERS))
    elif unusual == 1:
        parts[-1] = data(number, content)
    elif unusual == 2:
        parts[-1] = encode_frame(frames.DATA, frames.END_STREAM | frames.PADDED, number, b"\x01ab\0")
    elif unusual == 3:
        parts[0] = headers(number, block, ends=True)
    elif unusual == 4:
        parts[0] = headers(number, BLOCK + draw(st.binary(max_size=2)))
    return parts


@settings(max_examples=examples(600))
@given(
    st.lists(requests(), min_size=1, max_size=5),
    st.sampled_from([0, 3, frames.DEFAULT_WINDOW, frames.MAX_WINDOW]),
    st.sampled_from([2, 100]),
)
def test_frames_that_are_read_together_mean_what_they_mean_alone(
    parts: list[list[bytes]], window: int, max_streams: int
) -> None:
    """Nothing is answered: what a frame for a stream means depends on whether its answer was written before."""

    async def compare() -> None:
        flat = [part for group in parts for part in group]
        together, alone = await stories(flat, {frames.INITIAL_WINDOW_SIZE: window}, Recorder, max_streams)
        assert together == alone

    asyncio.run(compare())


@settings(max_examples=examples(300))
@given(
    st.lists(st.tuples(st.sampled_from(BLOCKS), st.sampled_from([0, 1, 5, 100_000]), st.booleans()), max_size=5),
    st.sampled_from([0, 3, frames.DEFAULT_WINDOW]),
)
def test_requests_that_are_read_together_get_the_answers_that_they_get_alone(
    calls: list[tuple[bytes, int, bool]], window: int
) -> None:
    async def compare() -> None:
        flat: list[bytes] = []
        for number, (block, increment, updates) in zip(range(5, 15, 2), calls, strict=False):
            opened = [frames.window_update(number, increment)] if increment else []
            after = [frames.window_update(0, 90)] if updates else []
            flat += [headers(number, block), *opened, data(number, b"ab", ends=True), *after]
        together, alone = await stories(flat, {frames.INITIAL_WINDOW_SIZE: window}, Echo)
        assert together == alone

    asyncio.run(compare())


CORE = [headers(5), frames.window_update(5, 5), data(5, b"ab", ends=True), frames.window_update(0, 90)]
"""What grpc-core sends for a call."""

LARGE = [data(5, bytes(1 << 16)) for _ in range(STREAM_WINDOW >> 16)]


@pytest.mark.parametrize(
    ("parts", "first_settings"),
    [
        pytest.param(CORE, {}, id="as grpc-core sends it"),
        pytest.param(CORE, {frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW - 5}, id="the largest window"),
        pytest.param(CORE, {frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW - 4}, id="a window that gets too large"),
        pytest.param([part for part in CORE for _ in range(2)], {}, id="everything twice"),
        pytest.param([headers(5), *LARGE, data(5, b"ab", ends=True)], {}, id="over the window"),
        *[
            pytest.param([frames.window_update(0, 1)] * count + CORE, {}, id=f"{count} window updates before")
            for count in range(UPDATES_AT_ONCE + 40, UPDATES_AT_ONCE + 50)
        ],
        pytest.param(
            [
                part
                for at in range(MAX_UNREAD + 2)
                for part in (headers(2 * at + 5), data(2 * at + 5, b"ab", ends=True))
            ],
            {frames.INITIAL_WINDOW_SIZE: SMALL_WINDOW - 1 - 1023},
            id="answers that are not read",
        ),
        pytest.param([*CORE[:2], encode_frame(frames.PING, 0, 0, bytes(8)), *CORE[2:]], {}, id="a ping between"),
        pytest.param([headers(5, OF_TWO_BYTES), data(5, b"abc", ends=True)], {}, id="more than was stated"),
        pytest.param(
            [encode_frame(frames.HEADERS, 0, 5, BLOCK[:3]), headers(7), data(7, b"ab", ends=True)],
            {},
            id="within a field block",
        ),
    ],
)
@on_loop
async def test_what_is_read_together_means_what_it_means_alone(
    parts: list[bytes], first_settings: dict[int, int]
) -> None:
    together, alone = await stories(parts, first_settings)
    assert together == alone


@on_loop
async def test_a_call_of_grpc_core_is_one_unit_of_work() -> None:
    session = greeted({}, Recorder, 1000)
    calls = [part.replace(b"\0\0\0\5", number.to_bytes(4)) for number in range(5, 131, 2) for part in CORE]
    session.send(*calls)
    assert len(session.server.streams) > 25  # with each frame by itself, five calls would fill a turn


@on_loop
async def test_an_answer_alone_is_written_at_once_and_one_of_several_with_the_others() -> None:
    session = greeted({}, Recorder, 100)
    written = session.transport.written
    first = session.open(5, ends=True)
    first.io.respond(first, b"\x88", b"first", TRAILERS)
    assert b"first" in written
    second, third = session.open(7, ends=True), session.open(9, ends=True)
    second.io.respond(second, b"\x88", b"second", TRAILERS)
    third.io.respond(third, b"\x88", b"third", TRAILERS)  # alone by now, but not before the other
    assert b"second" not in written
    assert [item.payload for item in session.read() if item.kind == frames.DATA] == [b"first", b"second", b"third"]
    session.send(encode_frame(frames.PING, 0, 0, bytes(8)))
    fourth = session.open(11, ends=True)
    fourth.io.respond(fourth, b"\x88", b"fourth", TRAILERS)
    kinds = [item.kind for item in session.read()]
    assert kinds == [frames.PING, frames.HEADERS, frames.DATA, frames.HEADERS]


@on_loop
async def test_an_answer_of_a_lost_connection_is_not_written() -> None:
    session = greeted({}, Recorder, 100)
    stream = session.open(5, ends=True)
    stream.local_closed = True  # the application is about to answer
    session.connection.connection_lost(None)
    stream.io.respond(stream, b"\x88", b"late", TRAILERS)
    assert bytes(session.transport.written) == b""


BYTES = st.binary(max_size=300)


@given(
    st.lists(st.tuples(st.integers(1, frames.MAX_WINDOW), BYTES, BYTES, BYTES), min_size=1, max_size=4), st.booleans()
)
def test_the_frames_of_an_answer_are_those_that_the_parts_have(
    answers: list[tuple[int, bytes, bytes, bytes]], repeats: bool
) -> None:
    writer = AnswerFrames()
    for number, head, message, trailers in answers * (2 if repeats else 1):
        expected = [
            encode_frame(frames.HEADERS, frames.END_HEADERS, number, head),
            encode_frame(frames.DATA, 0, number, message),
            encode_frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, number, trailers),
        ]
        assert writer.write(number, head, message, trailers) == b"".join(expected)


@on_loop
async def test_an_answer_to_the_last_data_is_the_last_frame_of_its_stream() -> None:
    class Hasty(Recorder):
        def on_data(self, data: bytes) -> None:
            self.io.send_trailers(self, TRAILERS)

    session = Session(kind=Hasty)
    session.send(headers(1))
    session.send(data(1, b"last", ends=True))
    session.send(request(3, b"whole"))
    assert session.read() == [
        Frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, n, TRAILERS) for n in (1, 3)
    ]
