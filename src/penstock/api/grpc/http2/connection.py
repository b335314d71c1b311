"""One HTTP/2 connection of a client (RFC 9113): its frames in and out, its streams, and its life; on one event loop."""

import asyncio
from collections.abc import Callable
from time import monotonic_ns
from typing import Final, Protocol

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.abuse_limits import AbuseLimits
from penstock.api.grpc.http2.flow_control import ReceiveWindow
from penstock.api.grpc.http2.frame_reader import FrameReader
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, Http2StreamError, frame
from penstock.api.grpc.http2.header_cache import HeaderDecoder
from penstock.api.grpc.http2.request_head import NO_LENGTH, RequestHead, check_trailers
from penstock.api.grpc.http2.send_queue import SendQueue
from penstock.api.grpc.http2.stream import Stream, StreamIo
from penstock.api.grpc.http2.stream_state import StreamEvent, StreamState, Transition, Verdict, transition
from penstock.api.grpc.http2.stream_table import StreamTable

CONNECTION_WINDOW: Final = 16 << 20
STREAM_WINDOW: Final = 1 << 20
FRAME_BYTES: Final = 1 << 20
"""Payload of the largest frame that a client may send."""

HEADER_BYTES: Final = 32 << 10
"""Size of the largest field list (RFC 9113 section 6.5.2); a larger one ends its stream."""

MAX_BLOCK_BYTES: Final = 256 << 10
"""Size of the largest encoded field block that is decoded at all; a larger one ends the connection."""

WORK_PER_TURN: Final = 128
"""Work done for a connection before others have their turn; a known request, or a DATA frame, is one unit."""

HEADERS_WORK, FRAME_WORK, SLOW_WORK = 16, 4, 64
"""Units of a field block, of any other frame, and of a request of a client that takes answers in small pieces."""

FILL_BYTES: Final = 256 << 10
"""Queued data that is written in one turn of the loop."""

SMALL_WINDOW: Final = 1024
"""Bytes; clients that begin with smaller stream windows are slow on purpose."""

DROPPED_PER_TURN: Final = 32
"""Streams that are ended at once when their connection ends; the others follow in later turns."""

MAX_UNREAD: Final = 128
UNREAD_NS: Final = 250_000_000
"""Answers that may wait for a client that has opened no window for so long, before its requests are refused."""

MAX_UNREAD_SMALL: Final = 16
"""The same of a client whose windows begin small, at once."""

PREFACE_NS: Final = 10_000_000_000
REQUEST_NS = 60_000_000_000
"""A request has to be whole, and an answer to be taken, within this time."""

LATE_DATA_COST: Final = 0.05
"""What DATA on a stream that we have reset costs: it was on its way."""

_WORK: Final = {frames.DATA: 1, frames.HEADERS: HEADERS_WORK, frames.CONTINUATION: HEADERS_WORK}
_RETIRING: Final = b"retiring"
_ALIVE: Final = b"penstock"
_NOT_RETIRING, _ANNOUNCED, _RETIRED = 0, 1, 2


class Memory(Protocol):
    """The worker's memory budget."""

    limit: int

    def take(self, size: int) -> bool:
        """Reserve bytes; False where they do not fit."""

    def give_back(self, size: int) -> None:
        """Return bytes."""


class ConnectionOwner(Protocol):
    """The server that connections belong to."""

    def interpret(self, head: RequestHead) -> RequestHead:
        """The application's head of a request: ``RequestHead``, or a subclass made of it."""

    def open_stream(self, io: StreamIo, stream_id: int, head: RequestHead, send_window: int) -> Stream:
        """What becomes of a request that has begun; ``send_window`` is its peer's first one, in bytes."""

    def connection_opened(self, connection: "Connection") -> None:
        """A client has come."""

    def connection_closed(self, connection: "Connection") -> None:
        """It has gone."""

    def flush_soon(self, connection: "Connection") -> None:
        """Have it write at the end of this turn of the loop."""


