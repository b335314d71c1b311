"""Calls of every method except ModelInfer: one task for each call, which is the method's ``ServerCall``."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic_ns
from typing import Final

from penstock.api.common.compression import MAX_RATIO
from penstock.api.common.parts import Payload
from penstock.api.common.work import LargeWork
from penstock.api.grpc import response_blocks
from penstock.api.grpc.call_head import CallHead
from penstock.api.grpc.errors import GRPC_CODES, caller_text, retry_hints
from penstock.api.grpc.framing import MessageReader, add_prefix, inflate, messages_too_large, no_memory
from penstock.api.grpc.http2.stream import Http2Stream, StreamIo
from penstock.api.grpc.methods import MAX_MESSAGE_BYTES, Method
from penstock.core.access.endpoints import ANY_CALLER, Scope
from penstock.core.errors import (
    DeadlineExceeded,
    Fault,
    Internal,
    NotReady,
    OverBudget,
    Unsupported,
    UnsupportedEncoding,
)
from penstock.core.slices import Pacer
from penstock.core.traces.log_fields import caller_fields
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.access.caller_quota import QuotaLease
from penstock.serving.data_plane import DataPlane

log = logging.getLogger(__name__)

AHEAD_BYTES: Final = 512 << 10
"""Maximum bytes of complete messages that wait for the method before the peer's window stays closed."""

NO_METHOD: Final = "the method is unknown"


