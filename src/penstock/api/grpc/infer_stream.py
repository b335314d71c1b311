"""ModelStreamInfer: the requests of a stream run like unary ones, and their answers leave in the order of the requests.

A stream works ahead of its reader as far as its window of bytes allows, and no further: what is worked on and what is
not sent yet are weighed together (see ``StreamWindow``). An error is part of its answer and leaves the stream open.
"""

import asyncio
import logging
from collections import deque
from functools import partial
from time import monotonic_ns
from typing import Final

from penstock.api.common.parts import Payload, size_of
from penstock.api.common.work import LargeWork
from penstock.api.grpc.encode import (
    NOT_FINAL,
    closing_answer,
    explanation_parameters,
    stream_message,
    stream_refusal,
    trace_parameter,
)
from penstock.api.grpc.infer_request import InferRequest
from penstock.api.grpc.infer_shared import InferContext
from penstock.api.grpc.methods import Method, ServerCall
from penstock.api.grpc.stream_window import StreamWindow
from penstock.core.errors import Fault, Internal, NotReady, OverBudget, Overloaded
from penstock.core.slices import PauseWork
from penstock.core.traces.log_fields import caller_fields
from penstock.core.traces.spans import RPC_STREAM
from penstock.serving.call_trace import CallTrace
from penstock.serving.infer_call import InferCall, fault_of

STATUS_WANTED: Final = b"triton_grpc_error"
"""Call metadata that, when "true", asks a stream to end with a real status at its first error."""

TURN_BYTES: Final = 512 << 10
"""Maximum bytes of requests that a stream reads in one turn of the event loop."""

log = logging.getLogger(__name__)


class InferStreams:
    """The streams of one server; each works on at most ``max_requests`` requests and about ``max_bytes`` at a time."""

    def __init__(self, shared: InferContext, max_requests: int, max_bytes: int) -> None:
        self._shared = shared
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._open: set[InferStream] = set()

    def method(self) -> Method:
        """Return the method ModelStreamInfer."""
        return Method(self._handle, streams_request=True, max_message_bytes=self._shared.max_message_bytes)

    async def _handle(self, call: ServerCall) -> None:
        stream = InferStream(self._shared, call, StreamWindow(self._max_requests, self._max_bytes))
        self._open.add(stream)
        try:
            await stream.run()
        finally:
            self._open.discard(stream)

    def drain(self) -> None:
        """Read no more requests from any stream; each ends when its last request is answered."""
        for stream in self._open:
            stream.drain()


