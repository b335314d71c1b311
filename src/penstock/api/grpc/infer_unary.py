"""ModelInfer on our own HTTP/2: from a whole message to a call of the data plane, and from its outputs to frames.

What would hold the event loop, of reading a message and of writing one, is done on a thread.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from time import monotonic_ns
from typing import Any, Final

from penstock.api.common.compression import MAX_RATIO
from penstock.api.common.request_builder import REQUEST_ID, admitted, build_call
from penstock.api.common.response_metadata import PerVersion, answered_by
from penstock.api.common.text_safety import id_text
from penstock.api.common.work import LargeWork, Work
from penstock.api.grpc import response_blocks
from penstock.api.grpc.call_head import CallHead
from penstock.api.grpc.decode import InferMessage, infer_message
from penstock.api.grpc.encode import AnswerTemplate
from penstock.api.grpc.errors import GRPC_CODES, RETRYABLE, Metadata, retry_hints, sentence
from penstock.api.grpc.framing import PREFIX, MessageBuffer, compressed, no_memory, too_large, too_much
from penstock.api.grpc.http2.answer_memory import SMALL_BYTES
from penstock.api.grpc.http2.frames import ErrorCode
from penstock.api.grpc.http2.header_encoding import literal
from penstock.api.grpc.http2.stream import Stream, StreamIo
from penstock.api.grpc.layout_cache import Layout, Layouts
from penstock.api.grpc.streamed_infer import EARLY_NS
from penstock.api.grpc.wire import ParsedRequest, parsed
from penstock.core.errors import DeadlineExceeded, Fault, Internal, OverBudget, Overloaded
from penstock.core.labels import Priority, Route
from penstock.core.labels import Protocol as Transport
from penstock.core.slices import Pacer, Pause
from penstock.core.tensors import Tensor
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, Servable, fault_of, new_id
from penstock.serving.offload import Job
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.routing_table import RouteDecision, Target

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """What is the same in every answer of one version: its messages' parts; by route who answers, as header fields."""

    template: AnswerTemplate
    facts: tuple[bytes, ...]
    blocks: tuple[bytes, ...]


class Shared:
    """What the unary calls of all connections have in common."""

    def __init__(self, plane: DataPlane, max_message_bytes: int) -> None:
        self.plane = plane
        self.most = max_message_bytes
        self.layouts = Layouts()
        self.versions = PerVersion(plane, self._prepared)

    def open(self, io: StreamIo, stream_id: int, head: CallHead, send_window: int) -> "UnaryInferStream":
        """A call that has begun."""
        return UnaryInferStream(self, io, stream_id, head, send_window, monotonic_ns())

    def _prepared(self, loaded: Servable) -> Ready:
        facts = tuple(
            b"".join([literal(name.encode(), value.encode()) for name, value in answered_by(loaded, route)])
            for route in Route
        )
        template = AnswerTemplate(loaded.identity.model, loaded.identity.version, self.plane.limits)
        return Ready(template, facts, tuple(response_blocks.GRPC + told for told in facts))


