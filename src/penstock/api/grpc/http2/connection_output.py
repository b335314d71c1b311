"""The sending side of a connection: frames at the end of each turn, data as windows and memory allow, and the ends of
streams.
"""

import asyncio
from time import monotonic_ns
from typing import Final, Protocol

from penstock.api.common.parts import Payload, size_of
from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.abuse_limits import AbuseLimits
from penstock.api.grpc.http2.answer_memory import CONNECTION_SHARE, SPARE_BYTES, AnswerMemory, MemoryLimit
from penstock.api.grpc.http2.frames import AnswerFrames, ErrorCode, encode_frame
from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.api.grpc.http2.send_queue import MAX_PAYLOAD, SendQueue
from penstock.api.grpc.http2.stream import Http2Stream, StreamIo
from penstock.api.grpc.http2.stream_state import StreamState
from penstock.api.grpc.http2.stream_table import StreamTable

FILL_BYTES: Final = 256 << 10
"""Maximum queued data to write in one turn of the loop."""

MAX_BUFFERED_BYTES: Final = 2 << 20
"""What the transport may hold for a client that does not read, before we read nothing more of it either. Data waits in
the queue; this is what is not flow-controlled: field blocks and control frames."""

STALLED_NS: Final = 1_000_000_000
"""Time after which a reader that does not open its stream's window counts as paused."""

DROPPED_PER_TURN: Final = 32
"""Maximum streams to end at once when their connection ends; the others end in later turns."""

TIMER_S: Final = 0.001
"""Resolution of the timer."""

NEVER_NS: Final = 1 << 62
OPEN: Final = 0
CLOSED: Final = 1
"""Further input is ignored."""

LOST: Final = 2
"""The transport is gone."""

NOT_RETIRING: Final = 0
ANNOUNCED: Final = 1
"""The client was sent a GOAWAY for future streams."""

RETIRED: Final = 2
"""New requests are refused."""

RETIRING: Final = b"retiring"
"""Payload of the PING whose answer shows that the client has received the GOAWAY."""


class OutputOwner(Protocol):
    """The server as a connection sees it."""

    def interpret(self, head: Http2RequestHead) -> Http2RequestHead:
        """Return the application's head of a request: ``Http2RequestHead`` or a subclass."""

    def open_stream(self, io: StreamIo, stream_id: int, head: Http2RequestHead, send_window: int) -> Http2Stream:
        """Return the stream of a new request; ``send_window`` is the client's initial window in bytes."""

    def flush_soon(self, connection: "Http2Output") -> None:
        """Flush the connection at the end of this turn of the loop."""


