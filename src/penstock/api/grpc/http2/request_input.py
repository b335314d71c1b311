"""Builds requests from HEADERS and DATA frames: field blocks, stream states, and refusals."""

from typing import Final

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.answer_memory import MemoryLimit
from penstock.api.grpc.http2.connection_output import RETIRED, Http2Output, OutputOwner
from penstock.api.grpc.http2.flow_control import ReceiveWindow
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, Http2StreamError
from penstock.api.grpc.http2.header_cache import HeaderDecoder
from penstock.api.grpc.http2.request_head import NO_LENGTH, Http2RequestHead, check_trailers
from penstock.api.grpc.http2.stream import Http2Stream
from penstock.api.grpc.http2.stream_state import FrameVerdict, StateTransition, StreamEvent, StreamState, transition

CONNECTION_WINDOW: Final = 16 << 20
STREAM_WINDOW: Final = 1 << 20
HEADER_BYTES: Final = 32 << 10
"""Maximum size of a field list (RFC 9113 section 6.5.2); a larger one ends its stream."""

GATHERED_BYTES: Final = 64 << 10
"""Bytes of an encoded field block to buffer; a longer block is decoded as it arrives."""

HEADERS_WORK: Final = 16
"""Units of work of one step of decoding a field block."""

SMALL_WINDOW: Final = 1024
"""Initial stream window in bytes below which a client counts as slow on purpose."""

MAX_UNREAD: Final = 16
"""Unread answers of such a client at which its requests are refused."""

DATA_AFTER_RESET_COST: Final = 0.05
"""Cost of DATA on a stream that the server has reset; it may have been in flight."""


