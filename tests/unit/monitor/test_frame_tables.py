"""Frames survive Parquet and Arrow; what is neither is refused, and nothing is read beyond the limits."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import Frame, FrameColumn, FrameLimits
from penstock.core.frames.records import to_columns
from penstock.monitor.frame_tables import frame_from_bytes, read_frame
from tests.frames import frame_to_arrow, frame_to_parquet, from_columns

FRAME = from_columns(
    {
        "age": [41, None, 2**60],
        "income": [1.5, None, float("inf")],
        "city": ["Bern", "", None],
        "vip": [True, None, False],
        "large": [2**64 - 1, 0, 1],
    }
)


@pytest.mark.parametrize("write", [frame_to_parquet, frame_to_arrow])
def test_frames_survive_a_round_trip(write: type, tmp_path: Path) -> None:
    data: bytes = write(FRAME)
    (tmp_path / "rows").write_bytes(data)
    for found in (frame_from_bytes(data), read_frame(tmp_path / "rows")):
        assert to_columns(found) == to_columns(FRAME)
        assert [column.values.dtype.kind for column in found.columns.values()] == list("ifObu")


def test_arrow_files_are_read_as_streams_are() -> None:
    table = pa.table({"x": pa.chunked_array([[1, 2], [3]])})
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert to_columns(frame_from_bytes(file.getvalue())) == {"x": [1, 2, 3]}


def test_a_file_without_rows_has_columns() -> None:
    frame = frame_from_bytes(frame_to_parquet(Frame({"x": FrameColumn(np.zeros(0))}, 0)))
    assert (frame.names, frame.rows) == (("x",), 0)


@pytest.mark.parametrize(
    "data", [b"", b"a,b\n1,2\n", b"PAR1", b"ARROW1\x00\x00", frame_to_parquet(FRAME)[:-9], b"\x07" * 999]
)
def test_a_file_that_is_not_a_table_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="neither a Parquet nor an Arrow"):
        frame_from_bytes(data)


@pytest.mark.parametrize("write", [frame_to_parquet, frame_to_arrow])
def test_tables_are_bounded(write: type) -> None:
    with pytest.raises(InvalidInput, match="3 rows, over the limit of 2"):
        frame_from_bytes(write(FRAME), FrameLimits(rows=2))
    with pytest.raises(InvalidInput, match="5 columns, over the limit of 4"):
        frame_from_bytes(write(FRAME), FrameLimits(columns=4))
