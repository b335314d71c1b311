"""How much of large answers is counted for rollouts: some rows, without a bias, as far as a turn has time for them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.serving.observers.output_bins import MAX_ROW_CELLS, some_rows


@given(st.integers(0, 500), st.integers(1, 50), st.integers(0, 2000))
def test_rows_are_counted_as_far_as_there_is_time(rows: int, width: int, most: int) -> None:
    output = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    found = some_rows(output, True, most)
    assert found.size <= most + width
    assert len(found) >= min(rows, 1)
    if output.size <= most:
        assert len(found) == rows
    assert set(found[:, 0].tolist()) <= set(output[:, 0].tolist())


def test_every_row_has_the_same_chance() -> None:
    output = np.arange(100).reshape(100, 1)
    seen = np.bincount(np.concatenate([some_rows(output, True, 10)[:, 0] for _ in range(4000)]), minlength=100)
    assert seen.min() > 300
    assert seen.max() < 500


@pytest.mark.parametrize("batching", [True, False])
def test_a_row_that_is_too_large_is_not_counted(batching: bool) -> None:
    assert some_rows(np.zeros((1, MAX_ROW_CELLS + 1), np.float32), batching, 10).size == 0
    assert some_rows(np.zeros((1, MAX_ROW_CELLS), np.float32), batching, 10).size == MAX_ROW_CELLS


def test_the_whole_call_is_one_row_where_the_model_does_not_batch() -> None:
    output = np.zeros((50, 4), np.float32)
    assert some_rows(output, False, 10) is output
    assert some_rows(np.array(1, np.float32), True, 10).size == 1