class Http2Output(StreamIo):
    """The sending side of a connection, as its streams see it; runs on one event loop."""

    def __init__(self, owner: OutputOwner, max_streams: int, memory: MemoryLimit) -> None:
        now = monotonic_ns()
        self._owner = owner
        self._memory = memory
        self.last_received_ns = now
        self._transport: asyncio.Transport | None = None
        self.streams = StreamTable()
        self._live = self.streams.live
        self.limits = AbuseLimits(max_streams, now)
        self._input_state = OPEN
        self._retiring = NOT_RETIRING
        self._held_bytes = 0  # of incomplete requests
        self.answers = AnswerMemory(memory)
        self._buffered_bytes = 0  # memory taken for what the transport holds
        self._expires_ns = NEVER_NS  # when the timer checks for expired streams
        self._timer: asyncio.TimerHandle | None = None
        self._queue = SendQueue()
        self._direct_frames = 0  # DATA frames that did not wait in the queue
        self._frames = AnswerFrames()
        self._out: list[bytes | memoryview] = []
        self._flushes = False
        self._can_write = True
        self.loop = asyncio.get_running_loop()

    # Writing.

    def send(self, data: bytes | memoryview) -> None:
        """Write at the end of this turn of the loop, together with other frames."""
        self._flush_soon()
        self._out.append(data)

    def _send_answer(self, data: bytes) -> None:
        """Write a complete answer: immediately if no other stream of this connection can add to it in this turn."""
        transport = self._transport
        if self._flushes or len(self._live) != 1 or transport is None:
            self.send(data)
        else:
            transport.write(data)

    def _send_control(self, data: bytes) -> None:
        """Write the answer to a control frame of the client."""
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
        if transport is None or self._input_state == LOST:
            return
        if self._can_write and self._queue.can_fill():
            for stream in self._queue.fill(out, FILL_BYTES, monotonic_ns()):
                self._on_sent(stream)
            out += self._out  # what the ends of streams bring
            self._out = []
        if len(out) == 1:
            transport.write(out[0])
        elif out:
            transport.writelines(out)
        if self._can_write:
            self.limits.control_frames_written()
            self._fill_soon()
        elif transport.get_write_buffer_size() > MAX_BUFFERED_BYTES:
            transport.pause_reading()

    def _on_sent(self, stream: Http2Stream) -> None:
        """Note that all data of a stream is written."""
        if stream.end_frame is not None:
            self._finish(stream)
            return
        self.answers.release(stream)
        if stream.drained is not None:
            stream.drained.set()

    def respond(self, stream: Http2Stream, head: bytes, message: Payload, trailers: bytes) -> bool:
        """See ``StreamIo``."""
        size = size_of(message)
        if not isinstance(message, bytes) or not self._fits(stream, size):
            if not self.answers.reserve(stream, size):
                return False
            self.send_head(stream, head)
            self._queue.add(stream, message, monotonic_ns())
            self.send_trailers(stream, trailers)
            self._fill_soon()
            return True
        self._queue.window.take(size)
        self._direct_frames += 1
        self._send_answer(self._frames.write(stream.id, head, message, trailers))
        self._finish(stream)
        return True

    def _fits(self, stream: Http2Stream, size: int) -> bool:
        """Whether an answer of this size can be written immediately, in one frame."""
        queue = self._queue
        return (
            size <= queue.frame_bytes
            and size <= queue.window.available
            and size <= stream.send_window.available
            and size <= MAX_PAYLOAD
            and self._can_write
            and not queue.ready
            and not stream.unsent_bytes
        )

    def admit_answer(self, stream: Http2Stream, size: int, deadline_ns: int) -> bool:
        """See ``StreamIo``."""
        if self.answers.admit(stream, size):
            return True
        stream.expires_ns = deadline_ns
        self._expires(stream)
        return False

    def send_head(self, stream: Http2Stream, block: bytes) -> None:
        """Send the first field block of an answer."""
        self.send(encode_frame(frames.HEADERS, frames.END_HEADERS, stream.id, block))

    def send_data(self, stream: Http2Stream, data: Payload) -> bool:
        """See ``StreamIo``."""
        if not data or stream.id not in self._live:
            return True
        if not self.answers.reserve(stream, stream.unsent_bytes + size_of(data)):
            return False
        self._queue.add(stream, data, monotonic_ns())
        self._fill_soon()
        return True

    def send_trailers(self, stream: Http2Stream, block: bytes) -> None:
        """Send the last field block of an answer after all of its data, and end the stream."""
        last = encode_frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream.id, block)
        if stream.unsent_bytes:
            stream.end_frame = last
        else:
            self.send(last)
            self._finish(stream)

    async def wait_sent(self, stream: Http2Stream) -> None:
        """See ``StreamIo``."""
        if stream.unsent_bytes and stream.id in self._live:
            stream.drained = asyncio.Event()
            await stream.drained.wait()

    def hold(self, stream: Http2Stream, size: int) -> bool:
        """See ``StreamIo``."""
        held = self._held_bytes
        if (held and held + size > self._memory.limit // CONNECTION_SHARE) or not self._memory.take(size):
            return size <= SPARE_BYTES and stream.received_bytes <= SPARE_BYTES
        stream.held_bytes += size
        self._held_bytes += size
        return True

    def let_go(self, stream: Http2Stream, size: int) -> None:
        """See ``StreamIo``."""
        size = min(size, stream.held_bytes)
        stream.held_bytes -= size
        self._held_bytes -= size
        self._memory.give_back(size)

    def replenish(self, stream: Http2Stream) -> None:
        """See ``StreamIo``."""
        window = stream.receive_window
        if window is not None and not stream.local_closed and not stream.remote_closed:
            increment = window.replenish()
            if increment:
                self.send(frames.window_update(stream.id, increment))

    def _find_stalled(self, now_ns: int) -> None:
        """Count streams with paused readers separately, and enforce the limit of their answers."""
        for stream in self._queue.blocked.values():
            if now_ns - stream.waits_since_ns > STALLED_NS:
                self.answers.stall(stream)
        while (youngest := self.answers.youngest_over_limit()) is not None:
            self.reset(youngest, ErrorCode.ENHANCE_YOUR_CALM)
        if self._queue.ready:
            self.answers.admit_waiting()
        else:
            self.answers.admit_regardless()

    # Deadlines.

    def _expires(self, stream: Http2Stream) -> None:
        """Check a stream when it expires; one timer serves all streams of the connection."""
        if stream.expires_ns < self._expires_ns:
            self._set_timer(stream.expires_ns)

    def _set_timer(self, when_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._expires_ns = when_ns
        self._timer = self.loop.call_later(max(TIMER_S, (when_ns - monotonic_ns()) / 1e9), self._expire)

    def _expire(self) -> None:
        """End requests that are incomplete after their deadline, and calls whose answer was not admitted in time."""
        now, self._expires_ns, self._timer = monotonic_ns(), NEVER_NS, None
        next_ns = NEVER_NS
        for stream in list(self._live.values()):
            if (stream.remote_closed or stream.streams_request) and not self.answers.is_waiting(stream):
                continue
            if stream.expires_ns > now:
                next_ns = min(next_ns, stream.expires_ns)
            elif not self.answers.admit_expired(stream):
                stream.on_expired()
        if next_ns < min(NEVER_NS, self._expires_ns):
            self._set_timer(next_ns)

    # Ends.

    def _finish(self, stream: Http2Stream) -> None:
        """Note that an answer is complete."""
        stream.local_closed = True
        self.limits.answers += 1
        if stream.remote_closed:
            self._forget(stream, StreamState.CLOSED)
        else:  # the rest of its request is of no use
            self.send(frames.reset(stream.id, ErrorCode.NO_ERROR))
            self._forget(stream, StreamState.RESET_LOCAL)

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """End a stream without an answer, or within it."""
        if stream.id not in self._live:
            return
        closed = stream.remote_closed
        self._forget(stream, StreamState.CLOSED if closed else StreamState.RESET_LOCAL)
        self._send_control(frames.reset(stream.id, code))
        if not stream.local_closed:
            stream.local_closed = True
            stream.on_reset()

    def info(self, name: str) -> object:
        """Return transport information by name, None if unknown."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def _forget(self, stream: Http2Stream, state: StreamState) -> None:
        """Close a stream in this state."""
        stream.state = state
        self.streams.end(stream.id, state)
        self._release(stream)
        if self._retiring == RETIRED and not self._live:
            self.loop.call_soon(self._close_if_done)

    def _release(self, stream: Http2Stream) -> None:
        """Release the memory of a stream."""
        if stream.unsent_bytes or stream.end_frame is not None:
            self._queue.remove(stream)
        if stream.drained is not None:
            stream.drained.set()
        if stream.held_bytes:
            self.let_go(stream, stream.held_bytes)
        self.answers.release(stream)

    def retire(self) -> None:
        """Retire the connection without loss: requests that the client sends before it receives the GOAWAY are still
        answered.
        """
        if self._retiring == NOT_RETIRING and self._input_state == OPEN:
            self._retiring = ANNOUNCED
            self.send(
                frames.encode_goaway(frames.STREAM_MASK, ErrorCode.NO_ERROR) + encode_frame(frames.PING, 0, 0, RETIRING)
            )
            self.loop.call_later(1.0, self._on_retired)

    def _on_retired(self) -> None:
        if self._retiring == ANNOUNCED and self._input_state == OPEN:
            self._retiring = RETIRED
            self.send(frames.encode_goaway(self.streams.last_id, ErrorCode.NO_ERROR))
            self._close_if_done()

    def dismiss(self) -> None:
        """Close an idle connection; requests that the client sends now can be retried elsewhere."""
        if self._transport is not None and self._input_state == OPEN:
            self._retiring = RETIRED
            self.send(frames.encode_goaway(self.streams.last_id, ErrorCode.NO_ERROR))
            self._close_if_done()
            self.loop.call_later(2.0, self.abort)

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """Report a connection error to the client, and close."""
        self._input_state = CLOSED
        self.send(frames.encode_goaway(self.streams.last_id, code, reason))
        self.flush()
        self._drop_streams()
        if self._transport is not None:
            self._transport.close()
            self.loop.call_later(2.0, self.abort)  # it may not read what is still to be written

    def _drop_streams(self) -> None:
        self.answers.admit_no_more()
        if self._timer is not None:
            self._timer.cancel()
        streams = list(self._live.values())
        self._live.clear()
        self._drop(streams)

    def _drop(self, streams: list[Http2Stream]) -> None:
        """End some of these streams, and the others in later turns: there may be a thousand."""
        for _ in range(min(DROPPED_PER_TURN, len(streams))):
            stream = streams.pop()
            self._release(stream)
            if not stream.local_closed:
                stream.local_closed = True
                stream.on_reset()
        if streams:
            self.loop.call_soon(self._drop, streams)

    def _close_if_done(self) -> None:
        if self._retiring == RETIRED and not self._live and self._transport is not None:
            self.flush()
            self._transport.close()
