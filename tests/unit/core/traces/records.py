"""Records for tests."""

from typing import Any

from penstock.core.traces.records import NO_ID, REQUEST, SPANS, TraceRecord

MS = 1_000_000
RECORD = TraceRecord(
    REQUEST,
    series=0,
    outcome=0,
    flags=SPANS,
    model="m",
    version="1",
    request_id="r",
    state="a=1",
    trace_id=bytes(range(1, 17)),
    span_id=bytes(range(1, 9)),
    parent_id=NO_ID,
    times=(10 * MS, 11 * MS, 11 * MS, 14 * MS, 15 * MS),
    rows=2,
    run_rows=5,
    input_bytes=8,
    output_bytes=16,
)


def record(**changes: Any) -> TraceRecord:
    """A record with some values changed."""
    return RECORD._replace(**changes)
