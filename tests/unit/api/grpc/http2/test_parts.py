"""The parts of an HTTP/2 connection without a connection: frames, windows, the send queue, states and limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.abuse_limits import (
    CONTINUATIONS_PER_BLOCK,
    EMPTY_FRAMES_AT_ONCE,
    PRIORITIES_PER_STREAM,
    UPDATES_AT_ONCE,
    AbuseLimits,
)
from penstock.api.grpc.http2.flow_control import ReceiveWindow, SendWindow
from penstock.api.grpc.http2.frame_reader import FrameReader
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, encode_frame
from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.api.grpc.http2.send_queue import SendQueue
from penstock.api.grpc.http2.stream import Http2Stream, StreamIo
from penstock.api.grpc.http2.stream_state import TRANSITIONS, FrameVerdict, StreamEvent, StreamState, transition
from penstock.api.grpc.http2.stream_table import MAX_RESETS, StreamTable

SECOND = 1_000_000_000
HEAD = Http2RequestHead(b"POST", "/a", ())


def stream(number: int, window: int = 65_535) -> Http2Stream:
    return Http2Stream(StreamIo(), number, HEAD, window, 0)


# Frames.


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=40))),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_frames_are_the_same_however_the_bytes_come(sent: list[tuple[int, int, int, bytes]], cuts: list[int]) -> None:
    reader, found = FrameReader(1 << 14), []
    wire = frames.PREFACE + b"".join(encode_frame(*item) for item in sent)
    at, index = 0, 0
    while at < len(wire):
        size = cuts[index % len(cuts)]
        reader.feed(wire[at : at + size])
        at, index = at + size, index + 1
        while reader.advance():
            found.append((reader.kind, reader.flags, reader.stream_id, reader.payload()))
    assert found == sent
    assert reader.has_preface
    assert not reader.has_more


def test_a_wrong_preface_and_oversized_frames_are_refused() -> None:
    with pytest.raises(Http2ConnectionError, match="prior knowledge"):
        FrameReader(1 << 14).feed(b"GET / HTTP/1.1\r\n")
    reader = FrameReader(1 << 14)
    header = frames.FRAME_HEADER.pack(((1 << 14) + 1) << 8, 0, 1)
    reader.feed(frames.PREFACE + header[:4])
    assert not reader.advance()
    with pytest.raises(Http2ConnectionError) as caught:
        reader.feed(header[4:])
    assert caught.value.code == ErrorCode.FRAME_SIZE_ERROR


# Flow control.


@given(st.lists(st.integers(0, 100)))
def test_a_receive_window_never_loses_a_byte(sizes: list[int]) -> None:
    window, allowed = ReceiveWindow(200, 50), 200
    for size in sizes:
        assert window.receive(size) is (size <= allowed)
        if size > allowed:
            return
        allowed -= size
        allowed += window.replenish()
        assert allowed + window.outstanding == 200


def test_a_send_window_may_be_negative_and_never_too_large() -> None:
    window = SendWindow(10)
    assert window.grow(-30)
    assert window.available == -20
    assert window.grow(frames.MAX_WINDOW)
    assert not window.grow(21)


# The send queue.


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=300)), max_size=12),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 400)), max_size=40),
)
def test_the_queue_sends_each_byte_once_and_never_more_than_the_windows(
    queued: list[tuple[int, bytes]], opened: list[tuple[int, int]]
) -> None:
    queue = SendQueue()
    queue.window.available = 100
    streams = [stream(2 * index + 1, 50) for index in range(4)]
    wanted, got = [b""] * 4, [b""] * 4
    for index, data in queued:
        queue.add(streams[index], data, 0)
        wanted[index] += data
    allowed, per_stream = 100, [50] * 4
    for target, size in [(4, 0), *opened]:
        if size and target == 4:
            queue.grow_connection(size, 0)
            allowed += size
        elif size:
            queue.grow_stream(streams[target], size, 0)
            per_stream[target] += size
        out: list[bytes | memoryview] = []
        queue.fill(out, 1 << 20, 0)
        for head, part in zip(out[::2], out[1::2], strict=True):
            index = (frames.FRAME_HEADER.unpack(head)[2] - 1) // 2
            got[index] += bytes(part)
    assert sum(map(len, got)) <= allowed
    for index in range(4):
        assert wanted[index].startswith(got[index])
        assert len(got[index]) <= per_stream[index]
        assert len(wanted[index]) - len(got[index]) == streams[index].unsent_bytes


def test_streams_take_turns_and_ends_follow_their_data() -> None:
    queue = SendQueue()
    queue.frame_bytes = 10
    first, second = stream(1), stream(3)
    queue.add(first, b"a" * 25, 0)
    queue.add(second, b"b" * 5, 0)
    first.end_frame = b"end of 1"
    out: list[bytes | memoryview] = []
    assert queue.fill(out, 1 << 20, 0) == [second, first]
    assert [bytes(part) for part in out[1::2]] == [b"a" * 10, b"b" * 5, b"a" * 10, b"a" * 5]
    assert out[-1] == b"end of 1"
    assert not queue.can_fill()


def test_the_queue_knows_since_when_nobody_opens_a_window() -> None:
    queue = SendQueue()
    one = stream(1, 0)
    queue.add(one, b"x", 5)
    assert (one.waits_since_ns, queue.blocked) == (5, {1: one})
    queue.grow_stream(one, 10, 6)
    queue.window.available = 0
    queue.fill([], 100, 7)
    assert queue.closed_since_ns == 7
    queue.grow_connection(1, 8)
    assert queue.closed_since_ns == 0


# States.


def test_the_table_of_states_is_complete_and_keeps_to_what_is_closed() -> None:
    assert len(TRANSITIONS) == len(StreamState) * len(StreamEvent)
    closed = {StreamState.CLOSED, StreamState.RESET_LOCAL, StreamState.RESET_REMOTE}
    for state in closed:
        for event in StreamEvent:
            found = transition(state, event)
            assert found.state in closed
            assert found.verdict != FrameVerdict.ACCEPT


@pytest.mark.parametrize(
    ("state", "event", "verdict", "code"),
    [
        (StreamState.IDLE, StreamEvent.DATA, FrameVerdict.CONNECTION_ERROR, ErrorCode.PROTOCOL_ERROR),
        (StreamState.IDLE, StreamEvent.RST_STREAM, FrameVerdict.CONNECTION_ERROR, ErrorCode.PROTOCOL_ERROR),
        (StreamState.IDLE, StreamEvent.WINDOW_UPDATE, FrameVerdict.CONNECTION_ERROR, ErrorCode.PROTOCOL_ERROR),
        (StreamState.SKIPPED, StreamEvent.HEADERS, FrameVerdict.CONNECTION_ERROR, ErrorCode.PROTOCOL_ERROR),
        (StreamState.HALF_CLOSED_REMOTE, StreamEvent.DATA, FrameVerdict.STREAM_ERROR, ErrorCode.STREAM_CLOSED),
        (StreamState.HALF_CLOSED_REMOTE, StreamEvent.HEADERS, FrameVerdict.STREAM_ERROR, ErrorCode.STREAM_CLOSED),
        (StreamState.HALF_CLOSED_REMOTE, StreamEvent.WINDOW_UPDATE, FrameVerdict.ACCEPT, ErrorCode.NO_ERROR),
        (StreamState.RESET_REMOTE, StreamEvent.DATA, FrameVerdict.STREAM_ERROR, ErrorCode.STREAM_CLOSED),
        (StreamState.RESET_LOCAL, StreamEvent.DATA, FrameVerdict.IGNORE, ErrorCode.NO_ERROR),
        (StreamState.CLOSED, StreamEvent.HEADERS, FrameVerdict.CONNECTION_ERROR, ErrorCode.STREAM_CLOSED),
        (StreamState.CLOSED, StreamEvent.WINDOW_UPDATE, FrameVerdict.IGNORE, ErrorCode.NO_ERROR),
        (StreamState.OPEN, StreamEvent.HEADERS, FrameVerdict.STREAM_ERROR, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_what_frames_mean_in_a_state(
    state: StreamState, event: StreamEvent, verdict: FrameVerdict, code: ErrorCode
) -> None:
    found = transition(state, event)
    assert (found.verdict, found.code) == (verdict, code)


def test_a_table_remembers_who_reset_a_stream_and_is_bounded() -> None:
    table = StreamTable()
    table.begin(1)
    table.end(1, StreamState.CLOSED)
    table.begin(7)
    assert [table.state(number) for number in (1, 3, 2, 9)] == [
        StreamState.CLOSED,
        StreamState.SKIPPED,
        StreamState.SKIPPED,
        StreamState.IDLE,
    ]
    table.end(7, StreamState.RESET_REMOTE)
    assert table.state(7) == StreamState.RESET_REMOTE
    for number in range(9, 9 + 2 * MAX_RESETS, 2):
        table.begin(number)
        table.end(number, StreamState.RESET_LOCAL)
    assert table.state(7) == StreamState.RESET_LOCAL  # forgotten: let pass


# Limits.


def test_windows_may_be_opened_as_often_as_there_is_data() -> None:
    limits = AbuseLimits(100, 0)
    for sent in range(10_000):
        limits.data_frames_sent = sent
        for _ in range(10):
            limits.window_update()


@pytest.mark.parametrize(
    ("flood", "most"),
    [
        (lambda limits, _: limits.window_update(), UPDATES_AT_ONCE),
        (lambda limits, _: limits.priority(), PRIORITIES_PER_STREAM),
        (lambda limits, _: limits.empty_frame(), EMPTY_FRAMES_AT_ONCE),
        (lambda limits, number: limits.continuation(number), CONTINUATIONS_PER_BLOCK + 1),
        (lambda limits, _: limits.control_frame(1, 0), 300),
        (lambda limits, _: limits.stream_reset(0, 0), 20),
        (lambda limits, _: limits.stream_malformed(0), 20),
        (lambda limits, _: limits.control_frame_queued(), 1000),
    ],
)
def test_a_flood_is_over_its_limit(flood: "object", most: int) -> None:
    limits = AbuseLimits(100, 0)
    assert callable(flood)
    for number in range(most):
        flood(limits, number)
    with pytest.raises(Http2ConnectionError) as caught:
        flood(limits, most)
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM


def test_time_and_answers_give_back_what_frames_cost() -> None:
    limits = AbuseLimits(100, 0)
    for number in range(2000):
        limits.answers += 1
        limits.control_frame(1, 0)
        limits.stream_reset(200_000_000, number)  # what lived long costs nothing
    for second in range(1, 20):
        for _ in range(90):
            limits.control_frame(1, second * SECOND)
