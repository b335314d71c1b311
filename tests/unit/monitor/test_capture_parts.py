"""The files of captures as one stream: in the order of time over workers and gateways, and few open at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.monitor import capture_parts
from penstock.monitor.answers import prefix_of
from penstock.monitor.capture import CapturedRequest
from penstock.monitor.capture_parts import CapturePart, ReadCounts, is_parquet, merge_parts, record_parts, time_of
from penstock.monitor.captured_rows import RowSelection
from penstock.monitor.captured_tables import table_parts
from penstock.monitor.row_tables import write_table
from tests.unit.replay.records import captured, tensor


def part(times: list[float], opened: list[int] | None = None) -> CapturePart:
    def read(_counts: ReadCounts) -> Iterator[tuple[CapturedRequest, int]]:
        if opened is not None:
            opened.append(len(times))
        yield from ((captured("r", at), 1) for at in times)

    return CapturePart(times[0], len(times), read)


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=8).map(sorted), max_size=6))
def test_parts_that_lie_beside_each_other_are_merged_by_time(times: list[list[float]]) -> None:
    counts = ReadCounts()
    found = [time_of(record) for record in merge_parts([part(item) for item in times], counts)]
    assert found == sorted(at for item in times for at in item)
    assert counts.size == counts.total == len(found)


def test_parts_are_opened_when_their_time_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_parts, "REORDERED", 1)
    opened: list[int] = []
    stream = merge_parts([part([100.0 * number, 100.0 * number + 1], opened) for number in range(50)], ReadCounts())
    assert time_of(next(stream)) == 0.0
    assert len(opened) <= 2
    assert [time_of(record) for record in stream][-1] == 4901.0


def test_records_a_little_out_of_order_are_put_in_order_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [time_of(record) for record in merge_parts([part([1.0, 3.0, 2.0])], ReadCounts())] == [1.0, 2.0, 3.0]
    monkeypatch.setattr(capture_parts, "REORDERED_BYTES", 0)
    assert [time_of(record) for record in merge_parts([part([1.0, 3.0, 2.0])], ReadCounts())] == [1.0, 3.0, 2.0]


def write(file: Path, *records: CapturedRequest, tail: bytes = b"") -> Path:
    file.write_bytes(b"".join(record.pack() for record in records) + tail)
    return file


def test_a_folder_holds_the_versions_of_a_model_and_a_file_names_its_owner_first(tmp_path: Path) -> None:
    for name, version, at in (("m", "1", 5.0), ("m", "2", 3.0), ("other", "1", 1.0)):
        write(tmp_path / f"{prefix_of(name)}@{version}@{at:020.0f}-1.capture", captured(f"{name}{version}", at))
    found = [record.id for record in merge_parts(record_parts(tmp_path, "m"), ReadCounts())]
    assert found == ["m2", "m1"]
    assert [record.id for record in merge_parts(record_parts(tmp_path, "m", "1"), ReadCounts())] == ["m1"]
    owner = CapturedRequest({"gateway": "g", "tensors": []}, b"")
    rows = write(tmp_path / "own.rows", owner, captured("a", 7.0))
    assert [record.id for record in merge_parts(record_parts(rows, "m"), ReadCounts())] == ["a"]
    with pytest.raises(InvalidInput, match="holds no captured requests"):
        record_parts(write(tmp_path / "text.txt", tail=b"not a capture, but a text"), "m")


def test_files_that_are_deleted_or_damaged_are_counted(tmp_path: Path) -> None:
    lost, good = write(tmp_path / "a", captured("a", 1.0)), write(tmp_path / "b", captured("b", 2.0))
    bad = write(tmp_path / "c", captured("c", 3.0), tail=b"\x02\0\0\0\0\0\0\0{]")
    parts = [item for file in (lost, good, bad) for item in record_parts(file, "m")]
    lost.unlink()
    counts = ReadCounts()
    assert [record.id for record in merge_parts(parts, counts)] == ["b", "c"]
    assert (counts.deleted, counts.damaged) == (1, 1)
    assert 0 < counts.share < 1
    assert ReadCounts().share == 1.0


def test_parquet_gives_back_the_requests_that_were_exported(tmp_path: Path) -> None:
    """Requests of several rows, texts and tensors without rows, in row groups that lie beside each other."""
    batches = [
        [captured("a", 10.0), captured("c", 12.0, answer=(0.7, 0.3))],
        [captured("b", 11.0)],
    ]
    file = tmp_path / "rows.parquet"
    assert write_table(batches, RowSelection("m", "1"), file) == 3
    assert is_parquet(file)
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
    parts = table_parts(file, inputs, outputs)
    counts = ReadCounts()
    found = list(merge_parts(parts, counts))
    assert [record.id for record in found] == ["a", "b", "c"]
    assert [item.start for item in parts] == [10.0, 11.0]
    assert found[2].arrays()["outputs"]["y"].tolist() == [pytest.approx([0.7, 0.3])]
    assert found[0].head["tensors"] == captured("a", 10.0).head["tensors"]
    assert (counts.size, counts.share) == (3, 1.0)


def test_a_row_group_with_several_gateways_is_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_parts, "REORDERED", 0)
    file = tmp_path / "rows.parquet"
    write_table([[captured(str(at), at) for at in (1.0, 3.0, 2.0, 4.0)]], RowSelection("m", "1"), file)
    found = merge_parts(table_parts(file, [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}], []), ReadCounts())
    assert [record.id for record in found] == ["1.0", "2.0", "3.0", "4.0"]


def test_requests_of_many_rows_and_whole_tensors_come_back_from_parquet(tmp_path: Path) -> None:
    from penstock.monitor.capture import packed_request

    record = packed_request(
        {"id": "r", "at": 1.0, "route": "stable"},
        [("inputs", tensor("x", [[1, 2], [3, 4], [5, 6]])), ("inputs", tensor("word", [["a"], ["b"], ["c"]], "BYTES")),
         ("inputs", tensor("scale", [2.0, 3.0]))],
    )  # fmt: skip
    file = tmp_path / "rows.parquet"
    write_table([[record, record]], RowSelection("m", "1"), file)
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "word", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "scale", "datatype": "FP32", "shape": [2]},
    ]
    found = list(merge_parts(table_parts(file, inputs, []), ReadCounts()))
    assert [item.head["tensors"] for item in found] == [record.head["tensors"]] * 2
    assert found[0].body == record.body


def test_other_tables_are_refused(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    parquet.write_table(table({"x": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises(InvalidInput, match="has no column 'id'"):
        table_parts(tmp_path / "other.parquet", [], [])
    (tmp_path / "broken").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InvalidInput, match="is not a Parquet file"):
        table_parts(tmp_path / "broken", [], [])
