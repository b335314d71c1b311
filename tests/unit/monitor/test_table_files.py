"""Streams of tables: chunks of bounded size in order, text without guesses, and what is not a table."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from penstock.core.errors import InvalidInput, Unsupported
from penstock.monitor import table_files, table_writers
from penstock.monitor.pyarrow_extra import require_pyarrow
from penstock.monitor.table_files import TableBatch, format_of, read_chunks
from penstock.monitor.table_writers import open_writer


def batches(path: Path, rows: int = 100) -> list[TableBatch]:
    chunks = list(read_chunks(path, rows))
    assert [chunk.done for chunk in chunks] == sorted(chunk.done for chunk in chunks)
    assert all(0 < chunk.rows <= rows and chunk.done <= 1 for chunk in chunks)
    return [chunk.load() for chunk in chunks]


def test_the_suffix_decides_the_format(tmp_path: Path) -> None:
    assert [format_of(Path(name)) for name in ("a.parquet", "A.CSV", "b.jsonl", "b.ndjson", "c.arrow")] == [
        "parquet",
        "csv",
        "jsonl",
        "jsonl",
        "arrow",
    ]
    with pytest.raises(InvalidInput, match="ends with"):
        format_of(tmp_path / "rows.xlsx")


def test_every_column_of_csv_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 64)
    file = tmp_path / "rows.csv"
    lines = ['a,"b,c"', *(f"{number},t{number}" for number in range(50)), '007,"two\nlines"', ",x"]
    file.write_text("\n".join(lines) + "\n")
    found = batches(file, 7)
    assert len(found) > 8
    rows = [row for item in found for row in item.data.to_pylist()]
    assert rows[0] == {"a": "0", "b,c": "t0"}
    assert rows[50:] == [{"a": "007", "b,c": "two\nlines"}, {"a": None, "b,c": "x"}]


@pytest.mark.parametrize("text", ["a,a\n1,2\n", "a,b\n1,2\n1,2,3\n", "", "\x00\x01,\xff"])
def test_malformed_csv_is_an_error_of_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    with pytest.raises(InvalidInput):
        batches(file)


def test_lines_of_json_are_read_one_by_one_where_they_must_be(tmp_path: Path) -> None:
    records: list[Any] = [{"a": 1, "n": {"x": [1, 2]}}, {"a": 2.5}, {"a": "x", "b": None}, {"b": "y"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([*map(json.dumps, records), "[1]", "{", ""]))
    [found] = batches(file)
    assert found.data.column("a").to_pylist() == ["1", "2.5", "x", None, None, None]
    assert found.data.column("b").to_pylist() == [None, None, None, "y", None, None]
    assert sorted(found.faults) == [4, 5]
    plain = tmp_path / "plain.ndjson"
    plain.write_text("".join(json.dumps({"a": number, "b": [number]}) + "\n" for number in range(10)))
    found_plain = batches(plain, 4)
    assert [item.data.num_rows for item in found_plain] == [4, 4, 2]
    assert [row for item in found_plain for row in item.data.to_pylist()][9] == {"a": 9, "b": [9]}


def test_lines_without_an_object_have_no_columns(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("1\n2\n")
    [found] = batches(file)
    assert (found.data.num_rows, sorted(found.faults)) == (2, [0, 1])


def test_a_line_may_not_be_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "LONGEST_LINE", 100)
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"a": "x" * 200}) + "\n")
    with pytest.raises(InvalidInput, match="more than 100 bytes"):
        batches(file)


def test_arrow_files_and_streams_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(10))})
    for name, opened in (("file", ipc.new_file), ("stream", ipc.new_stream)):
        path = tmp_path / f"{name}.arrow"
        with opened(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
        assert [row["a"] for item in batches(path, 3) for row in item.data.to_pylist()] == list(range(10))


def test_groups_of_parquet_are_read_in_parts_and_written_together(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    writer = open_writer(path, "parquet")
    for first in range(0, 30, 3):
        writer.write(pa.RecordBatch.from_pydict({"a": list(range(first, first + 3))}))
    writer.close()
    assert parquet.ParquetFile(path).num_row_groups == 1
    found = batches(path, 8)
    assert [item.data.num_rows for item in found] == [8, 8, 8, 6]
    assert [row["a"] for item in found for row in item.data.to_pylist()] == list(range(30))


def test_row_groups_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_writers, "GROUP_BYTES", 100)
    path = tmp_path / "rows.parquet"
    writer = open_writer(path, "parquet")
    for _ in range(4):
        writer.write(pa.RecordBatch.from_pydict({"a": [0.0] * 20}))
    writer.close()
    assert parquet.ParquetFile(path).num_row_groups == 4


def test_later_rows_are_written_in_the_schema_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    writer = open_writer(path, "arrow")
    writer.write(pa.RecordBatch.from_pydict({"a": [1.5], "b": [None]}))
    writer.write(pa.RecordBatch.from_pydict({"a": [2], "b": ["x"]}))
    writer.write(pa.RecordBatch.from_pydict({"a": [3.5]}))
    with pytest.raises(InvalidInput, match="column 'a' changes from double to string"):
        writer.write(pa.RecordBatch.from_pydict({"a": ["x"]}))
    writer.close()
    assert [row for item in batches(path) for row in item.data.to_pylist()] == [
        {"a": 1.5, "b": None},
        {"a": 2.0, "b": "x"},
        {"a": 3.5, "b": None},
    ]


def test_numbers_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    writer = open_writer(path, "jsonl")
    writer.write(pa.RecordBatch.from_pydict({"a": [1.0, float("nan")], "b": [[1.0], [float("inf")]]}))
    writer.close()
    assert path.read_text().splitlines() == ['{"a": 1.0, "b": [1.0]}', '{"a": null, "b": [null]}']


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_file_that_is_not_a_table_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(b"no table")
    with pytest.raises(InvalidInput, match="is not valid"):
        batches(path)
    path.unlink()
    with pytest.raises(OSError):
        batches(path)


def test_pyarrow_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(Unsupported, match=r"penstock\[parquet\]"):
        require_pyarrow()
