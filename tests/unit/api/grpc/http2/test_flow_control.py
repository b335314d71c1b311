"""Flow control held against h2: its window manager for the two kinds of windows, its client for whole connections."""

import asyncio

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from h2.exceptions import FlowControlError
from h2.windows import WindowManager
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.connection import FRAME_BYTES, Http2Connection
from penstock.api.grpc.http2.flow_control import ReceiveWindow, SendWindow
from penstock.api.grpc.http2.frames import ErrorCode, encode_frame
from penstock.api.grpc.http2.request_input import STREAM_WINDOW
from tests.budgets import examples
from tests.unit.api.grpc.http2.fakes import Owner, Silent, Wire, connected

HEADERS = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "x")]


@given(st.integers(1, 4000), st.integers(1, 100), st.lists(st.integers(0, 1500), max_size=60))
def test_a_receive_window_takes_what_h2_would_take(size: int, percent: int, received: list[int]) -> None:
    window, oracle = ReceiveWindow(size, max(1, size * percent // 100)), WindowManager(size)
    for count in received:
        allowed = window.receive(count)
        try:
            oracle.window_consumed(count)
        except FlowControlError:
            assert not allowed
            return
        assert allowed
        increment = window.replenish()
        oracle.window_opened(increment)
        assert oracle.current_window_size == size - window.outstanding
        assert oracle.current_window_size <= oracle.max_window_size == size


@given(
    st.integers(0, frames.MAX_WINDOW),
    st.lists(
        st.tuples(
            st.sampled_from(["grow", "take"]),
            st.one_of(st.integers(-70_000, 70_000), st.integers(frames.MAX_WINDOW - 9, frames.MAX_WINDOW)),
        ),
        max_size=40,
    ),
)
def test_a_send_window_has_the_size_that_h2_knows(first: int, events: list[tuple[str, int]]) -> None:
    """Also where a changed first window takes back what the peer had given, and then gives it anew."""
    window, oracle = SendWindow(first), WindowManager(first)
    for event, count in events:
        if event == "take":
            taken = min(abs(count), max(0, window.available))
            window.take(taken)
            oracle.current_window_size -= taken  # h2 has no notion of a sender that knows its window
        else:
            fits = window.grow(count)
            try:
                oracle.window_opened(count)
            except FlowControlError:
                assert not fits
                return
            assert fits
        assert window.available == oracle.current_window_size


class Answers(Silent):
    """A stream that answers a request with as many bytes as its data says, in pieces of what follows."""

    def on_data(self, data: bytes) -> None:
        size, piece = int.from_bytes(data[:4]), int.from_bytes(data[4:8])
        self.io.send_head(self, b"\x88")
        for at in range(0, size, piece):
            assert self.io.send_data(self, bytes(min(piece, size - at)))
        self.io.send_trailers(self, b"\x00\x01a\x01b")


class Client:
    """h2's client, which holds a server to all windows; it opens them only on request."""

    def __init__(self, first_window: int) -> None:
        config = h2.config.H2Configuration(client_side=True)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: first_window})
        self.unread: dict[int, int] = {}
        self.got: dict[int, int] = {}
        self.ended: set[int] = set()

    def ask(self, size: int, piece: int) -> int:
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, HEADERS)
        self.h2.send_data(number, size.to_bytes(4) + piece.to_bytes(4), end_stream=True)
        self.unread[number] = self.got[number] = 0
        return number

    def take(self, wire: Wire) -> None:
        """Take what the server wrote; h2 raises if that is more than the windows allow."""
        for event in self.h2.receive_data(bytes(wire.written)):
            if isinstance(event, h2.events.DataReceived):
                self.got[event.stream_id] += len(event.data)
                self.unread[event.stream_id] += event.flow_controlled_length
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated), event
        wire.written.clear()

    def read(self, number: int) -> None:
        """Open the windows by what has come of a stream."""
        count, self.unread[number] = self.unread[number], 0
        if count and number not in self.ended:
            self.h2.increment_flow_control_window(count, number)
        if count:
            self.h2.increment_flow_control_window(count)


