"""Frames from lists by column, and as files of Parquet and Arrow."""

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from penstock.core.frames.frame import Frame
from penstock.core.frames.records import column_of
from penstock.monitor.record_batches import batch_of


def from_columns(columns: Mapping[str, Any]) -> Frame:
    """The frame of lists of one length."""
    frame = {name: column_of(name, values) for name, values in columns.items()}
    return Frame(frame, len(next(iter(columns.values()))) if columns else 0)


def frame_to_parquet(frame: Frame) -> bytes:
    """A frame as a Parquet file."""
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_batches([batch_of(frame)]), file)
    return file.getvalue()


def frame_to_arrow(frame: Frame) -> bytes:
    """A frame as an Arrow stream."""
    batch, file = batch_of(frame), io.BytesIO()
    with pa.ipc.new_stream(file, batch.schema) as writer:
        writer.write_batch(batch)
    return file.getvalue()
