"""Names of columns: those of a header, and those that are made from the name of a tensor."""

import pytest

from penstock.core.signature import TensorSpec
from penstock.monitor.columns import header_names, input_columns


@pytest.mark.parametrize("spec", [(-1, 3), (-1, -1), (-1, 300), (-1, 2, 2)])
def test_names_made_from_a_tensor_are_not_taken_as_a_header(spec: tuple[int, ...]) -> None:
    columns = input_columns([TensorSpec("x", "FP32", spec)], True)
    assert len(columns.numbers) > 1
    assert header_names(columns.numbers) == ()


@pytest.mark.parametrize("names", [["age", "income"], ["x"], ["x[0]", "age"], ["x.mean"], []])
def test_other_names_are_a_header(names: list[str]) -> None:
    assert header_names(names) == tuple(names)