class InferStream:
    """One stream: a task reads requests as far as the window allows, and ``run`` writes answers."""

    def __init__(self, shared: InferContext, call: ServerCall, window: StreamWindow) -> None:
        self.shared = shared
        self.call = call
        self._window = window
        self._requests: deque[StreamedRequest] = deque()
        self._answered = asyncio.Event()  # a request is answered, or none will come any more
        self._lighter = asyncio.Event()  # what is under way may weigh less than before
        self._reader: asyncio.Task[None] | None = None
        self._is_submitting = False
        self._is_draining = False
        self._read_all = False
        self._fault: Fault | None = None  # why no more is read

    async def run(self) -> None:
        """Answer the stream.

        Raises:
            Fault: what came is not a request, the server stops, or a request failed whose caller wants a status.
        """
        self._reader = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            self._reader.cancel()
            self._reader = None
            while self._requests:
                self._requests.popleft().abandon()
        if self._fault is not None:
            raise self._take_fault()

    def drain(self) -> None:
        """Read no more; the stream ends when its last request is answered."""
        if self._reader is None or self._read_all:
            return
        self._fault = NotReady("the server is stopping; open another stream")
        self._is_draining = True
        if not self._is_submitting:  # what has been read is answered
            self._reader.cancel()

    def on_answered(self, request: "StreamedRequest") -> None:
        """Note that a request has its answer."""
        request.held = self._window.set_answer_size(request.held, size_of(request.answer))
        self._answered.set()
        self._lighter.set()

    def _take_fault(self) -> Fault:
        """Return the reason why the stream ends, and drop it: its traceback would keep the stream alive."""
        fault, self._fault = self._fault, None
        return fault or Internal("the request failed")

    async def _read(self) -> None:
        taken = 0
        try:
            while not self._is_draining:
                while not self._window.has_capacity:
                    await self._wait_for_window()
                raw = await self.call.read()
                if raw is None:
                    return
                self._is_submitting = True
                await self._submit(raw, self.shared.expected_answer_bytes(raw))
                self._is_submitting = False
                taken += len(raw)
                if taken > TURN_BYTES:  # let other tasks run
                    taken = 0
                    await asyncio.sleep(0)
        except Fault as fault:
            self._fault = fault_of(fault)
        except Exception as error:  # a bug must not leave the stream without an end
            log.exception(
                "a stream could not be read", exc_info=error, extra={"fields": caller_fields(self.call.fields)}
            )
            self._fault = Internal("the request failed")
        finally:
            self._read_all = True
            self._answered.set()

    async def _submit(self, raw: bytes, expected: int) -> None:
        """Submit a request as soon as the window has capacity for it and its answer."""
        request = StreamedRequest(self, raw)
        self._requests.append(request)
        has_memory = request.hold(len(raw))
        while (held := self._window.admit(len(raw), expected)) < 0:
            await self._wait_for_window()
        request.held = held
        if has_memory:
            self.shared.plane.batcher.enqueue(request, None)
        else:
            request.refuse(OverBudget("the server has no memory left for another request; try again later"))

    async def _wait_for_window(self) -> None:
        self._lighter.clear()
        await self._lighter.wait()

    async def _write(self) -> None:
        wants_status = self.call.fields.get(STATUS_WANTED) == b"true"
        while (request := await self._next_answered()) is not None:
            try:
                if wants_status and request.fault is not None:
                    raise request.take_fault()
                await self.call.write_framed(request.take_answer())
            finally:
                request.release()
                self._window.release(request.held)
                self._lighter.set()

    async def _next_answered(self) -> "StreamedRequest | None":
        """Return the next request in order when it is answered, None when no more follow."""
        while True:
            if self._requests and self._requests[0].is_answered:
                return self._requests.popleft()
            if self._read_all and not self._requests:
                return None
            self._answered.clear()
            await self._answered.wait()


