"""The unsent data of a connection: streams take turns, one frame each, as flow control allows."""

from typing import Final

from penstock.api.common.parts import Payload, size_of
from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.flow_control import SendWindow
from penstock.api.grpc.http2.frames import FRAME_HEADER
from penstock.api.grpc.http2.stream import Http2Stream

MAX_PAYLOAD: Final = 64 << 10
"""Maximum bytes of a DATA frame, even if the peer allows more: streams take turns."""


class SendQueue:
    """The unsent data of all streams of a connection, and the peer's windows.

    A stream with unsent data is ``ready``, or ``blocked`` while its own window is closed. ``fill`` serves the ready
    ones in turns, so that each gets its share of the connection's window. ``now_ns`` is of ``time.monotonic_ns``.
    """

    def __init__(self) -> None:
        self.window = SendWindow(frames.DEFAULT_WINDOW)
        self.stream_window = frames.DEFAULT_WINDOW  # of streams that begin
        self.frame_bytes = frames.DEFAULT_FRAME_BYTES
        self.frames_sent = 0  # DATA frames
        self.ready: dict[int, Http2Stream] = {}
        self.blocked: dict[int, Http2Stream] = {}
        self.closed_since_ns = 0  # the connection's window, while streams are ready

    def add(self, stream: Http2Stream, data: Payload, now_ns: int) -> None:
        """Queue data of a stream, not empty."""
        if isinstance(data, bytes):
            stream.unsent.append(memoryview(data))
        else:
            stream.unsent += [memoryview(part) for part in data]
        stream.unsent_bytes += size_of(data)
        self._place(stream, now_ns)

    def remove(self, stream: Http2Stream) -> None:
        """Drop the unsent data of a stream."""
        self.ready.pop(stream.id, None)
        self.blocked.pop(stream.id, None)
        stream.unsent.clear()
        stream.unsent_bytes = 0
        stream.end_frame = None

    def can_fill(self) -> bool:
        """Whether ``fill`` would send anything."""
        return self.window.available > 0 and len(self.ready) > 0

    def fill(self, out: list[bytes | memoryview], max_bytes: int, now_ns: int) -> list[Http2Stream]:
        """Add frames to ``out`` until they hold about ``max_bytes`` of data; the streams whose data is sent now, each
        with the frame that ends it, if there is one."""
        done: list[Http2Stream] = []
        ready, left = self.ready, max_bytes
        while left > 0 and ready and self.window.available > 0:
            stream = ready.pop(next(iter(ready)))
            left -= self._send_frame(stream, out)
            if stream.unsent_bytes:
                self._place(stream, now_ns)
                continue
            if stream.end_frame is not None:
                out.append(stream.end_frame)
            done.append(stream)
        self._note_connection(now_ns)
        return done

    def partly_sent_bytes(self) -> int:
        """Return the bytes of waiting answers that were handed to the transport; the memory budget counts whole
        answers.
        """
        waiting = (*self.ready.values(), *self.blocked.values())
        return sum([max(0, item.reserved_bytes - item.unsent_bytes) for item in waiting])

    def grow_connection(self, increment: int, now_ns: int) -> bool:
        """Open the connection's window; return False if it gets too large."""
        fits = self.window.grow(increment)
        self._note_connection(now_ns)
        return fits

    def grow_stream(self, stream: Http2Stream, increment: int, now_ns: int) -> bool:
        """Open a stream's window, or reduce it; return False if it gets too large."""
        fits = stream.send_window.grow(increment)
        if stream.id in self.ready or stream.id in self.blocked:
            self._place(stream, now_ns)
        return fits

    def _place(self, stream: Http2Stream, now_ns: int) -> None:
        """Add a stream to the end of the list that matches its window."""
        if stream.send_window.available <= 0:
            self.ready.pop(stream.id, None)
            if stream.id not in self.blocked:
                stream.waits_since_ns = now_ns
                self.blocked[stream.id] = stream
        else:
            self.blocked.pop(stream.id, None)
            self.ready[stream.id] = stream

    def _send_frame(self, stream: Http2Stream, out: list[bytes | memoryview]) -> int:
        """Add one DATA frame of a stream; return its bytes."""
        part = stream.unsent[0]
        size = min(self.window.available, stream.send_window.available, self.frame_bytes, MAX_PAYLOAD, len(part))
        out.append(FRAME_HEADER.pack(size << 8 | frames.DATA, 0, stream.id))
        out.append(part if size == len(part) else part[:size])
        self.window.take(size)
        stream.send_window.take(size)
        stream.unsent_bytes -= size
        self.frames_sent += 1
        if size == len(part):
            stream.unsent.pop(0)
        else:
            stream.unsent[0] = part[size:]
        return size

    def _note_connection(self, now_ns: int) -> None:
        if not self.ready or self.window.available > 0:
            self.closed_since_ns = 0
        elif not self.closed_since_ns:
            self.closed_since_ns = now_ns
