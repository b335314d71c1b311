"""One HTTP/2 connection of a client (RFC 9113): its life cycle and its input; on one event loop."""

import asyncio
from time import monotonic_ns
from typing import Final, Protocol

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.answer_memory import MemoryLimit
from penstock.api.grpc.http2.connection_output import CLOSED, LOST, MAX_BUFFERED_BYTES, OPEN, OutputOwner
from penstock.api.grpc.http2.control_frames import ControlFrames
from penstock.api.grpc.http2.frame_reader import FrameReader
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, encode_frame
from penstock.api.grpc.http2.request_head import NO_LENGTH
from penstock.api.grpc.http2.request_input import (
    CONNECTION_WINDOW,
    HEADER_BYTES,
    HEADERS_WORK,
    SMALL_WINDOW,
    STREAM_WINDOW,
)
from penstock.api.grpc.http2.stream import Http2Stream
from penstock.api.grpc.http2.stream_state import StreamState
from penstock.api.tls import read_client_certificate

FRAME_BYTES: Final = 64 << 10
"""Maximum payload of a frame, and so the bytes that a connection holds of an incomplete one."""

WORK_PER_TURN: Final = 128
"""Units of work for a connection in one turn of the loop; a cached request or a DATA frame is one unit."""

FRAME_WORK, SLOW_WORK = 4, 64
"""Units of a frame other than DATA and HEADERS, and of a request of a client that reads in small pieces."""

PREFACE_NS: Final = 10_000_000_000
IDLE_NS = 1_000_000_000
"""Silence after which a connection without streams may be closed to free its place."""

STUCK_NS = 60_000_000_000
"""Time for a complete field block, and for the client to read some of each answer."""

_ALIVE: Final = b"penstock"


class ConnectionOwner(OutputOwner, Protocol):
    """The server of connections."""

    def connection_opened(self, connection: "Http2Connection") -> None:
        """Register a new connection."""

    def connection_closed(self, connection: "Http2Connection") -> None:
        """Remove a closed connection."""

    def alpn_missing(self) -> None:
        """Note a TLS client without h2; its connection is closed."""


