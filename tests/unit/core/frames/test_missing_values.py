"""Values that defaults stand in for are missing again where the monitor counts; other tensors are not copied."""

from typing import Any

import numpy as np
import pytest

from penstock.core.frames.missing_values import NO_TEXT, put_missing
from penstock.core.frames.terms import DefaultedColumn
from penstock.core.tensors import Tensor


def column(tensor: str, index: int, *rows: int) -> DefaultedColumn:
    """A column of which these rows have a default."""
    return DefaultedColumn("name", tensor, index, np.array(rows, np.int64))


def test_missing_values_are_nan_or_no_text_at_their_rows_of_each_part() -> None:
    inputs = [
        Tensor("x", "FP32", np.arange(8, dtype=np.float32).reshape(4, 2)),
        Tensor("city", "BYTES", np.array([["a"], ["b"], ["c"], ["d"]], object)),
        Tensor("plain", "FP32", np.zeros(4, np.float32)),
    ]
    parts = [(1, [column("x", 1, 0)]), (2, []), (1, [column("x", 0, 0), column("city", 0, 0)])]
    x, city, plain = put_missing(inputs, parts)
    np.testing.assert_array_equal(x.data, np.array([[0, np.nan], [2, 3], [4, 5], [np.nan, 7]], np.float32))
    assert x.data.dtype == np.float32
    assert city.data.tolist() == [["a"], ["b"], ["c"], [NO_TEXT]]
    assert plain.data is inputs[2].data
    assert [(item.name, item.datatype) for item in (x, city, plain)] == [
        ("x", "FP32"),
        ("city", "BYTES"),
        ("plain", "FP32"),
    ]
    assert inputs[0].data[0, 1] == 1 and inputs[1].data[3, 0] == "d"  # what the model gets stays


@pytest.mark.parametrize(("dtype", "datatype"), [(np.int64, "INT64"), (np.bool_, "BOOL")])
def test_what_cannot_be_nan_is_counted_as_numbers_that_can(dtype: Any, datatype: str) -> None:
    [found] = put_missing([Tensor("x", datatype, np.array([1, 0, 1], dtype))], [(3, [column("x", 0, 1)])])
    assert found.data.dtype == np.float64
    np.testing.assert_array_equal(found.data, [1.0, np.nan, 1.0])


def test_an_array_in_another_order_is_marked_at_the_same_places() -> None:
    data = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    [found] = put_missing([Tensor("x", "FP32", data)], [(3, [column("x", 1, 2)])])
    np.testing.assert_array_equal(found.data, np.array([[0, 1], [2, 3], [4, np.nan]], np.float32))