class UnaryInferStream(Stream):
    """One ModelInfer call."""

    __slots__ = (
        "_buffer",
        "_call_head",
        "_call_id",
        "_cancel",
        "_found",
        "_inflating",
        "_job",
        "_parsed",
        "_priority",
        "_shared",
        "_submitted",
        "_typed",
        "_waits",
    )

    def __init__(
        self, shared: Shared, io: StreamIo, stream_id: int, head: CallHead, send_window: int, began_ns: int
    ) -> None:
        super().__init__(io, stream_id, head, send_window, began_ns)
        self._shared = shared
        self._call_head = head
        self._buffer = MessageBuffer()
        self._call_id = ""
        self._parsed: ParsedRequest | None = None  # its message, while the tensors in it are still to be read
        self._found: RouteDecision | None = None
        self._priority = Priority.DEFAULT
        self._job: Job | None = None  # what a thread does for it
        self._inflating = 0  # bytes of the worker's memory that are taken for that
        self._cancel: Callable[[], None] | None = None
        self._submitted: InferCall | None = None
        self._typed = False
        self._waits = False  # until its answer is admitted
        if head.timeout_ns is not None:
            self.expires_ns = min(self.expires_ns, began_ns + head.timeout_ns)

    # What arrives.

    def on_data(self, data: bytes) -> None:
        """See ``Stream``."""
        if self.local_closed:
            return
        self._buffer.add(data)
        has_room = self.io.hold(self, len(data))
        if self.held_bytes > self._shared.most + PREFIX:
            self._tell_refusal(too_large(self._shared.most))
        elif not has_room:
            self._tell_refusal(too_much())
        else:
            self.io.replenish(self)

    def on_end(self) -> None:
        """See ``Stream``."""
        self._shared.plane.batcher.enqueue(self, None)

    def on_reset(self) -> None:
        """See ``Stream``."""
        if self._job is not None:
            self._job.cancel()
        if self._submitted is None:
            self._shared.plane.record_rejected(self._found, Transport.GRPC, "cancelled", self.began_ns)
            return
        if self._waits:
            self.on_admitted()
        if monotonic_ns() + EARLY_NS < self._submitted.deadline_ns:  # else its own deadline ends it now
            self._submitted.abandoned = True
            if self._cancel is not None:
                self._cancel()  # it comes back as cancelled, and is counted so

    def on_expired(self) -> None:
        """See ``Stream``."""
        if self._call_head.timeout_ns is None or monotonic_ns() < self.began_ns + self._call_head.timeout_ns:
            self.io.reset(self, ErrorCode.CANCEL)
        else:
            self._tell_refusal(DeadlineExceeded("the deadline passed before the request was complete"))

    def on_admitted(self) -> None:
        """See ``Stream``."""
        call = self._submitted
        if self._waits and call is not None:
            self._waits = False
            self.io.let_go(self, self.held_bytes)
            self._shared.plane.batcher.submit(self, None, call)
            call.loaded.release()

    # What becomes of it; see ``serving.loop_batcher.RequestSource``: a stream is one request.

    def decode(self, _: None) -> InferCall | None:
        """The call, ready to run; None if it was refused, nobody waits any more, or a thread reads it."""
        if self.local_closed:
            return None
        try:
            call = self._read()
            return call if self._is_admitted(call) else None
        except LargeWork:
            self._read_on_thread()
        except Exception as error:  # a bug must not take the connection down
            self._refuse(fault_of(error))
        return None

    def enqueue(self, _: None, call: InferCall) -> None:
        """Have it run on a thread."""
        self._cancel = call.loaded.enqueue(call, partial(self._shared.plane.batcher.finish, self, None))

    def abort(self) -> None:
        """A bug: its connection ends with it."""
        self.io.abort()

    def encode(self, _: None, call: InferCall) -> bytes | None:
        """The message of the answer to a call that has its outputs, none where it has a fault; None if a thread writes
        it."""
        self._submitted = self._cancel = None  # nothing of the call is kept while its answer is sent
        if call.fault is None:
            try:
                return self._message(call, None)
            except LargeWork:
                return self._encode_on_thread(call)
            except Exception as error:  # a bug must not take the connection down
                call.fail(error)
        return b""

    def write(self, _: None, call: InferCall, message: bytes) -> None:
        """Send the answer; it is counted."""
        if self.local_closed:
            return
        if call.fault is not None:
            self._fail(call.fault)
            return
        self.local_closed = True  # whatever becomes of its answer
        block = self._shared.versions.get(call.loaded).blocks[call.route] + _id_field(call.id)
        if message[0]:
            block += literal(b"grpc-encoding", self._call_head.encoding.encode())
        if not self.io.respond(self, block, message, response_blocks.OK):
            self.local_closed = False
            self._fail(no_memory())

    # From bytes to a call.

    def _read(self) -> InferCall:
        """The call that the bytes are; raises ``LargeWork``, where it is to be gone on from what is read by then."""
        head, shared = self._call_head, self._shared
        if self._parsed is None:
            stated = head.fields.get(REQUEST_ID)
            self._call_id = stated.decode("latin-1") if stated else ""
            if head.fault is not None:
                raise head.fault
            raw = self._buffer.message(head.encoding, shared.most, None)
            layout = shared.layouts.find(raw)
            if layout is not None:
                return self._laid_out(raw, layout)
            self._take(parsed(raw, None))
        return self._with_tensors(self._tensors(None))

    def _laid_out(self, raw: bytes, layout: Layout) -> InferCall:
        """The call of a message that is laid out as one before."""
        self._release_body()
        self._call_id = layout.id(raw) or self._call_id
        found = self._admit(layout.target)
        return self._made(layout.given(raw, found[0].signature.row), layout.requested, layout.timeout_ns)

    def _take(self, message: ParsedRequest) -> None:
        """Keep a message that was parsed, and find who answers it."""
        self._release_body()
        request = message.request
        self._parsed = message
        self._call_id = request.id or self._call_id
        self._admit((request.model_name, request.model_version))

    def _tensors(self, pause: Pause | None) -> InferMessage:
        """What the parsed message says; on any thread, but only on the event loop without a ``pause``."""
        plane, message, found = self._shared.plane, self._parsed, self._found
        if message is None or found is None:
            raise Internal("the request failed")
        return infer_message(message, found[0].signature, plane.regions, Work(plane.limits, pause))

    def _with_tensors(self, message: InferMessage) -> InferCall:
        parsed_message, self._parsed = self._parsed, None
        self._typed = message.typed
        if parsed_message is not None:
            self._shared.layouts.learn(parsed_message, message)
        return self._made(message.tensors, message.requested, message.timeout_ns)

    def _admit(self, target: Target) -> RouteDecision:
        """Find who answers, unless there is no room for more of the call's class."""
        fields = self.head.fields
        self._call_id = self._call_id or new_id()
        self._found = found = self._shared.plane.route(target, fields)
        self._priority = admitted(found, fields)
        return found

    def _made(
        self, given: list[Tensor] | bytes, requested: list[RequestedOutput] | None, timeout_ns: int | None
    ) -> InferCall:
        if self._found is None:
            raise Internal("the request failed")
        self._submitted = call = build_call(
            self._shared.plane,
            self._found,
            Transport.GRPC,
            self._priority,
            self.head.fields,
            self.began_ns,
            self._call_id,
            given,
            requested,
            timeout_ns,
            self._call_head.timeout_ns,
        )
        return call

    def _is_admitted(self, call: InferCall) -> bool:
        """Whether the call may run now; else ``on_admitted`` is for it. Raises ``Overloaded`` if it may not wait."""
        size = answer_bytes(call)
        if size <= SMALL_BYTES or self.io.admit_answer(self, size, call.deadline_ns):
            return True
        if not self.io.hold(self, call.input_bytes):
            raise too_much()
        self._waits = True
        call.loaded.hold()
        return False

    def _release_body(self) -> None:
        self.io.let_go(self, self.held_bytes)
        self._buffer = MessageBuffer()

    # What a thread does.

    def _read_on_thread(self) -> None:
        """Have a thread go on with reading: it inflates and parses the message, or decodes its tensors."""
        plane = self._shared.plane
        done: Callable[[Any], InferCall]
        work: Callable[[], Any]
        if self._parsed is None:
            work, done, size = partial(self._parse, Pacer().pause), self._on_parsed, self.held_bytes
            self._inflating = min(size * MAX_RATIO, self._shared.most) if self._call_head.encoding != "identity" else 0
        else:
            work, done, size = partial(self._tensors, Pacer().pause), self._on_tensors, len(self._parsed.message)
        if not plane.memory.take(self._inflating):
            self._inflating = 0
            self._refuse(OverBudget("the worker has no memory left to inflate the message; try again later"))
            return
        try:
            self._job = plane.offload.submit(work, partial(self._on_work, done), size + self._inflating)
        except Overloaded as fault:
            self._free_memory()
            self._refuse(fault)
            return
        if self._found is not None:
            self._found[0].hold()

    def _parse(self, pause: Pause) -> tuple[bytes, Layout | None, ParsedRequest | None]:
        """The message, and how it is laid out or what is in it."""
        raw = self._buffer.message(self._call_head.encoding, self._shared.most, pause)
        layout = self._shared.layouts.find(raw)
        return raw, layout, parsed(raw, pause) if layout is None else None

    def _on_parsed(self, result: tuple[bytes, Layout | None, ParsedRequest | None]) -> InferCall:
        raw, layout, message = result
        if layout is not None:
            return self._laid_out(raw, layout)
        if message is None:
            raise Internal("the request failed")
        self._take(message)
        return self._with_tensors(self._tensors(None))

    def _on_tensors(self, message: InferMessage) -> InferCall:
        return self._with_tensors(message)

    def _on_work(self, then: Callable[[Any], InferCall], result: Any, error: Exception | None) -> None:
        """A thread has read: go on with the call, if somebody waits for it."""
        held, self._job = self._found, None
        self._free_memory()
        try:
            if not self.local_closed:
                if error is not None:
                    raise error
                call = then(result)
                if self._is_admitted(call):
                    self._shared.plane.batcher.submit(self, None, call)
        except LargeWork:
            self._read_on_thread()
        except Exception as fault:  # a bug must not take the connection down
            self._refuse(fault_of(fault))
        finally:
            if held is not None:
                held[0].release()

    def _free_memory(self) -> None:
        self._shared.plane.memory.give_back(self._inflating)
        self._inflating = 0

    # From a call to bytes.

    def _message(self, call: InferCall, pause: Pause | None) -> bytes:
        """The framed answer, compressed as the request was if its caller takes that; on any thread, but only on the
        event loop without a ``pause``."""
        message = self._shared.versions.get(call.loaded).template.answer(call, self._typed, pause)
        encoding = self._call_head.encoding
        if encoding != "identity" and encoding in self._call_head.accepts:
            return compressed(message, encoding, pause)
        return message

    def _encode_on_thread(self, call: InferCall) -> bytes | None:
        plane = self._shared.plane
        try:
            work = partial(self._message, call, Pacer().pause)
            self._job = plane.offload.submit(work, partial(self._deliver, call), call.output_bytes)
        except Overloaded as fault:
            call.fail(fault)
            return b""
        self._submitted = call  # it can still be given up
        call.loaded.hold()
        return None

    def _deliver(self, call: InferCall, message: bytes | None, error: Exception | None) -> None:
        """A thread has written the answer: count and send it."""
        self._job = self._submitted = None
        if error is not None:
            call.fail(error)
        self._shared.plane.batcher.deliver(self, None, call, message or b"")
        call.loaded.release()

    # Refusals.

    def _refuse(self, fault: Fault) -> None:
        """It never became a call."""
        if fault.kind == Overloaded.kind:
            self._shared.plane.batcher.reject_later(partial(self._tell_refusal, fault_of(fault)))
        else:
            self._tell_refusal(fault)

    def _tell_refusal(self, fault: Fault) -> None:
        if self.local_closed:  # it was reset meanwhile, and is counted
            return
        self._shared.plane.record_rejected(self._found, Transport.GRPC, fault.kind, self.began_ns)
        self._fail(fault)

    def _fail(self, fault: Fault) -> None:
        self.local_closed = True
        told, block = self._facts(), _failed(fault.kind, sentence(fault), retry_hints(fault))
        if fault.kind in RETRYABLE:
            told, block = b"", block + told
        elif fault.kind == "unsupported" and self._call_head.fault is fault:
            told += response_blocks.ACCEPTS
        if told:
            self.io.send_head(self, response_blocks.GRPC + told)
            self.io.send_trailers(self, block)
        else:
            self.io.send_trailers(self, response_blocks.GRPC + block)

    def _facts(self) -> bytes:
        """Who answers, as far as that is known, and the request id."""
        found = self._found
        told = b"" if found is None else self._shared.versions.get(found[0]).facts[found[1]]
        return told + _id_field(self._call_id or new_id())


def answer_bytes(call: InferCall) -> int:
    """How large an answer is thought to become, in bytes: outputs of a size that is not fixed, like the inputs."""
    fixed = call.loaded.row_bytes
    if call.packed is not None:
        return fixed
    rows = 1
    if call.loaded.signature.batching and call.tensors and call.tensors[0].data.ndim:
        rows = call.tensors[0].data.shape[0]
    return fixed * rows or call.input_bytes


@lru_cache(maxsize=256)
def _failed(kind: str, text: str, hints: Metadata) -> bytes:
    """The trailers of a call that did not go well; under overload they are the same many thousand times."""
    return response_blocks.failed(GRPC_CODES[kind], text) + response_blocks.metadata(hints)


_ID_NAME: Final = literal(REQUEST_ID, b"")[:-1]


def _id_field(call_id: str) -> bytes:
    if len(call_id) < 127 and call_id.isascii() and call_id.isprintable():
        return b"%b%c%b" % (_ID_NAME, len(call_id), call_id.encode())
    text = id_text(call_id)
    return literal(REQUEST_ID, text.encode()) if text else b""
