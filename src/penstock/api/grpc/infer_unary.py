"""Unary calls for predictions, such as ModelInfer, on our own HTTP/2: the stream of one call, its answer as frames, and
its refusals."""

from functools import lru_cache, partial
from time import monotonic_ns
from typing import Final

from penstock.api.common.compression import MAX_RATIO
from penstock.api.common.parts import Payload
from penstock.api.common.request_builder import REQUEST_ID
from penstock.api.common.text_safety import id_text
from penstock.api.common.work import LargeWork, body_too_large
from penstock.api.grpc import response_blocks
from penstock.api.grpc.call_head import CallHead
from penstock.api.grpc.encode import explanation_parameters, with_more
from penstock.api.grpc.errors import GRPC_CODES, RETRYABLE, Metadata, caller_text, retry_hints
from penstock.api.grpc.framing import PREFIX, MessageBuffer, compress, messages_too_large, no_memory
from penstock.api.grpc.http2.answer_memory import SMALL_BYTES, SPARE_BYTES
from penstock.api.grpc.http2.frames import ErrorCode
from penstock.api.grpc.http2.header_encoding import encode_literal
from penstock.api.grpc.http2.stream import Http2Stream, StreamIo
from penstock.api.grpc.infer_request import InferRequest
from penstock.api.grpc.infer_shared import InferContext
from penstock.core.errors import DeadlineExceeded, Fault, Overloaded, UnsupportedEncoding
from penstock.core.slices import PauseWork
from penstock.core.traces.context import TRACERESPONSE
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.call_trace import CallTrace
from penstock.serving.infer_call import InferCall, fault_of


