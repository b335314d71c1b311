"""Spans as OpenTelemetry understands them, and those of a request: the request, its stages, and shadows that repeat it.

Names of attributes are those of the semantic conventions (HTTP stable; RPC and feature flags release candidates of
2026-08); classic inference has none, so ``penstock.…`` names the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from penstock.core.labels import GRPC_STATUS, HTTP_STATUS, OUTCOMES, PROTOCOL_NAMES, ROUTE_NAMES, Route
from penstock.core.traces.records import (
    DISAGREES,
    HAS_PARENT,
    KEPT,
    NO_ID,
    NO_TRACE,
    SHADOW,
    STREAMED,
    TraceRecord,
)

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of spans, as OTLP numbers them."""

STAGES: Final = ("decode", "queue", "run", "encode")
INFER_PATH: Final = "/v2/models/{model}/infer"
VERSION_PATH: Final = "/v2/models/{model}/versions/{version}/infer"
RPC_METHOD: Final = "inference.GRPCInferenceService/ModelInfer"
RPC_STREAM: Final = "inference.GRPCInferenceService/ModelStreamInfer"
EVALUATION: Final = "feature_flag.evaluation"

SERVER_FAULTS: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
"""gRPC statuses that are errors of a server's span (semantic conventions of gRPC)."""

FIRST_SERVER_ERROR: Final = 500

Value = str | int | float | bool
NewId = Callable[[], bytes]
"""Returns a random span id of 8 bytes."""


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened in a span; the time is in nanoseconds since the epoch."""

    name: str
    at_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanLink:
    """Another span that a span belongs to without being its child."""

    trace_id: bytes
    span_id: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """One span; times are nanoseconds since the epoch. Of a root, ``parent_id`` is ``NO_ID``."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    is_error: bool = False
    has_remote_parent: bool = False
    state: str = ""


def spans_of(record: TraceRecord, is_split: bool, offset_ns: int, new_id: NewId, scheme: str = "http") -> list[Span]:
    """Return the spans of a record, parents first.

    ``is_split``: the model's route splits its traffic. ``offset_ns`` turns the record's times into those since the
    epoch. ``scheme`` is that of the REST port, http or https.
    """
    if record.kind == SHADOW:
        return [_shadow_span(record, offset_ns)]
    return [_request_span(record, is_split, offset_ns, scheme), *_stage_spans(record, offset_ns, new_id)]


def _request_span(record: TraceRecord, is_split: bool, offset_ns: int, scheme: str) -> Span:
    protocol = protocol_of(record)
    described = _grpc_span(record) if protocol == "grpc" else _http_span(record, scheme)
    name, attributes, is_error = described
    outcome = OUTCOMES[record.outcome]
    failed: dict[str, Value] = {} if outcome == "ok" else {"error.type": outcome}
    return Span(
        record.trace_id,
        record.span_id,
        record.parent_id,
        name,
        SERVER,
        record.times[0] + offset_ns,
        record.times[4] + offset_ns,
        {**attributes, **_model_attributes(record), **failed},
        (_evaluation(record, is_split, offset_ns),) if record.version else (),
        is_error=is_error,
        has_remote_parent=bool(record.flags & HAS_PARENT),
        state=record.state,
    )


def _http_span(record: TraceRecord, scheme: str) -> tuple[str, dict[str, Value], bool]:
    status = HTTP_STATUS[OUTCOMES[record.outcome]]
    template = VERSION_PATH if route_of(record) == ROUTE_NAMES[Route.PINNED] else INFER_PATH
    path = request_path(record)
    attributes: dict[str, Value] = {
        "http.request.method": "POST",
        "http.route": template,
        "http.response.status_code": status,
        "url.scheme": scheme,
        **({"url.path": path} if path else {}),
    }
    return f"POST {template}", attributes, status >= FIRST_SERVER_ERROR


def _grpc_span(record: TraceRecord) -> tuple[str, dict[str, Value], bool]:
    status = GRPC_STATUS[OUTCOMES[record.outcome]]
    method = RPC_STREAM if record.flags & STREAMED else RPC_METHOD
    attributes: dict[str, Value] = {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "rpc.response.status_code": status,
    }
    return method, attributes, status in SERVER_FAULTS


def _model_attributes(record: TraceRecord) -> dict[str, Value]:
    stated: dict[str, Value] = {
        "penstock.model.name": record.model,
        "penstock.model.version": record.version,
        "penstock.route": route_of(record) if record.version else "",
        "penstock.request.id": record.request_id,
        "penstock.rows": record.rows,
        "penstock.batch.rows": record.run_rows,
        "penstock.input.bytes": record.input_bytes,
        "penstock.output.bytes": record.output_bytes,
    }
    kept: dict[str, Value] = {"penstock.trace.kept": True} if record.flags & KEPT else {}
    return {name: value for name, value in stated.items() if value} | kept


def _evaluation(record: TraceRecord, is_split: bool, offset_ns: int) -> SpanEvent:
    """Return the decision of the route as the evaluation of a feature flag: the model is the flag, the version its
    variant."""
    attributes: dict[str, Value] = {
        "feature_flag.key": record.model,
        "feature_flag.result.variant": record.version,
        "feature_flag.result.reason": _reason(route_of(record), is_split),
        "feature_flag.provider.name": "penstock",
    }
    return SpanEvent(EVALUATION, record.times[0] + offset_ns, attributes)


def _reason(route: str, is_split: bool) -> str:
    """Return why a version answered, in the words of the conventions."""
    if route == ROUTE_NAMES[Route.RULE]:
        return "targeting_match"
    if route == ROUTE_NAMES[Route.PINNED]:
        return "static"
    return "split" if is_split else "default"


def _stage_spans(record: TraceRecord, offset_ns: int, new_id: NewId) -> list[Span]:
    """Return the stages that a request has come through."""
    spans = []
    for name, start, end in zip(STAGES, record.times, record.times[1:], strict=False):
        if start and end >= start and (end > start or name == "queue"):
            times = start + offset_ns, end + offset_ns
            spans.append(Span(record.trace_id, new_id(), record.span_id, name, INTERNAL, *times))
    return spans


def _shadow_span(record: TraceRecord, offset_ns: int) -> Span:
    attributes: dict[str, Value] = {
        "penstock.model.name": record.model,
        "penstock.model.version": record.version,
        "penstock.request.id": record.request_id,
        "penstock.shadow.disagrees": bool(record.flags & DISAGREES),
    }
    linked = record.linked_trace != NO_TRACE
    return Span(
        record.trace_id,
        record.span_id,
        NO_ID,
        "shadow",
        INTERNAL,
        record.times[0] + offset_ns,
        record.times[4] + offset_ns,
        attributes,
        links=(SpanLink(record.linked_trace, record.linked_span),) if linked else (),
    )


def protocol_of(record: TraceRecord) -> str:
    """Return the protocol of a record's request."""
    return PROTOCOL_NAMES[record.series % len(PROTOCOL_NAMES)]


def route_of(record: TraceRecord) -> str:
    """Return why its version answered."""
    return ROUTE_NAMES[record.series // len(PROTOCOL_NAMES)]


def request_path(record: TraceRecord) -> str:
    """Return the path of a REST request as the route decided, with the version for an alias; "" without a model."""
    if not record.model:
        return ""
    path = VERSION_PATH if route_of(record) == ROUTE_NAMES[Route.PINNED] else INFER_PATH
    return path.format(model=record.model, version=record.version)