class Connection(StreamIo):
    """One client's, for ``age_ns`` nanoseconds: an ``asyncio.Protocol`` in all but name, as compiled classes have none
    of the interpreter's above them."""

    def __init__(
        self, owner: ConnectionOwner, max_streams: int, max_held_bytes: int, age_ns: int, memory: Memory
    ) -> None:
        now = monotonic_ns()
        self._owner = owner
        self._max_streams = max_streams
        self._memory = memory
        self.until_ns = now + age_ns
        self.heard_ns = self.began_ns = now
        self.pinged_ns = 0  # a PING of ours is under way since
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(FRAME_BYTES)
        self._headers = HeaderDecoder(HEADER_BYTES, owner.interpret)
        self.streams = StreamTable()
        self._live = self.streams.live
        self.limits = AbuseLimits(max_streams, now)
        self._has_settings = False
        self._gathering: tuple[int, int, bytearray] | None = None  # a field block that is not whole: stream, flags
        self._continuations = 0
        self._decoding: tuple[int, int] | None = None  # stream and flags of the block that is decoded
        self._waits_for_turn = False
        self._lost = False
        self._input_closed = False  # whatever still comes is not read
        self._retiring = _NOT_RETIRING
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0  # of unfinished requests
        self._reserved_bytes = 0  # of answers that wait
        self._receive = ReceiveWindow(CONNECTION_WINDOW, CONNECTION_WINDOW // 4)
        self._queue = SendQueue()
        self._direct_frames = 0  # DATA frames that did not wait in the queue
        self._opened_ns = now  # when the client last opened a window
        self._out: list[bytes | memoryview] = []
        self._flushes = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._can_write = True
        self.loop = asyncio.get_running_loop()

    # The connection's life.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we accept."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name
        self._owner.connection_opened(self)
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
        self._writable.set()
        self._drop_streams()
        self._owner.connection_closed(self)

    def eof_received(self) -> bool:
        """The client sends no more, so nothing can be asked of it any more: close."""
        return False

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The client does not read: neither do we, until it does."""
        self._can_write = False
        self._writable.clear()
        if self._transport is not None and not self._lost:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._can_write = True
        self._writable.set()
        if self._transport is not None and not self._lost:
            if not self._waits_for_turn:
                self._transport.resume_reading()
            self._flush_soon()

    def retire(self) -> None:
        """Send the client away without a loss: requests that are on the wire when it hears of it are still taken."""
        if self._retiring == _NOT_RETIRING and not self._input_closed:
            self._retiring = _ANNOUNCED
            self.send(frames.goaway(frames.STREAM_MASK, ErrorCode.NO_ERROR) + frame(frames.PING, 0, 0, _RETIRING))
            self.loop.call_later(1.0, self._retired)

    def _retired(self) -> None:
        if self._retiring == _ANNOUNCED and not self._input_closed:
            self._retiring = _RETIRED
            self.send(frames.goaway(self.streams.last_id, ErrorCode.NO_ERROR))
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retiring == _RETIRED and not self._live and self._transport is not None:
            self.flush()
            self._transport.close()

    def sweep(self, now_ns: int, keepalive_ns: int, timeout_ns: int) -> None:
        """See whether anything waits for too long; called about once a second."""
        if not self._reader.has_preface:
            if now_ns - self.began_ns > PREFACE_NS:
                self.abort()
            return
        for stream in self._overdue(now_ns):
            self.reset(stream, ErrorCode.CANCEL)
        incomplete = self._gathering is not None and now_ns - self.heard_ns > REQUEST_NS
        if incomplete or (self.pinged_ns and now_ns - self.pinged_ns > timeout_ns):
            self.abort()
        elif now_ns > self.until_ns:
            self.retire()
        elif not self.pinged_ns and now_ns - self.heard_ns > keepalive_ns:
            self.pinged_ns = now_ns
            self.send(frame(frames.PING, 0, 0, _ALIVE))

    def _overdue(self, now_ns: int) -> list[Stream]:
        """Streams whose request is not whole in time, or whose answer the client does not take."""
        before, queue = now_ns - REQUEST_NS, self._queue
        found = [one for one in queue.blocked.values() if one.waits_since_ns < before]
        if queue.closed_since_ns and queue.closed_since_ns < before:
            found += list(queue.ready.values())
        for stream in self._live.values():
            if not stream.remote_closed and not stream.streams_request and stream.began_ns < before:
                found.append(stream)
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
        if self._can_write:
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
        word, flags, same = frames.FRAME_HEADER.unpack_from(data, stop)
        size = int(word) >> 8
        end = begin + size
        if (
            flags != frames.END_STREAM
            or word & 0xFF != frames.DATA
            or same != number
            or end > len(data)
            or not 0 < size <= STREAM_WINDOW
            or head.content_length not in (NO_LENGTH, size)
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

    # Requests.

    def _headers_frame(self, flags: int, number: int, block: bytes) -> None:
        event = StreamEvent.HEADERS_END if flags & frames.END_STREAM else StreamEvent.HEADERS
        found = transition(self.streams.state(number), event)
        if found.verdict == Verdict.CONNECTION_ERROR:
            raise Http2ConnectionError(found.code, "HEADERS came for a stream that cannot have any")
        if flags & frames.END_HEADERS:
            self._begin_decoding(number, flags, block)
        else:
            self._gathering, self._continuations = (number, flags, bytearray(block)), 0

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._gathering is None or self._gathering[0] != number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a field block is continued that has not begun")
        self._continuations += 1
        self.limits.continuation(self._continuations)
        if not payload and not flags & frames.END_HEADERS:
            self.limits.empty_frame()
        _, first, block = self._gathering
        block += payload
        if len(block) > MAX_BLOCK_BYTES:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "the header fields are too large")
        if flags & frames.END_HEADERS:
            self._gathering = None
            self._begin_decoding(number, first, bytes(block))

    def _begin_decoding(self, number: int, flags: int, block: bytes) -> None:
        if len(block) > MAX_BLOCK_BYTES:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "the header fields are too large")
        head = self._headers.known.get(block)
        if head is not None and self.streams.state(number) == StreamState.IDLE:
            ends = flags & frames.END_STREAM
            self._begin(number, StreamState.HALF_CLOSED_REMOTE if ends else StreamState.OPEN, head)
            return
        self._headers.begin(block)
        self._decoding = (number, flags)
        self._decode(self._decoding)

    def _decode(self, what: tuple[int, int]) -> int:
        """Decode some fields; once the block is whole, act on it. The work it was."""
        if not self._headers.is_done:
            self._headers.step()
        if self._headers.is_done:
            self._decoding = None
            self._fields(*what)
        return HEADERS_WORK

    def _fields(self, number: int, flags: int) -> None:
        """Act on a decoded field block."""
        event = StreamEvent.HEADERS_END if flags & frames.END_STREAM else StreamEvent.HEADERS
        state = self.streams.state(number)
        found = transition(state, event)
        if found.verdict != Verdict.ACCEPT:
            self._unaccepted(found, number, 1.0)
        elif state == StreamState.IDLE:
            self._begin_decoded(number, found.state)
        else:
            self._trailers(self._live[number], found.state)

    def _begin_decoded(self, number: int, state: StreamState) -> None:
        try:
            head = self._headers.request()
        except Http2StreamError as error:
            self._malformed(number, error.code)
            return
        self._begin(number, state, head)

    def _begin(self, number: int, state: StreamState, head: RequestHead) -> None:
        """A request begins."""
        ends = state == StreamState.HALF_CLOSED_REMOTE
        if self._refuses():
            self.streams.begin(number)
            self._refuse(number)
        elif ends and head.content_length > 0:
            self._malformed(number, ErrorCode.PROTOCOL_ERROR)
        else:
            stream = self._open(number, head, state)
            if ends:
                stream.on_end()

    def _malformed(self, number: int, code: ErrorCode) -> None:
        """A request that cannot begin."""
        self.streams.begin(number)
        self.limits.stream_malformed(self.heard_ns)
        self._reset_unopened(number, code)

    def _open(self, number: int, head: RequestHead, state: StreamState) -> Stream:
        self.streams.begin(number)
        self.limits.streams_opened += 1
        stream = self._owner.open_stream(self, number, head, self._queue.stream_window)
        stream.state = state
        self._live[number] = stream
        return stream

    def _refuses(self) -> bool:
        """Whether no request may begin: the connection ends, there are too many streams, or too many answers for a
        client that opens no window for them."""
        if self._retiring == _RETIRED or len(self._live) >= self._max_streams:
            return True
        unread = self._unread()
        if self._queue.stream_window < SMALL_WINDOW:
            return unread >= MAX_UNREAD_SMALL
        return unread >= MAX_UNREAD and self.heard_ns - self._opened_ns > UNREAD_NS

    def _unread(self) -> int:
        """Streams whose answers wait for the client to open a window."""
        queue = self._queue
        return len(queue.blocked) + (len(queue.ready) if queue.closed_since_ns else 0)

    def _refuse(self, number: int) -> None:
        if self._queue.stream_window < SMALL_WINDOW or self._unread() >= MAX_UNREAD:
            self.limits.stream_malformed(self.heard_ns)  # it opens streams and does not read their answers
        else:
            self.limits.stream_refused(self.heard_ns)
        self._reset_unopened(number, ErrorCode.REFUSED_STREAM)

    def _reset_unopened(self, number: int, code: ErrorCode) -> None:
        self.streams.end(number, StreamState.RESET_LOCAL)
        self._send_control(frames.reset(number, code))

    def _trailers(self, stream: Stream, state: StreamState) -> None:
        """The fields after a request's data mean nothing to us; the request is whole."""
        try:
            check_trailers(self._headers.fields())
        except Http2StreamError as error:
            self._stream_error(stream, error.code)
            return
        self._whole(stream, state)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size, ends = len(payload), flags & frames.END_STREAM
        self._received(size)
        stream = self._live.get(number)
        state = self.streams.state(number) if stream is None else stream.state
        found = transition(state, StreamEvent.DATA_END if ends else StreamEvent.DATA)
        content = frames.unpadded(flags, payload) if flags & frames.PADDED else payload
        if found.verdict != Verdict.ACCEPT or stream is None:
            self._unaccepted(found, number, LATE_DATA_COST if content else 1.0)
            return
        if content:
            self.limits.data_frames_received += 1
        elif not ends:
            self.limits.empty_frame()
        if stream.receive_window is None:
            stream.receive_window = ReceiveWindow(STREAM_WINDOW, STREAM_WINDOW // 2)
        if not stream.receive_window.receive(size):
            self._stream_error(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        stream.received_bytes += len(content)
        stated = stream.head.content_length
        if stated != NO_LENGTH and (stream.received_bytes > stated or (ends and stream.received_bytes != stated)):
            self._stream_error(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if content:
            stream.on_data(content)
        if ends:
            self._whole(stream, found.state)

    def _whole(self, stream: Stream, state: StreamState) -> None:
        """The request is whole."""
        if stream.id not in self._live:
            return  # it was ended meanwhile
        stream.state = state
        if not stream.local_closed:
            stream.on_end()

    def _received(self, size: int) -> None:
        """Count against the connection's window, and open it again; what streams hold back is bounded by their own."""
        if not self._receive.receive(size):
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "more came than the connection's window")
        increment = self._receive.replenish()
        if increment:
            self.send(frames.window_update(0, increment))

    def _unaccepted(self, found: Transition, number: int, cost: float) -> None:
        """A frame that its stream's state does not allow."""
        if found.verdict == Verdict.CONNECTION_ERROR:
            raise Http2ConnectionError(found.code, "a frame came for a stream that cannot have it")
        if found.verdict == Verdict.IGNORE:
            self.limits.control_frame(cost, self.heard_ns)
            self.streams.end(number, found.state)
            return
        stream = self._live.get(number)
        if stream is not None:
            self._stream_error(stream, found.code)
            return
        self.limits.stream_malformed(self.heard_ns)
        self._reset_unopened(number, found.code)

    def _stream_error(self, stream: Stream, code: ErrorCode) -> None:
        """The client has broken a rule in a way that ends one stream."""
        self.limits.stream_malformed(self.heard_ns)
        self.reset(stream, code)

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
        self._opened_ns = self.heard_ns
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
        elif payload == _RETIRING:
            self._retired()
        else:
            self.pinged_ns = 0

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        self.limits.data_frames_sent = self._queue.frames_sent + self._direct_frames
        self.limits.window_update()
        self._opened_ns = self.heard_ns
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

    def _goaway(self, _flags: int, number: int, _payload: bytes) -> None:
        """The client begins no more requests."""
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "GOAWAY is the connection's")
        self.limits.control_frame(1, self.heard_ns)

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        if not number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a priority is a stream's")
        if len(payload) != 5:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a priority has five bytes")
        self.limits.priority()

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

    # Writing.

    def send(self, data: bytes | memoryview) -> None:
        """Write at the end of this turn of the loop, together with whatever else there is."""
        self._flush_soon()
        self._out.append(data)

    def _send_control(self, data: bytes) -> None:
        """Write what answers a frame of the client's."""
        self.limits.control_frame_queued()
        self.send(data)

    def _flush_soon(self) -> None:
        if not self._flushes:
            self._flushes = True
            self._owner.flush_soon(self)

    def _fill_soon(self) -> None:
        if self._queue.can_fill():
            self._flush_soon()

    def flush(self) -> None:
        """Write now: frames first, then queued data as far as windows, the transport and one turn allow."""
        out, self._out, self._flushes = self._out, [], False
        transport = self._transport
        if transport is None or self._lost:
            return
        if self._can_write and self._queue.can_fill():
            for stream in self._queue.fill(out, FILL_BYTES, monotonic_ns()):
                self._sent(stream)
            out += self._out  # what the ends of streams bring
            self._out = []
        if len(out) == 1:
            transport.write(out[0])
        elif out:
            transport.writelines(out)
        if self._can_write:
            self.limits.control_frames_written()
            self._fill_soon()

    def _sent(self, stream: Stream) -> None:
        """All data of a stream is on its way."""
        if stream.end_frame is not None:
            self._finish(stream)
        elif stream.drained is not None:
            stream.drained.set()

    def respond(self, stream: Stream, head: bytes, message: bytes, trailers: bytes) -> bool:
        """See ``StreamIo``."""
        size, number, queue = len(message), stream.id, self._queue
        if (
            size <= queue.frame_bytes
            and size <= queue.window.available
            and size <= stream.send_window.available
            and not queue.ready
            and not stream.unsent_bytes
        ):
            pack, last = frames.FRAME_HEADER.pack, frames.END_HEADERS | frames.END_STREAM
            queue.window.available -= size
            self._direct_frames += 1
            first = pack(len(head) << 8 | frames.HEADERS, frames.END_HEADERS, number)
            between = pack(size << 8 | frames.DATA, 0, number)
            end = pack(len(trailers) << 8 | frames.HEADERS, last, number)
            self.send(b"".join((first, head, between, message, end, trailers)))
            self._finish(stream)
            return True
        if not self._reserve(stream, size):
            return False
        self.send_head(stream, head)
        self.send_data(stream, message)
        self.send_trailers(stream, trailers)
        return True

    def _reserve(self, stream: Stream, size: int) -> bool:
        """Take memory for an answer that waits; one connection gets no more than half of it, but a single answer."""
        if self._reserved_bytes and self._reserved_bytes + size > self._memory.limit // 2:
            return False
        if not self._memory.take(size):
            return False
        self._reserved_bytes += size
        stream.reserved_bytes += size
        return True

    def send_head(self, stream: Stream, block: bytes) -> None:
        """The first field block of an answer."""
        self.send(frame(frames.HEADERS, frames.END_HEADERS, stream.id, block))

    def send_data(self, stream: Stream, data: bytes) -> None:
        """Data, as soon as windows allow."""
        if data:
            self._queue.add(stream, data, monotonic_ns())
            self._fill_soon()

    def send_trailers(self, stream: Stream, block: bytes) -> None:
        """The last field block of an answer, after all of its data; the stream is over then."""
        last = frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream.id, block)
        if stream.unsent_bytes:
            stream.end_frame = last
        else:
            self.send(last)
            self._finish(stream)

    async def wait_sent(self, stream: Stream) -> None:
        """See ``StreamIo``; the transport takes more, too."""
        if stream.unsent_bytes and stream.id in self._live and not self._lost:
            stream.drained = asyncio.Event()
            await stream.drained.wait()
        await self._writable.wait()

    def hold(self, stream: Stream, size: int) -> bool:
        """See ``StreamIo``."""
        if self._held_bytes + size > self._max_held_bytes or not self._memory.take(size):
            return False
        stream.held_bytes += size
        self._held_bytes += size
        return True

    def let_go(self, stream: Stream, size: int) -> None:
        """See ``StreamIo``."""
        size = min(size, stream.held_bytes)
        stream.held_bytes -= size
        self._held_bytes -= size
        self._memory.give_back(size)

    def replenish(self, stream: Stream) -> None:
        """See ``StreamIo``."""
        window = stream.receive_window
        if window is not None and not stream.local_closed and not stream.remote_closed:
            increment = window.replenish()
            if increment:
                self.send(frames.window_update(stream.id, increment))

    # Ends.

    def _finish(self, stream: Stream) -> None:
        """An answer is on its way as a whole."""
        stream.local_closed = True
        self.limits.answers += 1
        if stream.remote_closed:
            self._forget(stream, StreamState.CLOSED)
        else:  # the rest of its request is of no use
            self.send(frames.reset(stream.id, ErrorCode.NO_ERROR))
            self._forget(stream, StreamState.RESET_LOCAL)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream without an answer, or in the middle of it."""
        if stream.id not in self._live:
            return
        closed = stream.remote_closed
        self._forget(stream, StreamState.CLOSED if closed else StreamState.RESET_LOCAL)
        self._send_control(frames.reset(stream.id, code))
        if not stream.local_closed:
            stream.local_closed = True
            stream.on_reset()

    def _forget(self, stream: Stream, state: StreamState) -> None:
        """A stream is over, in this state."""
        stream.state = state
        self.streams.end(stream.id, state)
        self._release(stream)
        if self._retiring == _RETIRED and not self._live:
            self.loop.call_soon(self._close_if_done)

    def _release(self, stream: Stream) -> None:
        """Let go of what a stream keeps."""
        if stream.unsent_bytes or stream.end_frame is not None:
            self._queue.remove(stream)
        if stream.drained is not None:
            stream.drained.set()
        if stream.held_bytes:
            self.let_go(stream, stream.held_bytes)
        if stream.reserved_bytes:
            self._memory.give_back(stream.reserved_bytes)
            self._reserved_bytes -= stream.reserved_bytes
            stream.reserved_bytes = 0

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """The client has broken the rules of the connection: say so, and close."""
        self._input_closed = True
        self.send(frames.goaway(self.streams.last_id, code, reason))
        self.flush()
        self._drop_streams()
        if self._transport is not None:
            self._transport.close()
            self.loop.call_later(2.0, self.abort)  # it may not read what is still to be written

    def _drop_streams(self) -> None:
        streams = list(self._live.values())
        self._live.clear()
        self._drop(streams)

    def _drop(self, streams: list[Stream]) -> None:
        """End some of these, and the others in later turns: there may be a thousand."""
        for _ in range(min(DROPPED_PER_TURN, len(streams))):
            stream = streams.pop()
            self._release(stream)
            if not stream.local_closed:
                stream.local_closed = True
                stream.on_reset()
        if streams:
            self.loop.call_soon(self._drop, streams)


_OTHERS: Final = Connection.by_kind()
