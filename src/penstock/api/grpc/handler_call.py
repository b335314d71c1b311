"""Every other method on our own HTTP/2: a task for each call, with the context that handlers of grpc.aio know."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

import grpc
from grpc import aio

from penstock.api.grpc import response_blocks
from penstock.api.grpc.call_head import CallHead
from penstock.api.grpc.errors import STATUS, retry_hints, sentence
from penstock.api.grpc.framing import PREFIX, framed, inflated, no_memory, too_large, too_much
from penstock.api.grpc.http2.stream import Stream, StreamIo
from penstock.core.errors import Fault

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

    __slots__ = ("_call", "_handler", "_messages", "_most", "_raw", "_task", "_told", "_waiting", "_wake")

    def __init__(
        self, handler: Handler | None, most: int, io: StreamIo, stream_id: int, head: CallHead, send_window: int
    ) -> None:
        super().__init__(io, stream_id, head, send_window, monotonic_ns())
        self._call = head
        self._handler = handler
        self.streams_request = handler is not None and handler.request_streaming
        self._most = most
        self._raw = bytearray()
        self._messages: deque[bytes] = deque()
        self._waiting = 0  # bytes in them
        self._wake = asyncio.Event()
        self._told = False
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._run())

    # What arrives.

    def on_data(self, data: bytes) -> None:
        """Take messages apart."""
        if self.local_closed:
            return
        self._raw += data
        has_room = self.io.hold(self, len(data))
        try:
            while len(self._raw) >= PREFIX:
                size = int.from_bytes(self._raw[1:PREFIX])
                if size > self._most:
                    raise too_large(self._most)
                if len(self._raw) < PREFIX + size:
                    break
                message = bytes(self._raw[PREFIX : PREFIX + size])
                if self._raw[0]:
                    message = inflated(message, self._call.encoding, self._most)
                del self._raw[: PREFIX + size]
                self.io.let_go(self, PREFIX + size)
                self._messages.append(message)
                self._waiting += len(message) + MESSAGE_BYTES
            if not has_room and self.held_bytes:
                raise too_much()
        except Fault as fault:
            self._finish(STATUS[fault.kind], str(fault))
            self._stop()
            return
        self._wake.set()
        if self._waiting < WAITING_BYTES:
            self.io.replenish(self)

    def on_end(self) -> None:
        """The caller has said all."""
        self._wake.set()

    def on_reset(self) -> None:
        """The caller is gone."""
        self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # What handlers see: the part of ``grpc.aio.ServicerContext`` that they use.

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The call's metadata."""
        return self._call.metadata()

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, None without one."""
        if self._call.timeout_ns is None:
            return None
        return max(0.0, (self.began_ns + self._call.timeout_ns - monotonic_ns()) / 1e9)

    async def send_initial_metadata(self, pairs: Pairs) -> None:
        """Tell who answers."""
        if not self._told and not self.local_closed:
            self._told = True
            self.io.send_head(self, response_blocks.GRPC + response_blocks.metadata(pairs))

    async def read(self) -> Any:
        """The next message, or ``aio.EOF``."""
        while not self._messages:
            if self.remote_closed or self.local_closed:
                return aio.EOF
            self._wake.clear()
            await self._wake.wait()
        message = self._messages.popleft()
        self._waiting -= len(message) + MESSAGE_BYTES
        if self._waiting < WAITING_BYTES:
            self.io.replenish(self)
        return message

    async def write(self, message: bytes) -> None:
        """Send a message, and wait until there is room for another; raises ``OverBudget`` where there is no memory."""
        await self.send_initial_metadata(())
        if not self.local_closed:
            if not self.io.send_data(self, framed(message)):
                raise no_memory()
            await self.io.wait_sent(self)

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
        except Fault as fault:
            self._finish(STATUS[fault.kind], sentence(fault), retry_hints(fault))
        except asyncio.CancelledError:
            if not self.local_closed:
                self._finish(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        except Exception as error:  # a bug must not take the connection down
            log.exception("a call failed", exc_info=error)
            self._finish(grpc.StatusCode.INTERNAL, "the request failed")

    async def _handled(self) -> None:
        handler = self._handler
        if self._call.fault is not None:
            await self.abort(STATUS[self._call.fault.kind], str(self._call.fault))
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
        if self.local_closed:
            return
        number = code.value[0]
        block = response_blocks.OK if code is _OK else response_blocks.failed(number, details)
        block += response_blocks.metadata(trailing or ())
        self.local_closed = True  # nobody adds anything
        self.io.send_trailers(self, block if self._told else response_blocks.GRPC + block)


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

    def on_data(self, data: bytes) -> None:
        """Nobody reads it."""

    def on_end(self) -> None:
        """Its answer is on its way already."""

    def on_reset(self) -> None:
        """Nothing is under way."""
