"""Nested lists: how deep they may be, and what an error says of lists that are not regular."""

from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.frames.nested import NestedArray
from penstock.core.tensors import MAX_RANK


def nested(depth: int) -> Any:
    values: Any = 1.0
    for _ in range(depth):
        values = [values]
    return values


def test_lists_have_at_most_as_many_axes_as_tensors() -> None:
    assert NestedArray("x", "FP32").read(nested(MAX_RANK)).shape == (1,) * MAX_RANK
    with pytest.raises(InvalidInput, match="too many dimensions"):
        NestedArray("x", "FP32").read(nested(MAX_RANK + 1))


def test_an_irregular_row_is_named() -> None:
    with pytest.raises(InvalidInput) as raised:
        NestedArray("x", "FP32").read([[[1], [2]], [[3], [4, 5]]])
    assert str(raised.value) == "row 1, input 'x': expected lists of the shape [2, 1], as in the first row"
