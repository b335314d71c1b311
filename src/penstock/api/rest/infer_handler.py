"""Infer requests over REST: body to call, and call to answer; long work runs on a thread."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic_ns
from typing import Final

from penstock.api.common.compression import MAX_RATIO
from penstock.api.common.content_coding import encode_body, inflate, preferred_coding
from penstock.api.common.explanations import explain_instead
from penstock.api.common.request_builder import admit, build_call, field_timeout_ns, request_id
from penstock.api.common.response_metadata import MadeOncePerVersion
from penstock.api.common.work import LargeWork, body_too_large, json_too_large
from penstock.api.http1.answers import error_answer, fault_fields, field_lines
from penstock.api.http1.exchange import Answer, ConnectionIo, Exchange
from penstock.api.http1.request_head import Http1RequestHead
from penstock.api.rest.answer_lines import id_line, timing_line, trace_line
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.decode import BodyDecoder
from penstock.api.rest.encode import RestAnswerTemplate, Tail
from penstock.api.rest.infer_body import InferBody
from penstock.core.errors import Cancelled, Fault, Internal, InvalidInput, OverBudget, Overloaded
from penstock.core.labels import HTTP_STATUS, ROUTE_NAMES, Priority
from penstock.core.labels import Protocol as Transport
from penstock.core.limits import RequestLimits
from penstock.core.slices import Pacer, PauseWork
from penstock.serving.call_trace import CallTrace
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, Servable, fault_of, new_id
from penstock.serving.offload import OffloadedJob
from penstock.serving.routing_table import RouteDecision, Target

log = logging.getLogger("penstock.rest")

_JSON: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_BINARY: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
_JSON_LENGTH: Final = b"inference-header-content-length"
_ENCODING: Final = b"content-encoding"
_ACCEPTS: Final = b"accept-encoding"
_TIMING: Final = b"penstock-timing"
"""The field by which a request asks for ``server-timing``."""

_REST: Final = Transport.REST

Fields = Mapping[bytes, bytes]
Encoded = tuple[bytes, bytes, Tail]
"""The first lines of an answer, its body, and the parts after it."""


class InferExchange(Exchange):
    """An infer request; ``binary`` and ``nulls`` say how its outputs travel back (see ``InferBody``).

    ``owner`` is whose shared memory it may name; ``job``, ``call`` and ``cancel`` are what is under way for it.
    ``endpoint`` is the template of the path, "" for that of V2.
    """

    def __init__(
        self,
        connection: ConnectionIo,
        head: Http1RequestHead,
        began_ns: int,
        handler: "InferHandler",
        target: Target,
        owner: str,
    ) -> None:
        super().__init__(connection, head, began_ns)
        self.is_concurrent = True
        self.target = target
        self.owner = owner
        self.binary: list[bool] | bool = False
        self.nulls = False
        self.call: InferCall | None = None
        self.cancel: Callable[[], None] | None = None
        self.job: OffloadedJob | None = None
        self.endpoint = ""
        self._handler = handler

    def begin(self) -> None:
        """Schedule it for the end of this turn of the loop."""
        self._handler.plane.batcher.enqueue(self, self)

    def body_fault(self, size: int) -> Fault | None:
        """Refuse JSON that is too long before it is complete; compressed JSON is measured inflated."""
        limits, fields = self._handler.plane.limits, self.head.fields
        if size <= limits.max_json_bytes or _JSON_LENGTH in fields or _ENCODING in fields:
            return None
        return json_too_large(limits)

    def timeout_ns(self, default_ns: int) -> int:
        """Return the time limit of the request: its own, else the default."""
        try:
            stated = field_timeout_ns(self.head.fields)
        except InvalidInput:
            return default_ns
        return default_ns if stated is None else stated

    def refusal(self, fault: Fault) -> bytes:
        """Return the answer for an error, and count it."""
        return self._handler.refusal(self, None, fault)

    def abandon(self) -> None:
        """Cancel the request: the client is gone."""
        if self.job is not None:
            self.job.cancel()
        if self.call is not None:
            self.call.abandoned = True
        if self.cancel is not None:
            self.cancel()
            self.cancel = None

    # Called by the batcher, with this exchange.

    def decode(self, _: object) -> InferCall | None:
        """Return the call of a complete request, None if it was refused or is decoded on a thread."""
        self.call = self._handler.decode(self)
        return self.call

    def enqueue(self, _: object, call: InferCall) -> None:
        """Run the call on a thread; its pool counts the input from now on."""
        self.connection.release_body(self)
        self.cancel = call.loaded.enqueue(call, partial(self._handler.plane.batcher.finish, self, self))

    def encode(self, _: object, call: InferCall) -> Answer | None:
        """Return the answer to a call that has its outputs or its fault, None if it is encoded on a thread."""
        self.call = self.cancel = None
        return b"" if self.connection.is_lost else self._handler.encode(self, call)

    def write(self, _: object, __: InferCall, answer: Answer) -> None:
        """Send the answer, now or when those before it are sent."""
        self.connection.answer(self, answer)

    def abort(self) -> None:
        """End the connection."""
        self.connection.abort()


class ResponseParts:
    """Bytes that are the same in every answer of one version."""

    __slots__ = ("fields", "template")

    def __init__(self, plane: DataPlane, loaded: Servable) -> None:
        identity = loaded.identity
        self.template = RestAnswerTemplate(identity.model, identity.version, loaded.signature.outputs, plane.limits)
        self.fields = tuple(
            b"penstock-model-version: %b\r\npenstock-route: %b\r\n" % (identity.version.encode(), name.encode())
            for name in ROUTE_NAMES
        )
        """The lines that name the version and the route, by ``Route``."""


class InferHandler:
    """Decodes and encodes the infer requests of one data plane."""

    def __init__(self, plane: DataPlane, cors: CorsPolicy) -> None:
        self.plane = plane
        self._cors = cors
        self._decoder = BodyDecoder(plane.limits, plane.regions)
        self._parts = MadeOncePerVersion(plane, partial(ResponseParts, plane))

    # Body to call.

    def decode(self, exchange: InferExchange) -> InferCall | None:
        """Return the call of a complete request, ready to run; None if it was refused, nobody waits for it, or it is
        decoded on a thread.
        """
        decision: RouteDecision | None = None
        try:
            if exchange.connection.is_lost:
                raise Cancelled("the client closed the connection")
            fields = exchange.head.fields
            decision = self.plane.route(exchange.target, fields)
            priority = admit(decision, fields)
            raw, exchange.body = exchange.body, b""
            try:
                body = self._read(exchange, decision[0], raw, None)
            except LargeWork:
                self._decode_on_thread(exchange, decision, priority, raw)
                return None
            return self._call(exchange, decision, priority, body)
        except Exception as error:  # a defect must not end the connection
            self._refuse(exchange, decision, fault_of(error, exchange.head.fields))
        return None

    def _read(self, exchange: InferExchange, loaded: Servable, raw: bytes, pause: PauseWork | None) -> InferBody:
        """Inflate and decode a body; on any thread, but without a ``pause`` only on the event loop."""
        fields = exchange.head.fields
        json_length = self._decoder.read_length(fields[_JSON_LENGTH]) if _JSON_LENGTH in fields else None
        if _ENCODING in fields:
            raw = self._inflate(fields[_ENCODING], raw, json_length is None, pause)
        return self._decoder.decode(raw, json_length, loaded.signature, pause, exchange.owner)

    def _inflate(self, coding: bytes, raw: bytes, is_json: bool, pause: PauseWork | None) -> bytes:
        limits = self._inflation_limits(raw)
        if is_json and limits.max_json_bytes < limits.max_body_bytes:
            return inflate(raw, coding, limits.max_json_bytes, pause, json_too_large(limits))
        most = limits.max_body_bytes
        return inflate(raw, coding, most, pause, body_too_large(most, limits.max_body_setting))

    def _inflation_limits(self, raw: bytes) -> RequestLimits:
        """Return the limits of a body that is held in both forms while it is inflated."""
        return self.plane.limits.within(self.plane.memory.limit - len(raw))

    def _added_bytes(self, fields: Fields, raw: bytes) -> int:
        """Return the most bytes that decoding a body takes beside it, until its tensors are made."""
        return min(len(raw) * MAX_RATIO, self._inflation_limits(raw).max_body_bytes) if _ENCODING in fields else 0

    def _decode_on_thread(
        self, exchange: InferExchange, decision: RouteDecision, priority: Priority, raw: bytes
    ) -> None:
        """Decode a large body on a thread; raises ``Overloaded`` or ``OverBudget``."""
        loaded, plane = decision[0], self.plane
        added = self._added_bytes(exchange.head.fields, raw)
        if not plane.memory.take(added):
            raise OverBudget("the worker has no memory left to decode the body; try again later")
        work = partial(self._read, exchange, loaded, raw, Pacer().pause)
        done = partial(self._on_decoded, exchange, decision, priority, added)
        try:
            exchange.job = plane.offload.submit(work, done, len(raw) + added)
        except Overloaded:
            plane.memory.give_back(added)
            raise
        loaded.hold()

    def _on_decoded(
        self,
        exchange: InferExchange,
        decision: RouteDecision,
        priority: Priority,
        added: int,
        body: InferBody | None,
        error: Exception | None,
    ) -> None:
        """Continue with the call after a thread has decoded the body."""
        exchange.job = None
        self.plane.memory.give_back(added)
        try:
            if body is None:
                raise error or Internal("the request failed")
            exchange.call = call = self._call(exchange, decision, priority, body)
            self.plane.batcher.submit(exchange, exchange, call)
        except Exception as fault:  # a defect must not end the connection
            self._refuse(exchange, decision, fault_of(fault, exchange.head.fields))
        finally:
            decision[0].release()

    def _call(self, exchange: InferExchange, decision: RouteDecision, priority: Priority, body: InferBody) -> InferCall:
        exchange.binary, exchange.nulls = body.binary, body.nulls
        call = build_call(
            self.plane,
            decision,
            _REST,
            priority,
            exchange.head.fields,
            exchange.began_ns,
            body.id,
            body.given,
            body.requested,
            body.timeout_ns,
        )
        call.client = id(exchange.connection)
        call.lease = exchange.lease
        call.defaulted = body.defaulted
        call.endpoint = exchange.endpoint
        if body.explanation is not None:
            explain_instead(self.plane, call, body.explanation)
        return call

    # Call to answer.

    def encode(self, exchange: InferExchange, call: InferCall) -> Answer | None:
        """Return the answer to a call that has its outputs or its fault; None if it is encoded on a thread. If encoding
        fails, the answer is the error.
        """
        if call.fault is None:
            try:
                return self._full_answer(exchange, call, self._encode(exchange, call, None))
            except LargeWork:
                return self._encode_on_thread(exchange, call)
            except Exception as error:  # a defect must not end the connection
                call.fail(error)
        return self._fault_answer(exchange, call)

    def _encode(self, exchange: InferExchange, call: InferCall, pause: PauseWork | None) -> Encoded:
        """Encode and compress an answer; on any thread, but without a ``pause`` only on the event loop."""
        fields = exchange.head.fields
        content, json_length, tail = self._parts.get(call.loaded).template.answer(
            call, exchange.binary, exchange.nulls, pause
        )
        kind = _JSON if json_length is None else _BINARY % json_length
        if _ACCEPTS in fields:
            return compress_answer(fields[_ACCEPTS], kind, content, tail, pause)
        return kind, content, tail

    def _full_answer(self, exchange: InferExchange, call: InferCall, encoded: Encoded) -> Answer:
        kind, content, tail = encoded
        fields = exchange.head.fields
        if b"origin" in fields:
            kind += self._cors.answer_lines(fields)
        if _TIMING in fields:
            kind += timing_line(call, monotonic_ns())
        if call.trace is not None:
            kind += trace_line(call.trace)
        size = len(content) + (sum(map(len, tail)) if tail else 0)
        length = b"content-length: %d\r\n\r\n" % size
        common = exchange.connection.last_fields(exchange)
        parts = self._parts.get(call.loaded)
        whole = b"".join((kind, parts.fields[call.route], id_line(call.id), common, length, content))
        return [whole, *tail] if tail else whole

    def _encode_on_thread(self, exchange: InferExchange, call: InferCall) -> Answer | None:
        """Encode a large answer on a thread; if none is free, return the answer that says so."""
        work = partial(self._encode, exchange, call, Pacer().pause)
        try:
            exchange.job = self.plane.offload.submit(work, partial(self._deliver, exchange, call), call.output_bytes)
        except Overloaded as fault:
            call.fail(fault)
            return self._fault_answer(exchange, call)
        call.loaded.hold()
        return None

    def _deliver(
        self, exchange: InferExchange, call: InferCall, encoded: Encoded | None, error: Exception | None
    ) -> None:
        """Count and send an answer that a thread has encoded."""
        exchange.job = None
        try:
            if encoded is None:
                raise error or Internal("the answer could not be written")
            answer = self._full_answer(exchange, call, encoded)
        except Exception as fault:  # a defect must not end the connection
            call.fail(fault)
            answer = self._fault_answer(exchange, call)
        self.plane.batcher.deliver(exchange, exchange, call, answer)
        call.loaded.release()

    def _fault_answer(self, exchange: InferExchange, call: InferCall) -> bytes:
        """Return the answer to a call that has a fault."""
        lines = self._parts.get(call.loaded).fields[call.route] + id_line(call.id)
        if self.plane.tracer is not None:
            self.plane.tracer.decide_failed(call)
        if call.trace is not None:
            lines += trace_line(call.trace)
        return self._failure(exchange, call.fault or Internal("the request failed"), lines)

    # Refusals.

    def refusal(self, exchange: InferExchange, decision: RouteDecision | None, fault: Fault) -> bytes:
        """Return the answer to a request that was refused before it became a call, and count it."""
        lines = b""
        if decision is not None:
            body_id = request_id("", exchange.head.fields)
            lines = self._parts.get(decision[0]).fields[decision[1]] + id_line(body_id or new_id())
        trace = self._reject(exchange, decision, fault, exchange.endpoint)
        return self._failure(exchange, fault, lines if trace is None else lines + trace_line(trace))

    def _reject(
        self, exchange: Exchange, decision: RouteDecision | None, fault: Fault, endpoint: str
    ) -> CallTrace | None:
        began_ns, fields = exchange.began_ns, exchange.head.fields
        return self.plane.record_rejected(decision, _REST, fault.kind, began_ns, fields, endpoint)

    def head_refusal(self, exchange: Exchange, fault: Fault, is_infer: bool, endpoint: str = "") -> bytes:
        """Return the answer to a request that access control refused, and count it if it is an infer request."""
        trace = self._reject(exchange, None, fault, endpoint) if is_infer else None
        answer = self._failure(exchange, fault_of(fault), b"" if trace is None else trace_line(trace))
        return answer[: answer.index(b"\r\n\r\n") + 4] if exchange.head.method == b"HEAD" else answer

    def _refuse(self, exchange: InferExchange, decision: RouteDecision | None, fault: Fault) -> None:
        if fault.kind == Overloaded.kind:
            self.plane.batcher.reject_later(partial(self._send_refusal, exchange, decision, fault_of(fault)))
        else:
            self._send_refusal(exchange, decision, fault)

    def _send_refusal(self, exchange: InferExchange, decision: RouteDecision | None, fault: Fault) -> None:
        if exchange.connection.is_lost:
            self._reject(exchange, decision, fault, exchange.endpoint)
        else:
            exchange.connection.answer(exchange, self.refusal(exchange, decision, fault))

    def _failure(self, exchange: Exchange, fault: Fault, lines: bytes) -> bytes:
        lines += field_lines(fault_fields(fault)) + self._cors.answer_lines(exchange.head.fields)
        lines += exchange.connection.last_fields(exchange)
        return error_answer(HTTP_STATUS[fault.kind], str(fault), lines)


def compress_answer(accepted: bytes, kind: bytes, content: bytes, tail: Tail, pause: PauseWork | None) -> Encoded:
    """Return an answer in the content coding that the client prefers, if that makes it shorter."""
    coding = preferred_coding(accepted)
    packed = encode_body((content, *tail), coding, pause) if coding else None
    return (kind, content, tail) if packed is None else (kind + b"content-encoding: %b\r\n" % coding, b"", packed)
