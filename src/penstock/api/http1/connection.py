"""One HTTP/1.1 connection: reads requests and answers them in order, with limits of bytes and time.

A request joins ``_pipeline`` when its head is complete and leaves it when its answer is written.
"""

import asyncio
from collections import deque
from typing import Final

from penstock.api.http1.answers import error_answer
from penstock.api.http1.connection_output import CLOSE, Http1Output
from penstock.api.http1.connection_table import REFUSED, RESERVED, ConnectionTable
from penstock.api.http1.exchange import ANSWERED, RECEIVING, RUNNING, WAITING, Exchange
from penstock.api.http1.limits import MAX_PIPELINED
from penstock.api.http1.request_head import HeadError, Http1RequestHead
from penstock.api.http1.request_reader import HEAD, NO_MEMORY, NOTHING, UNCOUNTED_BYTES
from penstock.api.tls import read_client_certificate
from penstock.core.errors import DeadlineExceeded, Fault, OverBudget
from penstock.serving.access.caller_access import CallerAccess

DRAINING_S: Final = 1.0
"""Seconds that a new connection may still send a request while the server drains."""

_END_OF_HEAD: Final = b"\r\n\r\n"
_NO_HEAD: Final = Http1RequestHead(b"GET", b"/", True, [], 0)
_TOO_MANY_CONNECTIONS: Final = "the server has too many connections; try again"


class _BadRequest(Exchange):
    """The answer to bytes that are not a valid request."""

    def begin(self) -> None:
        """Do nothing: the answer exists."""


