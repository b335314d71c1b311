"""Record batches as frames and back, and their changes."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.core.errors import InvalidInput
from penstock.monitor.record_batches import (
    append_columns,
    batch_of,
    frame_of,
    nested_values,
    parse_numbers,
    place_rows,
    values_of,
)


def test_columns_of_every_kind_are_read() -> None:
    columns: dict[str, Any] = {
        "f64": pa.array([1.5, None]),
        "f32": pa.array([1.5, 2.5], pa.float32()),
        "f16": pa.array(np.array([1.5, 2.5], np.float16)),
        "i8": pa.array([1, None], pa.int8()),
        "u64": pa.array([1, (1 << 64) - 1], pa.uint64()),
        "bool": pa.array([True, None]),
        "text": pa.array(["a", None]),
        "large": pa.array(["a", "b"], pa.large_string()),
        "category": pa.array(["a", "a"]).dictionary_encode(),
        "nothing": pa.nulls(2),
        "decimal": pa.array([Decimal("1.25"), Decimal("2.5")]),
    }
    frame = frame_of(pa.RecordBatch.from_pydict(columns))
    kinds = {name: column.values.dtype.str[1:] for name, column in frame.columns.items()}
    assert kinds == {
        "f64": "f8",
        "f32": "f4",
        "f16": "f4",
        "i8": "i8",
        "u64": "u8",
        "bool": "b1",
        "text": "O",
        "large": "O",
        "category": "O",
        "nothing": "f8",
        "decimal": "f8",
    }
    again = batch_of(frame)
    assert again.to_pydict() == {
        name: [float(value) if isinstance(value, Decimal) else value for value in column.to_pylist()]
        for name, column in columns.items()
    }


def test_numbers_are_not_copied() -> None:
    column = pa.array(np.arange(1000.0))
    values = frame_of(pa.RecordBatch.from_pydict({"a": column})).columns["a"].values
    assert np.shares_memory(values, column.to_numpy())


def test_other_columns_are_named() -> None:
    with pytest.raises(InvalidInput, match="column 'when' is date32"):
        frame_of(pa.RecordBatch.from_pydict({"when": pa.array([0], pa.date32())}))


def test_texts_become_numbers_where_all_of_them_are() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "whole": ["1", None],
            "large": [str(1 << 62), "3"],
            "number": ["1", "2.5e3"],
            "truth": ["true", "false"],
            "mixed": ["1", "x"],
            "code": ["007", "1"],
            "typed": [1, 2],
        }
    )
    assert parse_numbers(batch, {"code"}).to_pydict() == {
        "whole": [1, None],
        "large": [1 << 62, 3],
        "number": [1.0, 2500.0],
        "truth": [True, False],
        "mixed": ["1", "x"],
        "code": ["007", "1"],
        "typed": [1, 2],
    }


def test_rows_are_placed_among_nulls() -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, 2], "b": ["x", "y"]})
    placed = place_rows(batch, [1, 3], 5)
    assert placed.to_pydict() == {"a": [None, 1, None, 2, None], "b": [None, "x", None, "y", None]}
    assert place_rows(batch.slice(0, 0), [], 2).to_pydict() == {"a": [None, None], "b": [None, None]}


def test_columns_are_appended() -> None:
    one, two = pa.RecordBatch.from_pydict({"a": [1]}), pa.RecordBatch.from_pydict({"a": [2]})
    both = append_columns(one, ["z"], two)
    assert both.to_pydict() == {"a": [1], "z": [2]}
    assert values_of(both, "z") == [2]


def test_lists_are_flattened() -> None:
    lists = pa.RecordBatch.from_pydict({"x": [[[1.0, 2.0]], [[3.0, 4.0]]], "n": [1, 2], "gap": [[1.0], None]})
    values = nested_values(lists, "x")
    assert values is not None
    assert values.tolist() == [1, 2, 3, 4]
    assert nested_values(lists, "n") is None
    with pytest.raises(InvalidInput, match="a list in every row"):
        nested_values(lists, "gap")
    with pytest.raises(InvalidInput, match="lists of numbers"):
        nested_values(pa.RecordBatch.from_pydict({"t": [["a"]]}), "t")


def test_two_columns_of_one_name_are_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], ["a", "b", "a"])
    with pytest.raises(InvalidInput, match="two columns 'a'"):
        frame_of(batch)
