"""Records of a fixed size: they come back as they were, and there are never too many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.traces.records import MOST_NUMBER, MOST_TEXT, RECORD_BYTES, RecordBuffer, TraceRecord, read_records
from tests.unit.core.traces.records import RECORD, record

NUMBER = st.integers(0, (1 << 64) - 1)
TEXT = st.text(max_size=20)
RECORDS = st.builds(
    TraceRecord,
    st.integers(0, 1),
    st.integers(0, 7),
    st.integers(0, 16),
    st.integers(0, 63),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=8, max_size=8),
    st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, NUMBER),
    st.integers(0, MOST_NUMBER),
    st.integers(0, MOST_NUMBER),
    NUMBER,
    NUMBER,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=8, max_size=8),
    TEXT,
)


@given(st.lists(RECORDS, max_size=5))
def test_records_come_back_as_they_were(records: list[TraceRecord]) -> None:
    buffer = RecordBuffer(10)
    for item in records:
        buffer.add(item)
    data, texts = buffer.take()
    assert len(data) == RECORD_BYTES * len(records)
    assert list(read_records(data, texts)) == records
    assert buffer.take() == (b"", [""])


def test_what_does_not_fit_is_counted() -> None:
    buffer = RecordBuffer(2)
    for _ in range(5):
        buffer.add(RECORD)
    assert (len(buffer), buffer.dropped) == (2, 3)


def test_long_texts_and_large_counts_are_cut() -> None:
    buffer = RecordBuffer(1)
    buffer.add(record(request_id="x" * 2000, rows=1 << 40))
    [back] = read_records(*buffer.take())
    assert (len(back.request_id), back.rows) == (MOST_TEXT, MOST_NUMBER)


def test_a_damaged_message_is_refused() -> None:
    buffer = RecordBuffer(1)
    buffer.add(RECORD)
    data, texts = buffer.take()
    with pytest.raises(ValueError, match=r"^a record is cut off$"):
        list(read_records(data[:-1], texts))
    with pytest.raises(ValueError, match="text"):
        list(read_records(data, texts[:1]))


@pytest.mark.parametrize("field", ["model", "version", "request_id", "state"])
def test_each_text_that_a_record_names_must_be_there(field: str) -> None:
    buffer = RecordBuffer(1)
    buffer.add(record(**{"model": "", "version": "", "request_id": "", "state": "", field: "last"}))
    data, texts = buffer.take()
    assert list(read_records(data, texts))
    with pytest.raises(ValueError, match=r"^a record names a text that is not there$"):
        list(read_records(data, [""]))
