"""The chunked transfer coding of RFC 9112 section 7.1, parsed strictly and with limits of its overhead."""

import re
from collections.abc import Callable
from typing import Final

from penstock.api.http1.request_head import HeadError
from penstock.core.errors import TooLarge

MAX_CHUNKS_A_CALL: Final = 1024
"""Chunks and trailer fields to read in one turn of the loop."""

MAX_LINE: Final = 4096
"""Maximum bytes of a chunk's size line with its extensions."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION: Final = b";" + _TOKEN + b"(?:=(?:" + _TOKEN + b"|" + _QUOTED + b"))?"
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)\r\n")
_TRAILER: Final = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n")

# What is read next.
_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3
_DONE: Final = 4


class ChunkedBody:
    """Reads one body: ``max_bytes`` limits its data, ``max_overhead`` its extensions and trailer fields together;
    ``too_large`` makes the error of a body over the limit.

    Trailer fields are checked and dropped (RFC 9110 section 6.5.1).
    """

    __slots__ = ("_left", "_max_bytes", "_next", "_overhead", "_size", "_too_large")

    def __init__(self, max_bytes: int, max_overhead: int, too_large: Callable[[], TooLarge]) -> None:
        self._max_bytes = max_bytes
        self._too_large = too_large
        self._overhead = max_overhead
        self._next = _SIZE
        self._left = 0
        self._size = 0

    @property
    def is_done(self) -> bool:
        """Whether the body is complete."""
        return self._next == _DONE

    def read(self, data: bytes, at: int, parts: list[memoryview]) -> int:
        """Read ``data`` from ``at``, append the body's data to ``parts``, and return where reading stopped.

        It stops at the end of the body, at an incomplete line, and after ``MAX_CHUNKS_A_CALL``.

        Raises:
            HeadError: the coding is invalid, or a line is too long.
            TooLarge: the data exceeds the limit.
        """
        view = memoryview(data)
        for _ in range(MAX_CHUNKS_A_CALL):
            stop = self._step(data, at, view, parts)
            if stop == at:
                break
            at = stop
            if self._next == _DONE:
                break
        return at

    def _step(self, data: bytes, at: int, view: memoryview, parts: list[memoryview]) -> int:
        if self._next == _SIZE:
            return self._read_size(data, at)
        if self._next == _DATA:
            stop = min(at + self._left, len(data))
            if stop > at:
                parts.append(view[at:stop])
                self._left -= stop - at
            if not self._left:
                self._next = _DATA_END
                return self._read_data_end(data, stop)
            return stop
        if self._next == _DATA_END:
            return self._read_data_end(data, at)
        return self._read_trailer(data, at)

    def _read_size(self, data: bytes, at: int) -> int:
        line = _SIZE_LINE.match(data, at)
        if line is None:
            return self._wait_for_line(data, at)
        self._pay(len(line[2]))
        self._left = int(line[1], 16)
        self._size += self._left
        if self._size > self._max_bytes:
            raise self._too_large()
        self._next = _DATA if self._left else _TRAILERS
        return line.end()

    def _read_data_end(self, data: bytes, at: int) -> int:
        end = data[at : at + 2]
        if end == b"\r\n":
            self._next = _SIZE
            return at + 2
        if end not in (b"", b"\r"):
            raise HeadError(400, "a chunk is longer than its size says")
        return at

    def _read_trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._next = _DONE
            return at + 2
        line = _TRAILER.match(data, at)
        if line is None:
            return self._wait_for_line(data, at)
        self._pay(line.end() - at)
        return line.end()

    def _wait_for_line(self, data: bytes, at: int) -> int:
        """Wait for the end of a line; refuse a complete but invalid one."""
        if data.find(b"\n", at) >= 0:
            raise HeadError(400, "the chunks of the body are not valid")
        size = len(data) - at
        if size > MAX_LINE or size > self._overhead + 32:
            raise HeadError(431, "the request's header fields are too large")
        return at

    def _pay(self, size: int) -> None:
        self._overhead -= size
        if self._overhead < 0 or size > MAX_LINE:
            raise HeadError(431, "the request's header fields are too large")