class UnaryInferStream(Http2Stream):
    """One call; the owner of its request, and the loop batcher's source of it."""

    __slots__ = ("_awaits_access", "_buffer", "_call_head", "_is_whole", "_request", "_shared", "_waits")

    def __init__(self, shared: InferContext, io: StreamIo, stream_id: int, head: CallHead, send_window: int) -> None:
        began_ns = io.last_received_ns
        super().__init__(io, stream_id, head, send_window, began_ns)
        self._shared = shared
        self._call_head = head
        self._buffer = MessageBuffer()
        self._request = InferRequest(shared, head.fields, began_ns, head.timeout_ns, id(io))
        self._waits = False  # for admission of its answer
        self._awaits_access = False  # its credential is verified
        self._is_whole = False  # and its message is read after that
        if head.timeout_ns is not None:
            self.expires_ns = min(self.expires_ns, began_ns + head.timeout_ns)

    # Input.

    def on_data(self, data: bytes) -> None:
        """See ``Http2Stream``."""
        if self.local_closed:
            return
        access = self._find_access()
        if access is not None and access.refusal is not None:
            self._send_refusal(access.refusal)
            return
        self._buffer.add(data)
        has_memory = self.io.hold(self, len(data))
        if self.received_bytes > self._shared.max_message_bytes + PREFIX:
            self._send_refusal(body_too_large(self._shared.max_message_bytes, self._shared.message_setting))
        elif not has_memory:
            self._send_refusal(messages_too_large())
        elif access is not None:
            self.io.replenish(self)

    def _find_access(self) -> CallerAccess | None:
        """Return what the caller may do; None while its credential is verified."""
        if self._awaits_access:
            return None
        access = self._call_head.find_access(self._shared.plane.callers, self.io, self.began_ns, self._on_access)
        self._awaits_access = access is None
        return access

    def _on_access(self) -> None:
        """Go on: the credential is verified."""
        self._awaits_access = False
        if self.local_closed:
            return
        if self._is_whole:
            self._shared.plane.batcher.enqueue(self, None)
        else:
            self.io.replenish(self)

    def on_request(self, data: bytes) -> None:
        """See ``Http2Stream``; takes no memory for a message that is read also without."""
        if len(data) > min(SPARE_BYTES, self._shared.max_message_bytes):
            Http2Stream.on_request(self, data)
        else:
            self._buffer.add(data)
            self._shared.plane.batcher.enqueue(self, None)

    def on_end(self) -> None:
        """See ``Http2Stream``."""
        self._shared.plane.batcher.enqueue(self, None)

    def on_reset(self) -> None:
        """See ``Http2Stream``."""
        if self._waits:
            self.on_admitted()
        self._request.abandon()

    def on_expired(self) -> None:
        """See ``Http2Stream``."""
        if self._call_head.timeout_ns is None or monotonic_ns() < self.began_ns + self._call_head.timeout_ns:
            self.io.reset(self, ErrorCode.CANCEL)
        else:
            self._send_refusal(DeadlineExceeded("the deadline passed before the request was complete"))

    def on_admitted(self) -> None:
        """See ``Http2Stream``."""
        call = self._request.submitted
        if self._waits and call is not None:
            self._waits = False
            self.io.let_go(self, self.held_bytes)
            self._shared.plane.batcher.submit(self, None, call)
            call.loaded.release()

    # See ``serving.loop_batcher.RequestSource``: a stream is one request.

    def decode(self, _: None) -> InferCall | None:
        """Return the call to run; None if it was refused, its client is gone, or a thread decodes it."""
        if self.local_closed:
            return None
        head, request, most = self._call_head, self._request, self._shared.max_message_bytes
        try:
            access = self._find_access()
            if access is None:
                self._is_whole = True
                return None
            request.use(access, self.received_bytes, self.io.info)
            if head.fault is not None:
                raise head.fault
            call = request.read(self._buffer.message(head.encoding, most, None))
            self._release_message()
            return call if self._is_admitted(call) else None
        except LargeWork:
            size = self.held_bytes
            inflated = 0 if head.encoding == "identity" else min(size * MAX_RATIO, most)
            request.read_on_thread(self, self._message, size, inflated)
        except Exception as error:  # a defect must not end the connection
            self.refuse(fault_of(error, head.fields))
        return None

    def _message(self, pause: PauseWork) -> bytes:
        """Return the message; runs on a thread."""
        return self._buffer.message(self._call_head.encoding, self._shared.max_message_bytes, pause)

    def enqueue(self, _: None, call: InferCall) -> None:
        """Run the call on a thread."""
        self._request.enqueue(self, call)

    def abort(self) -> None:
        """Close the connection after a defect."""
        self.io.abort()

    def encode(self, _: None, call: InferCall) -> Payload | None:
        """Return the message of the answer, b"" for a failed call; None if a thread encodes it."""
        request = self._request
        request.release_call()
        if call.fault is None:
            try:
                return self._encode(call, None)
            except LargeWork:
                if request.encode_on_thread(self, call, partial(self._encode, call)):
                    return None
            except Exception as error:  # a defect must not end the connection
                call.fail(error)
        return b""

    def _encode(self, call: InferCall, pause: PauseWork | None) -> Payload:
        """Return the framed answer, compressed as the request if the client accepts that; on any thread, but without a
        ``pause`` only on the event loop."""
        message = self._shared.versions.get(call.loaded).template.answer(call, self._request.typed, pause)
        if call.explanation is not None:
            message = with_more(message, explanation_parameters(call))
        encoding = self._call_head.encoding
        if encoding != "identity" and encoding in self._call_head.accepts:
            return compress(message, encoding, pause)
        return message

    def write(self, _: None, call: InferCall, message: Payload) -> None:
        """Send the answer; the batcher has counted it."""
        if self.local_closed:
            return
        if call.fault is not None:
            self._fail(call.fault, call.trace)
            return
        self.local_closed = True  # even if its answer cannot be sent
        block = self._shared.versions.get(call.loaded).blocks[call.route] + _id_field(call.id)
        if call.trace is not None:
            block += _trace_field(call.trace)
        if (message if isinstance(message, bytes) else message[0])[0]:
            block += encode_literal(b"grpc-encoding", self._call_head.encoding.encode())
        if not self.io.respond(self, block, message, response_blocks.OK):
            self.local_closed = False
            self._fail(no_memory(), call.trace)

    # As the owner of its request; see ``InferOwner``.

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.local_closed

    def on_read(self, call: InferCall) -> None:
        """Go on with the call of a message that a thread has read."""
        self._release_message()
        if self._is_admitted(call):
            self._shared.plane.batcher.submit(self, None, call)

    def _release_message(self) -> None:
        if self.held_bytes:
            self.io.let_go(self, self.held_bytes)
        self._buffer.clear()

    def _is_admitted(self, call: InferCall) -> bool:
        """Whether the call may run now; else ``on_admitted`` follows. Raises ``Overloaded`` if it may not wait."""
        size = answer_bytes(call)
        if size <= SMALL_BYTES or self.io.admit_answer(self, size, call.deadline_ns):
            return True
        if not self.io.hold(self, call.input_bytes):
            raise messages_too_large()
        self._waits = True
        call.loaded.hold()
        return False

    def refuse(self, fault: Fault) -> None:
        """Refuse the request."""
        if fault.kind == Overloaded.kind:
            self._shared.plane.batcher.reject_later(partial(self._send_refusal, fault_of(fault)))
        else:
            self._send_refusal(fault)

    def _send_refusal(self, fault: Fault) -> None:
        if self.local_closed:  # it was reset meanwhile, and counted
            return
        self._fail(fault, self._request.reject(fault.kind))

    def _fail(self, fault: Fault, trace: CallTrace | None) -> None:
        self.local_closed = True
        facts, block = self._facts(), _failed_trailers(fault.kind, caller_text(fault), retry_hints(fault))
        if trace is not None:
            facts += _trace_field(trace)
        if fault.kind in RETRYABLE:
            facts, block = b"", block + facts
        elif isinstance(fault, UnsupportedEncoding):
            facts += response_blocks.ACCEPTS
        if facts:
            self.io.send_head(self, response_blocks.GRPC + facts)
            self.io.send_trailers(self, block)
        else:
            self.io.send_trailers(self, response_blocks.GRPC + block)

    def _facts(self) -> bytes:
        """Return the header fields of version and route, if known, and request id."""
        decision = self._request.found
        fields = b"" if decision is None else self._shared.versions.get(decision[0]).facts[decision[1]]
        return fields + _id_field(self._request.own_id())