async def exchange(client: Client, wire: Wire, connection: Http2Connection) -> None:
    """Let both sides say what they have to say now."""
    for _ in range(4):
        data = client.h2.data_to_send()
        if data:
            connection.data_received(data)
        await asyncio.sleep(0)
        connection.flush()
        client.take(wire)


async def conversation(
    first_window: int, asked: list[tuple[int, int]], events: list[tuple[str, int, int]]
) -> dict[int, int]:
    client, wire = Client(first_window), Wire()
    connection = connected(wire, Owner(Answers), client.h2.data_to_send())
    await exchange(client, wire, connection)
    wanted = {client.ask(*item): item[0] for item in asked}
    numbers = list(wanted)
    await exchange(client, wire, connection)
    for event, which, size in events:
        if event == "read":
            client.read(numbers[which % len(numbers)])
        elif event == "resize":
            client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})
        await exchange(client, wire, connection)
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
    client.h2.increment_flow_control_window(1 << 24)
    while len(client.ended) < len(numbers):
        before = sum(client.got.values())
        for number in numbers:
            client.read(number)
        await exchange(client, wire, connection)
        assert sum(client.got.values()) > before or len(client.ended) == len(numbers), "it is stuck"
    return {number: client.got[number] - size for number, size in wanted.items()}


@settings(max_examples=examples(150), deadline=None)
@given(
    st.sampled_from([0, 1, 9, 1000, 16_384, 65_535, 1 << 20]),
    st.lists(st.tuples(st.integers(1, 200_000), st.sampled_from([7_000, 65_536, 1 << 20])), min_size=1, max_size=5),
    st.lists(
        st.tuples(
            st.sampled_from(["read", "read", "resize"]),
            st.integers(0, 4),
            st.sampled_from([0, 1, 500, 65_535, 1 << 18]),
        ),
        max_size=25,
    ),
)
def test_h2_s_client_gets_every_byte_and_never_one_too_many(
    first_window: int, asked: list[tuple[int, int]], events: list[tuple[str, int, int]]
) -> None:
    assert set(asyncio.run(conversation(first_window, asked, events)).values()) == {0}


@pytest.mark.parametrize("chunk", [1, 1000, 16_384])
def test_h2_s_client_may_send_any_amount(chunk: int) -> None:
    """A request of three stream windows, as fast as our windows open."""

    class Reader(Silent):
        def on_data(self, data: bytes) -> None:
            self.io.replenish(self)

    async def upload() -> int:
        client, wire = Client(65_535), Wire()
        connection = connected(wire, Owner(Reader), client.h2.data_to_send())
        await exchange(client, wire, connection)
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, HEADERS)
        left, sent = (2 * STREAM_WINDOW + 5 if chunk > 1 else 3000), 0
        while sent < left:
            window = min(client.h2.local_flow_control_window(number), chunk * 16, left - sent)
            assert window > 0, "it is stuck"
            for at in range(0, window, chunk):
                client.h2.send_data(number, bytes(min(chunk, window - at)))
            sent += window
            await exchange(client, wire, connection)
        return connection.streams.live[number].received_bytes - left

    assert asyncio.run(upload()) == 0


@pytest.mark.parametrize(("streams", "resets"), [(1, 1), (40, None)], ids=["one too many", "all windows full"])
def test_more_than_a_window_ends_its_stream_and_full_windows_end_nothing(streams: int, resets: int | None) -> None:
    """Streams that nobody reads; what the connection counts is given back, so only many bytes at once are too many."""

    async def flood() -> bytes:
        wire = Wire()
        connection = connected(wire, Owner())
        block = b"\x83\x86\x04\x02/a\x01\x01x"
        for number in range(1, 2 * streams, 2):
            connection.data_received(encode_frame(frames.HEADERS, frames.END_HEADERS, number, block))
            for _ in range(STREAM_WINDOW // FRAME_BYTES):
                connection.data_received(encode_frame(frames.DATA, 0, number, bytes(FRAME_BYTES)))
        connection.flush()
        wire.written.clear()
        if resets is not None:
            connection.data_received(encode_frame(frames.DATA, 0, 1, b"x"))
        connection.flush()
        return bytes(wire.written)

    written = asyncio.run(flood())
    expected = b"" if resets is None else frames.reset(resets, ErrorCode.FLOW_CONTROL_ERROR)
    assert written == expected
