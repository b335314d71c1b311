"""Frames from Parquet and Arrow files."""

import io
from pathlib import Path
from typing import Any

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame, FrameLimits
from penstock.monitor.pyarrow_extra import require_pyarrow
from penstock.monitor.record_batches import frame_of

ARROW = b"ARROW1"
PARQUET = b"PAR1"


def read_frame(file: Path, limits: FrameLimits = DEFAULT_LIMITS) -> Frame:
    """Return the frame of a Parquet or an Arrow file; see ``frame_from_bytes``."""
    return frame_from_bytes(file.read_bytes(), limits)


def frame_from_bytes(data: bytes, limits: FrameLimits = DEFAULT_LIMITS) -> Frame:
    """Return the frame of a Parquet file, an Arrow file, or an Arrow stream; the first bytes decide which.

    Raises:
        InvalidInput: it is none of them, has columns of other types than frames, or too many values.
        Unsupported: PyArrow is not installed.
    """
    require_pyarrow()
    import pyarrow as pa  # noqa: PLC0415 - an extra

    try:
        return frame_of(_one_batch(_make_table(data, limits), limits))
    except (pa.ArrowException, OSError):  # of the reader: there is no file here
        raise InvalidInput("the data is neither a Parquet nor an Arrow file, or it is damaged") from None


def _make_table(data: bytes, limits: FrameLimits) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    if data.startswith(PARQUET):
        file = parquet.ParquetFile(io.BytesIO(data))
        limits.check(file.metadata.num_rows, file.metadata.num_columns)
        return file.read()
    reader = pa.ipc.open_file(data) if data.startswith(ARROW) else pa.ipc.open_stream(data)
    return reader.read_all()


def _one_batch(table: Any, limits: FrameLimits) -> Any:
    """Return the rows of a table as one record batch."""
    import pyarrow as pa  # noqa: PLC0415 - an extra

    limits.check(table.num_rows, table.num_columns)
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)