def answer_bytes(call: InferCall) -> int:
    """Return the estimated size of an answer in bytes; outputs without a fixed size count like the inputs."""
    fixed = call.loaded.row_bytes
    if isinstance(call.inputs, bytes):
        return fixed
    rows = 1
    if call.loaded.signature.batching and call.tensors and call.tensors[0].data.ndim:
        rows = call.tensors[0].data.shape[0]
    return fixed * rows or call.input_bytes


@lru_cache(maxsize=256)
def _failed_trailers(kind: str, text: str, hints: Metadata) -> bytes:
    """Return the trailers of a failed call; cached, as they repeat under overload."""
    return response_blocks.failed_trailers(GRPC_CODES[kind], text) + response_blocks.encode_metadata(hints)


def _trace_field(trace: CallTrace) -> bytes:
    """Return the trace of a request as metadata; empty if it is not exported."""
    response = trace.response
    return encode_literal(TRACERESPONSE, response) if response else b""


_ID_STARTS: Final = [encode_literal(REQUEST_ID, bytes(size))[: -size or None] for size in range(127)]
"""The field of a request id without its text, by the size of that."""


def _id_field(call_id: str) -> bytes:
    if len(call_id) < len(_ID_STARTS) and call_id.isascii() and call_id.isprintable():
        return _ID_STARTS[len(call_id)] + call_id.encode()
    text = id_text(call_id)
    return encode_literal(REQUEST_ID, text.encode()) if text else b""
