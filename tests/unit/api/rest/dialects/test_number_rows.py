"""The fast way of rows of numbers: what it takes is as the general way has it, and all else is left to that."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.api.rest.dialects.number_rows import MAX_PACKED, read_float_rows
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Array


def of(*dims: int, datatype: str = "FP32") -> Signature:
    return Signature([TensorSpec("x", datatype, (-1, *dims))], [], batching=True)


def read(document: Any, signature: Signature, *, from_inputs: bool = False) -> Array | None:
    found = read_float_rows(json.dumps(document).encode(), signature, from_inputs=from_inputs)
    if isinstance(found, bytes):
        return signature.row_form().tensor(found).data
    return None if found is None else found[0].data


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=20), st.booleans())
@settings(max_examples=30)
def test_rows_of_both_forms(rows: list[list[float]], from_inputs: bool) -> None:
    found = read({"inputs" if from_inputs else "instances": rows}, of(3), from_inputs=from_inputs)
    assert found is not None
    assert np.array_equal(found, np.array(rows, np.float32))


@pytest.mark.parametrize("count", [1, 2, MAX_PACKED + 1])
@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_values_of_both_forms(count: int, datatype: str) -> None:
    values = [index / 2 for index in range(count)]
    for member in ("instances", "inputs"):
        found = read({member: values}, of(datatype=datatype), from_inputs=member == "inputs")
        assert found is not None
        assert found.tolist() == values


@pytest.mark.parametrize(
    ("document", "signature"),
    [
        ({"instances": []}, of(3)),
        ({"instances": []}, of()),
        ({"instances": [[1, 2]]}, of(3)),
        ({"instances": [[1, 2, 3], [1, 2]]}, of(3)),
        ({"instances": [1, 2, 3]}, of(3)),
        ({"instances": [[1], [2]]}, of()),
        ({"instances": [[1, 2, "a"]]}, of(3)),
        ({"instances": [[1, 2, None]]}, of(3)),
        ({"instances": [[1, 2, 1e300]]}, of(3)),
        ({"instances": [1e300, 1]}, of()),
        ({"instances": [1e300] * (MAX_PACKED + 1)}, of()),
        ({"inputs": [[1, 2, 3]]}, of(3)),
        ({"instances": [[1, 2, 3]]}, of(3, datatype="INT64")),
        ({"instances": [[[1, 2, 3]]]}, of(1, 3)),
        ([[1, 2, 3]], of(3)),
    ],
)
def test_everything_else_is_left_to_the_general_way(document: Any, signature: Signature) -> None:
    assert read(document, signature) is None
