"""What joins a log line with the request of a caller, whose texts are bounded."""

import pytest

from penstock.core.traces.log_fields import MOST_ID, caller_fields, request_fields, span_fields
from tests.ecs import check_field

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_trace_of_a_caller_is_named_whether_it_is_sampled_or_not(flags: str) -> None:
    headers = {b"traceparent": f"00-{TRACE}-b7ad6b7169203331-{flags}".encode(), b"x-request-id": b"r"}
    assert caller_fields(headers) == {"trace.id": TRACE, "http.request.id": "r"}


def test_what_is_not_stated_or_malformed_is_empty() -> None:
    assert set(caller_fields({}).values()) == {""}
    assert caller_fields({b"traceparent": b"00-nonsense"})["trace.id"] == ""


def test_ids_of_callers_are_bounded() -> None:
    assert len(caller_fields({b"x-request-id": b"\xff" * 9999})["http.request.id"]) == MOST_ID
    assert len(request_fields("x" * 9999, "m", "1", {})["http.request.id"]) == MOST_ID


def test_the_names_are_those_of_the_schema() -> None:
    for name, value in request_fields("r", "m", "1", span_fields(bytes(16), bytes(8))).items():
        check_field(name, value)
