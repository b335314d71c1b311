"""The bins of what models answer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.monitor.outputs import MIDDLE, NOT_FINITE, OTHER, OUTPUT_BINS, bins_of


@pytest.mark.parametrize(
    ("output", "batching", "expected"),
    [
        (np.array([0, 3, 199, 200, -1]), True, [0, 3, 199, OTHER, OTHER]),
        (np.array([[True], [False]]), True, [1, 0]),
        (np.array([[0.1, 0.7, 0.2], [0.9, 0.1, 0.0]], np.float32), True, [1, 0]),
        (np.array([[0.1, np.nan, 0.2], [0.1, 0.2, np.inf]], np.float32), True, [NOT_FINITE, NOT_FINITE]),
        (np.array([0.1, 0.9], np.float32), False, [1]),
        (np.array(5, np.int64), False, [5]),
        (np.zeros((0, 3), np.float32), True, []),
        (np.array([[np.nan], [-np.inf]], np.float32), True, [NOT_FINITE, NOT_FINITE]),
        (np.array([[1.0], [1.01], [1.2]], np.float32), True, [MIDDLE + 60, MIDDLE + 60, MIDDLE + 61]),
        (np.array([[0.0], [-0.0], [1e-30]], np.float32), True, [MIDDLE, MIDDLE, MIDDLE]),
        (np.array([[1e30], [-1e30]], np.float32), True, [MIDDLE + 119, MIDDLE - 120]),
    ],
)
def test_outputs_are_counted_in_bins(output: Any, batching: bool, expected: list[int]) -> None:
    assert bins_of(output, batching).tolist() == expected


def test_texts_are_distinguished_by_a_hash() -> None:
    one, same, other = bins_of(np.array([["cat"], ["cat"], ["dog"]], object), batching=True).tolist()
    assert one == same != other


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=30))
def test_numbers_fall_in_order_and_within_the_bins(values: list[float]) -> None:
    bins = bins_of(np.array(values, np.float32)[:, None], batching=True)
    assert ((bins >= 0) & (bins < OUTPUT_BINS)).all()
    finite = [(value, item) for value, item in zip(values, bins.tolist(), strict=True) if np.isfinite(value)]
    assert [item for _, item in sorted(finite)] == sorted(item for _, item in finite)
    assert sum(item == NOT_FINITE for item in bins.tolist()) == len(values) - len(finite)
