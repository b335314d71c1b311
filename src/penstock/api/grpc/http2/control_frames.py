"""The frames of a connection other than HEADERS and DATA: settings, pings, windows, resets and priorities."""

from collections.abc import Callable
from typing import Final

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.answer_memory import MemoryLimit
from penstock.api.grpc.http2.connection_output import RETIRING, OutputOwner
from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError, encode_frame
from penstock.api.grpc.http2.request_input import RequestInput
from penstock.api.grpc.http2.stream_state import FrameVerdict, StreamEvent, StreamState, transition


class ControlFrames(RequestInput):
    """The side of a connection that handles all frames other than HEADERS and DATA."""

    def __init__(self, owner: OutputOwner, max_streams: int, memory: MemoryLimit) -> None:
        super().__init__(owner, max_streams, memory)
        self.pinged_ns = 0  # when our unanswered PING was sent
        self._has_settings = False

    def _control_frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        _HANDLERS.get(kind, ControlFrames._unknown)(self, flags, number, payload)

    def _reset_frame(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM must have four bytes")
        outcome = transition(self.streams.state(number), StreamEvent.RST_STREAM)
        stream = self._live.get(number)
        if outcome.verdict != FrameVerdict.ACCEPT or stream is None:
            self._on_unaccepted(outcome, number, 1.0)
            return
        self.limits.stream_reset(self.last_received_ns - stream.began_ns, self.last_received_ns)
        self._forget(stream, StreamState.RESET_REMOTE)
        if not stream.local_closed:
            stream.local_closed = True
            stream.on_reset()

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "SETTINGS was sent on a stream")
        if flags & frames.ACK:
            if payload:
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS acknowledgement has a payload")
            return
        if len(payload) % 6:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "the length of SETTINGS is not a multiple of six")
        self._has_settings = True
        self.limits.control_frame(1 + len(payload) // 60, self.last_received_ns)
        for at in range(0, len(payload), 6):
            self._setting(int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        self._send_control(encode_frame(frames.SETTINGS, frames.ACK, 0))
        self._fill_soon()

    def _setting(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            self._first_window(value)
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.MAX_FRAME_BYTES:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range")
            self._queue.frame_bytes = value
        elif key == frames.ENABLE_PUSH and value > 1:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH must be 0 or 1")

    def _first_window(self, value: int) -> None:
        """Apply a change of the initial window, which holds for open streams too (RFC 9113 section 6.9.2)."""
        fits = value <= frames.MAX_WINDOW
        change, self._queue.stream_window = value - self._queue.stream_window, value
        if fits and change:
            for stream in list(self._live.values()):
                fits &= self._queue.grow_stream(stream, change, self.last_received_ns)
        if not fits:
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "PING was sent on a stream")
        if len(payload) != 8:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PING must have eight bytes")
        if not flags & frames.ACK:
            self.limits.control_frame(1, self.last_received_ns)
            self._send_control(encode_frame(frames.PING, frames.ACK, 0, payload))
        elif payload == RETIRING:
            self._on_retired()
        else:
            self.pinged_ns = 0

    def _count_window_update(self) -> None:
        self.limits.data_frames_sent = self._queue.frames_sent + self._direct_frames
        self.limits.window_update()

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE must have four bytes")
        self._count_window_update()
        increment = frames.number_at(payload, 0) & frames.STREAM_MASK
        if number:
            self._open_stream_window(number, increment)
        elif not increment:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE has an increment of 0")
        elif not self._queue.grow_connection(increment, self.last_received_ns):
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")
        self._fill_soon()

    def _open_stream_window(self, number: int, increment: int) -> None:
        outcome = transition(self.streams.state(number), StreamEvent.WINDOW_UPDATE)
        stream = self._live.get(number)
        if outcome.verdict != FrameVerdict.ACCEPT or stream is None:
            if outcome.verdict != FrameVerdict.IGNORE:
                self._on_unaccepted(outcome, number, 1.0)
        elif not increment:
            self._stream_error(stream, ErrorCode.PROTOCOL_ERROR)
        elif not self._queue.grow_stream(stream, increment, self.last_received_ns):
            self._stream_error(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self.answers.resume(stream)

    def _goaway(self, _flags: int, number: int, _payload: bytes) -> None:
        """Note that the client opens no more requests."""
        if number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "GOAWAY was sent on a stream")
        self.limits.control_frame(1, self.last_received_ns)

    def _priority(self, _: int, number: int, payload: bytes) -> None:
        if not number:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "PRIORITY was sent on stream 0")
        self.limits.priority()
        if len(payload) == 5:
            return
        stream = self._live.get(number)
        if stream is not None:
            self._stream_error(stream, ErrorCode.FRAME_SIZE_ERROR)
        elif number > self.streams.last_id:  # a stream that has not begun cannot be reset
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY must have five bytes")

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE was sent by a client")

    def _unknown(self, _flags: int, _number: int, _payload: bytes) -> None:
        self.limits.control_frame(1, self.last_received_ns)

    @staticmethod
    def by_kind() -> "dict[int, Callable[[ControlFrames, int, int, bytes], None]]":
        """Return the handlers by kind of frame, with CONTINUATION, which is rare, and without WINDOW_UPDATE."""
        return {
            frames.PRIORITY: ControlFrames._priority,
            frames.RST_STREAM: ControlFrames._reset_frame,
            frames.SETTINGS: ControlFrames._settings,
            frames.PUSH_PROMISE: ControlFrames._push_promise,
            frames.PING: ControlFrames._ping,
            frames.GOAWAY: ControlFrames._goaway,
            frames.CONTINUATION: ControlFrames._continuation,
        }


_HANDLERS: Final = ControlFrames.by_kind()
