"""One HTTP/2 connection of a client (RFC 9113): its life, and its frames in; on one event loop."""

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from typing import Final, Protocol

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.answer_memory import Memory
from penstock.api.grpc.http2.connection_output import MAX_BUFFERED_BYTES, RETIRING, OutputOwner
from penstock.api.grpc.http2.frame_reader import FrameReader
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, frame
from penstock.api.grpc.http2.request_head import NO_LENGTH
from penstock.api.grpc.http2.request_input import (
    CONNECTION_WINDOW,
    HEADER_BYTES,
    HEADERS_WORK,
    SMALL_WINDOW,
    STREAM_WINDOW,
    RequestInput,
)
from penstock.api.grpc.http2.stream import Stream
from penstock.api.grpc.http2.stream_state import StreamEvent, StreamState, Verdict, transition

FRAME_BYTES: Final = 64 << 10
"""Payload of the largest frame that a client may send, and so what a connection holds of one that is not whole."""

WORK_PER_TURN: Final = 128
"""Work done for a connection before others have their turn; a known request, or a DATA frame, is one unit."""

FRAME_WORK, SLOW_WORK = 4, 64
"""Units of any other frame than DATA and HEADERS, and of a request of a client that takes answers in small pieces."""

PREFACE_NS: Final = 10_000_000_000
IDLE_NS = 1_000_000_000
"""Silence after which a connection without streams may be closed to make room for another."""

STUCK_NS = 60_000_000_000
"""A field block has to be whole, and some of each answer to be taken, within this time."""

_WORK: Final = {frames.DATA: 1, frames.HEADERS: HEADERS_WORK, frames.CONTINUATION: HEADERS_WORK}
_ALIVE: Final = b"penstock"
_UNPACK: Final = frames.FRAME_HEADER.unpack_from


class ConnectionOwner(OutputOwner, Protocol):
    """The server that connections belong to."""

    def connection_opened(self, connection: "Connection") -> None:
        """A client has come."""

    def connection_closed(self, connection: "Connection") -> None:
        """It has gone."""

    def alpn_missing(self) -> None:
        """A client of TLS has not agreed on HTTP/2; its connection is closed."""