class RequestInput(Http2Output):
    """The side of a connection that receives requests."""

    def __init__(self, owner: OutputOwner, max_streams: int, memory: MemoryLimit) -> None:
        super().__init__(owner, max_streams, memory)
        self._max_streams = max_streams
        self._headers = HeaderDecoder(HEADER_BYTES, owner.interpret)
        self._gathering: tuple[int, int, bytearray] | None = None  # an incomplete field block: stream, flags, bytes
        self._gathering_since_ns = 0
        self._continuations = 0
        self._decoding: tuple[int, int] | None = None  # stream and flags of the block that is decoded
        self._receive = ReceiveWindow(CONNECTION_WINDOW, CONNECTION_WINDOW // 4)

    def _headers_frame(self, flags: int, number: int, block: bytes) -> None:
        event = StreamEvent.HEADERS_END if flags & frames.END_STREAM else StreamEvent.HEADERS
        outcome = transition(self.streams.state(number), event)
        if outcome.verdict == FrameVerdict.CONNECTION_ERROR:
            raise Http2ConnectionError(outcome.code, "HEADERS is not allowed in the state of this stream")
        if flags & frames.END_HEADERS:
            self._begin_decoding(number, flags, block)
        else:
            self._gathering, self._continuations = (number, flags, bytearray(block)), 0
            self._gathering_since_ns = self.last_received_ns

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._gathering is None or self._gathering[0] != number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "CONTINUATION for a field block that has not begun")
        if not self._headers.is_open:
            self._continuations += 1
            self.limits.continuation(self._continuations)
        if not payload and not flags & frames.END_HEADERS:
            self.limits.empty_frame()
        _, first, block = self._gathering
        ends = (flags & frames.END_HEADERS) != 0
        if ends:
            self._gathering = None
        if self._headers.is_open:
            self._headers.append(payload, ends)
            self._decoding = (number, first)
            return
        block += payload
        if ends:
            self._begin_decoding(number, first, bytes(block))
        elif len(block) > GATHERED_BYTES:
            self._headers.begin(bytes(block), is_whole=False)
            block.clear()
            self._decoding = (number, first)

    def _begin_decoding(self, number: int, flags: int, block: bytes) -> None:
        head = self._headers.known.get(block)
        if head is not None and self.streams.state(number) == StreamState.IDLE:
            ends = flags & frames.END_STREAM
            self._begin(number, StreamState.HALF_CLOSED_REMOTE if ends else StreamState.OPEN, head)
            return
        self._headers.begin(block)
        self._decoding = (number, flags)
        self._decode(self._decoding)

    def _decode(self, what: tuple[int, int]) -> int:
        """Decode some fields, and handle a complete block; return the units of work."""
        headers = self._headers
        if not headers.is_done:
            headers.step()
            if headers.too_large or headers.is_open:
                self.limits.large_block_step(self.last_received_ns)
        if headers.is_done:
            self._decoding = None
            self._fields(*what)
        elif headers.is_starved:
            self._decoding = None
        return HEADERS_WORK

    def _fields(self, number: int, flags: int) -> None:
        """Act on a decoded field block."""
        event = StreamEvent.HEADERS_END if flags & frames.END_STREAM else StreamEvent.HEADERS
        state = self.streams.state(number)
        outcome = transition(state, event)
        if outcome.verdict != FrameVerdict.ACCEPT:
            self._on_unaccepted(outcome, number, 1.0)
        elif state == StreamState.IDLE:
            self._begin_decoded(number, outcome.state)
        else:
            self._trailers(self._live[number], outcome.state)

    def _begin_decoded(self, number: int, state: StreamState) -> None:
        try:
            head = self._headers.request()
        except Http2StreamError as error:
            self._reset_malformed(number, error.code)
            return
        self._begin(number, state, head)

    def _begin(self, number: int, state: StreamState, head: Http2RequestHead) -> None:
        """Open the stream of a request."""
        ends = state == StreamState.HALF_CLOSED_REMOTE
        if self._refuses():
            self.streams.begin(number)
            self._refuse(number)
        elif ends and head.content_length > 0:
            self._reset_malformed(number, ErrorCode.PROTOCOL_ERROR)
        else:
            stream = self._open(number, head, state)
            if ends:
                stream.on_end()
            elif not stream.streams_request:
                self._expires(stream)

    def _reset_malformed(self, number: int, code: ErrorCode) -> None:
        """Reset the stream of an invalid request."""
        self.streams.begin(number)
        self.limits.stream_malformed(self.last_received_ns)
        self._reset_unopened(number, code)

    def _open(self, number: int, head: Http2RequestHead, state: StreamState) -> Http2Stream:
        self.streams.begin(number)
        self.limits.streams_opened += 1
        stream = self._owner.open_stream(self, number, head, self._queue.stream_window)
        stream.state = state
        self._live[number] = stream
        return stream

    def _refuses(self) -> bool:
        """Whether requests are refused: the connection ends, or the client has too many streams or reads slowly."""
        return self._retiring == RETIRED or len(self._live) >= self._max_streams or self._is_slow()

    def _is_slow(self) -> bool:
        queue = self._queue
        return queue.stream_window < SMALL_WINDOW and len(queue.blocked) + len(queue.ready) >= MAX_UNREAD

    def _refuse(self, number: int) -> None:
        if self._is_slow():
            self.limits.stream_malformed(self.last_received_ns)  # it opens streams and does not read their answers
        else:
            self.limits.stream_refused(self.last_received_ns)
        self._reset_unopened(number, ErrorCode.REFUSED_STREAM)

    def _reset_unopened(self, number: int, code: ErrorCode) -> None:
        self.streams.end(number, StreamState.RESET_LOCAL)
        self._send_control(frames.reset(number, code))

    def _trailers(self, stream: Http2Stream, state: StreamState) -> None:
        """Check and ignore the trailers of a request, and complete it."""
        try:
            check_trailers(self._headers.fields())
        except Http2StreamError as error:
            self._stream_error(stream, error.code)
            return
        self._complete(stream, state)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size, ends = len(payload), flags & frames.END_STREAM
        self._count_received(size)
        stream = self._live.get(number)
        state = self.streams.state(number) if stream is None else stream.state
        outcome = transition(state, StreamEvent.DATA_END if ends else StreamEvent.DATA)
        content = frames.remove_padding(flags, payload) if flags & frames.PADDED else payload
        if outcome.verdict != FrameVerdict.ACCEPT or stream is None:
            self._on_unaccepted(outcome, number, DATA_AFTER_RESET_COST if content else 1.0)
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
        if ends:  # before the data: an answer to that is the last frame of the stream
            stream.state = outcome.state
        if content:
            stream.on_data(content)
        if ends:
            self._complete(stream, outcome.state)

    def _complete(self, stream: Http2Stream, state: StreamState) -> None:
        """Complete a request."""
        if stream.id not in self._live:
            return  # it ended meanwhile
        stream.state = state
        if not stream.local_closed:
            stream.on_end()

    def _count_received(self, size: int) -> None:
        """Count bytes against the connection's window and replenish it; streams have their own windows."""
        if not self._receive.receive(size):
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "the client sent more data than the window allows")
        increment = self._receive.replenish()
        if increment:
            self.send(frames.window_update(0, increment))

    def _on_unaccepted(self, outcome: StateTransition, number: int, cost: float) -> None:
        """Handle a frame that the state of its stream does not allow."""
        if outcome.verdict == FrameVerdict.CONNECTION_ERROR:
            raise Http2ConnectionError(outcome.code, "the frame is not allowed in the state of this stream")
        if outcome.verdict == FrameVerdict.IGNORE:
            self.limits.control_frame(cost, self.last_received_ns)
            self.streams.end(number, outcome.state)
            return
        stream = self._live.get(number)
        if stream is not None:
            self._stream_error(stream, outcome.code)
            return
        self.limits.stream_malformed(self.last_received_ns)
        self._reset_unopened(number, outcome.code)

    def _stream_error(self, stream: Http2Stream, code: ErrorCode) -> None:
        """Reset a stream after an error of the client."""
        self.limits.stream_malformed(self.last_received_ns)
        self.reset(stream, code)
