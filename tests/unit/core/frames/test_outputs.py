"""Outputs as frames."""

from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.frames.outputs import outputs_to_frame
from penstock.core.frames.records import to_columns
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor

SIGNATURE = Signature(
    [],
    [
        TensorSpec("label", "INT64", (-1,)),
        TensorSpec("p", "FP32", (-1, 2), labels=("no", "yes")),
        TensorSpec("e", "FP64", (-1, 2)),
    ],
)


def tensor(name: str, datatype: str, values: Any, dtype: Any) -> Tensor:
    """A tensor of an answer."""
    return Tensor(name, datatype, np.array(values, dtype))


OUTPUTS = [
    tensor("label", "INT64", [1, 0], np.int64),
    tensor("p", "FP32", [[0.1, 0.9], [0.8, 0.2]], np.float32),
    tensor("e", "FP64", [[1, 2], [3, 4]], np.float64),
]


def test_a_row_has_a_column_for_each_value() -> None:
    assert to_columns(outputs_to_frame(OUTPUTS, SIGNATURE)) == {
        "label": [1, 0],
        "p_no": [0.1, 0.8],
        "p_yes": [0.9, 0.2],
        "e_0": [1.0, 3.0],
        "e_1": [2.0, 4.0],
    }


@pytest.mark.parametrize(
    ("output", "values"),
    [
        (tensor("y", "BF16", [0x3F80, 0xC000], np.uint16), [1.0, -2.0]),
        (tensor("y", "FP16", [0.5, 2], np.float16), [0.5, 2.0]),
        (tensor("y", "UINT64", [2**64 - 1, 0], np.uint64), [2**64 - 1, 0]),
        (tensor("y", "INT8", [-1, 1], np.int8), [-1, 1]),
        (tensor("y", "BOOL", [True, False], np.bool_), [True, False]),
        (tensor("y", "BYTES", ["a", "b"], object), ["a", "b"]),
        (tensor("y", "FP32", [[1], [2]], np.float32), [1.0, 2.0]),
    ],
)
def test_every_datatype_has_a_column(output: Tensor, values: list[Any]) -> None:
    assert to_columns(outputs_to_frame([output], SIGNATURE)) == {"y": values}


def test_columns_of_one_name_get_another() -> None:
    outputs = [tensor("a", "FP64", [[1, 2]], np.float64), tensor("a_1", "FP64", [3], np.float64)]
    assert to_columns(outputs_to_frame(outputs, SIGNATURE)) == {"a_0": [1.0], "a_1": [2.0], "a_1_": [3.0]}


@pytest.mark.parametrize(
    "outputs", [[tensor("y", "FP64", 1.0, np.float64)], [OUTPUTS[0], tensor("z", "FP64", [1], float)]]
)
def test_outputs_without_rows_in_common_are_not_rows(outputs: list[Tensor]) -> None:
    with pytest.raises(InvalidInput, match="no rows in common"):
        outputs_to_frame(outputs, SIGNATURE)