class Connection(RequestInput):
    """One client's, for ``age_ns`` nanoseconds: an ``asyncio.Protocol`` in all but name, as compiled classes have none
    of the interpreter's above them."""

    def __init__(self, owner: ConnectionOwner, max_streams: int, age_ns: int, memory: Memory) -> None:
        super().__init__(owner, max_streams, memory)
        self._server = owner
        self.began_ns = self.heard_ns
        self.until_ns = self.began_ns + age_ns
        self.pinged_ns = 0  # a PING of ours is under way since
        self._sent_frames = 0  # with data, when the connection was last swept
        self._reader = FrameReader(FRAME_BYTES)
        self._has_settings = False
        self._waits_for_turn = False

    # The connection's life.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we accept."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._input_closed = True
            self._server.alpn_missing()
            transport.close()
            return
        self._server.connection_opened(self)
        values = {
            frames.MAX_CONCURRENT_STREAMS: self._max_streams,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_FRAME_SIZE: FRAME_BYTES,
            frames.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
        }
        more = frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        self.send(frames.settings(values) + more)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is under way is given up."""
        self._lost = self._input_closed = True
        self._memory.give_back(self._buffered_bytes)
        self._buffered_bytes = 0
        self._drop_streams()
        self._server.connection_closed(self)

    def eof_received(self) -> bool:
        """The client sends no more, so nothing can be asked of it any more: close."""
        return False

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The client does not read what is written: data waits in the queue. We go on reading, as RFC 9113 section
        5.2.2 wants it, so that neither side waits for the other."""
        self._can_write = False
        if self._transport is not None:
            size = self._transport.get_write_buffer_size() - self._queue.partly_sent_bytes()
            if size > 0 and self._memory.take(size):
                self._buffered_bytes += size

    def resume_writing(self) -> None:
        """The client reads again."""
        self._can_write = True
        self._memory.give_back(self._buffered_bytes)
        self._buffered_bytes = 0
        if self._transport is not None and not self._lost:
            if not self._waits_for_turn:
                self._transport.resume_reading()
            self._flush_soon()

    def has_spoken(self) -> bool:
        """Whether the client has begun to speak HTTP/2."""
        return self._reader.has_preface

    def is_idle(self, now_ns: int) -> bool:
        """Whether nothing is under way, and nothing was heard for a while."""
        return not self._live and now_ns - self.heard_ns > IDLE_NS

    def sweep(self, now_ns: int, keepalive_ns: int, timeout_ns: int) -> None:
        """See whether anything waits for too long; called about once a second."""
        if not self._reader.has_preface:
            if now_ns - self.began_ns > PREFACE_NS:
                self.abort()
            return
        for stream in self._stuck(now_ns):
            self.reset(stream, ErrorCode.CANCEL)
        self._find_stalled(now_ns)
        sent_frames = self._queue.frames_sent + self._direct_frames
        if sent_frames != self._sent_frames and self.pinged_ns:
            self.pinged_ns = now_ns  # it takes data, and the PING is behind that
        self._sent_frames = sent_frames
        incomplete = self._gathering is not None and now_ns - self._gathering_since_ns > STUCK_NS
        if incomplete or (self.pinged_ns and now_ns - self.pinged_ns > timeout_ns):
            self.abort()
        elif now_ns > self.until_ns:
            self.retire()
        elif not self.pinged_ns and now_ns - self.heard_ns > keepalive_ns:
            self.pinged_ns = now_ns
            self.send(frame(frames.PING, 0, 0, _ALIVE))

    def _stuck(self, now_ns: int) -> list[Stream]:
        """Streams whose answer the client does not take."""
        before, queue = now_ns - STUCK_NS, self._queue
        found = [one for one in queue.blocked.values() if one.waits_since_ns < before]
        if queue.closed_since_ns and queue.closed_since_ns < before:
            found += list(queue.ready.values())
        return found

    # Reading.

    def data_received(self, data: bytes) -> None:
        """Take frames; what is incomplete waits for the rest."""
        if self._input_closed:
            return
        self.heard_ns = monotonic_ns()
        try:
            self._reader.feed(data)
        except Http2ConnectionError as error:
            self._fail(error.code, str(error))
            return
        if not self._waits_for_turn:
            self._work()

    def _go_on(self) -> None:
        """Work on what was left when others had their turn."""
        self._waits_for_turn = False
        if self._lost or self._input_closed or self._transport is None:
            return
        if self._can_write or self._transport.get_write_buffer_size() <= MAX_BUFFERED_BYTES:
            self._transport.resume_reading()
        self._work()

    def _work(self) -> None:
        """Take whole frames, as many as one turn allows."""
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
                    left -= _WORK.get(reader.kind, FRAME_WORK)
                if self._input_closed:
                    return
        except Http2ConnectionError as error:
            self._fail(error.code, str(error))
            return
        if (reader.has_more or self._decoding is not None) and self._transport is not None:
            self._waits_for_turn = True
            self._transport.pause_reading()
            self.loop.call_soon(self._go_on)

    def _whole_request(self) -> bool:
        """Take a request whose field block is known and whose only DATA frame is at hand, without looking twice; False
        if it is not that. Its conditions are those of ``_begin`` and ``_data``."""
        reader = self._reader
        data, stop, number = reader.data, reader.stop, reader.stream_id
        begin = stop + frames.FRAME_HEADER_BYTES
        if begin > len(data) or not self._has_settings or self._gathering is not None:
            return False
        head = self._headers.known.get(data[reader.start : stop])
        if head is None:
            return False
        follower: tuple[int, int, int] = _UNPACK(data, stop)
        word, flags, same = follower
        size = word >> 8
        end = begin + size
        if (
            flags != frames.END_STREAM
            or word & 0xFF != frames.DATA
            or same != number
            or end > len(data)
            or not 0 < size <= STREAM_WINDOW
            or (head.content_length != NO_LENGTH and head.content_length != size)  # noqa: PLR1714 - no tuple each time
            or not number & 1
            or number <= self.streams.last_id
            or self._refuses()
        ):
            return False
        self._received(size)
        reader.skip_to(end)
        stream = self._open(number, head, StreamState.HALF_CLOSED_REMOTE)
        self.limits.data_frames_received += 1
        stream.on_request(data[begin:end])
        return True

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._gathering is not None and kind != frames.CONTINUATION:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a field block was interrupted")
        if not self._has_settings and (kind != frames.SETTINGS or flags & frames.ACK):
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "the first frame has to be SETTINGS")
        if kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._headers_frame(flags, number, frames.unpadded(flags, payload, has_priority=True))
        else:
            _OTHERS.get(kind, Connection._unknown)(self, flags, number, payload)

    # Other frames.

    def _reset_frame(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        found = transition(self.streams.state(number), StreamEvent.RST_STREAM)
        stream = self._live.get(number)
        if found.verdict != Verdict.ACCEPT or stream is None:
            self._unaccepted(found, number, 1.0)
            return
        self.limits.stream_reset(self.heard_ns - stream.began_ns, self.heard_ns)
        self._forget(stream, StreamState.RESET_REMOTE)
        if not stream.local_closed:
            stream.local_closed = True
            stream.on_reset()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "settings are the connection's")
        if flags & frames.ACK:
            if payload:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of settings has no payload")
            return
        if len(payload) % 6:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a setting has six bytes")
        self._has_settings = True
        self.limits.control_frame(1 + len(payload) // 60, self.heard_ns)
        for at in range(0, len(payload), 6):
            self._setting(int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        self._send_control(frame(frames.SETTINGS, frames.ACK, 0))
        self._fill_soon()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            self._first_window(value)
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "no frame can be so large")
            self._queue.frame_bytes = value
        elif key == frames.ENABLE_PUSH and value > 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _first_window(self, value: int) -> None:
        """A change holds for streams under way too (RFC 9113 section 6.9.2)."""
        fits = value <= frames.MAX_WINDOW
        change, self._queue.stream_window = value - self._queue.stream_window, value
        if fits and change:
            for stream in list(self._live.values()):
                fits &= self._queue.grow_stream(stream, change, self.heard_ns)
        if not fits:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a ping is the connection's")
        if len(payload) != 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a ping has eight bytes")
        if not flags & frames.ACK:
            self.limits.control_frame(1, self.heard_ns)
            self._send_control(frame(frames.PING, frames.ACK, 0, payload))
        elif payload == RETIRING:
            self._retired()
        else:
            self.pinged_ns = 0

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        self.limits.data_frames_sent = self._queue.frames_sent + self._direct_frames
        self.limits.window_update()
        increment = int.from_bytes(payload) & frames.STREAM_MASK
        if number:
            self._open_stream_window(number, increment)
        elif not increment:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a window is opened by nothing")
        elif not self._queue.grow_connection(increment, self.heard_ns):
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        self._fill_soon()

    def _open_stream_window(self, number: int, increment: int) -> None:
        found = transition(self.streams.state(number), StreamEvent.WINDOW_UPDATE)
        stream = self._live.get(number)
        if found.verdict != Verdict.ACCEPT or stream is None:
            if found.verdict != Verdict.IGNORE:
                self._unaccepted(found, number, 1.0)
        elif not increment:
            self._stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        elif not self._queue.grow_stream(stream, increment, self.heard_ns):
            self._stream_error(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.answers.resume(stream)

    def _goaway(self, _flags: int, number: int, _payload: bytes) -> None:
        """The client begins no more requests."""
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "GOAWAY is the connection's")
        self.limits.control_frame(1, self.heard_ns)

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        if not number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a priority is a stream's")
        self.limits.priority()
        if len(payload) == 5:
            return
        stream = self._live.get(number)
        if stream is not None:
            self._stream_error(stream, ErrorCode.FRAME_SIZE_ERROR)
        elif number > self.streams.last_id:  # a stream that has not begun cannot be reset
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a priority has five bytes")

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _unknown(self, _flags: int, _number: int, _payload: bytes) -> None:
        self.limits.control_frame(1, self.heard_ns)

    @staticmethod
    def by_kind() -> "dict[int, Callable[[Connection, int, int, bytes], None]]":
        """Who takes the frames that do not come with every request."""
        return {
            frames.PRIORITY: Connection._priority,
            frames.RST_STREAM: Connection._reset_frame,
            frames.SETTINGS: Connection._settings,
            frames.PUSH_PROMISE: Connection._push_promise,
            frames.PING: Connection._ping,
            frames.GOAWAY: Connection._goaway,
            frames.WINDOW_UPDATE: Connection._window_update,
            frames.CONTINUATION: Connection._continuation,
        }


_OTHERS: Final = Connection.by_kind()
