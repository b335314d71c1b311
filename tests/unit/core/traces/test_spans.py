"""The spans of records: names and attributes of the conventions, stages, links, and failures."""

from itertools import count

import pytest

from penstock.core.labels import OUTCOME_INDEX
from penstock.core.traces.records import DISAGREES, HAS_PARENT, KEPT, NO_ID, SHADOW, SPANS, STREAMED, TraceRecord
from penstock.core.traces.spans import INTERNAL, SERVER, Span, SpanLink, spans_of
from tests.unit.core.traces.records import MS, RECORD, record

OFFSET = 1_000_000_000


def made_of(item: TraceRecord, is_split: bool = False) -> list[Span]:
    numbers = count(100)
    return spans_of(item, is_split, OFFSET, lambda: next(numbers).to_bytes(8, "big"))


def test_a_request_is_a_server_span_with_its_stages() -> None:
    request, *stages = made_of(RECORD)
    assert (request.name, request.kind) == ("POST /v2/models/{model}/infer", SERVER)
    assert (request.start_ns, request.end_ns) == (OFFSET + 10 * MS, OFFSET + 15 * MS)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v2/models/m/infer",
        "penstock.model.name": "m",
        "penstock.model.version": "1",
        "penstock.route": "stable",
        "penstock.request.id": "r",
        "penstock.rows": 2,
        "penstock.batch.rows": 5,
        "penstock.input.bytes": 8,
        "penstock.output.bytes": 16,
    }
    assert request.state == "a=1" and not request.is_error and not request.has_remote_parent
    assert [(span.name, (span.end_ns - span.start_ns) // MS) for span in stages] == [
        ("decode", 1),
        ("queue", 0),
        ("run", 3),
        ("encode", 1),
    ]
    assert all(span.parent_id == RECORD.span_id and span.kind == INTERNAL for span in stages)
    assert len({span.span_id for span in stages}) == 4


@pytest.mark.parametrize(
    ("series", "is_split", "reason"),
    [(0, False, "default"), (0, True, "split"), (2, True, "split"), (4, True, "static"), (6, True, "targeting_match")],
)
def test_the_decision_of_the_route_is_an_evaluated_flag(series: int, is_split: bool, reason: str) -> None:
    [event] = made_of(record(series=series), is_split)[0].events
    assert event.name == "feature_flag.evaluation"
    assert event.attributes == {
        "feature_flag.key": "m",
        "feature_flag.result.variant": "1",
        "feature_flag.result.reason": reason,
        "feature_flag.provider.name": "penstock",
    }


def test_a_port_with_tls_has_its_scheme() -> None:
    request = spans_of(RECORD, False, OFFSET, lambda: bytes(8), "https")[0]
    assert request.attributes["url.scheme"] == "https"


def test_a_pinned_request_has_the_version_in_its_path() -> None:
    attributes = made_of(record(series=4))[0].attributes
    assert attributes["url.path"] == "/v2/models/m/versions/1/infer"
    assert attributes["http.route"] == "/v2/models/{model}/versions/{version}/infer"


@pytest.mark.parametrize(("flags", "method"), [(SPANS, "ModelInfer"), (SPANS | STREAMED, "ModelStreamInfer")])
def test_grpc_has_its_own_names(flags: int, method: str) -> None:
    request = made_of(record(series=1, flags=flags))[0]
    assert request.name == f"inference.GRPCInferenceService/{method}"
    assert request.attributes["rpc.method"] == request.name
    assert request.attributes["rpc.response.status_code"] == "OK"


@pytest.mark.parametrize(
    ("outcome", "series", "is_error"),
    [
        ("invalid", 0, False),
        ("overloaded", 0, False),
        ("internal", 0, True),
        ("deadline", 0, True),
        ("invalid", 1, False),
        ("over_budget", 1, False),
        ("not_ready", 1, True),
    ],
)
def test_only_failures_of_the_server_are_errors(outcome: str, series: int, is_error: bool) -> None:
    request = made_of(record(outcome=OUTCOME_INDEX[outcome], series=series))[0]
    assert request.attributes["error.type"] == outcome
    assert request.is_error is is_error


def test_a_refused_request_has_neither_stages_nor_a_version() -> None:
    item = record(model="", version="", flags=SPANS | HAS_PARENT | KEPT, times=(10 * MS, 0, 0, 0, 11 * MS), outcome=2)
    [request] = made_of(item)
    assert request.events == () and request.has_remote_parent
    assert "url.path" not in request.attributes and "penstock.route" not in request.attributes
    assert request.attributes["penstock.trace.kept"] is True


@pytest.mark.parametrize(("flags", "disagrees"), [(SPANS, False), (SPANS | DISAGREES, True)])
def test_a_shadow_is_a_trace_of_its_own_that_links_the_request(flags: int, disagrees: bool) -> None:
    linked = bytes(16), bytes(range(8))
    item = record(kind=SHADOW, flags=flags, linked_trace=bytes(range(16)), linked_span=linked[1], version="2")
    [shadow] = made_of(item)
    assert (shadow.name, shadow.parent_id, shadow.kind) == ("shadow", NO_ID, INTERNAL)
    assert shadow.links == (SpanLink(bytes(range(16)), linked[1]),)
    assert shadow.attributes["penstock.shadow.disagrees"] is disagrees
    assert made_of(record(kind=SHADOW))[0].links == ()
