"""Lines of the access log."""

import pytest

from penstock.core.labels import OUTCOME_INDEX
from penstock.core.traces.access_fields import access_line
from penstock.core.traces.records import ACCESS, SPANS
from penstock.core.traces.spans import RPC_STREAM
from tests.ecs import check_field
from tests.unit.core.traces.records import MS, RECORD, record

OFFSET = 1_700_000_000_000_000_000


def test_a_line_says_what_was_asked_and_answered_and_how_long_it_took() -> None:
    message, fields = access_line(record(flags=ACCESS | SPANS), OFFSET)
    assert message == "POST /v2/models/m/infer 200 5.000 ms"
    for name, value in fields.items():
        check_field(name, value)
    assert fields == {
        "event.kind": "event",
        "event.dataset": "penstock.access",
        "event.category": ["web"],
        "event.type": ["access"],
        "event.outcome": "success",
        "event.duration": 5 * MS,
        "event.start": "2023-11-14T22:13:20.010Z",
        "event.reason": "",
        "network.protocol": "http",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/v2/models/m/infer",
        "http.request.id": "r",
        "labels.model": "m",
        "labels.version": "1",
        "labels.route": "stable",
        "trace.id": RECORD.trace_id.hex(),
        "span.id": RECORD.span_id.hex(),
        "transaction.id": RECORD.span_id.hex(),
    }


@pytest.mark.parametrize(("endpoint", "method"), [("", "ModelInfer"), (RPC_STREAM, "ModelStreamInfer")])
def test_a_grpc_line_has_method_and_status_and_no_trace_that_is_not_exported(endpoint: str, method: str) -> None:
    ended = record(series=1, flags=ACCESS, outcome=OUTCOME_INDEX["deadline"], endpoint=endpoint)
    message, fields = access_line(ended, OFFSET)
    assert message == f"inference.GRPCInferenceService/{method} DEADLINE_EXCEEDED 5.000 ms"
    assert (fields["labels.grpc_status"], fields["event.outcome"]) == ("DEADLINE_EXCEEDED", "failure")
    assert (fields["network.protocol"], fields["url.path"]) == ("grpc", f"/inference.GRPCInferenceService/{method}")
    assert fields["event.type"] == ["access", "error"] and fields["event.reason"] == "deadline"
    assert "trace.id" not in fields


def test_a_request_without_a_model_has_no_path() -> None:
    message, fields = access_line(record(model="", version="", outcome=OUTCOME_INDEX["not_found"]), OFFSET)
    assert message == "POST - 404 5.000 ms"
    assert fields["labels.route"] == ""


@pytest.mark.parametrize(
    ("endpoint", "model", "path"),
    [
        ("/v1/models/{model}/versions/{version}:predict", "m", "/v1/models/m/versions/1:predict"),
        ("/v1/models/{model}/labels/{label}:predict", "m", "/v1/models/m/labels/1:predict"),
        ("/invocations", "", "/invocations"),
        ("/v1/models/{model}:predict", "", "-"),
    ],
)
def test_a_line_of_a_dialect_has_the_path_of_the_dialect(endpoint: str, model: str, path: str) -> None:
    message, _ = access_line(record(endpoint=endpoint, model=model), OFFSET)
    assert message == f"POST {path} 200 5.000 ms"
