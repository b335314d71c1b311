"""The sending side of an HTTP/1.1 connection: answers in the order of requests, and the memory they hold."""

from collections import deque
from typing import Final

from penstock.api.http1.answers import CONTINUE
from penstock.api.http1.client_transport import ClientTransport
from penstock.api.http1.connection_table import ConnectionTable
from penstock.api.http1.exchange import (
    ANSWERED,
    ARRIVING,
    EXPECTED,
    RECEIVING,
    RUNNING,
    WAITING,
    WHOLE,
    Answer,
    Exchange,
    answer_size,
)
from penstock.api.http1.request_reader import NO_MEMORY, UNCOUNTED_BYTES, RequestReader, RequestSink

CLOSE: Final = b"connection: close\r\n"
_KEEP_ALIVE: Final = b"connection: keep-alive\r\n"


class Http1Output(RequestSink):
    """The sending side of a connection, as its exchanges see it; runs on one event loop."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._transport = ClientTransport()
        self._reader = RequestReader(self, table.limits)
        self._pipeline: deque[Exchange] = deque()
        self.is_lost = False
        self._input_ended = False
        self._is_old = False
        self._working = 0  # bytes of the bodies of running requests
        self._stored = 0  # bytes of queued answers
        self._kept = 0  # bytes taken from the memory budget

    # The receiving side.

    def _read_on(self) -> None:
        """Resume reading if there is capacity."""
        raise NotImplementedError

    def _stop_reading(self) -> None:
        """Stop reading."""
        raise NotImplementedError

    # Answers.

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Write a complete answer, now or after those before it."""
        if self.is_lost or exchange.state == ANSWERED:
            return
        exchange.state = ANSWERED
        size = answer_size(answer)
        if self._working:
            self._forget_body(exchange)
        if size > UNCOUNTED_BYTES and not self.keep(size):
            answer = exchange.refusal(self._table.memory.refusal(size, NO_MEMORY))
            size = len(answer)
        if self._pipeline[0] is exchange and not self._transport.is_writing_paused:
            self._pipeline.popleft()
            self._send(exchange, answer, size)
            if self._pipeline or self._transport.is_reading_paused or self._input_ended:
                self._advance()
        else:
            exchange.answer = answer
            self._stored += size
            self._recount()
        if self._kept:
            self._recount()

    def _send(self, exchange: Exchange, answer: Answer, size: int) -> None:
        self._transport.send(answer, size)
        if not exchange.keep_alive:
            self._end(exchange)

    def _advance(self) -> None:
        """Write the answers that are ready, start the first waiting request, and resume reading if possible."""
        pipeline = self._pipeline
        while pipeline and not self._transport.is_writing_paused:
            first = pipeline[0]
            answer = first.answer
            if answer is None:
                self._begin_first()
                break
            pipeline.popleft()
            size = answer_size(answer)
            self._stored -= size
            self._send(first, answer, size)
        self._read_on()

    def _begin_first(self) -> None:
        """Start the first request if it waits, or send "100 Continue" for its body."""
        if self._transport.is_writing_paused or not self._pipeline:
            return
        first = self._pipeline[0]
        if first.body_state == EXPECTED:
            first.body_state = ARRIVING
            self.write(CONTINUE)
        if first.state == WAITING or (first.streams and first.state == RECEIVING):
            first.state = RUNNING
            first.begin()

    def last_fields(self, exchange: Exchange) -> bytes:
        """Return the lines of every answer: date and connection."""
        table = self._table
        if (table.is_ending or self._is_old) and exchange.keep_alive and self._is_last(exchange):
            exchange.keep_alive = False
            self._stop_reading()
        if not exchange.keep_alive:
            return table.date_line + CLOSE
        return table.date_line + _KEEP_ALIVE if exchange.head.http10 else table.date_line

    def _is_last(self, exchange: Exchange) -> bool:
        return (
            bool(self._pipeline)
            and self._pipeline[-1] is exchange
            and not self._reader.unparsed
            and exchange.body_state == WHOLE
        )

    def _end(self, exchange: Exchange) -> None:
        """Close after the last answer."""
        self._stop_reading()
        self._transport.end(lingers=exchange.body_state != WHOLE)

    # Answers in parts.

    def write(self, data: bytes) -> None:
        """Write a part of the answer of the first exchange."""
        self._transport.send(data, len(data))

    async def writable(self) -> None:
        """Wait until the write buffer has space."""
        await self._transport.writable()

    def finish(self, exchange: Exchange) -> None:
        """Complete the answer of the first exchange; the rest of its body is read and dropped."""
        if self.is_lost or exchange.state == ANSWERED:
            return
        exchange.state = ANSWERED
        self._reader.is_held = False
        self.release_body(exchange)
        if exchange.body_state == WHOLE or not exchange.keep_alive:
            self._leave(exchange)
        else:
            self._read_on()

    def _leave(self, exchange: Exchange) -> None:
        """Remove an exchange that was answered in parts."""
        if self._pipeline and self._pipeline[0] is exchange:
            self._pipeline.popleft()
        if exchange.keep_alive:
            self._advance()
        else:
            self._end(exchange)

    # What the transport knows and ends.

    def info(self, name: str) -> object:
        """Return transport information by name, None if unknown."""
        return self._transport.info(name)

    def abort(self) -> None:
        """Close immediately."""
        self._stop_reading()
        self._transport.abort()

    def close(self) -> None:
        """Close after the write buffer is sent."""
        self._stop_reading()
        self._transport.close()

    # Memory.

    def keep(self, size: int) -> bool:
        """Take memory for bytes of a body; return False if there is none."""
        if not self._table.memory.take(size):
            return False
        self._kept += size
        return True

    def release_body(self, exchange: Exchange) -> None:
        """Stop counting the body of an exchange: it is freed, or counted elsewhere."""
        if self._working:
            self._forget_body(exchange)
            self._recount()

    def _forget_body(self, exchange: Exchange) -> None:
        if exchange.counted_bytes:
            self._working -= exchange.counted_bytes
            exchange.counted_bytes = 0

    def _recount(self) -> bool:
        """Adjust the memory taken to what is held now; return False, with nothing taken, if the budget is exceeded."""
        if self.is_lost:
            return True
        reader = self._reader
        held = self._working + self._stored
        if self._transport.is_writing_paused:
            held += self._transport.unsent_bytes()
        if len(reader.unparsed) > UNCOUNTED_BYTES:
            held += len(reader.unparsed)
        if reader.exchange is not None and not reader.exchange.streams:
            held += reader.exchange.size
        more = held - self._kept
        if more > 0 and not self._table.memory.take(more):
            return False
        if more < 0:
            self._table.memory.give_back(-more)
        self._kept = held
        return True
