"""Reads requests from the bytes of a connection: heads, bodies with a length, and chunked bodies.

``RequestReader.mode`` is what to read next:

    HEAD    a request head
    LENGTH  a body with a content length
    CHUNKS  a chunked body
    NOTHING further bytes are dropped: the connection closes after the last answer
"""

from typing import Final

from penstock.api.http1.chunked_body import ChunkedBody
from penstock.api.http1.connection_table import TableEntry
from penstock.api.http1.exchange import ARRIVING, Exchange
from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.request_head import CHUNKED, HeadError, Http1RequestHead, blank_lines, check_start
from penstock.core.errors import Fault, OverBudget
from penstock.serving.access.caller_access import CallerAccess

HEAD: Final = 0
LENGTH: Final = 1
CHUNKS: Final = 2
NOTHING: Final = 3

UNCOUNTED_BYTES: Final = 16 << 10
"""Bodies and answers up to this size do not count against the memory budget within one turn of the loop."""

NO_MEMORY: Final = "the memory for requests and answers is used up; try again"
_END_OF_HEAD: Final = b"\r\n\r\n"
_ANY_LENGTH: Final = 1 << 62


class RequestSink(TableEntry):
    """A connection as its reader sees it: receives the requests."""

    def has_capacity(self) -> bool:
        """Whether another request may be read."""
        raise NotImplementedError

    def find_head(self, data: bytes) -> Http1RequestHead:
        """Return the head in these bytes.

        Raises:
            HeadError: it is invalid or refused.
        """
        raise NotImplementedError

    def find_access(self, head: Http1RequestHead) -> CallerAccess | None:
        """Return what the credential in a head may do; None while that is verified, and there is no capacity then."""
        raise NotImplementedError

    def begin_request(self, head: Http1RequestHead, began_ns: int, access: CallerAccess) -> Exchange:
        """Return the exchange for a complete head.

        Raises:
            HeadError: the request is refused.
        """
        raise NotImplementedError

    def keep(self, size: int) -> bool:
        """Take memory for bytes of a body; return False if there is none."""
        raise NotImplementedError

    def await_body(self, exchange: Exchange) -> None:
        """Handle a request whose body is incomplete."""
        raise NotImplementedError

    def end_request(self, exchange: Exchange) -> None:
        """Handle a complete request."""
        raise NotImplementedError

    def refuse(self, status: int, message: str) -> None:
        """Refuse bytes that are not a request."""
        raise NotImplementedError

    def refuse_request(self, fault: Fault) -> None:
        """Refuse the request whose body is being read."""
        raise NotImplementedError


class RequestReader:
    """Reads the requests of one connection.

    ``exchange`` is the request whose body is incomplete, ``unparsed`` the bytes not read yet, and ``began_ns`` the time
    of the first of them. ``is_held`` is true while the application accepts no more of a body.
    """

    __slots__ = ("_chunks", "_limits", "_missing", "_sink", "began_ns", "exchange", "is_held", "mode", "unparsed")

    def __init__(self, sink: RequestSink, limits: HttpLimits) -> None:
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
        """Read the bytes received, as far as there is capacity for requests: one read may bring thousands, and a client
        that does not read answers must not cause more. Return whether to continue in the next turn of the loop.
        """
        data, at = self.unparsed, 0
        while at < len(data):
            chunks = self._chunks
            stop = self._read_next(data, at)
            if stop == at or self.mode == NOTHING:
                break
            at = stop
            if chunks is not None and chunks is self._chunks:
                break  # many chunks arrived; let other connections run
        if self.mode == NOTHING:
            self.unparsed = b""
        elif at:
            self.unparsed = data[at:]
            self.began_ns = now_ns
        return at > 0 and self.mode == CHUNKS and self.unparsed != b"" and not self.is_held

    def stop(self) -> None:
        """Drop the bytes received and all further ones."""
        self.mode = NOTHING
        self.unparsed = b""
        self.exchange = None
        self._chunks = None

    def is_blocked(self) -> bool:
        """Whether reading must wait until the client reads answers, or the application a body."""
        return self.is_held or (self.mode == HEAD and not self._sink.has_capacity())

    def is_midway(self) -> bool:
        """Whether a request is incomplete."""
        return self.mode in (LENGTH, CHUNKS) or (self.mode == HEAD and self.unparsed != b"")

    def _read_next(self, data: bytes, at: int) -> int:
        """Read one head, or a part of a body; return where it ends, ``at`` if nothing can be read now."""
        try:
            if self.mode == HEAD:
                return self._read_head(data, at) if self._sink.has_capacity() else at
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
        head = self._sink.find_head(data[at:stop])
        access = self._sink.find_access(head)
        if access is None:
            return at
        return self._begin_body(self._sink.begin_request(head, self.began_ns, access), data, stop)

    def _begin_body(self, exchange: Exchange, data: bytes, at: int) -> int:
        """Start to read a body; a body that is complete is received at once."""
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
            exchange.body_state = ARRIVING
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
        exchange.body_state = ARRIVING
        if not exchange.streams and not self._sink.keep(len(part)):
            raise OverBudget(NO_MEMORY)
        exchange.take(part)
        if exchange.head.length == CHUNKED and exchange.size > UNCOUNTED_BYTES:
            self._check_size(exchange, exchange.size)

    def _check_size(self, exchange: Exchange, size: int) -> None:
        """Refuse a body of at least ``size`` bytes if the application refuses it."""
        fault = exchange.body_fault(size)
        if fault is not None:
            self.exchange = exchange
            raise fault

    def end_at_once(self, exchange: Exchange, body: bytes) -> None:
        """Handle a request whose body arrived in one piece."""
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
