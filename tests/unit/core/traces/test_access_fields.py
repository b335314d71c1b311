"""Lines of the access log."""

import pytest

from penstock.core.labels import OUTCOME_INDEX
from penstock.core.traces.access_fields import access_line
from penstock.core.traces.records import ACCESS, SPANS, STREAMED
from tests.ecs import check_field
from tests.unit.core.traces.records import MS, RECORD, record

OFFSET = 1_700_000_000_000_000_000


def test_a_line_says_what_was_asked_and_answered_and_how_long_it_took() -> None:
    message, fields = access_line(record(flags=ACCESS | SPANS), OFFSET)
    assert message == "POST /v2/models/m/infer 200 5.000 ms"
    for name, value in fields.items():
        check_field(name, value)
    assert (fields["event.duration"], fields["event.outcome"]) == (5 * MS, "success")
    assert fields["event.start"] == "2023-11-14T22:13:20.010Z"
    assert fields["trace.id"] == RECORD.trace_id.hex() and fields["transaction.id"] == fields["span.id"]


@pytest.mark.parametrize(("flags", "method"), [(ACCESS, "ModelInfer"), (ACCESS | STREAMED, "ModelStreamInfer")])
def test_a_grpc_line_has_method_and_status_and_no_trace_that_is_not_exported(flags: int, method: str) -> None:
    message, fields = access_line(record(series=1, flags=flags, outcome=OUTCOME_INDEX["deadline"]), OFFSET)
    assert message == f"inference.GRPCInferenceService/{method} DEADLINE_EXCEEDED 5.000 ms"
    assert (fields["labels.grpc_status"], fields["event.outcome"]) == ("DEADLINE_EXCEEDED", "failure")
    assert fields["event.type"] == ["access", "error"] and fields["event.reason"] == "deadline"
    assert "trace.id" not in fields


def test_a_request_without_a_model_has_no_path() -> None:
    message, fields = access_line(record(model="", version="", outcome=OUTCOME_INDEX["not_found"]), OFFSET)
    assert message == "POST - 404 5.000 ms"
    assert fields["labels.route"] == ""
