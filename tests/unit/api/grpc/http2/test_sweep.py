"""What the sweep of a connection finds: clients that never speak, stop in the midst, vanish, or are merely quiet."""

import asyncio
from collections.abc import Callable

import pytest

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.connection import PREFACE_NS, STUCK_NS, Http2Connection
from penstock.api.grpc.http2.frames import encode_frame
from tests.unit.api.grpc.http2.fakes import Owner, Wire, connected

SECOND = 1_000_000_000
KEEPALIVE, TIMEOUT = 60 * SECOND, 20 * SECOND


class Cut(Wire):
    """A transport that remembers that it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True

    def kinds(self) -> list[int]:
        """The kinds of the frames that were written since the last look."""
        found, at = [], 0
        while at < len(self.written):
            word, _, _ = frames.FRAME_HEADER.unpack_from(self.written, at)
            found.append(word & 0xFF)
            at += frames.FRAME_HEADER_BYTES + (word >> 8)
        self.written.clear()
        return found


def swept(
    work: Callable[[Http2Connection, Cut], None], greeting: bytes = frames.PREFACE + frames.encode_settings({})
) -> None:
    async def run() -> None:
        wire = Cut()
        connection = connected(wire, Owner(), greeting)
        connection.flush()
        wire.kinds()
        work(connection, wire)

    asyncio.run(run())


def sweep(connection: Http2Connection, seconds: float) -> None:
    """Sweep as if it were so long after the connection began."""
    connection.sweep(connection.began_ns + int(seconds * SECOND), KEEPALIVE, TIMEOUT)
    connection.flush()


@pytest.mark.parametrize("sent", [b"", b"P", frames.PREFACE[:-1]])
def test_a_client_that_never_starts_is_disconnected_however_slowly_it_sends(sent: bytes) -> None:
    def work(connection: Http2Connection, wire: Cut) -> None:
        sweep(connection, PREFACE_NS / SECOND - 1)
        assert not wire.is_cut
        connection.data_received(b"")
        sweep(connection, PREFACE_NS / SECOND + 1)
        assert wire.is_cut

    swept(work, sent)


def test_an_idle_connection_is_pinged_and_stays_if_it_answers() -> None:
    def work(connection: Http2Connection, wire: Cut) -> None:
        sweep(connection, 59)
        assert wire.kinds() == []
        sweep(connection, 61)
        assert wire.kinds() == [frames.PING]
        sweep(connection, 80)
        assert wire.kinds() == []  # it is asked once
        connection.data_received(encode_frame(frames.PING, frames.ACK, 0, b"penstock"))
        sweep(connection, 82)
        assert not wire.is_cut

    swept(work)


def test_a_vanished_client_is_disconnected() -> None:
    def work(connection: Http2Connection, wire: Cut) -> None:
        sweep(connection, 61)
        sweep(connection, 80)
        assert not wire.is_cut
        sweep(connection, 82)
        assert wire.is_cut

    swept(work)


def test_a_field_block_has_to_be_whole_in_time_however_often_a_piece_comes() -> None:
    def work(connection: Http2Connection, wire: Cut) -> None:
        connection.data_received(encode_frame(frames.HEADERS, 0, 1, b"\x83"))
        sweep(connection, STUCK_NS / SECOND - 1)
        assert not wire.is_cut
        connection.last_received_ns = connection.began_ns + int(STUCK_NS)  # more of it came a moment ago
        connection.pinged_ns = 0
        sweep(connection, STUCK_NS / SECOND + 1)
        assert wire.is_cut

    swept(work)


def test_an_old_connection_is_asked_to_reconnect() -> None:
    def work(connection: Http2Connection, wire: Cut) -> None:
        sweep(connection, 1001)  # the fake's connections live for 1000 s
        assert frames.GOAWAY in wire.kinds()
        assert not wire.is_cut

    swept(work)
