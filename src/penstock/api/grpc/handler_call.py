"""Every other method on our own HTTP/2: a task for each call, with the context that handlers of grpc.aio know."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc import aio

from penstock.api.grpc.errors import STATUS
from penstock.api.grpc.http2 import header_cache
from penstock.api.grpc.http2.header_cache import Head
from penstock.api.grpc.http2.stream import PREFIX, Stream, inflated, too_large, too_much
from penstock.core.errors import Fault

if TYPE_CHECKING:
    from penstock.api.grpc.http2.connection import Connection

log = logging.getLogger(__name__)

Handler = Any
"""A ``grpc.RpcMethodHandler`` over raw messages."""

Pairs = Any
"""Metadata as grpc.aio takes it: pairs of names and values."""

_OK: Final = grpc.StatusCode.OK
_NOT_THERE: Final = (grpc.StatusCode.UNIMPLEMENTED, "this server has no such method")
WAITING_BYTES: Final = 1 << 20
"""Bytes of messages that nobody has asked for yet, beyond which a client may send no more of a call."""

MESSAGE_BYTES: Final = 64
"""What a message takes beside what is in it, so that empty ones count too."""


class Aborted(Exception):
    """A handler has ended its call with a status."""


class HandlerCall(Stream):
    """One call of any method; ``handler`` None refuses it."""

    __slots__ = ("_handler", "_messages", "_most", "_raw", "_task", "_told", "_waiting", "_wake")

    def __init__(
        self, handler: Handler | None, most: int, connection: "Connection", number: int, head: Head, window: int
    ) -> None:
        super().__init__(connection, number, head, window, monotonic_ns())
        self._handler = handler
        self.patient = handler is not None and handler.request_streaming
        self._most = most
        self._raw = bytearray()
        self._messages: deque[bytes] = deque()
        self._waiting = 0  # bytes in them
        self._wake = asyncio.Event()
        self._told = False
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._run())

    # What arrives.

    def arrived(self, data: bytes) -> None:
        """Take messages apart."""
        if self.over:
            return
        self._raw += data
        self.connection.buffered += len(data)
        self.size += len(data)
        try:
            while len(self._raw) >= PREFIX:
                size = int.from_bytes(self._raw[1:PREFIX])
                if size > self._most:
                    raise too_large(self._most)
                if len(self._raw) < PREFIX + size:
                    break
                message = bytes(self._raw[PREFIX : PREFIX + size])
                if self._raw[0]:
                    message = inflated(message, self.head.encoding, self._most)
                del self._raw[: PREFIX + size]
                self.connection.buffered -= PREFIX + size
                self.size -= PREFIX + size
                self._messages.append(message)
                self._waiting += len(message) + MESSAGE_BYTES
            if self.connection.buffered > 2 * (self._most + PREFIX):
                raise too_much()
        except Fault as fault:
            self._finish(STATUS[fault.kind], str(fault))
            self._stop()
            return
        self._wake.set()
        if self._waiting < WAITING_BYTES:
            self.connection.take_more(self)

    def complete(self) -> None:
        """The caller has said all."""
        self._wake.set()

    def broken_off(self) -> None:
        """The caller is gone."""
        self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # What handlers see: the part of ``grpc.aio.ServicerContext`` that they use.

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The call's metadata."""
        return self.head.metadata()

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, None without one."""
        if self.head.timeout_ns is None:
            return None
        return max(0.0, (self.began_ns + self.head.timeout_ns - monotonic_ns()) / 1e9)

    async def send_initial_metadata(self, pairs: Pairs) -> None:
        """Tell who answers."""
        if not self._told and not self.over:
            self._told = True
            self.connection.head(self, header_cache.GRPC + header_cache.metadata(pairs))

    async def read(self) -> Any:
        """The next message, or ``aio.EOF``."""
        while not self._messages:
            if self.ended or self.over:
                return aio.EOF
            self._wake.clear()
            await self._wake.wait()
        message = self._messages.popleft()
        self._waiting -= len(message) + MESSAGE_BYTES
        if self._waiting < WAITING_BYTES:
            self.connection.take_more(self)
        return message

    async def write(self, message: bytes) -> None:
        """Send a message, and wait until there is room for another."""
        await self.send_initial_metadata(())
        if not self.over:
            self.connection.message(self, b"\x00" + len(message).to_bytes(4) + message)
            await self.connection.room(self)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Pairs = ()) -> None:
        """End the call with a status; raises ``Aborted``."""
        self._finish(code, details, trailing_metadata)
        raise Aborted

    # The call's life.

    async def _run(self) -> None:
        try:
            left = self.time_remaining()
            async with asyncio.timeout(left):
                await self._handled()
        except TimeoutError:
            self._finish(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before an answer was ready")
        except Aborted:
            pass
        except asyncio.CancelledError:
            if not self.over:
                self._finish(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        except Exception as error:  # a bug must not take the connection down
            log.exception("a call failed", exc_info=error)
            self._finish(grpc.StatusCode.INTERNAL, "the request failed")

    async def _handled(self) -> None:
        handler = self._handler
        if self.head.fault is not None:
            await self.abort(STATUS[self.head.fault.kind], str(self.head.fault))
        if handler is None:
            await self.abort(*_NOT_THERE)
            return
        if handler.request_streaming:
            await self._answers(handler.stream_stream(Requests(self, handler.request_deserializer), self), handler)
        else:
            message = await self.read()
            if message is aio.EOF:
                await self.abort(grpc.StatusCode.INTERNAL, "the call does not bring exactly one message")
            if handler.response_streaming:
                await self._answers(handler.unary_stream(message, self), handler)
            else:
                await self.write(await handler.unary_unary(message, self))
        self._finish(_OK, "")

    async def _answers(self, found: Any, handler: Handler) -> None:
        """What a handler gives: answers one by one, or nothing where it writes them itself."""
        if not hasattr(found, "__aiter__"):
            await found
            return
        async for one in found:
            await self.write(handler.response_serializer(one) if handler.response_serializer else one)

    def _finish(self, code: grpc.StatusCode, details: str, trailing: Pairs = ()) -> None:
        if self.over:
            return
        number = code.value[0]
        block = header_cache.OK if code is _OK else header_cache.failed(number, details)
        block += header_cache.metadata(trailing or ())
        self.over = True  # nobody adds anything
        self.connection.trailers(self, block if self._told else header_cache.GRPC + block)


class Requests:
    """The requests of a call, one after the other, for ``async for``."""

    def __init__(self, call: HandlerCall, deserialised: Callable[[bytes], Any] | None) -> None:
        self._call = call
        self._deserialised = deserialised

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        message = await self._call.read()
        if message is aio.EOF:
            raise StopAsyncIteration
        return message if self._deserialised is None else self._deserialised(message)


class HttpErrorStream(Stream):
    """A request of HTTP/2 that is no call of gRPC's."""

    __slots__ = ()

    def arrived(self, data: bytes) -> None:
        """Nobody reads it."""

    def complete(self) -> None:
        """Its answer is on its way already."""

    def broken_off(self) -> None:
        """Nothing is under way."""
