"""ModelInfer on our own HTTP/2: from a whole message to a call of the data plane, and from its outputs to frames."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from time import monotonic_ns
from typing import Final

from penstock.api.grpc import response_blocks
from penstock.api.grpc.call_head import CallHead
from penstock.api.grpc.decode import Layouts, infer_message, infer_request
from penstock.api.grpc.encode import AnswerTemplate
from penstock.api.grpc.errors import GRPC_CODES, RETRYABLE, Metadata, retry_hints, sentence
from penstock.api.grpc.framing import PREFIX, compressed, too_large, too_much, unary_message
from penstock.api.grpc.http2.header_encoding import literal
from penstock.api.grpc.http2.stream import Stream, StreamIo
from penstock.api.grpc.streamed_infer import (
    EARLY_NS,
    MAX_ID_METADATA,
    REQUEST_ID,
    TIMEOUT,
    header_text,
    stated_timeout_ns,
)
from penstock.core.deadlines import deadline_ns
from penstock.core.errors import Fault, Internal, OverBudget, Overloaded
from penstock.core.labels import ROUTE_NAMES, Priority
from penstock.core.labels import Protocol as Transport
from penstock.core.tensors import Tensor
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import CLASS, InferCall, Servable, fault_of, new_id, priority_of
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.routing_table import RouteDecision, Target

log = logging.getLogger(__name__)

_ID: Final = REQUEST_ID.encode()
_TIMEOUT: Final = TIMEOUT.encode()


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
        self._ready: dict[Servable, Ready] = {}

    def open(self, io: StreamIo, stream_id: int, head: CallHead, send_window: int) -> "UnaryInferStream":
        """A call that has begun."""
        return UnaryInferStream(self, io, stream_id, head, send_window, monotonic_ns())

    def ready(self, loaded: Servable) -> Ready:
        """The ready-made bytes of a version; those of versions no longer served are forgotten on the way."""
        found = self._ready.get(loaded)
        if found is None:
            current = {
                answer[0] for entry in self.plane.routing_table.models.values() for answer in entry.routes.values()
            }
            self._ready = {one: kept for one, kept in self._ready.items() if one in current}
            version = literal(b"penstock-model-version", loaded.identity.version.encode())
            facts = tuple(version + literal(b"penstock-route", name.encode()) for name in ROUTE_NAMES)
            template = AnswerTemplate(loaded.identity.model, loaded.identity.version)
            found = Ready(template, facts, tuple(response_blocks.GRPC + told for told in facts))
            self._ready[loaded] = found
        return found


class UnaryInferStream(Stream):
    """One ModelInfer call."""

    __slots__ = ("_call_head", "_call_id", "_cancel", "_chunks", "_found", "_shared", "_submitted", "_typed")

    def __init__(
        self, shared: Shared, io: StreamIo, stream_id: int, head: CallHead, send_window: int, began_ns: int
    ) -> None:
        super().__init__(io, stream_id, head, send_window, began_ns)
        self._shared = shared
        self._call_head = head
        self._chunks: list[bytes] = []
        self._call_id = ""
        self._found: RouteDecision | None = None
        self._cancel: Callable[[], None] | None = None
        self._submitted: InferCall | None = None
        self._typed = False

    # What arrives.

    def on_data(self, data: bytes) -> None:
        """See ``Stream``."""
        if self.local_closed:
            return
        self._chunks.append(data)
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
        if self._submitted is None:
            self._shared.plane.record_rejected(self._found, Transport.GRPC, "cancelled", self.began_ns)
            return
        if monotonic_ns() + EARLY_NS < self._submitted.deadline_ns:  # else its own deadline ends it now
            self._submitted.abandoned = True
            if self._cancel is not None:
                self._cancel()  # it comes back as cancelled, and is counted so

    # What becomes of it; see ``serving.loop_batcher.RequestSource``: a stream is one request.

    def decode(self, _: None) -> InferCall | None:
        """The call, ready to run; None if it was refused, or nobody waits any more."""
        if self.local_closed:
            return None
        try:
            self._submitted = call = self._call()
        except Fault as fault:
            self._refuse(fault)
        except Exception as error:  # a bug must not take the connection down
            log.exception("an inference request could not be read", exc_info=error)
            self._refuse(Internal("the request failed"))
        else:
            return call
        return None

    def enqueue(self, _: None, call: InferCall) -> None:
        """Have it run on a thread."""
        self._cancel = call.loaded.enqueue(call, partial(self._shared.plane.batcher.finish, self, None))

    def abort(self) -> None:
        """A bug: its connection ends with it."""
        self.io.abort()

    def encode(self, _: None, call: InferCall) -> bytes:
        """The message of the answer to a call that has its outputs, none where it has a fault."""
        self._submitted = self._cancel = None  # nothing of the call is kept while its answer is sent
        if call.fault is None:
            try:
                return self._framed(self._shared.ready(call.loaded).template.answer(call, self._typed))
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
        block = self._shared.ready(call.loaded).blocks[call.route] + _id_field(call.id)
        if message[0]:
            block += literal(b"grpc-encoding", self._call_head.encoding.encode())
        if not self.io.respond(self, block, message, response_blocks.OK):
            self.local_closed = False
            self._fail(OverBudget("there is no memory to keep the answer until its client takes it; try again later"))

    def _call(self) -> InferCall:
        head, chunks = self._call_head, self._chunks
        stated = head.fields.get(_ID)
        self._call_id = stated.decode("latin-1") if stated else ""
        if head.fault is not None:
            raise head.fault
        raw = unary_message(chunks[0] if len(chunks) == 1 else b"".join(chunks), head.encoding, self._shared.most)
        self.io.let_go(self, self.held_bytes)
        self._chunks = []
        layouts = self._shared.layouts
        layout = layouts.find(raw)
        if layout is not None:
            self._call_id = layout.id(raw) or self._call_id or new_id()
            priority = self._admit(layout.target)
            given = layout.given(raw, self._found[0].signature.row)  # type: ignore[index]  # it was just found
            return self._made(priority, given, layout.requested, layout.timeout_ns)
        request = infer_request(raw)
        self._call_id = request.id or self._call_id or new_id()
        priority = self._admit((request.model_name, request.model_version))
        message = infer_message(request, self._shared.plane.regions)
        self._typed = message.typed
        layouts.learn(raw, request, message)
        return self._made(priority, message.tensors, message.requested, message.timeout_ns)

    def _admit(self, target: Target) -> Priority:
        """Find who answers, unless there is no room for more of the call's class."""
        fields = self.head.fields
        self._found = self._shared.plane.route(target, fields)
        priority = priority_of(fields) if CLASS in fields else Priority.DEFAULT
        if (fault := self._found[0].admission_error(priority)) is not None:
            raise fault
        return priority

    def _made(
        self,
        priority: Priority,
        given: list[Tensor] | bytes,
        requested: list[RequestedOutput] | None,
        timeout_ns: int | None,
    ) -> InferCall:
        head, default_ns = self._call_head, self._shared.plane.default_timeout_ns
        if timeout_ns is None and head.timeout_ns is None and _TIMEOUT not in head.fields:
            deadline = self.began_ns + default_ns
        else:
            by_field = stated_timeout_ns(head.fields[_TIMEOUT].decode("latin-1")) if _TIMEOUT in head.fields else None
            deadline = deadline_ns(self.began_ns, (timeout_ns, by_field, head.timeout_ns), default_ns)
        loaded, route, observers = self._found  # type: ignore[misc]
        call_id, began_ns = self._call_id, self.began_ns
        return InferCall(
            loaded, route, Transport.GRPC, call_id, given, requested, deadline, began_ns, observers, priority
        )

    def _framed(self, message: bytes) -> bytes:
        """A message, compressed as the request was if its caller takes that."""
        encoding = self._call_head.encoding
        if encoding != "identity" and encoding in self._call_head.accepts:
            return compressed(message, encoding)
        return message

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
        told = b"" if found is None else self._shared.ready(found[0]).facts[found[1]]
        return told + _id_field(self._call_id or new_id())


@lru_cache(maxsize=256)
def _failed(kind: str, text: str, hints: Metadata) -> bytes:
    """The trailers of a call that did not go well; under overload they are the same many thousand times."""
    return response_blocks.failed(GRPC_CODES[kind], text) + response_blocks.metadata(hints)


_ID_NAME: Final = literal(_ID, b"")[:-1]


def _id_field(call_id: str) -> bytes:
    if len(call_id) < 127 and call_id.isascii() and call_id.isprintable():
        return b"%b%c%b" % (_ID_NAME, len(call_id), call_id.encode())
    text = header_text(call_id)
    return b"" if len(text) > MAX_ID_METADATA else literal(_ID, text.encode())