class StreamedRequest:
    """One request of a stream, counted exactly once; the owner of its ``InferRequest``.

    ``held`` are its bytes in the stream's window, ``answer`` its messages, framed, and ``fault`` why that is a refusal.
    """

    __slots__ = ("_raw", "_request", "_stream", "_taken", "answer", "fault", "held", "is_answered", "is_gone")

    def __init__(self, stream: InferStream, raw: bytes) -> None:
        call, began_ns = stream.call, monotonic_ns()
        left_ns = None if call.deadline_ns is None else call.deadline_ns - began_ns
        self._stream = stream
        self._raw = raw
        self._request = InferRequest(stream.shared, call.fields, began_ns, left_ns, id(stream))
        self._request.endpoint = RPC_STREAM
        self._taken = 0  # bytes of the worker's memory budget
        self.held = 0
        self.answer: Payload = b""
        self.fault: Fault | None = None
        self.is_answered = False
        self.is_gone = False  # nobody waits for the answer any more

    # As the loop batcher's source; see ``RequestSource``.

    def decode(self, _: None) -> InferCall | None:
        """See ``RequestSource``."""
        if self.is_gone:
            return None
        try:
            self._request.use(self._stream.call.access, len(self._raw), self._stream.call.info)
            call = self._request.read(self._raw)
        except LargeWork:
            self._request.read_on_thread(self, self._message, len(self._raw), 0)
        except Exception as error:  # a refusal, or a bug, which must not take the stream down
            self.refuse(fault_of(error, self._stream.call.fields))
        else:
            self._raw = b""
            return call
        return None

    def _message(self, _: PauseWork) -> bytes:
        return self._raw

    def enqueue(self, _: None, call: InferCall) -> None:
        """See ``RequestSource``."""
        self._request.enqueue(self, call)

    def encode(self, _: None, call: InferCall) -> Payload | None:
        """See ``RequestSource``."""
        request = self._request
        request.release_call()
        if call.fault is None and not self.is_gone:
            try:
                if not self.hold(call.output_bytes):
                    raise _no_memory()
                return self._encode(call, None)
            except LargeWork:
                if request.encode_on_thread(self, call, partial(self._encode, call)):
                    return None
            except Exception as error:  # it cannot be written, or a bug, which must not take the stream down
                call.fail(error)
        return b""

    def _encode(self, call: InferCall, pause: PauseWork | None) -> Payload:
        """Encode the answer as framed messages; on any thread, but without a ``pause`` only on the event loop."""
        version = self._stream.shared.versions.get(call.loaded)
        answer = version.template.answer(call, self._request.typed, pause)
        parameters = version.parameters[call.route] + explanation_parameters(call)
        if call.trace is not None:
            parameters += trace_parameter(call.trace)
        if self._request.closing:
            return stream_message(answer, (parameters, NOT_FINAL), closing_answer(call))
        return stream_message(answer, (parameters,))

    def write(self, _: None, call: InferCall, answer: Payload) -> None:
        """See ``RequestSource``."""
        if self.is_gone:
            self.release()
        elif call.fault is not None:
            self._fail(call.fault, call.trace)
        elif not self.hold(size_of(answer)):
            self._fail(_no_memory(), call.trace)
        else:
            self._answer(answer)

    def abort(self) -> None:
        """See ``RequestSource``."""
        self._fail(Internal("the answer could not be written"), None)

    # As the owner of its request; see ``InferOwner``.

    def on_read(self, call: InferCall) -> None:
        """See ``InferOwner``."""
        self._raw = b""
        self._stream.shared.plane.batcher.submit(self, None, call)

    def refuse(self, fault: Fault) -> None:
        """Refuse the request: there is no call."""
        if fault.kind == Overloaded.kind:
            self._stream.shared.plane.batcher.reject_later(partial(self._reject, fault_of(fault)))
        else:
            self._reject(fault)

    def _reject(self, fault: Fault) -> None:
        if not self.is_gone:  # else it is counted
            self._fail(fault, self._request.reject(fault.kind))

    def _fail(self, fault: Fault, trace: CallTrace | None) -> None:
        self.fault = fault
        parameters = b"" if trace is None else trace_parameter(trace)
        self._answer(stream_refusal(fault, self._request.own_id(), parameters))

    def _answer(self, answer: Payload) -> None:
        self._raw, self.answer = b"", answer
        self.is_answered = True
        self._stream.on_answered(self)

    # As one of its stream's.

    def abandon(self) -> None:
        """Note that nobody waits for it."""
        self.is_gone = True
        if self.is_answered or self._request.abandon():
            self.release()

    def hold(self, size: int) -> bool:
        """Hold exactly this number of bytes of the worker's memory; return False, with nothing changed, if there is not
        enough.
        """
        memory, more = self._stream.shared.plane.memory, size - self._taken
        if more > 0 and not memory.take(more):
            return False
        if more < 0:
            memory.give_back(-more)
        self._taken = size
        return True

    def take_answer(self) -> Payload:
        """Return the answer; the caller counts its memory from now on."""
        answer = self.answer
        self.release()
        return answer

    def take_fault(self) -> Fault:
        """Return the error, and drop it here."""
        fault, self.fault = self.fault, None
        return fault or Internal("the request failed")

    def release(self) -> None:
        """Release its memory."""
        self._raw, self.answer = b"", b""
        self.hold(0)


def _no_memory() -> OverBudget:
    return OverBudget("the server has no memory left for another answer; try again later")
