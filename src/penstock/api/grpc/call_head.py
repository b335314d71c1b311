"""Reads the header block of a gRPC call: its deadline, its compression, and reasons to refuse it."""

from collections.abc import Callable
from typing import Final

from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.api.grpc.http2.stream import StreamIo
from penstock.core.access.origins import OriginPolicy, OriginRefusal
from penstock.core.errors import Fault, Internal, TooLarge, Unauthorised, UnsupportedEncoding
from penstock.core.traces.context import TRACEPARENT, TRACESTATE
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.access.caller_resolver import CallerResolver, find_authorization

MAX_TIMEOUT_DIGITS: Final = 8
_UNITS: Final = {72: 3_600_000_000_000, 77: 60_000_000_000, 83: 1_000_000_000, 109: 1_000_000, 117: 1000, 110: 1}
"""Nanoseconds of the units of grpc-timeout: H, M, S, m, u, n."""

_ENCODINGS: Final = ("identity", "gzip", "deflate")


class CallHead(Http2RequestHead):
    """The head of a call: its time limit, the compression of its messages, and the compressions that its caller
    accepts. A request that is refused has an ``http_status`` (it is not gRPC) or a ``fault``; ``origin_refusal`` is set
    if it is refused by its host or origin.

    ``access`` is what its credential may do, to be used as long as that ``is_current``.
    """

    __slots__ = ("accepts", "access", "encoding", "fault", "http_status", "origin_refusal", "timeout_ns")

    def __init__(self, head: Http2RequestHead) -> None:
        super().__init__(head.method, head.path, head.field_list, head.content_length, head.too_large, head.authority)
        if len(self.fields) < len(self.field_list):
            _join_trace_fields(self)
        self.timeout_ns: int | None = None
        self.encoding = "identity"
        self.accepts = frozenset(_decode_field(self.fields, b"grpc-accept-encoding").replace(" ", "").split(","))
        self.http_status = _http_status(head)
        self.fault: Fault | None = None
        self.origin_refusal: OriginRefusal | None = None
        self.access: CallerAccess | None = None

    def find_access(
        self, callers: CallerResolver, io: StreamIo, now_ns: int, resume: Callable[[], None]
    ) -> CallerAccess | None:
        """Return what the credential of the call may do; None while it is verified, and then ``resume`` is called.

        The head belongs to one connection, and so to one client certificate. ``now_ns`` is ``time.monotonic_ns``.
        """
        access = self.access
        if access is None or not access.is_current(callers.epoch, now_ns):
            access = callers.find(find_authorization(self.field_list), io.certificate_names, io.info, resume)
            self.access = access
        return access


def _join_trace_fields(head: Http2RequestHead) -> None:
    """Join the fields of a trace that a call states several times, as W3C Trace Context reads them: the members of each
    ``tracestate`` count, and several ``traceparent`` are none."""
    for name in (TRACEPARENT, TRACESTATE):
        values = [value for stated, value in head.field_list if stated == name]
        if len(values) > 1:
            head.fields[name] = b", ".join(values)


def read_call_head(head: Http2RequestHead, policy: OriginPolicy | None = None) -> CallHead:
    """Return the head of the call in a request; the ``policy`` decides which hosts and origins it may state (None:
    any)."""
    call = CallHead(head)
    refusal = None if policy is None else policy.refusal(head.method, head.authority, head.fields)
    call.origin_refusal = refusal
    if refusal is not None and call.http_status:
        call.http_status = refusal.status
    if call.http_status:
        return call
    if refusal is not None:
        call.fault = Unauthorised(refusal.message)
        return call
    if head.too_large:
        call.fault = TooLarge("the metadata is over the limit of 32 KiB; send less")
        return call
    try:
        call.encoding = _choose_encoding(call)
        call.timeout_ns = parse_timeout_ns(call.fields[b"grpc-timeout"]) if b"grpc-timeout" in call.fields else None
    except Fault as fault:
        call.fault = fault
    except ValueError:
        call.fault = Internal("grpc-timeout is at most eight digits and a unit")
    return call


def _http_status(head: Http2RequestHead) -> int:
    """Return the HTTP status for a request that is not gRPC; 0 for a call."""
    if head.too_large and not is_grpc(head.fields.get(b"content-type", b"")):
        return 431
    if head.method != b"POST":
        return 405
    return 0 if is_grpc(head.fields.get(b"content-type", b"")) else 415


def is_grpc(content_type: bytes) -> bool:
    """Whether a content type is gRPC with protobuf messages; gRPC-Web and other formats get status 415."""
    return content_type.partition(b";")[0].strip().lower() in (b"application/grpc", b"application/grpc+proto")


def _choose_encoding(head: Http2RequestHead) -> str:
    encoding = _decode_field(head.fields, b"grpc-encoding") or "identity"
    if encoding not in _ENCODINGS:
        raise UnsupportedEncoding(f"the compression '{encoding[:32]}' is not supported")
    return encoding


def parse_timeout_ns(text: bytes) -> int:
    """Return a grpc-timeout in nanoseconds; raises ``ValueError``."""
    digits = text[:-1]
    if not digits.isdigit() or len(digits) > MAX_TIMEOUT_DIGITS or text[-1] not in _UNITS:
        raise ValueError
    return int(digits) * _UNITS[text[-1]]


def _decode_field(fields: dict[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode("latin-1")