class HandlerCall(Http2Stream):
    """One call of any method; ``method`` None refuses it.

    The credential is resolved before the method begins, and again with each message and each new access table, so that
    one that is revoked ends the call. ``open_calls`` holds the calls that run.

    Messages are cut out of what has come when the method asks for them; until then the peer's window stays closed.
    """

    __slots__ = (
        "_call_head",
        "_has_sent_head",
        "_is_reading",
        "_lease",
        "_max_message_bytes",
        "_messages",
        "_method",
        "_open_calls",
        "_plane",
        "_requirement",
        "_task",
        "_wake",
        "access",
    )

    def __init__(
        self,
        plane: DataPlane,
        method: Method | None,
        open_calls: "set[HandlerCall]",
        max_message_bytes: int,
        io: StreamIo,
        stream_id: int,
        head: CallHead,
        send_window: int,
    ) -> None:
        super().__init__(io, stream_id, head, send_window, monotonic_ns())
        self._plane = plane
        self._call_head = head
        self._method = method
        self._requirement = ANY_CALLER if method is None else method.requirement
        self._open_calls = open_calls
        self.access: CallerAccess = plane.callers.public
        self._lease: QuotaLease | None = None
        self.streams_request = method is not None and method.streams_request
        self._max_message_bytes = min(
            max_message_bytes, MAX_MESSAGE_BYTES if method is None else method.max_message_bytes
        )
        self._messages = MessageReader(self._max_message_bytes)
        self._is_reading = False
        self._has_sent_head = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._run())

    # What comes.

    def on_data(self, data: bytes) -> None:
        """See ``Http2Stream``."""
        if self.local_closed:
            return
        self._messages.feed(data)
        if not self.io.hold(self, len(data)):
            self._finish(messages_too_large())
            self._stop()
            return
        self._wake.set()
        if self._is_reading and not self._messages.has_message:
            self.io.replenish(self)

    def on_end(self) -> None:
        """See ``Http2Stream``."""
        self._wake.set()

    def on_reset(self) -> None:
        """See ``Http2Stream``."""
        self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # What the method sees: see ``ServerCall``.

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """Return the call's metadata."""
        return self.head.fields

    def info(self, name: str) -> object:
        """Return transport information by name, None if unknown."""
        return self.io.info(name)

    @property
    def deadline_ns(self) -> int | None:
        """Return the deadline of the caller."""
        timeout_ns = self._call_head.timeout_ns
        return None if timeout_ns is None else self.began_ns + timeout_ns

    async def read(self) -> bytes | None:
        """Return the next message, None after the last."""
        self._is_reading = True
        try:
            while (outcome := self._next()) is None:
                if self.local_closed or (self.remote_closed and not self._messages):
                    return None
                if self.remote_closed:
                    raise Internal("the last message of the call is incomplete")
                self._wake.clear()
                await self._wake.wait()
        finally:
            self._is_reading = False
        is_compressed, message = outcome
        if not self.access.is_current(self._plane.callers.epoch, monotonic_ns()):
            await self._resolve()
        return await self._inflate(message) if is_compressed else message

    async def _inflate(self, message: bytes) -> bytes:
        """Inflate a compressed message; a large one on a thread."""
        encoding, most = self._call_head.encoding, self._max_message_bytes
        try:
            return inflate(message, encoding, most, None)
        except LargeWork:
            return await self._inflate_on_thread(message, encoding, most)

    async def _inflate_on_thread(self, message: bytes, encoding: str, most: int) -> bytes:
        memory, size = self._plane.memory, len(message) + min(len(message) * MAX_RATIO, most)
        if not memory.take(size):
            raise OverBudget("the worker has no memory left to inflate the message; try again later")
        try:
            return await self._plane.offload.run(partial(inflate, message, encoding, most, Pacer().pause), size)
        finally:
            memory.give_back(size)

    def _next(self) -> tuple[bool, bytes] | None:
        before = len(self._messages)
        message = self._messages.next()
        self.io.let_go(self, before - len(self._messages))
        if not self.local_closed and (message is None or len(self._messages) < AHEAD_BYTES):
            self.io.replenish(self)
        return message

    async def write(self, message: bytes) -> None:
        """Send a message, and wait until it is written."""
        await self.write_framed(add_prefix(message))

    async def write_framed(self, messages: Payload) -> None:
        """Send framed messages, and wait until they are written; raises ``OverBudget`` without memory for them."""
        self._send_head()
        if not self.local_closed:
            if not self.io.send_data(self, messages):
                raise no_memory()
            await self.io.wait_sent(self)

    def _send_head(self) -> None:
        if not self._has_sent_head and not self.local_closed:
            self._has_sent_head = True
            self.io.send_head(self, response_blocks.GRPC)

    # The caller.

    async def _resolve(self) -> None:
        """Find out what the caller may do now; raises ``Fault`` if its credential is not accepted."""
        if self._requirement.public:
            return
        verified = asyncio.Event()
        while (access := self._find_access(verified.set)) is None:
            await verified.wait()
            verified.clear()
        self.access = access
        if access.refusal is not None:
            raise access.refusal

    def _find_access(self, resume: Callable[[], None]) -> CallerAccess | None:
        return self._call_head.find_access(self._plane.callers, self.io, monotonic_ns(), resume)

    def recheck(self) -> None:
        """End the call if its credential is not accepted any more: the access table has changed."""
        if self._requirement.public or self.local_closed:
            return
        access = self._find_access(self.recheck)
        if access is None:
            return
        self.access = access
        if access.refusal is not None:
            self._finish(access.refusal)
            self._stop()

    # The call's life.

    async def _run(self) -> None:
        self._open_calls.add(self)
        try:
            async with asyncio.timeout(self._seconds_left()):
                await self._handle()
            self._finish(None)
        except TimeoutError:
            self._finish(DeadlineExceeded("the deadline passed before an answer was ready"))
        except asyncio.CancelledError:
            self._finish(NotReady("the server is stopping"))
        except Fault as fault:
            self._finish(fault)
        except Exception as error:  # a bug must not take the connection down
            joined = {"fields": caller_fields(self.head.fields)}
            log.exception("a call of %s failed", self.head.path, exc_info=error, extra=joined)
            self._finish(Internal("the request failed"))
        finally:
            self._open_calls.discard(self)
            self._task = None  # which else keeps the call alive, as the call keeps it

    def _seconds_left(self) -> float | None:
        deadline_ns = self.deadline_ns
        return None if deadline_ns is None else max(0.0, (deadline_ns - monotonic_ns()) / 1e9)

    async def _handle(self) -> None:
        await self._resolve()
        if self._call_head.fault is not None:
            raise self._call_head.fault
        if self._method is None:
            raise Unsupported(NO_METHOD)
        if self._requirement.scope is not Scope.MODEL:
            self.access.check(self._requirement, "", self.info)
        if self.access.quota is not None and not self.streams_request:
            self._lease = self.access.quota.admit(monotonic_ns(), 0)
        await self._method.handle(self)

    def _finish(self, fault: Fault | None) -> None:
        """Send the status, unless the call is over."""
        if self.local_closed:
            return
        block = response_blocks.OK
        if fault is not None:
            block = response_blocks.failed_trailers(GRPC_CODES[fault.kind], caller_text(fault))
            block += response_blocks.encode_metadata(retry_hints(fault))
        if isinstance(fault, UnsupportedEncoding):
            block += response_blocks.ACCEPTS
        self.local_closed = True
        self.io.send_trailers(self, block if self._has_sent_head else response_blocks.GRPC + block)


class HttpErrorStream(Http2Stream):
    """A request over HTTP/2 that is not a gRPC call."""

    __slots__ = ()

    def on_data(self, data: bytes) -> None:
        """Ignore data."""

    def on_end(self) -> None:
        """Do nothing: the answer is queued already."""

    def on_reset(self) -> None:
        """Do nothing: no work is open."""
