"""Rows of any datatype become a matrix of numbers, and come back as they were."""

from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import Columns, input_columns
from penstock.serving.explanations.row_matrix import RowMatrix

SPECS = [
    TensorSpec("a", "FP32", (-1, 2)),
    TensorSpec("t", "BYTES", (-1, 1)),
    TensorSpec("i", "INT32", (-1,)),
    TensorSpec("b", "BOOL", (-1, 1)),
    TensorSpec("o", "FP64", (-1, 1), optional=True),
]
TENSORS = [
    Tensor("a", "FP32", np.array([[1.5, np.nan], [3, 4]], np.float32)),
    Tensor("t", "BYTES", np.array([["x"], ["y"]], object)),
    Tensor("i", "INT32", np.array([7, -8], np.int32)),
    Tensor("b", "BOOL", np.array([[True], [False]])),
]


def matrix_of(specs: list[TensorSpec], tensors: list[Tensor], batching: bool = True) -> RowMatrix:
    return RowMatrix(Signature(specs, [], batching=batching), tensors, input_columns(specs, batching))


def test_rows_come_back_as_they_were() -> None:
    matrix = matrix_of(SPECS, TENSORS)
    assert matrix.features == ["a[0]", "a[1]", "t", "i", "b"] and not matrix.is_numeric
    rows = matrix.encode({tensor.name: tensor.data for tensor in TENSORS})
    assert rows is not None and rows.shape == (2, 5)
    for tensor, back in zip(TENSORS, matrix.decode(rows), strict=True):
        assert back.datatype == tensor.datatype and back.data.dtype == tensor.data.dtype
        np.testing.assert_array_equal(back.data, tensor.data)


def test_values_are_those_of_the_rows() -> None:
    matrix = matrix_of(SPECS[1:3], [Tensor("t", "BYTES", np.array([["x"]], object)), TENSORS[2]])
    texts: list[Any] = ["y", b"z", "y"]
    rows = matrix.encode({"t": np.array(texts, object)[:, None], "i": np.array([1, 2, 3], np.int32)})
    assert rows is not None
    assert matrix.values(rows).tolist() == [["y", 1.0], ["z", 2.0], ["y", 3.0]]
    numbers = matrix_of(SPECS[:1], TENSORS[:1])
    assert numbers.values(rows) is rows


def test_numbers_between_whole_ones_are_rounded_and_bounded() -> None:
    matrix = matrix_of([TensorSpec("i", "INT8", (-1, 3))], [Tensor("i", "INT8", np.zeros((1, 3), np.int8))])
    [tensor] = matrix.decode(np.array([[0.6, 300.0, np.nan]]))
    assert tensor.data.tolist() == [[1, 127, 0]]


def test_a_model_without_rows_has_one() -> None:
    spec, tensor = TensorSpec("x", "FP32", (2, 2)), Tensor("x", "FP32", np.arange(4, dtype=np.float32).reshape(2, 2))
    matrix = matrix_of([spec], [tensor], batching=False)
    rows = matrix.encode({"x": tensor.data})
    assert rows is not None and rows.shape == (1, 4)
    assert matrix.decode(rows)[0].data.tolist() == [[0, 1], [2, 3]]


def test_names_of_wide_inputs_are_numbered() -> None:
    spec, data = TensorSpec("x", "FP32", (-1, 300)), np.zeros((1, 300), np.float32)
    assert matrix_of([spec], [Tensor("x", "FP32", data)]).features[299] == "x[299]"


def test_rows_that_do_not_fit_are_none() -> None:
    matrix = matrix_of(SPECS[:1], TENSORS[:1])
    assert matrix.encode({}) is None
    assert matrix.encode({"a": np.zeros((1, 3), np.float32)}) is None
    both = matrix_of([SPECS[0], SPECS[2]], [TENSORS[0], TENSORS[2]])
    assert both.encode({"a": np.zeros((1, 2), np.float32), "i": np.zeros(3, np.int32)}) is None
    assert RowMatrix(Signature(SPECS[:1], []), [], Columns((), True)).encode({}) is None


def test_what_has_no_number_is_refused() -> None:
    large = Tensor("n", "INT64", np.array([[2**60]]))
    matrix = matrix_of([TensorSpec("n", "INT64", (-1, 1))], [large])
    with pytest.raises(InvalidInput, match="2\\^53"):
        matrix.encode({"n": large.data})
    half = TensorSpec("h", "BF16", (-1, 1))
    with pytest.raises(Unsupported, match="BF16"):
        matrix_of([half], [Tensor("h", "BF16", np.zeros((1, 1), np.uint16))])
