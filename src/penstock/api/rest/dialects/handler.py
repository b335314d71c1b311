"""Predictions of a dialect on the same way as those of V2: the handler of a dialect, and its exchanges."""

from typing import Final, cast

from penstock.api.common.work import RequestWork, json_too_large, output_too_large
from penstock.api.http1.answers import STATUS_LINES, fault_fields, field_lines
from penstock.api.http1.exchange import ConnectionIo, Exchange
from penstock.api.http1.request_head import Http1RequestHead
from penstock.api.rest.cors import CorsPolicy
from penstock.api.rest.dialects.base import Dialect, RowsBody, RowsRequest
from penstock.api.rest.dialects.long_bodies import COLLECTOR_PAUSE, free_lists
from penstock.api.rest.infer_body import InferBody
from penstock.api.rest.infer_handler import Encoded, InferExchange, InferHandler, compress_answer
from penstock.core.errors import Fault
from penstock.core.slices import PauseWork
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, Servable
from penstock.serving.routing_table import Fields, Target

VALUE_BYTES: Final = 64
"""Bytes of a value of a body as an object of Python: a list, an object or a text; a number has half of them."""

NUMBER_BYTES: Final = 8
"""Bytes of numbers as objects of Python for each byte of text: what a compressed body is assumed to have."""

_ACCEPTS: Final = b"accept-encoding"
_ENCODING: Final = b"content-encoding"


class DialectExchange(InferExchange):
    """A prediction in a dialect: ``verb`` is what it asks for, ``form`` what its body says of the answer's form."""

    def __init__(
        self,
        connection: ConnectionIo,
        head: Http1RequestHead,
        began_ns: int,
        handler: "DialectHandler",
        target: Target,
        owner: str,
        verb: str,
        endpoint: str,
    ) -> None:
        super().__init__(connection, head, began_ns, handler, target, owner)
        self.endpoint = endpoint
        self.verb = verb
        self.form: object = None
        self._dialect_handler = handler

    def body_fault(self, size: int) -> Fault | None:
        """Refuse a body that is too long before it is complete; a compressed one is measured inflated."""
        limits, fields = self._dialect_handler.plane.limits, self.head.fields
        if size <= limits.max_json_bytes or _ENCODING in fields or self._dialect_handler.accepts_binary(self):
            return None
        return json_too_large(limits)


class DialectHandler(InferHandler):
    """Decodes and encodes the predictions of one dialect."""

    def __init__(self, plane: DataPlane, cors: CorsPolicy, dialect: Dialect) -> None:
        super().__init__(plane, cors)
        self._dialect = dialect

    def accepts_binary(self, exchange: DialectExchange) -> bool:
        """Whether the body of a request is not a text."""
        return bool(self._dialect.accepts_binary(exchange.head.fields))

    def _added_bytes(self, fields: Fields, raw: bytes) -> int:
        inflated = super()._added_bytes(fields, raw)
        if self._dialect.accepts_binary(fields):
            return inflated
        if inflated:
            return inflated + min(inflated, self.plane.limits.max_json_bytes) * NUMBER_BYTES
        return (raw.count(b",") + raw.count(b"[") + raw.count(b"{")) * VALUE_BYTES + len(raw)

    def _read(self, exchange: InferExchange, loaded: Servable, raw: bytes, pause: PauseWork | None) -> InferBody:
        exchange = cast("DialectExchange", exchange)
        fields, work = exchange.head.fields, RequestWork(self.plane.limits, pause)
        is_binary = self.accepts_binary(exchange)
        if _ENCODING in fields:
            raw = self._inflate(fields[_ENCODING], raw, not is_binary, pause)
        if is_binary:
            work.add_copied(len(raw))
        else:
            work.add_json(len(raw))
        request = RowsRequest(exchange.verb, fields, exchange.head.query, raw, loaded, work)
        found = self._dialect.read(request) if pause is None else self._read_long(request)
        exchange.form = found.form
        body = InferBody(found.id, found.inputs, found.requested, False, found.timeout_ns, False, found.defaulted)
        body.explanation = found.explanation
        return body

    def _read_long(self, request: RowsRequest) -> RowsBody:
        """Decode a long body on a thread."""
        with COLLECTOR_PAUSE:
            try:
                return self._dialect.read(request)
            finally:
                free_lists(request.work.held, request.work.pause)

    def _encode(self, exchange: InferExchange, call: InferCall, pause: PauseWork | None) -> Encoded:
        exchange = cast("DialectExchange", exchange)
        fields, limits = exchange.head.fields, self.plane.limits
        answer = self._dialect.encode(call, exchange.verb, exchange.form, RequestWork(limits, pause))
        content, tail = answer.content, answer.tail
        if len(content) + sum(map(len, tail)) > limits.max_output_bytes:
            raise output_too_large(limits)
        kind: bytes = b"%bcontent-type: %b\r\n%b" % (STATUS_LINES[200], answer.kind, answer.lines)
        if _ACCEPTS in fields:
            return compress_answer(fields[_ACCEPTS], kind, content, tail, pause)
        return kind, content, tail

    def _failure(self, exchange: Exchange, fault: Fault, lines: bytes) -> bytes:
        answer = self._dialect.fault(fault)
        lines += field_lines(fault_fields(fault)) + self._cors.answer_lines(exchange.head.fields)
        lines += exchange.connection.last_fields(exchange)
        return b"%bcontent-type: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            STATUS_LINES[answer.status],
            answer.kind,
            lines,
            len(answer.body),
            answer.body,
        )
