"""The fields that join a log line with the request it belongs to, by their names in the Elastic Common Schema."""

from collections.abc import Mapping
from typing import Final

from penstock.core.traces.context import TRACEPARENT, read_trace_id

REQUEST_ID: Final = b"x-request-id"
MOST_ID: Final = 200
"""Maximum characters of a caller's request id in a line."""


def caller_fields(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return what the headers of a request say: the trace of its caller, and its id; what is not stated is ""."""
    trace_id = read_trace_id(headers.get(TRACEPARENT, b""))
    return {
        "trace.id": "" if trace_id is None else trace_id.hex(),
        "http.request.id": headers.get(REQUEST_ID, b"").decode("latin-1")[:MOST_ID],
    }


def span_fields(trace_id: bytes, span_id: bytes) -> dict[str, str]:
    """Return what joins a line with the span of a request."""
    return {"trace.id": trace_id.hex(), "span.id": span_id.hex(), "transaction.id": span_id.hex()}


def request_fields(call_id: str, model: str, version: str, trace: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a line about a request that a version answers, or fails to."""
    return {"http.request.id": call_id[:MOST_ID], "labels.model": model, "labels.version": version, **trace}
