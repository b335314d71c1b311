"""A request's tensors held against a model's signature."""

import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor

X = TensorSpec("x", "FP32", (-1, 3))
Y = TensorSpec("y", "INT64", (-1,))
NOTE = TensorSpec("note", "BYTES", (-1, 1), optional=True)
SIGNATURE = Signature((X, Y, NOTE), (TensorSpec("z", "FP32", (-1,)),), batching=True, max_batch_size=4)


def tensor(name: str, datatype: str, *shape: int) -> Tensor:
    return Tensor(name, datatype, np.zeros(shape, "<f4" if datatype == "FP32" else "<i8"))


def x(*shape: int) -> Tensor:
    return tensor("x", "FP32", *shape)


def y(*shape: int) -> Tensor:
    return tensor("y", "INT64", *shape)


def test_fitting_inputs_become_feeds() -> None:
    bound = SIGNATURE.bind([y(2), x(2, 3)])
    assert set(bound.feeds) == {"x", "y"}
    assert (bound.rows, bound.elements) == (2, 8)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ([x(2, 3)], r"missing input 'y' INT64 \[-1\]"),
        ([x(2, 3), y(2), x(2, 3)], "'x' is given 2 times"),
        ([x(2, 3), y(2), tensor("q", "FP32", 1)], r"unknown input 'q'; the model takes 'x' FP32 \[-1, 3\]"),
        ([tensor("x", "INT64", 2, 3), y(2)], r"got INT64; expected 'x' FP32 \[-1, 3\]"),
        ([x(2, 3, 1), y(2)], r"got rank 3 \[2, 3, 1\]; expected 'x' FP32 \[-1, 3\]"),
        ([x(2, 4), y(2)], r"got shape \[2, 4\]; expected 'x' FP32 \[-1, 3\]"),
        ([x(2, 3), y(1)], "disagree on the batch size: 1 rows in 'y', not 2"),
        ([x(5, 3), y(5)], "a batch of 5 rows is over the model's limit of 4"),
    ],
)
def test_what_does_not_fit_is_said(tensors: list[Tensor], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        SIGNATURE.bind(tensors)


def test_unknown_output_names_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"unknown output 'w'; the model gives 'z' FP32 \[-1\]"):
        SIGNATURE.output("w")


@pytest.mark.parametrize(("rows", "given"), [(0, (0, 3)), (4, (4, 3))])
def test_empty_and_full_batches_fit(rows: int, given: tuple[int, ...]) -> None:
    assert SIGNATURE.bind([x(*given), y(rows)]).rows == rows


def test_a_stated_reshape_is_done_for_the_graph() -> None:
    spec = TensorSpec("x", "FP32", (-1, 1), graph_shape=(-1,))
    bound = Signature((spec,), (), batching=True).bind([x(2, 1)])
    assert bound.feeds["x"].shape == (2,)


def test_a_scalar_input_is_one_row() -> None:
    signature = Signature((TensorSpec("x", "FP32", ()),), ())
    assert signature.bind([x()]).rows == 1


IDS = TensorSpec("ids", "INT64", (-1, -1))
MASK = TensorSpec("mask", "INT64", (-1, -1), optional=True)
SYMBOLIC_DIMS = {"batch": [("ids", 0), ("mask", 0)], "seq": [("ids", 1), ("mask", 1)]}


def tokens(name: str, *shape: int) -> Tensor:
    return tensor(name, "INT64", *shape)


@pytest.mark.parametrize("batching", [True, False])
def test_dimensions_of_one_name_are_of_one_size(batching: bool) -> None:
    signature = Signature((IDS, MASK), (), batching, symbolic_dims=SYMBOLIC_DIMS)
    assert signature.bind([tokens("ids", 2, 7), tokens("mask", 2, 7)]).elements == 28
    assert signature.bind([tokens("ids", 2, 7)]).elements == 14
    for length in (1, 6, 8):  # 1 would be repeated by the runtime, and answered wrongly
        with pytest.raises(InvalidInput, match=rf"dimension 'seq' is 7 in input 'ids' and {length} in input 'mask'"):
            signature.bind([tokens("mask", 2, length), tokens("ids", 2, 7)])
    with pytest.raises(InvalidInput, match="batch"):
        signature.bind([tokens("ids", 2, 7), tokens("mask", 3, 7)])


def test_one_input_may_name_a_dimension_twice() -> None:
    signature = Signature((IDS,), (), symbolic_dims={"n": [("ids", 0), ("ids", 1)]})
    assert signature.bind([tokens("ids", 3, 3)]).elements == 9
    with pytest.raises(InvalidInput, match="dimension 'n' is 3 in input 'ids' and 4"):
        signature.bind([tokens("ids", 3, 4)])
