"""One HTTP/2 connection of a gRPC client: frames in and out, windows both ways, and limits on everything."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic_ns
from typing import Final, Protocol

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, Http2StreamError, frame
from penstock.api.grpc.http2.header_cache import HeaderDecoder
from penstock.api.grpc.http2.request_head import RequestHead
from penstock.api.grpc.http2.stream import Stream, StreamIo

CONNECTION_WINDOW: Final = 16 << 20
STREAM_WINDOW: Final = 1 << 20
FRAME_BYTES: Final = 1 << 20
"""Bytes of the largest frame a client may send."""

HEADER_BYTES: Final = 32 << 10
TOLLS: Final = 300.0
"""Frames without use that a connection may send at once; each answered call, and time, give some back."""

TOLLS_A_SECOND: Final = 100.0
TOLLS_A_CALL: Final = 4.0
YOUNG_NS: Final = 1_000_000
YOUNG_TOLL: Final = 5.0
OLD_TOLL: Final = 0.5
"""What it costs to begin a call and give it up at once, or one that is none, and to give one up later: whole crowds of
calls may reach their deadlines together, and deadlines may be of a few milliseconds."""

WORK_A_TURN: Final = 128
"""What is done for a connection before others have their turn, where a known call or a part of a message is one."""

HEAD_WORK, FRAME_WORK, SLOW_WORK = 16, 4, 64
"""What a header block that has to be read is of that, any other frame, and a call of a client that takes answers in
small pieces."""

SMALL_WINDOW: Final = 1024
"""Bytes; clients that begin with less are slow on purpose."""

DROPPED_A_TURN: Final = 32
"""Calls that are let go of at once when their connection ends."""

UNSENT_BYTES: Final = 64 << 20
"""Answers of one connection that may wait for its client to read; beyond them it is ended."""

MOST_UNREAD: Final = 128
UNREAD_NS: Final = 250_000_000
"""Answers that may wait for their client, which has opened no window for so long, before its calls are refused."""

FEW_UNREAD: Final = 16
"""The same of a client whose windows begin small, at once."""

PREFACE_NS: Final = 10_000_000_000
REQUEST_NS = 60_000_000_000
"""A request that has begun has to be whole by then, and an answer to be taken."""

_WORK: Final = {frames.DATA: 1, frames.HEADERS: HEAD_WORK, frames.CONTINUATION: HEAD_WORK}
_RETIRING: Final = b"retiring"
_ALIVE: Final = b"penstock"


@dataclass(slots=True)
class Tally:
    """What a connection has seen of its client's habits."""

    tolls: float = TOLLS
    refilled_ns: int = 0

    def pay(self, price: float, now_ns: int) -> None:
        """A frame without use.

        Raises:
            Http2ConnectionError: there were too many of them.
        """
        self.tolls = min(TOLLS, self.tolls + (now_ns - self.refilled_ns) * TOLLS_A_SECOND / 1e9) - price
        self.refilled_ns = now_ns
        if self.tolls < 0:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that do nothing")


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

    def __init__(self, owner: ConnectionOwner, most_streams: int, max_held_bytes: int, age_ns: int) -> None:
        self._owner = owner
        self._most_streams = most_streams
        self.until_ns = monotonic_ns() + age_ns
        self._headers = HeaderDecoder(HEADER_BYTES, owner.interpret)
        self.streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._rest = b""  # what has come and waits for its turn
        self._missing = 0
        self._greeted = False
        self._gathering: tuple[int, int, list[bytes]] | None = None
        self._gathered = 0
        self._last = 0
        self._lost = False
        self._deaf = False  # whatever still comes is not read
        self._retiring = 0  # 1: told so, 2: no new calls
        self.tally = Tally(refilled_ns=monotonic_ns())
        self.heard_ns = self.began_ns = monotonic_ns()
        self.asked_ns = 0  # a PING of ours is under way since
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0  # of unfinished requests
        # windows
        self._may_receive = CONNECTION_WINDOW
        self._credit = 0
        self._may_send = frames.FIRST_WINDOW
        self._stream_window = frames.FIRST_WINDOW
        self._frame_bytes = frames.FIRST_FRAME
        self._blocked: dict[int, Stream] = {}
        self._opened_ns = monotonic_ns()
        self._unsent = 0
        self._out: list[bytes | memoryview] = []
        self._writable = asyncio.Event()
        self._writable.set()
        self.loop = asyncio.get_running_loop()

    # The connection's life.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we accept."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one in all but name
        self._owner.connection_opened(self)
        values = {
            frames.MAX_CONCURRENT_STREAMS: self._most_streams,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_FRAME_SIZE: FRAME_BYTES,
            frames.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
        }
        more = frames.window_update(0, CONNECTION_WINDOW - frames.FIRST_WINDOW)
        self.send(frames.settings(values) + more)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is under way is given up."""
        self._lost = self._deaf = True
        self._writable.set()
        self._drop_streams()
        self._owner.connection_closed(self)

    def abort(self) -> None:
        """End at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The client does not read: neither do we, until it does."""
        self._writable.clear()
        if self._transport is not None and not self._lost:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._writable.set()
        if self._transport is not None and not self._lost and not self._rest:
            self._transport.resume_reading()

    def retire(self) -> None:
        """Send the client away without a loss: calls that are on the wire when it hears of it are still taken."""
        if not self._retiring and not self._deaf:
            self._retiring = 1
            self.send(frames.goaway(frames.STREAM_MASK, ErrorCode.NO_ERROR) + frame(frames.PING, 0, 0, _RETIRING))
            self.loop.call_later(1.0, self._retired)

    def _retired(self) -> None:
        if self._retiring == 1 and not self._deaf:
            self._retiring = 2
            self.send(frames.goaway(self._last, ErrorCode.NO_ERROR))
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._retiring == 2 and not self.streams and self._transport is not None:
            self.flush()
            self._transport.close()

    def sweep(self, now_ns: int, keepalive_ns: int, timeout_ns: int) -> None:
        """See whether anything waits for too long; called about once a second."""
        if not self._greeted:
            if now_ns - self.began_ns > PREFACE_NS:
                self.abort()
        elif self._overdue(now_ns) or (self.asked_ns and now_ns - self.asked_ns > timeout_ns):
            self.abort()
        elif now_ns > self.until_ns:
            self.retire()
        elif not self.asked_ns and now_ns - self.heard_ns > keepalive_ns:
            self.asked_ns = now_ns
            self.send(frame(frames.PING, 0, 0, _ALIVE))

    def _overdue(self, now_ns: int) -> bool:
        waits = [one.waits_since_ns for one in self._blocked.values()]
        if waits and now_ns - min(waits) > REQUEST_NS:
            return True
        for stream in [one for one in self.streams.values() if not one.remote_closed and not one.streams_request]:
            if now_ns - stream.began_ns > REQUEST_NS:
                self.reset(stream, ErrorCode.CANCEL)
        return self._gathering is not None and now_ns - self.heard_ns > REQUEST_NS

    # Reading.

    def data_received(self, data: bytes) -> None:
        """Take frames apart; what is incomplete waits for the rest."""
        if self._deaf:
            return
        self.heard_ns = monotonic_ns()
        if self._rest:
            self._rest += data
            return
        self._take(data)

    def _go_on(self) -> None:
        """Work on what was left when others had their turn."""
        rest, self._rest = self._rest, b""
        if self._lost or self._deaf or self._transport is None:
            return
        if self._writable.is_set():
            self._transport.resume_reading()
        self._take(rest)

    def _take(self, data: bytes) -> None:
        if self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
            self._missing = 0
        try:
            at = self._greeting(data) if not self._greeted else 0
            at = self._frames(data, at)
        except Http2ConnectionError as broken:
            self._end(broken.code, str(broken))
            return
        if at == len(data):
            return
        if self._missing:
            self._parts.append(data[at:])
        elif not self._deaf and self._transport is not None:
            self._rest = data[at:]
            self._transport.pause_reading()
            self.loop.call_soon(self._go_on)

    def _greeting(self, data: bytes) -> int:
        """Where frames begin.

        Raises:
            Http2ConnectionError: the client speaks something else.
        """
        size = len(frames.PREFACE)
        if data[:size] == frames.PREFACE:
            self._greeted = True
            return size
        if not frames.PREFACE.startswith(data):
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 with prior knowledge")
        self._missing = size - len(data)
        return 0

    def _frames(self, data: bytes, at: int) -> int:
        """Work on whole frames from a place on, as many as one turn allows; where the rest begins."""
        end, unpack = len(data), frames.HEAD.unpack_from
        if not self._greeted:
            return at
        left = WORK_A_TURN
        while left > 0:
            start = at + frames.HEAD_BYTES
            if start > end:
                self._missing = start - end
                return at
            word, flags, number = unpack(data, at)
            stop = start + (word >> 8)
            if word & 0xFF == frames.HEADERS and flags == frames.END_HEADERS and stop + frames.HEAD_BYTES < end:
                after = self._whole_call(data, start, stop, number)
                if after:
                    at = after
                    left -= 1 if self._stream_window >= SMALL_WINDOW else SLOW_WORK
                    continue
            if stop - start > FRAME_BYTES:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than was agreed")
            if stop > end:
                self._missing = stop - end
                return at
            self._frame(word & 0xFF, flags, number & frames.STREAM_MASK, data[start:stop])
            if self._deaf:
                return end
            at = stop
            left -= _WORK.get(word & 0xFF, FRAME_WORK)
        return at

    def _whole_call(self, data: bytes, start: int, stop: int, number: int) -> int:
        """Take a call whose header block is known and whose only message is the next frame, without looking twice;
        where the rest begins, or 0 if it is not that."""
        head = self._headers.known.get(data[start:stop])
        word, flags, same = frames.HEAD.unpack_from(data, stop)
        begin, size = stop + frames.HEAD_BYTES, int(word) >> 8
        if (
            head is None
            or flags != frames.END_STREAM
            or word & 0xFF != frames.DATA
            or same != number
            or begin + size > len(data)
            or not 0 < size <= STREAM_WINDOW
            or not self._last < number <= frames.STREAM_MASK
            or not number & 1
            or self._gathering is not None
            or self._retiring == 2
            or self._crowded()
        ):
            return 0
        self._last = number
        self._received(size)
        stream = self.streams[number] = self._owner.open_stream(self, number, head, self._stream_window)
        stream.on_data(data[begin : begin + size])
        stream.remote_closed = True
        if not stream.local_closed:
            stream.on_end()
        return begin + size

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._gathering is not None and kind != frames.CONTINUATION:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == frames.DATA:
            self._data(flags, number, payload)
        elif kind == frames.HEADERS:
            self._headers_frame(flags, number, frames.unpadded(flags, payload, prioritised=True))
        else:
            _OTHERS.get(kind, Connection._unknown)(self, flags, number, payload)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        stream, size = self.streams.get(number), len(payload)
        self._received(size)
        if stream is None or stream.remote_closed:
            if number > self._last or not number & 1:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "data came for a call that has not begun")
            self.tally.pay(1, self.heard_ns)  # of a call that is over
            return
        ends = flags & frames.END_STREAM
        if flags & frames.PADDED:
            payload = frames.unpadded(flags, payload)
        if not payload and not ends:
            self.tally.pay(1, self.heard_ns)
        stream.unacked_bytes += size
        if stream.unacked_bytes > STREAM_WINDOW:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "more came than the call's window")
        if payload:
            stream.on_data(payload)
        if ends:
            stream.remote_closed = True
            if not stream.local_closed:
                stream.on_end()

    def _received(self, size: int) -> None:
        """Count against the connection's window, and open it again; what calls hold back is bounded by their own."""
        self._may_receive -= size
        if self._may_receive < 0:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "more came than the connection's window")
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 4:
            self.send(frames.window_update(0, self._credit))
            self._may_receive += self._credit
            self._credit = 0

    def replenish(self, stream: Stream) -> None:
        """Let the client send as much of a call again as has been taken."""
        if stream.unacked_bytes >= STREAM_WINDOW // 2 and not stream.remote_closed and not stream.local_closed:
            self.send(frames.window_update(stream.id, stream.unacked_bytes))
            stream.unacked_bytes = 0

    def hold(self, stream: Stream, size: int) -> bool:
        """Count bytes of an unfinished request."""
        stream.held_bytes += size
        self._held_bytes += size
        return self._held_bytes <= self._max_held_bytes

    def let_go(self, stream: Stream, size: int) -> None:
        """Count bytes of a request that is taken, or of no use any more."""
        stream.held_bytes -= size
        self._held_bytes -= size

    def _headers_frame(self, flags: int, number: int, block: bytes) -> None:
        if not flags & frames.END_HEADERS:
            self._gathering, self._gathered = (number, flags, [block]), len(block)
            return
        self._head(number, flags, block)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._gathering is None or self._gathering[0] != number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a header block is continued that has not begun")
        self.tally.pay(1, self.heard_ns)
        _, first, parts = self._gathering
        parts.append(payload)
        self._gathered += len(payload)
        if self._gathered > HEADER_BYTES:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "the header fields are too large")
        if flags & frames.END_HEADERS:
            self._gathering = None
            self._head(number, first, b"".join(parts))

    def _head(self, number: int, flags: int, block: bytes) -> None:
        if len(block) > HEADER_BYTES:
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "the header fields are too large")
        if number <= self._last:
            self._trailers(number, flags, block)
            return
        if not number & 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "calls of clients have odd numbers")
        self._last = number
        try:
            head = self._headers.request(block)
        except Http2StreamError as error:
            self._refuse(number, error.code, YOUNG_TOLL)
            return
        if self._retiring == 2 or self._crowded():
            unread = self._stream_window < SMALL_WINDOW or len(self._blocked) >= MOST_UNREAD
            self._refuse(number, ErrorCode.REFUSED_STREAM, YOUNG_TOLL if unread else 1.0)
            return
        stream = self.streams[number] = self._owner.open_stream(self, number, head, self._stream_window)
        if flags & frames.END_STREAM:
            stream.remote_closed = True
            stream.on_end()

    def _crowded(self) -> bool:
        """Whether there are too many calls, or too many answers for a client that opens no window for them."""
        if len(self.streams) >= self._most_streams:
            return True
        unread = len(self._blocked)
        if self._stream_window < SMALL_WINDOW:
            return unread >= FEW_UNREAD
        return unread >= MOST_UNREAD and self.heard_ns - self._opened_ns > UNREAD_NS

    def _trailers(self, number: int, flags: int, block: bytes) -> None:
        """Fields after a request's messages mean nothing to us, but change the table."""
        self._headers.fields(block)
        stream = self.streams.get(number)
        if stream is None or stream.remote_closed:
            self.tally.pay(1, self.heard_ns)
            return
        if not flags & frames.END_STREAM:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a call has two heads")
        stream.remote_closed = True
        if not stream.local_closed:
            stream.on_end()

    def _refuse(self, number: int, code: ErrorCode, toll: float = 1.0) -> None:
        self.tally.pay(toll, self.heard_ns)
        self.send(frames.reset(number, code))

    def _reset(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has four bytes")
        if number > self._last or not number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a call is ended that has not begun")
        stream = self.streams.get(number)
        young = stream is not None and self.heard_ns - stream.began_ns < YOUNG_NS
        self.tally.pay(YOUNG_TOLL if young else OLD_TOLL, self.heard_ns)
        if stream is not None:
            self._forget(stream)
            if not stream.local_closed:
                stream.local_closed = True
                stream.on_reset()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "settings are the connection's")
        if flags & frames.ACK:
            return
        if len(payload) % 6:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a setting has six bytes")
        self.tally.pay(1 + len(payload) // 60, self.heard_ns)
        for at in range(0, len(payload), 6):
            self._setting(int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        self.send(frame(frames.SETTINGS, frames.ACK, 0))
        self._send_what_waits()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
            change, self._stream_window = value - self._stream_window, value
            self._opened_ns = self.heard_ns
            for stream in self.streams.values():
                stream.send_window += change
                if stream.send_window > frames.LARGEST_WINDOW:
                    raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.FIRST_FRAME <= value <= frames.LARGEST_FRAME:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "no frame can be so large")
            self._frame_bytes = value
        elif key == frames.ENABLE_PUSH and value > 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a ping is the connection's")
        if len(payload) != 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a ping has eight bytes")
        if not flags & frames.ACK:
            self.tally.pay(1, self.heard_ns)
            self.send(frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _RETIRING:
            self._retired()
        else:
            self.asked_ns = 0

    def _window_update(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has four bytes")
        more = int.from_bytes(payload) & frames.STREAM_MASK
        self.tally.pay(0.2, self.heard_ns)
        self._opened_ns = self.heard_ns
        if not number:
            self._may_send += more
            if not more or self._may_send > frames.LARGEST_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if more else ErrorCode.PROTOCOL_ERROR
                raise Http2ConnectionError(code, "no such window")
        elif number > self._last:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a window is opened of a call that has not begun")
        else:
            stream = self.streams.get(number)
            if stream is None:
                return
            stream.send_window += more
            if not more or stream.send_window > frames.LARGEST_WINDOW:
                self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR if more else ErrorCode.PROTOCOL_ERROR)
                return
        if self._blocked:
            self._send_what_waits()

    def _goaway(self, _flags: int, _number: int, _payload: bytes) -> None:
        """The client begins no more calls."""
        self.tally.pay(1, self.heard_ns)

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 5 or not number:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a priority has five bytes and a call")
        self.tally.pay(1, self.heard_ns)

    def _push(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "clients do not push")

    def _unknown(self, _flags: int, _number: int, _payload: bytes) -> None:
        self.tally.pay(1, self.heard_ns)

    @staticmethod
    def by_kind() -> "dict[int, Callable[[Connection, int, int, bytes], None]]":
        """Who takes the frames that do not come with every call."""
        return {
            frames.PRIORITY: Connection._priority,
            frames.RST_STREAM: Connection._reset,
            frames.SETTINGS: Connection._settings,
            frames.PUSH_PROMISE: Connection._push,
            frames.PING: Connection._ping,
            frames.GOAWAY: Connection._goaway,
            frames.WINDOW_UPDATE: Connection._window_update,
            frames.CONTINUATION: Connection._continuation,
        }

    # Writing.

    def send(self, data: bytes | memoryview) -> None:
        """Write at the end of this turn of the loop, together with whatever else there is."""
        if not self._out:
            self._owner.flush_soon(self)
        self._out.append(data)

    def flush(self) -> None:
        """Write now."""
        if self._out and self._transport is not None:
            if not self._lost:
                if len(self._out) == 1:
                    self._transport.write(self._out[0])
                else:
                    self._transport.writelines(self._out)
            self._out = []

    def respond(self, stream: Stream, head: bytes, message: bytes, trailers: bytes) -> None:
        """The whole answer to a call: two header blocks, and what lies between them."""
        size, number = len(message), stream.id
        if size <= self._frame_bytes and size <= self._may_send and size <= stream.send_window and not stream.unsent:
            pack, last = frames.HEAD.pack, frames.END_HEADERS | frames.END_STREAM
            self._may_send -= size
            first = pack(len(head) << 8 | frames.HEADERS, frames.END_HEADERS, number)
            between = pack(size << 8 | frames.DATA, 0, number)
            end = pack(len(trailers) << 8 | frames.HEADERS, last, number)
            self.send(b"".join((first, head, between, message, end, trailers)))
            self.done(stream)
            return
        self.send_head(stream, head)
        self.send_data(stream, message)
        self.send_trailers(stream, trailers)

    def send_head(self, stream: Stream, block: bytes) -> None:
        """The first header block of an answer."""
        self.send(frame(frames.HEADERS, frames.END_HEADERS, stream.id, block))

    def send_data(self, stream: Stream, data: bytes) -> None:
        """A message with its prefix, as soon as windows allow."""
        self._wait(stream, data, is_data=True)

    def send_trailers(self, stream: Stream, block: bytes) -> None:
        """The last header block of an answer, after all of its messages; the call is over then."""
        last = frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream.id, block)
        if stream.unsent:
            self._wait(stream, last, is_data=False)
        else:
            self.send(last)
            self.done(stream)

    def _wait(self, stream: Stream, part: bytes, is_data: bool) -> None:
        stream.unsent.append((memoryview(part) if is_data else part, is_data))
        self._unsent += len(part)
        if stream.id not in self._blocked:
            stream.waits_since_ns = monotonic_ns()
            self._blocked[stream.id] = stream
        self._send_some(stream)
        if self._unsent > UNSENT_BYTES and len(self._blocked) > 1:  # a single answer may be as large as it is
            self._end(ErrorCode.ENHANCE_YOUR_CALM, "answers are not read")

    def _send_what_waits(self) -> None:
        for stream in list(self._blocked.values()):
            self._send_some(stream)

    def _send_some(self, stream: Stream) -> None:
        """Send what the windows allow of a call's answer."""
        unsent = stream.unsent
        while unsent:
            part, is_data = unsent[0]
            if not is_data:
                unsent.pop(0)
                self._unsent -= len(part)
                self.send(bytes(part))
                self._blocked.pop(stream.id, None)
                self.done(stream)
                return
            room = min(self._may_send, stream.send_window, self._frame_bytes, len(part))
            if room <= 0 and part:
                return
            self.send(frames.HEAD.pack(room << 8 | frames.DATA, 0, stream.id))
            self.send(part if room == len(part) else part[:room])
            self._may_send -= room
            stream.send_window -= room
            self._unsent -= room
            stream.waits_since_ns = monotonic_ns()
            if room == len(part):
                unsent.pop(0)
            else:
                unsent[0] = (memoryview(part)[room:], True)
        self._blocked.pop(stream.id, None)
        if stream.drained is not None:
            stream.drained.set()

    async def wait_sent(self, stream: Stream) -> None:
        """Wait until the windows have let all of a call's messages out, and the socket takes more."""
        if stream.unsent and not stream.local_closed and not self._lost:
            stream.drained = asyncio.Event()
            await stream.drained.wait()
        await self._writable.wait()

    def done(self, stream: Stream) -> None:
        """A call's answer is on its way as a whole."""
        stream.local_closed = True
        if not stream.remote_closed:
            self.send(frames.reset(stream.id, ErrorCode.NO_ERROR))  # the rest of its request is of no use
        tally = self.tally
        if tally.tolls < TOLLS:
            tally.tolls = min(TOLLS, tally.tolls + TOLLS_A_CALL)
        self._forget(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a call without an answer."""
        self._forget(stream)
        self.send(frames.reset(stream.id, code))
        if not stream.local_closed:
            stream.local_closed = True
            stream.on_reset()

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        if self._blocked:
            self._blocked.pop(stream.id, None)
        if stream.unsent:
            self._unsent -= sum(len(part) for part, _ in stream.unsent)
            stream.unsent.clear()
        if stream.drained is not None:
            stream.drained.set()
        self.let_go(stream, stream.held_bytes)
        if self._retiring == 2 and not self.streams:
            self.loop.call_soon(self._close_if_done)

    def _end(self, code: ErrorCode, reason: str) -> None:
        """The client has broken the rules: say so, and close."""
        self._deaf = True
        self.send(frames.goaway(self._last, code, reason))
        self.flush()
        self._drop_streams()
        if self._transport is not None:
            self._transport.close()
            self.loop.call_later(2.0, self.abort)  # it may not read what is still to be written

    def _drop_streams(self) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        self._blocked.clear()
        self._drop(streams)

    def _drop(self, streams: list[Stream]) -> None:
        """Let go of some of these, and of the others in later turns: there may be a thousand."""
        for _ in range(min(DROPPED_A_TURN, len(streams))):
            stream = streams.pop()
            if stream.drained is not None:
                stream.drained.set()
            if not stream.local_closed:
                stream.local_closed = True
                stream.on_reset()
        if streams:
            self.loop.call_soon(self._drop, streams)


_OTHERS: Final = Connection.by_kind()