class Http1Connection(Http1Output):
    """The connection of one client; has the methods of ``asyncio.Protocol`` but not its base class, as compiled classes
    have no interpreted bases."""

    def __init__(self, table: ConnectionTable) -> None:
        super().__init__(table)
        self._limits = table.limits
        self._will_read = False
        self._is_unfinished = False
        self._is_headless = True
        self._is_reserved = False
        self._awaits_access = False
        self._callers = table.application.callers
        self._active_ns = table.clock_ns()
        self._until_ns = table.age_limit_ns()

    # Requests.

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        reader = self._reader
        now_ns = self._table.clock_ns()
        if not reader.unparsed:
            reader.began_ns = now_ns
            if reader.mode == HEAD and not self._transport.is_reading_paused and not self._is_reserved:
                end = data.find(_END_OF_HEAD) + 4
                head = self._table.heads.get(data[:end])
                if head is not None and len(data) == end + head.length:
                    access = head.access
                    if access is not None and self._may_use(access, now_ns):
                        self._receive_whole(head, data[end:], now_ns, access)
                        return
        if reader.mode != NOTHING:
            reader.unparsed += data
            if not self._will_read:
                self._read()

    def _may_use(self, access: CallerAccess, now_ns: int) -> bool:
        """Whether a cached head may be answered by what was known of its credential: its access table is the present
        one, and no client certificate speaks for the connection."""
        return access.is_current(self._callers.epoch, now_ns) and not self.certificate_names

    def _receive_whole(self, head: Http1RequestHead, body: bytes, now_ns: int, access: CallerAccess) -> None:
        """Receive a complete request whose head is cached."""
        if self._is_headless:
            self._note_head(True)
        self._active_ns = now_ns
        exchange = self._table.application.open(self, head, now_ns, access)
        self._pipeline.append(exchange)
        self._reader.end_at_once(exchange, body)

    def _read(self) -> None:
        """Read the bytes received, then resume or pause reading: for capacity, the application, or more bytes."""
        reader = self._reader
        reads_on = reader.read(self._table.clock_ns())
        is_blocked = reader.is_blocked()
        if reads_on:
            self._read_soon()
        if is_blocked or self._will_read:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        self._note_unfinished(reader.is_midway() and not is_blocked)
        self._note_head(reader.mode != HEAD or reader.unparsed == b"" or is_blocked)
        if not self._recount():
            self._refuse_for_memory()
        if self._input_ended and not is_blocked and not self._will_read:
            self._end_input()

    def _read_soon(self) -> None:
        if not self._will_read:
            self._will_read = True
            asyncio.get_running_loop().call_soon(self._read_next)

    def _read_next(self) -> None:
        self._will_read = False
        if not self.is_lost and self._reader.mode != NOTHING:
            self._read()

    def _read_on(self) -> None:
        reader = self._reader
        if reader.mode == NOTHING:
            if self._input_ended and not self._pipeline:
                self.close()
        elif not reader.is_blocked():
            if reader.unparsed:
                self._read_soon()
            elif self._input_ended:
                self._end_input()
            else:
                self._transport.resume_reading()

    def _stop_reading(self) -> None:
        self._reader.stop()
        self._note_unfinished(False)

    def _note_unfinished(self, is_unfinished: bool) -> None:
        if is_unfinished != self._is_unfinished:
            self._is_unfinished = is_unfinished
            self._table.note_unfinished(self, is_unfinished=is_unfinished)

    def _note_head(self, is_whole: bool) -> None:
        if is_whole == self._is_headless:
            self._is_headless = not is_whole
            self._table.note_head(self, is_whole=is_whole)

    # Called by the reader.

    def has_capacity(self) -> bool:
        """Whether another request may be read."""
        return len(self._pipeline) < MAX_PIPELINED and not self._transport.is_writing_paused and not self._awaits_access

    def find_head(self, data: bytes) -> Http1RequestHead:
        """Return the head in these bytes."""
        return self._table.head(self, data)

    def find_access(self, head: Http1RequestHead) -> CallerAccess | None:
        """Return what the credential in a head may do; None while that is verified."""
        access = self._table.application.find_access(self, head)
        self._awaits_access = access is None
        return access

    def resume_head(self) -> None:
        """Read on: the credential of a head is verified."""
        self._awaits_access = False
        if not self.is_lost:
            self._read_on()

    def begin_request(self, head: Http1RequestHead, began_ns: int, access: CallerAccess) -> Exchange:
        """Return the exchange for a complete head."""
        if self._is_reserved and not self._table.application.is_essential(head):
            raise HeadError(503, _TOO_MANY_CONNECTIONS)
        self._active_ns = self._table.clock_ns()
        exchange = self._table.application.open(self, head, began_ns, access)
        self._pipeline.append(exchange)
        return exchange

    def await_body(self, exchange: Exchange) -> None:
        """Set the deadline of a request whose body is incomplete."""
        timeout_ns = exchange.timeout_ns(int(self._limits.request_s * 1e9))
        exchange.deadline_ns = exchange.began_ns + timeout_ns
        self._begin_first()

    def end_request(self, exchange: Exchange) -> None:
        """Start a complete request, or queue it."""
        if exchange.state == ANSWERED:
            self._leave(exchange)
            return
        if exchange.size > UNCOUNTED_BYTES and not exchange.streams:
            self._working += exchange.size
            exchange.counted_bytes = exchange.size
        if exchange.is_concurrent:
            exchange.state = RUNNING
            exchange.begin()
            return
        if exchange.state == RECEIVING:
            exchange.state = WAITING
        self._begin_first()

    def pause_body(self) -> None:
        """Pause reading the body until ``resume_body``."""
        self._reader.is_held = True

    def resume_body(self) -> None:
        """Resume reading the body."""
        if self._reader.is_held:
            self._reader.is_held = False
            self._read_on()

    # Refusals that end the connection.

    def refuse(self, status: int, message: str) -> None:
        """Refuse invalid bytes after all earlier answers, and close."""
        if self._reader.exchange is not None and not self._drop_unfinished():
            self.close()
            return
        exchange = _BadRequest(self, _NO_HEAD, self._active_ns)
        self._pipeline.append(exchange)
        self._end_with(exchange, error_answer(status, message, self.last_fields(exchange)))

    def refuse_request(self, fault: Fault) -> None:
        """Refuse an incomplete request, and close after the answer."""
        exchange = self._reader.exchange
        if exchange is None or exchange.state == ANSWERED or exchange.is_answering:
            self.close()
            return
        if exchange.state == RUNNING:
            exchange.abandon()
        exchange.drop_body()
        exchange.keep_alive = False
        self._end_with(exchange, exchange.refusal(fault))

    def _end_with(self, exchange: Exchange, answer: bytes) -> None:
        exchange.state = ANSWERED
        exchange.answer = answer
        self._stored += len(answer)
        self._stop_reading()
        self._advance()

    def _refuse_for_memory(self) -> None:
        if self._reader.exchange is not None:
            self.refuse_request(OverBudget(NO_MEMORY))
        else:
            self.refuse(503, NO_MEMORY)

    def _drop_unfinished(self) -> bool:
        """Drop an incomplete request; return False if its answer has begun."""
        exchange = self._reader.exchange
        if exchange is None:
            return True
        if exchange.state == ANSWERED or exchange.is_answering:
            return False
        self._pipeline.pop()
        exchange.abandon()
        return True

    # Life cycle.

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Register a new connection."""
        self._transport.attach(transport)
        certificate = read_client_certificate(self.info("peercert"))
        if certificate is not None:
            self.certificate_names = certificate.names
            self._until_ns = min(self._until_ns, self._active_ns + certificate.left_ns())
        verdict = self._table.add(self)
        self._is_reserved = verdict == RESERVED
        if verdict == REFUSED:
            self.write(error_answer(503, _TOO_MANY_CONNECTIONS, self._table.date_line + CLOSE))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up a closed connection; may be called twice."""
        if self.is_lost:
            return
        self.is_lost = True
        self._stop_reading()
        self._table.remove(self)
        self._transport.detach()
        pipeline, self._pipeline = self._pipeline, deque()
        for exchange in pipeline:
            if exchange.state != ANSWERED:
                exchange.abandon()
        self._table.memory.give_back(self._kept)
        self._kept = 0

    def eof_received(self) -> bool:
        """Handle the end of input: open requests are answered, then the connection closes."""
        self._input_ended = True
        if self.info("sslcontext") is not None:
            return False  # TLS has no half-closed connections
        if self._reader.unparsed and (self._will_read or self._reader.is_blocked()):
            return True
        self._end_input()
        return bool(self._pipeline)

    def _end_input(self) -> None:
        """Handle the end of input after all bytes are read."""
        if self._reader.mode != NOTHING:
            if not self._drop_unfinished():
                self.abort()
            self._stop_reading()
            if self._pipeline:
                self._pipeline[-1].keep_alive = False
        if not self._pipeline:
            self.close()

    def pause_writing(self) -> None:
        """Pause reading requests while the client does not read answers."""
        self._transport.pause_writing()
        self._recount()
        if self._reader.mode == HEAD:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume after the client has read most of the buffer."""
        self._transport.resume_writing()
        self._recount()
        self._advance()

    def close_idle(self) -> None:
        """Close it if no request is open."""
        if self.is_idle():
            self.close()

    def retire(self) -> None:
        """Close it with its next answer."""
        self._until_ns = self._active_ns - 1

    def is_idle(self) -> bool:
        """Whether no request is open."""
        return not self._pipeline and not self._reader.is_midway() and not self._transport.unsent_bytes()

    # Time.

    def check_deadline(self, now_ns: int) -> None:
        """Refuse a request that is incomplete after its deadline."""
        limits, exchange = self._limits, self._reader.exchange
        if exchange is None:
            if now_ns > self._reader.began_ns + int(min(limits.head_s, limits.request_s) * 1e9):
                self.refuse(408, "the head of the request did not arrive in time")
            return
        rate = limits.body_bytes_per_s
        earned_ns = exchange.size * 1_000_000_000 // rate if rate else 0
        if now_ns > exchange.deadline_ns + earned_ns:
            self.refuse_request(DeadlineExceeded("the deadline passed before the request was complete"))

    def sweep(self, now_ns: int) -> None:
        """Close a connection that is idle, or whose client does not read answers; called about once a second."""
        limits = self._limits
        self._is_old = now_ns > self._until_ns
        if self._transport.is_stalled(now_ns, int(limits.stalled_s * 1e9)):
            self.abort()
        elif not self.is_idle():
            self._active_ns = now_ns
            self._recount()
        else:
            allowed_s = DRAINING_S if self._table.is_draining else limits.keep_alive_s
            if now_ns - self._active_ns > allowed_s * 1e9:
                self.close()
