"""Which signatures have packed rows, what such a row is, and what the head of a tensor says before its data is made."""

import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.signature import LARGEST_ROW, Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, PLAIN, Tensor

OUTPUT = (TensorSpec("z", "FP32", (-1,)),)


def signature(*inputs: TensorSpec, batching: bool = True, most: int = 0) -> Signature:
    return Signature(inputs, OUTPUT, batching=batching, max_batch_size=most)


@pytest.mark.parametrize("datatype", sorted(PLAIN))
def test_rows_of_numbers_become_what_the_model_takes(datatype: str) -> None:
    form = signature(TensorSpec("x", datatype, (-1, 2, 3))).row_form()
    assert (form.shape, form.elements, form.dims) == ((1, 2, 3), 6, [1, 2, 3])
    rows = [form.pack(*range(6)), form.pack(*range(6, 12))]
    feeds = form.feeds(b"".join(rows), 2)
    assert feeds["x"].dtype == NUMPY_TYPES[datatype]
    assert feeds["x"].tolist() == np.arange(12).reshape(2, 2, 3).tolist()
    assert form.feeds(rows[0])["x"].tolist() == np.arange(6).reshape(1, 2, 3).tolist()
    tensor = form.tensor(rows[1])
    assert (tensor.name, tensor.datatype, tensor.data.tolist()) == ("x", datatype, [[[6, 7, 8], [9, 10, 11]]])


@pytest.mark.parametrize(
    ("inputs", "batching"),
    [
        ((TensorSpec("x", "FP32", (-1, 2)),), False),
        ((TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "FP32", (-1,))), True),
        ((TensorSpec("x", "BYTES", (-1, 2)),), True),
        ((TensorSpec("x", "FP32", (-1, -1)),), True),
        ((TensorSpec("x", "FP32", (-1, 0)),), True),
        ((TensorSpec("x", "FP32", (-1, 4), graph_shape=(-1, 2, 2)),), True),
        ((TensorSpec("x", "FP32", (-1, LARGEST_ROW // 4 + 1)),), True),
    ],
    ids=["no batches", "two inputs", "texts", "any size", "nothing", "reshaped", "large"],
)
def test_other_signatures_have_no_packed_rows(inputs: tuple[TensorSpec, ...], batching: bool) -> None:
    with pytest.raises(ValueError, match="no form for packed rows"):
        signature(*inputs, batching=batching).row_form()


FLOAT = np.dtype("<f4")


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "more", "expected"),
    [
        ("x", "FP32", (1, 3), False, True),
        ("x", "FP32", (2, 3), False, False),
        ("y", "FP32", (1, 3), False, False),
        ("x", "INT32", (1, 3), False, False),
        ("x", "FP32", (1, 3), True, False),
    ],
)
def test_only_one_row_of_the_only_input_is_packed(
    name: str, datatype: str, shape: tuple[int, ...], more: bool, expected: bool
) -> None:
    form = signature(TensorSpec("x", "FP32", (-1, 3))).row_form()
    layout = (name, datatype, FLOAT, 3, 0, shape)
    assert form.is_only_input((layout, layout) if more else (layout,)) is expected


X = TensorSpec("x", "FP32", (-1, 3))
BATCHES = signature(X, TensorSpec("free", "INT8", (-1, -1)), most=4)


@pytest.mark.parametrize(
    ("name", "datatype", "shape"), [("x", "FP32", (4, 3)), ("x", "FP32", (0, 3)), ("free", "INT8", (1, 99))]
)
def test_the_head_of_a_tensor_that_fits(name: str, datatype: str, shape: tuple[int, ...]) -> None:
    assert BATCHES.check(name, datatype, shape).name == name


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "says"),
    [
        ("q", "FP32", (1, 3), r"unknown input 'q'; the model takes 'x' FP32 \[-1, 3\]"),
        ("x", "FP31", (1, 3), "unknown datatype 'FP31'"),
        ("x", "INT8", (1, 3), "got INT8; expected 'x' FP32"),
        ("x", "FP32", (1, 3, 1), r"got rank 3 \[1, 3, 1\]"),
        ("x", "FP32", (1, 4), r"got shape \[1, 4\]"),
        ("x", "FP32", (5, 3), "a batch of 5 rows is over the model's limit of 4"),
    ],
)
def test_the_head_of_a_tensor_that_does_not_fit(name: str, datatype: str, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        BATCHES.check(name, datatype, shape)


def test_an_input_is_reshaped_to_what_the_graph_takes() -> None:
    x = TensorSpec("x", "FP32", (-1, -1), optional=True, graph_shape=(-1, 2, 2))
    reshaping = signature(x, TensorSpec("y", "FP32", (-1,)))
    y = Tensor("y", "FP32", np.zeros(3, FLOAT))
    assert reshaping.bind([Tensor("x", "FP32", np.zeros((3, 4), FLOAT)), y]).feeds["x"].shape == (3, 2, 2)
    assert set(reshaping.bind([y]).feeds) == {"y"}
    with pytest.raises(InvalidInput, match=r"shape \[3, 5\] cannot be reshaped to \[3, 2, 2\]"):
        reshaping.bind([Tensor("x", "FP32", np.zeros((3, 5), FLOAT)), y])
