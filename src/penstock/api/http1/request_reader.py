"""Bytes of a connection to requests: heads, bodies of stated length and bodies in chunks, one after the other.

What is read next is ``RequestReader.mode``:

    HEAD    a request head; while those before it are worked on, the next one
    LENGTH  a body of stated length
    CHUNKS  a body in chunks
    NOTHING whatever still comes is dropped: the connection ends with the last answer
"""

from typing import Final

from penstock.api.http1.chunked_body import ChunkedBody
from penstock.api.http1.connection_table import TableEntry
from penstock.api.http1.exchange import Exchange
from penstock.api.http1.limits import Limits
from penstock.api.http1.request_head import CHUNKED, HeadError, RequestHead, blank_lines, check_start
from penstock.core.errors import Fault, OverBudget

HEAD: Final = 0
LENGTH: Final = 1
CHUNKS: Final = 2
NOTHING: Final = 3

UNCOUNTED_BYTES: Final = 16 << 10
"""Bodies and answers up to this size are not counted where they pass in one turn of the loop."""

NO_MEMORY: Final = "the memory for requests and answers is used up; try again"
_END_OF_HEAD: Final = b"\r\n\r\n"
_ANY_LENGTH: Final = 1 << 62


class RequestSink(TableEntry):
    """A connection as its reader sees it: who takes the requests that are read."""

    def has_room(self) -> bool:
        """Whether another request may be read."""
        raise NotImplementedError

    def find_head(self, data: bytes) -> RequestHead:
        """The head that these bytes are.

        Raises:
            HeadError: they are none, or it is refused.
        """
        raise NotImplementedError

    def begin_request(self, head: RequestHead, began_ns: int) -> Exchange:
        """A head is whole: the exchange that it begins.

        Raises:
            HeadError: it is refused.
        """
        raise NotImplementedError

    def keep(self, size: int) -> bool:
        """Count bytes of a body that are kept; False if they may not be."""
        raise NotImplementedError

    def await_body(self, exchange: Exchange) -> None:
        """The body of a request is still to come."""
        raise NotImplementedError

    def end_request(self, exchange: Exchange) -> None:
        """A request is whole."""
        raise NotImplementedError

    def refuse(self, status: int, message: str) -> None:
        """What comes is no request."""
        raise NotImplementedError

    def refuse_request(self, fault: Fault) -> None:
        """The request whose body is read is refused."""
        raise NotImplementedError


