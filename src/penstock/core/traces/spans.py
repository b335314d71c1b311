"""Spans as OpenTelemetry understands them, and those of a request: the request, its stages, and shadows that repeat it.

Names of attributes are those of the semantic conventions (HTTP stable; RPC and feature flags release candidates of
2026-08); classic inference has none, so ``penstock.…`` names the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from penstock.core.labels import (
    GRPC_STATUS,
    HTTP_STATUS,
    MARKED_ROUTES,
    OUTCOMES,
    PROTOCOL_NAMES,
    ROUTE_NAMES,
    Route,
)
from penstock.core.traces.records import DISAGREES, EXPLAINED, HAS_PARENT, KEPT, NO_ID, NO_TRACE, TraceRecord

INTERNAL, SERVER, CLIENT = 1, 2, 3
"""Kinds of spans, as OTLP numbers them."""

STAGES: Final = ("decode", "queue", "run", "encode")
QUEUE: Final = STAGES.index("queue")
"""The stage that every request comes through, be it for no time."""

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


class RouteTraits(NamedTuple):
    """What is stated of the route of a model: whether it divides the traffic, and what identifies its rules ("" without
    a route)."""

    is_split: bool = False
    version: str = ""


NO_ROUTE: Final = RouteTraits()


class RequestTraits(NamedTuple):
    """What many requests have in common, and their spans with them. ``rules`` is what is stated of the model's route;
    ``scheme`` is that of the REST port, http or https."""

    model: str
    version: str
    series: int
    outcome: int
    flags: int
    endpoint: str
    rules: RouteTraits
    scheme: str


TRAIT_FLAGS: Final = HAS_PARENT | KEPT | EXPLAINED
"""The flags of a record that its spans show."""


@dataclass(frozen=True, slots=True)
class RequestDescription:
    """What the span of a request says because of its traits; ``evaluation`` are the attributes of the event of its
    route, none if none has decided."""

    name: str
    attributes: Mapping[str, Value]
    is_error: bool
    evaluation: Mapping[str, Value]


def traits_of(record: TraceRecord, rules: RouteTraits, scheme: str) -> RequestTraits:
    """Return the traits of a request."""
    return RequestTraits(
        record.model,
        record.version,
        record.series,
        record.outcome,
        record.flags & TRAIT_FLAGS,
        record.endpoint,
        rules,
        scheme,
    )


def describe_request(traits: RequestTraits) -> RequestDescription:
    """Return what the span of a request with these traits says."""
    describe = _describe_grpc if protocol_of(traits) == "grpc" else _describe_http
    name, attributes, is_error = describe(traits)
    outcome = OUTCOMES[traits.outcome]
    failed: dict[str, Value] = {} if outcome == "ok" else {"error.type": outcome}
    evaluation = _describe_evaluation(traits) if traits.version else {}
    return RequestDescription(name, {**attributes, **_model_attributes(traits), **failed}, is_error, evaluation)


def _describe_http(traits: RequestTraits) -> tuple[str, dict[str, Value], bool]:
    status = HTTP_STATUS[OUTCOMES[traits.outcome]]
    template = http_route(traits)
    path = request_path(traits)
    attributes: dict[str, Value] = {
        "http.request.method": "POST",
        "http.route": template,
        "http.response.status_code": status,
        "url.scheme": traits.scheme,
        **({"url.path": path} if path else {}),
    }
    return f"POST {template}", attributes, status >= FIRST_SERVER_ERROR


def _describe_grpc(traits: RequestTraits) -> tuple[str, dict[str, Value], bool]:
    status = GRPC_STATUS[OUTCOMES[traits.outcome]]
    method = rpc_method(traits)
    attributes: dict[str, Value] = {
        "rpc.system.name": "grpc",
        "rpc.method": method,
        "rpc.response.status_code": status,
    }
    return method, attributes, status in SERVER_FAULTS


def _model_attributes(traits: RequestTraits) -> dict[str, Value]:
    stated: dict[str, Value] = {
        "penstock.model.name": traits.model,
        "penstock.model.version": traits.version,
        "penstock.route": route_of(traits) if traits.version else "",
        "penstock.explanation": bool(traits.flags & EXPLAINED),
        "penstock.trace.kept": bool(traits.flags & KEPT),
    }
    return {name: value for name, value in stated.items() if value}


def _describe_evaluation(traits: RequestTraits) -> dict[str, Value]:
    """Return the decision of the route as the evaluation of a feature flag: the model is the flag, the version its
    variant."""
    stated: dict[str, Value] = {
        "feature_flag.key": traits.model,
        "feature_flag.result.variant": traits.version,
        "feature_flag.result.reason": _choose_reason(route_of(traits), traits.rules.is_split),
        "feature_flag.provider.name": "penstock",
        "feature_flag.version": traits.rules.version,
    }
    return {name: value for name, value in stated.items() if value}


def _choose_reason(route: str, is_split: bool) -> str:
    """Return why a version answered, in the words of the conventions; the mark of a request hides it."""
    if route in MARKED_ROUTES:
        return "unknown"
    if route == ROUTE_NAMES[Route.RULE]:
        return "targeting_match"
    if route == ROUTE_NAMES[Route.PINNED]:
        return "static"
    return "split" if is_split else "default"


def stages_of(times: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the stages that a request has come through, by the times of its record: index in ``STAGES``, start, end."""
    start = times[0]
    for stage in range(len(STAGES)):
        end = times[stage + 1]
        if start and end >= start and (end > start or stage == QUEUE):
            yield stage, start, end
        start = end


def shadow_span(record: TraceRecord, offset_ns: int) -> Span:
    """Return the span of a shadow's run; ``offset_ns`` turns the record's times into those since the epoch."""
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


def protocol_of(record: TraceRecord | RequestTraits) -> str:
    """Return the protocol of a request."""
    return PROTOCOL_NAMES[record.series % len(PROTOCOL_NAMES)]


def route_of(record: TraceRecord | RequestTraits) -> str:
    """Return why its version answered."""
    return ROUTE_NAMES[record.series // len(PROTOCOL_NAMES)]


def rpc_method(record: TraceRecord | RequestTraits) -> str:
    """Return the method that a gRPC request called, with its service."""
    return record.endpoint or RPC_METHOD


def http_route(record: TraceRecord | RequestTraits) -> str:
    """Return the template of the path of a REST request."""
    if record.endpoint:
        return record.endpoint
    return VERSION_PATH if route_of(record) == ROUTE_NAMES[Route.PINNED] else INFER_PATH


def request_path(record: TraceRecord | RequestTraits) -> str:
    """Return the path of a REST request as the route decided, with the version for an alias; "" without the model in
    it."""
    template = http_route(record)
    if not record.model and "{" in template:
        return ""
    path = template.replace("{version}", record.version).replace("{label}", record.version)
    return path.replace("{model}", record.model)
