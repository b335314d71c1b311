"""Infer requests over REST: body to call, call to answer; what all answers of a version have in common is made once."""

import logging
import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from penstock.api.http1.answers import error_answer, fault_fields, field_lines
from penstock.api.http1.exchange import Answer, ConnectionIo, Exchange
from penstock.api.http1.request_head import RequestHead
from penstock.api.rest.compression import deflated, inflate, preferred
from penstock.api.rest.cors import Cors
from penstock.api.rest.decode import infer_body
from penstock.api.rest.encode import AnswerTemplate
from penstock.core.deadlines import deadline_ns
from penstock.core.errors import Cancelled, Fault, Internal, InvalidInput, Overloaded
from penstock.core.labels import HTTP_STATUS, ROUTE_NAMES, Priority
from penstock.core.labels import Protocol as Transport
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import CLASS, InferCall, Servable, fault_of, new_id, priority_of
from penstock.serving.routing_table import RouteDecision, Target

log = logging.getLogger("penstock.rest")

MAX_ID_HEADER: Final = 1024
"""Characters of a request id that come back in a field; a longer one stays in the body alone, as clients bound the
fields they read."""

MAX_TARGETS: Final = 4096
"""Infer paths whose model and version are remembered."""

_INFER: Final = re.compile(rb"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer/?")
_JSON: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_BINARY: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
_TIMEOUT: Final = b"penstock-timeout-ms"
_REQUEST_ID: Final = b"x-request-id"
_JSON_LENGTH: Final = b"inference-header-content-length"

Fields = Mapping[bytes, bytes]


class InferExchange(Exchange):
    """An infer request; ``binary`` says how its outputs travel back (see ``InferBody``)."""

    def __init__(
        self, connection: ConnectionIo, head: RequestHead, began_ns: int, handler: "InferHandler", target: Target
    ) -> None:
        super().__init__(connection, head, began_ns)
        self.is_concurrent = True
        self.target = target
        self.binary: list[bool] | bool = False
        self.call: InferCall | None = None
        self.cancel: Callable[[], None] | None = None
        self._handler = handler

    def begin(self) -> None:
        """Have it decoded at the end of this turn of the loop."""
        self._handler.plane.batcher.enqueue(self, self)

    def timeout_ns(self, default_ns: int) -> int:
        """How long the request may take: what it states, else the default."""
        try:
            stated = stated_timeout_ns(self.head.fields)
        except InvalidInput:
            return default_ns
        return default_ns if stated is None else stated

    def refusal(self, fault: Fault) -> bytes:
        """The answer that tells a fault, counted."""
        return self._handler.refusal(self, None, fault)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        if self.call is not None:
            self.call.abandoned = True
        if self.cancel is not None:
            self.cancel()
            self.cancel = None

    # What the batcher asks; the exchange it names is this one.

    def decode(self, _: object) -> InferCall | None:
        """The call of a complete request, None if it was refused."""
        self.call = self._handler.decode(self)
        return self.call

    def enqueue(self, _: object, call: InferCall) -> None:
        """Have the call run on a thread; it is answered when it comes back."""
        self.cancel = call.loaded.enqueue(call, partial(self._handler.plane.batcher.finish, self, self))

    def encode(self, _: object, call: InferCall) -> Answer:
        """The answer to a call that has its outputs or its fault."""
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

    def __init__(self, loaded: Servable) -> None:
        identity = loaded.identity
        self.template = AnswerTemplate(identity.model, identity.version, loaded.signature.outputs)
        self.fields = tuple(
            b"penstock-model-version: %b\r\npenstock-route: %b\r\n" % (identity.version.encode(), name.encode())
            for name in ROUTE_NAMES
        )
        """The lines that say who answered, by ``Route``."""