class RequestReader:
    """Reads the requests of one connection.

    ``exchange`` is the request whose body is still to come, ``unparsed`` what has come and is not read yet, and
    ``began_ns`` the time when the first byte of that came. While the application takes no more of a body, ``is_held``.
    """

    __slots__ = ("_chunks", "_limits", "_missing", "_sink", "began_ns", "exchange", "is_held", "mode", "unparsed")

    def __init__(self, sink: RequestSink, limits: Limits) -> None:
        self.mode = HEAD
        self.exchange: Exchange | None = None
        self.unparsed = b""
        self.began_ns = 0
        self.is_held = False
        self._sink = sink
        self._limits = limits
        self._chunks: ChunkedBody | None = None
        self._missing = 0

    def read(self, now_ns: int) -> bool:
        """Read what has come, and no further than there is room for requests: one read may bring thousands, and who
        does not read answers must not have us make more. Whether more can be read at once, when others had their turn.
        """
        data, at = self.unparsed, 0
        while at < len(data):
            chunks = self._chunks
            stop = self._read_next(data, at)
            if stop == at or self.mode == NOTHING:
                break
            at = stop
            if chunks is not None and chunks is self._chunks:
                break  # many chunks have come, and others have their turn
        if self.mode == NOTHING:
            self.unparsed = b""
        elif at:
            self.unparsed = data[at:]
            self.began_ns = now_ns
        return at > 0 and self.mode == CHUNKS and self.unparsed != b"" and not self.is_held

    def stop(self) -> None:
        """Drop whatever has come and still comes."""
        self.mode = NOTHING
        self.unparsed = b""
        self.exchange = None
        self._chunks = None

    def waits_for_us(self) -> bool:
        """Whether nothing can be read before answers are taken, or a body by its application."""
        return self.is_held or (self.mode == HEAD and not self._sink.has_room())

    def is_midway(self) -> bool:
        """Whether a request has begun to come, and is not whole."""
        return self.mode in (LENGTH, CHUNKS) or (self.mode == HEAD and self.unparsed != b"")

    def _read_next(self, data: bytes, at: int) -> int:
        """Read one head, or a part of a body; where it ends, ``at`` where nothing can be read now."""
        try:
            if self.mode == HEAD:
                return self._read_head(data, at) if self._sink.has_room() else at
            exchange = self.exchange
            if exchange is None or self.is_held:
                return at
            if self.mode == LENGTH:
                return self._read_length(exchange, data, at)
            return self._read_chunks(exchange, data, at)
        except HeadError as error:
            self._sink.refuse(error.status, error.message)
        except Fault as fault:
            self._sink.refuse_request(fault)
        return at

    def _read_head(self, data: bytes, at: int) -> int:
        stop = blank_lines(data, at)
        if stop > at:
            return stop
        end = data.find(_END_OF_HEAD, at)
        size = (len(data) if end < 0 else end + 4) - at
        if size > self._limits.max_head_bytes:
            raise HeadError(431, "the request's header fields are too large")
        if end < 0:
            check_start(data, at)
            return at
        stop = at + size
        exchange = self._sink.begin_request(self._sink.find_head(data[at:stop]), self.began_ns)
        return self._begin_body(exchange, data, stop)

    def _begin_body(self, exchange: Exchange, data: bytes, at: int) -> int:
        """Begin to read a body; one that is there to its end is taken at once."""
        length = exchange.head.length
        if length > self._limits.max_body_bytes and not exchange.streams:
            self.exchange = exchange
            raise self._limits.body_too_large()
        if length > UNCOUNTED_BYTES:
            self._check_size(exchange, length)
        if length == CHUNKED:
            self.mode = CHUNKS
            limit = _ANY_LENGTH if exchange.streams else self._limits.max_body_bytes
            self._chunks = ChunkedBody(
                limit, self._limits.max_head_bytes - exchange.head.size, self._limits.body_too_large
            )
        elif length == 0 or (len(data) - at >= length and not exchange.streams):
            self.end_at_once(exchange, data[at : at + length])
            return at + length
        else:
            self.mode = LENGTH
            self._missing = length
        if len(data) > at:
            exchange.awaits_continue = False
        self.exchange = exchange
        self._sink.await_body(exchange)
        return at

    def _read_length(self, exchange: Exchange, data: bytes, at: int) -> int:
        stop = min(at + self._missing, len(data))
        self._missing -= stop - at
        self._take(exchange, memoryview(data)[at:stop])
        if not self._missing:
            self._end(exchange)
        return stop

    def _read_chunks(self, exchange: Exchange, data: bytes, at: int) -> int:
        chunks = self._chunks
        if chunks is None:
            return at
        parts: list[memoryview] = []
        stop = chunks.read(data, at, parts)
        for part in parts:
            self._take(exchange, part)
        if chunks.is_done:
            self._end(exchange)
        return stop

    def _take(self, exchange: Exchange, part: memoryview) -> None:
        exchange.awaits_continue = False
        if not exchange.streams and not self._sink.keep(len(part)):
            raise OverBudget(NO_MEMORY)
        exchange.take(part)
        if exchange.head.length == CHUNKED and exchange.size > UNCOUNTED_BYTES:
            self._check_size(exchange, exchange.size)

    def _check_size(self, exchange: Exchange, size: int) -> None:
        """Refuse a body that will have so many bytes, or more, where the application would."""
        fault = exchange.body_fault(size)
        if fault is not None:
            self.exchange = exchange
            raise fault

    def end_at_once(self, exchange: Exchange, body: bytes) -> None:
        """The request is whole, and its body came in one piece."""
        exchange.body = body
        exchange.size = len(body)
        if exchange.size > UNCOUNTED_BYTES and not self._sink.keep(exchange.size):
            self.exchange = exchange
            self._sink.refuse_request(OverBudget(NO_MEMORY))
        else:
            self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        self.exchange = None
        self._chunks = None
        self.mode = HEAD if exchange.keep_alive else NOTHING
        exchange.end_body()
        self._sink.end_request(exchange)
