"""What an HTTP/1.1 connection sends: answers in the order of their requests, and the bytes that it keeps for them."""

from collections import deque
from typing import Final

from penstock.api.http1.answers import CONTINUE
from penstock.api.http1.client_transport import ClientTransport
from penstock.api.http1.connection_table import ConnectionTable
from penstock.api.http1.exchange import ANSWERED, RECEIVING, RUNNING, WAITING, Answer, Exchange, answer_size
from penstock.api.http1.request_reader import NO_MEMORY, UNCOUNTED_BYTES, RequestReader, RequestSink

CLOSE: Final = b"connection: close\r\n"
_KEEP_ALIVE: Final = b"connection: keep-alive\r\n"


class ConnectionOutput(RequestSink):
    """The sending side of a connection, which is what its exchanges know of it; one event loop."""

    def __init__(self, table: ConnectionTable) -> None:
        self._table = table
        self._transport = ClientTransport()
        self._reader = RequestReader(self, table.limits)
        self._pipeline: deque[Exchange] = deque()
        self.is_lost = False
        self._input_ended = False
        self._is_old = False
        self._working = 0  # bytes of bodies that are worked on
        self._stored = 0  # bytes of answers that wait for their turn
        self._kept = 0  # bytes that are taken from the budget

    # The receiving side.

    def _read_on(self) -> None:
        """Read on if there is room."""
        raise NotImplementedError

    def _stop_reading(self) -> None:
        """Read nothing more."""
        raise NotImplementedError

    # Answers.

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Write a whole answer, now or when those before it are written."""
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
        """Write the answers that are there, and begin who is first; then read on if there is room."""
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
        """Work on the first request where it waited for that, or tell its client to send its body."""
        if self._transport.is_writing_paused or not self._pipeline:
            return
        first = self._pipeline[0]
        if first.awaits_continue:
            first.awaits_continue = False
            self.write(CONTINUE)
        if first.state == WAITING or (first.streams and first.state == RECEIVING):
            first.state = RUNNING
            first.begin()

    def last_fields(self, exchange: Exchange) -> bytes:
        """The lines that every answer has: its date, and whether the connection goes on after it."""
        table = self._table
        if (table.is_draining or self._is_old) and exchange.keep_alive and self._is_last(exchange):
            exchange.keep_alive = False
            self._stop_reading()
        if not exchange.keep_alive:
            return table.date_line + CLOSE
        return table.date_line + _KEEP_ALIVE if exchange.head.http10 else table.date_line

    def _is_last(self, exchange: Exchange) -> bool:
        return (
            bool(self._pipeline) and self._pipeline[-1] is exchange and not self._reader.unparsed and exchange.is_whole
        )

    def _end(self, exchange: Exchange) -> None:
        """End our side: the last answer is written."""
        self._stop_reading()
        self._transport.end(lingers=not exchange.is_whole)

    # Answers in parts.

    def write(self, data: bytes) -> None:
        """Write a part of the answer of the exchange that is first."""
        self._transport.send(data, len(data))

    async def writable(self) -> None:
        """Wait until the client has taken enough of what was written."""
        await self._transport.writable()

    def finish(self, exchange: Exchange) -> None:
        """The answer of the exchange that is first is written; what is left of its body is read and dropped."""
        if self.is_lost or exchange.state == ANSWERED:
            return
        exchange.state = ANSWERED
        self._reader.is_held = False
        self.release_body(exchange)
        if exchange.is_whole or not exchange.keep_alive:
            self._leave(exchange)
        else:
            self._read_on()

    def _leave(self, exchange: Exchange) -> None:
        """It is answered in parts, and whole."""
        if self._pipeline and self._pipeline[0] is exchange:
            self._pipeline.popleft()
        if exchange.keep_alive:
            self._advance()
        else:
            self._end(exchange)

    # What the transport knows and ends.

    def info(self, name: str) -> object:
        """What the transport knows of the connection, None where it does not."""
        return self._transport.info(name)

    def abort(self) -> None:
        """End at once."""
        self._stop_reading()
        self._transport.abort()

    def close(self) -> None:
        """End once what is written has left."""
        self._stop_reading()
        self._transport.close()

    # Bytes that are kept.

    def keep(self, size: int) -> bool:
        """Count bytes of a body that are kept; False if they may not be."""
        if not self._table.memory.take(size):
            return False
        self._kept += size
        return True

    def release_body(self, exchange: Exchange) -> None:
        """The body of an exchange is kept no more, or who works on it counts it now."""
        if self._working:
            self._forget_body(exchange)
            self._recount()

    def _forget_body(self, exchange: Exchange) -> None:
        if exchange.counted_bytes:
            self._working -= exchange.counted_bytes
            exchange.counted_bytes = 0

    def _recount(self) -> bool:
        """Take from the budget what is kept now; False, with nothing more taken, where it does not hold that."""
        if self.is_lost:
            return True
        reader = self._reader
        kept = self._working + self._stored
        if self._transport.is_writing_paused:
            kept += self._transport.unsent_bytes()
        if len(reader.unparsed) > UNCOUNTED_BYTES:
            kept += len(reader.unparsed)
        if reader.exchange is not None and not reader.exchange.streams:
            kept += reader.exchange.size
        more = kept - self._kept
        if more > 0 and not self._table.memory.take(more):
            return False
        if more < 0:
            self._table.memory.give_back(-more)
        self._kept = kept
        return True