class Http2Connection(ControlFrames):
    """The connection of one client, for ``age_ns`` nanoseconds; it has the methods of ``asyncio.Protocol``, but
    not its base class, as compiled classes have no interpreted bases."""

    def __init__(self, owner: ConnectionOwner, max_streams: int, age_ns: int, memory: MemoryLimit) -> None:
        super().__init__(owner, max_streams, memory)
        self._server = owner
        self.began_ns = self.last_received_ns
        self.until_ns = self.began_ns + age_ns
        self._sent_frames = 0  # with data, when the connection was last swept
        self._reader = FrameReader(FRAME_BYTES)
        self._waits_for_turn = False

    # Life cycle.

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Send the settings of the server; ``transport`` is asyncio's or uvloop's."""
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._input_state = CLOSED
            self._server.alpn_missing()
            transport.close()
            return
        self._note_certificate(transport)
        self._server.connection_opened(self)
        values = {
            frames.MAX_CONCURRENT_STREAMS: self._max_streams,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_FRAME_SIZE: FRAME_BYTES,
            frames.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
        }
        more = frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        self.send(frames.encode_settings(values) + more)

    def _note_certificate(self, transport: asyncio.Transport) -> None:
        """Remember the names in the client's certificate, with which the connection ends."""
        certificate = read_client_certificate(transport.get_extra_info("peercert"))
        if certificate is not None:
            self.certificate_names = certificate.names
            self.until_ns = min(self.until_ns, self.began_ns + certificate.left_ns())

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all open streams."""
        self._input_state = LOST
        self._memory.give_back(self._buffered_bytes)
        self._buffered_bytes = 0
        self._drop_streams()
        self._server.connection_closed(self)

    def eof_received(self) -> bool:
        """Close the connection: HTTP/2 has no half-closed connections."""
        return False

    def abort(self) -> None:
        """Close immediately."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Queue data while the client does not read. Reading continues, as RFC 9113 section 5.2.2 requires, so that
        neither side waits for the other."""
        self._can_write = False
        if self._transport is not None:
            size = self._transport.get_write_buffer_size() - self._queue.partly_sent_bytes()
            if size > 0 and self._memory.take(size):
                self._buffered_bytes += size

    def resume_writing(self) -> None:
        """Resume writing after the client has read most of the buffer."""
        self._can_write = True
        self._memory.give_back(self._buffered_bytes)
        self._buffered_bytes = 0
        if self._transport is not None and self._input_state != LOST:
            if not self._waits_for_turn:
                self._transport.resume_reading()
            self._flush_soon()

    def has_preface(self) -> bool:
        """Whether the client has sent the HTTP/2 preface."""
        return self._reader.has_preface

    def is_idle(self, now_ns: int) -> bool:
        """Whether no stream is open and nothing was received for a while."""
        return not self._live and now_ns - self.last_received_ns > IDLE_NS

    def sweep(self, now_ns: int, keepalive_ns: int, timeout_ns: int) -> None:
        """Enforce timeouts; called about once a second."""
        if not self._reader.has_preface:
            if now_ns - self.began_ns > PREFACE_NS:
                self.abort()
            return
        for stream in self._stuck(now_ns):
            self.reset(stream, ErrorCode.CANCEL)
        self._find_stalled(now_ns)
        sent_frames = self._queue.frames_sent + self._direct_frames
        if sent_frames != self._sent_frames and self.pinged_ns:
            self.pinged_ns = now_ns  # it reads data, and the PING is queued behind that
        self._sent_frames = sent_frames
        incomplete = self._gathering is not None and now_ns - self._gathering_since_ns > STUCK_NS
        if incomplete or (self.pinged_ns and now_ns - self.pinged_ns > timeout_ns):
            self.abort()
        elif now_ns > self.until_ns:
            self.retire()
        elif not self.pinged_ns and now_ns - self.last_received_ns > keepalive_ns:
            self.pinged_ns = now_ns
            self.send(encode_frame(frames.PING, 0, 0, _ALIVE))

    def _stuck(self, now_ns: int) -> list[Http2Stream]:
        """Return the streams whose answers the client does not read."""
        before, queue = now_ns - STUCK_NS, self._queue
        stuck = [item for item in queue.blocked.values() if item.waits_since_ns < before]
        if queue.closed_since_ns and queue.closed_since_ns < before:
            stuck += list(queue.ready.values())
        return stuck

    # Reading.

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        if self._input_state != OPEN:
            return
        self.last_received_ns = monotonic_ns()
        try:
            self._reader.feed(data)
        except Http2ConnectionError as error:
            self._fail(error.code, str(error))
            return
        if not self._waits_for_turn:
            self._work()

    def _resume_work(self) -> None:
        """Continue with the frames left from the last turn of the loop."""
        self._waits_for_turn = False
        if self._input_state != OPEN or self._transport is None:
            return
        if self._can_write or self._transport.get_write_buffer_size() <= MAX_BUFFERED_BYTES:
            self._transport.resume_reading()
        self._work()

    def _work(self) -> None:
        """Handle complete frames, as many as one turn of the loop allows."""
        left, reader = WORK_PER_TURN, self._reader
        try:
            while left > 0:
                if self._decoding is not None:
                    left -= self._decode(self._decoding)
                elif not reader.advance():
                    return
                elif reader.kind == frames.HEADERS and reader.flags == frames.END_HEADERS and self._whole_request():
                    left -= 1 if self._queue.stream_window >= SMALL_WINDOW else SLOW_WORK
                else:
                    self._frame(reader.kind, reader.flags, reader.stream_id, reader.payload())
                    left -= _work_of(reader.kind)
                if self._input_state != OPEN:
                    return
        except Http2ConnectionError as error:
            self._fail(error.code, str(error))
            return
        if (reader.has_more or self._decoding is not None) and self._transport is not None:
            self._waits_for_turn = True
            self._transport.pause_reading()
            self.loop.call_soon(self._resume_work)

    def _whole_request(self) -> bool:
        """Handle a complete request with a cached field block and one DATA frame at once; return False for any other.
        Between the two, grpc-core opens the window of the stream. The conditions are those of ``_begin``,
        ``_window_update`` and ``_data``."""
        reader = self._reader
        data, at, number = reader.data, reader.stop, reader.stream_id
        if not self._has_settings or self._gathering is not None:
            return False
        head = self._headers.known.get(data[reader.start : at])
        if head is None:
            return False
        increment = frames.stream_update_at(data, at, number)
        if increment:
            at += frames.UPDATE_BYTES
        size = frames.last_data_at(data, at, number)
        if (
            not 0 < size <= STREAM_WINDOW
            or (head.content_length != NO_LENGTH and head.content_length != size)  # noqa: PLR1714 - no tuple each time
            or not number & 1
            or number <= self.streams.last_id
            or increment > frames.MAX_WINDOW - self._queue.stream_window
            or self._refuses()
        ):
            return False
        begin = at + frames.FRAME_HEADER_BYTES
        reader.skip_to(begin + size)
        stream = self._open(number, head, StreamState.HALF_CLOSED_REMOTE)
        if increment:
            self._count_window_update()
            stream.send_window.grow(increment)
        self._count_received(size)
        self.limits.data_frames_received += 1
        stream.received_bytes = size
        stream.on_request(data[begin : begin + size])
        return True

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._gathering is not None and kind != frames.CONTINUATION:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a field block was interrupted")
        if not self._has_settings and (kind != frames.SETTINGS or flags & frames.ACK):
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "the first frame has to be SETTINGS")
        if kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._headers_frame(flags, number, frames.remove_padding(flags, payload, has_priority=True))
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(number, payload)
        else:
            self._control_frame(kind, flags, number, payload)


def _work_of(kind: int) -> int:
    """Return the units of work of a frame."""
    if kind == frames.DATA:
        return 1
    return HEADERS_WORK if kind in (frames.HEADERS, frames.CONTINUATION) else FRAME_WORK