class InferHandler:
    """Decodes and encodes the infer requests of one data plane."""

    def __init__(self, plane: DataPlane, max_body_bytes: int, cors: Cors) -> None:
        self.plane = plane
        self._max_body_bytes = max_body_bytes
        self._cors = cors
        self._parts: dict[Servable, ResponseParts] = {}

    def decode(self, exchange: InferExchange) -> InferCall | None:
        """The call of a complete request, ready to run; None if it was refused, or nobody waits for it."""
        found: RouteDecision | None = None
        try:
            if exchange.connection.is_lost:
                raise Cancelled("the caller went away")
            found = self.plane.route(exchange.target, exchange.head.fields)
            return self._call(exchange, found)
        except Fault as fault:
            self._refuse(exchange, found, fault)
        except Exception as error:  # a bug must not take the connection down
            log.exception("an infer request failed", exc_info=error)
            self._refuse(exchange, found, Internal("the request failed"))
        return None

    def _call(self, exchange: InferExchange, found: RouteDecision) -> InferCall:
        loaded, route, observers = found
        fields, plane, began_ns = exchange.head.fields, self.plane, exchange.began_ns
        priority = priority_of(fields) if CLASS in fields else Priority.DEFAULT
        if (fault := loaded.admission_error(priority)) is not None:
            raise fault
        raw, exchange.body = exchange.body, b""
        if b"content-encoding" in fields:
            raw = inflate(raw, fields[b"content-encoding"], self._max_body_bytes)
        json_length = _json_length(fields) if _JSON_LENGTH in fields else None
        body = infer_body(raw, json_length, loaded.signature, plane.regions)
        exchange.binary = body.binary
        if body.timeout_ns is None and _TIMEOUT not in fields:
            deadline = began_ns + plane.default_timeout_ns
        else:
            deadline = deadline_ns(began_ns, (body.timeout_ns, stated_timeout_ns(fields)), plane.default_timeout_ns)
        call_id = body.id or fields.get(_REQUEST_ID, b"").decode("latin-1") or new_id()
        return InferCall(
            loaded, route, Transport.REST, call_id, body.given, body.requested, deadline, began_ns, observers, priority
        )

    def encode(self, exchange: InferExchange, call: InferCall) -> Answer:
        """The answer to a call that has its outputs or its fault; one that cannot be written becomes a fault."""
        if call.fault is None:
            try:
                return self._success(exchange, call)
            except Exception as error:  # a bug must not take the connection down
                call.fail(error)
        lines = self._response_parts(call.loaded).fields[call.route] + _id_line(call.id)
        return self._failure(exchange, call.fault or Internal("the request failed"), lines)

    def refusal(self, exchange: InferExchange, found: RouteDecision | None, fault: Fault) -> bytes:
        """The answer to a request that never became a call, counted."""
        lines = b""
        if found is not None:
            asked_id = exchange.head.fields.get(_REQUEST_ID, b"").decode("latin-1")
            lines = self._response_parts(found[0]).fields[found[1]] + _id_line(asked_id or new_id())
        self.plane.record_rejected(found, Transport.REST, fault.kind, exchange.began_ns)
        return self._failure(exchange, fault, lines)

    def _refuse(self, exchange: InferExchange, found: RouteDecision | None, fault: Fault) -> None:
        if fault.kind == Overloaded.kind:
            self.plane.batcher.reject_later(partial(self._tell_refusal, exchange, found, fault_of(fault)))
        else:
            self._tell_refusal(exchange, found, fault)

    def _tell_refusal(self, exchange: InferExchange, found: RouteDecision | None, fault: Fault) -> None:
        if exchange.connection.is_lost:
            self.plane.record_rejected(found, Transport.REST, fault.kind, exchange.began_ns)
        else:
            exchange.connection.answer(exchange, self.refusal(exchange, found, fault))

    def _success(self, exchange: InferExchange, call: InferCall) -> Answer:
        fields = exchange.head.fields
        parts = self._parts.get(call.loaded) or self._response_parts(call.loaded)
        content, json_length, tail = parts.template.answer(call, exchange.binary)
        kind = _JSON if json_length is None else _BINARY % json_length
        if b"accept-encoding" in fields and (coding := preferred(fields[b"accept-encoding"])):
            content, tail = deflated(b"".join((content, *tail)), coding), ()
            kind += b"content-encoding: %b\r\n" % coding
        if b"origin" in fields:
            kind += self._cors.answer_lines(fields)
        size = len(content) + (sum(map(len, tail)) if tail else 0)
        length = b"content-length: %d\r\n\r\n" % size
        common = exchange.connection.last_fields(exchange)
        whole = b"".join((kind, parts.fields[call.route], _id_line(call.id), common, length, content))
        return [whole, *tail] if tail else whole

    def _failure(self, exchange: InferExchange, fault: Fault, lines: bytes) -> bytes:
        lines += field_lines(fault_fields(fault)) + self._cors.answer_lines(exchange.head.fields)
        lines += exchange.connection.last_fields(exchange)
        return error_answer(HTTP_STATUS[fault.kind], str(fault), lines)

    def _response_parts(self, loaded: Servable) -> ResponseParts:
        """The ready-made bytes of a version; those of versions no longer served are dropped on the way."""
        found = self._parts.get(loaded)
        if found is None:
            served = {route[0] for entry in self.plane.routing_table.models.values() for route in entry.routes.values()}
            self._parts = {version: parts for version, parts in self._parts.items() if version in served}
            found = self._parts[loaded] = ResponseParts(loaded)
        return found


@lru_cache(maxsize=MAX_TARGETS)
def infer_target(path: bytes) -> Target | None:
    """The model and version that an infer path names, None for any other path."""
    match = _INFER.fullmatch(path)
    if match is None:
        return None
    model, version = match.group(1), match.group(2) or b""
    return unquote_to_bytes(model).decode("utf-8", "replace"), unquote_to_bytes(version).decode("utf-8", "replace")


def stated_timeout_ns(fields: Fields) -> int | None:
    """What ``penstock-timeout-ms`` states, None where it is absent.

    Raises:
        InvalidInput: it is no whole number of milliseconds.
    """
    value = fields.get(_TIMEOUT)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise InvalidInput("penstock-timeout-ms must be a whole number of milliseconds")
    return int(value) * 1_000_000


def _json_length(fields: Fields) -> int:
    value = fields[_JSON_LENGTH]
    if not value.isdigit() or len(value) > 18:
        raise InvalidInput("inference-header-content-length must be a whole number of bytes")
    return int(value)


def _id_line(text: str) -> bytes:
    """A request id as a field; what HTTP does not allow there is percent-encoded."""
    if len(text) > MAX_ID_HEADER:
        return b""
    if text.isascii() and text.isprintable():
        return b"x-request-id: %b\r\n" % text.encode("ascii")
    return b"x-request-id: %b\r\n" % quote(text, safe=" !#$&'()*+,/:;=?@[]~").encode("ascii")
