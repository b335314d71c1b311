"""Spans as OTLP (opentelemetry/proto/trace/v1/trace.proto); ``common.enclose`` makes an export request of them."""

from typing import Final

from penstock.core.traces.records import NO_ID
from penstock.core.traces.spans import Span, SpanEvent, SpanLink
from penstock.telemetry.otlp.common import attributes
from penstock.telemetry.otlp.protobuf import fixed32, fixed64, integer, message, text

SAMPLED: Final = 1
HAS_IS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200
ERROR: Final = 2


def encode_span(span: Span) -> bytes:
    """Return a span as an item of an export request (field 2 of a scope)."""
    return message(2, _span(span))


def _span(span: Span) -> bytes:
    parts = [
        message(1, span.trace_id),
        message(2, span.span_id),
        text(3, span.state) if span.state else b"",
        message(4, span.parent_id) if span.parent_id != NO_ID else b"",
        text(5, span.name),
        integer(6, span.kind),
        fixed64(7, span.start_ns),
        fixed64(8, span.end_ns),
        attributes(9, span.attributes),
        *(message(11, _event(event)) for event in span.events),
        *(message(13, _link(link)) for link in span.links),
        error_status() if span.is_error else b"",
        flags_of(span.has_remote_parent),
    ]
    return b"".join(parts)


def error_status() -> bytes:
    """Return the status of a span that failed, as a field of it."""
    return message(15, integer(3, ERROR))


def flags_of(has_remote_parent: bool) -> bytes:
    """Return the flags of a sampled span, as a field of it."""
    return fixed32(16, SAMPLED | HAS_IS_REMOTE | (IS_REMOTE if has_remote_parent else 0))


def _event(event: SpanEvent) -> bytes:
    return fixed64(1, event.at_ns) + text(2, event.name) + attributes(3, event.attributes)


def _link(link: SpanLink) -> bytes:
    return message(1, link.trace_id) + message(2, link.span_id) + fixed32(6, SAMPLED)
