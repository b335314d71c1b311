"""A request as a line of the access log: one sentence, and fields by their names in the Elastic Common Schema."""

from datetime import UTC, datetime
from typing import Any

from penstock.core.labels import GRPC_STATUS, HTTP_STATUS, OUTCOMES
from penstock.core.traces.log_fields import span_fields
from penstock.core.traces.records import SPANS, TraceRecord
from penstock.core.traces.spans import protocol_of, request_path, route_of, rpc_method


def access_line(record: TraceRecord, offset_ns: int) -> tuple[str, dict[str, Any]]:
    """Return the sentence and the fields of a request; ``offset_ns`` turns its times into those since the epoch.

    No content of the request is among them.
    """
    outcome = OUTCOMES[record.outcome]
    asked, answered, protocol = _grpc_fields(record) if protocol_of(record) == "grpc" else _http_fields(record)
    duration_ns = record.times[4] - record.times[0]
    fields = {
        "event.kind": "event",
        "event.dataset": "penstock.access",
        "event.category": ["web"],
        "event.type": ["access"] if outcome == "ok" else ["access", "error"],
        "event.outcome": "success" if outcome == "ok" else "failure",
        "event.duration": duration_ns,
        "event.start": _format_time(record.times[0] + offset_ns),
        "event.reason": "" if outcome == "ok" else outcome,
        **protocol,
        "http.request.id": record.request_id,
        "labels.model": record.model,
        "labels.version": record.version,
        "labels.route": route_of(record) if record.version else "",
        **trace_fields(record),
    }
    return f"{asked} {answered} {duration_ns / 1e6:.3f} ms", fields


def trace_fields(record: TraceRecord) -> dict[str, str]:
    """Return what joins a line with the spans of its request; nothing if they are not exported."""
    if not record.flags & SPANS:
        return {}
    return span_fields(record.trace_id, record.span_id)


Described = tuple[str, str, dict[str, Any]]
"""What was asked and answered, and the fields of the protocol."""


def _http_fields(record: TraceRecord) -> Described:
    status, path = HTTP_STATUS[OUTCOMES[record.outcome]], request_path(record)
    fields = {
        "network.protocol": "http",
        "http.request.method": "POST",
        "http.response.status_code": status,
        "url.path": path,
    }
    return f"POST {path or '-'}", str(status), fields


def _grpc_fields(record: TraceRecord) -> Described:
    status = GRPC_STATUS[OUTCOMES[record.outcome]]
    method = rpc_method(record)
    return method, status, {"network.protocol": "grpc", "url.path": f"/{method}", "labels.grpc_status": status}


def _format_time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 1000 / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
