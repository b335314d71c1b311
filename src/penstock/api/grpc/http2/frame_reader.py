"""Splits received bytes into frames: the connection preface, frame headers, and frames in pieces. Without I/O."""

from penstock.api.grpc.http2.frames import (
    FRAME_HEADER_BYTES,
    PREFACE,
    STREAM_MASK,
    ErrorCode,
    Http2ConnectionError,
    number_at,
    size_at,
)


class FrameReader:
    """Finds the frames in received bytes; holds at most one incomplete frame, in one buffer.

    ``feed`` takes bytes as they come, ``advance`` goes to the next whole frame. Then ``kind``, ``flags`` and
    ``stream_id`` are the frame's, and its payload is ``data[start:stop]``.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_frame_bytes = max_frame_bytes
        self.data = b""
        self._at = 0  # where the next frame begins
        self._rest = b""  # what came after the frame that ``data`` completes
        self._partial = bytearray()
        self._preface_bytes = 0  # how much of the preface has come
        self.kind = 0
        self.flags = 0
        self.stream_id = 0
        self.start = 0
        self.stop = 0

    @property
    def has_preface(self) -> bool:
        """Whether the client's connection preface is complete."""
        return self._preface_bytes == len(PREFACE)

    @property
    def has_more(self) -> bool:
        """Whether there are bytes after the current frame."""
        return self._at < len(self.data) or len(self._rest) > 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Http2ConnectionError: they are not a connection preface, or a frame is larger than MAX_FRAME_SIZE.
        """
        if self._preface_bytes < len(PREFACE):
            data = self._preface(data)
        if self.has_more:
            self.data = self.data[self._at :] + self._rest + data
            self._at, self._rest = 0, b""
        elif self._partial:
            self._complete(data)
        else:
            self.data, self._at = data, 0

    def advance(self) -> bool:
        """Go to the next frame; return False if none is complete.

        Raises:
            Http2ConnectionError: it is larger than was announced.
        """
        data, at = self.data, self._at
        start = at + FRAME_HEADER_BYTES
        if start > len(data):
            return self._next_piece()
        size = size_at(data, at)
        self._check_size(size)
        stop = start + size
        if stop > len(data):
            return self._next_piece()
        self.kind, self.flags, self.stream_id = data[at + 3], data[at + 4], number_at(data, at + 5) & STREAM_MASK
        self.start, self.stop, self._at = start, stop, stop
        return True

    def skip_to(self, stop: int) -> None:
        """Skip the bytes of ``data`` before ``stop``: a frame that was handled ahead of ``advance``."""
        self._at = stop

    def payload(self) -> bytes:
        """Return the payload of the frame."""
        return self.data[self.start : self.stop]

    def _preface(self, data: bytes) -> bytes:
        """Return the bytes after the preface."""
        expected = PREFACE[self._preface_bytes :]
        if data[: len(expected)] != expected[: len(data)]:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "this port speaks HTTP/2 with prior knowledge")
        self._preface_bytes += min(len(data), len(expected))
        return data[len(expected) :]

    def _next_piece(self) -> bool:
        """Continue after a frame in pieces, or keep an incomplete one."""
        left = self.data[self._at :]
        if self._rest:
            self.data, self._at, self._rest = left + self._rest, 0, b""
            return self.advance()
        if left:
            self._partial += left
        self.data, self._at = b"", 0
        return False

    def _complete(self, data: bytes) -> None:
        """Complete the incomplete frame."""
        partial, taken = self._partial, 0
        if len(partial) < FRAME_HEADER_BYTES:
            taken = FRAME_HEADER_BYTES - len(partial)
            partial += data[:taken]
            if len(partial) < FRAME_HEADER_BYTES:
                return
        size = int.from_bytes(partial[:3])
        self._check_size(size)
        missing = FRAME_HEADER_BYTES + size - len(partial)
        partial += data[taken : taken + missing]
        if taken + missing > len(data):
            return
        self.data, self._at, self._rest = bytes(partial), 0, data[taken + missing :]
        self._partial = bytearray()

    def _check_size(self, size: int) -> None:
        if size > self._max_frame_bytes:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a frame is larger than MAX_FRAME_SIZE")
