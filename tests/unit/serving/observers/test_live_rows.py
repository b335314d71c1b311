"""A few recent rows are kept: at once while there are few, then one now and then in place of the oldest."""

import numpy as np

from penstock.core.tensors import Tensor
from penstock.serving.observers.live_rows import (
    AT_ONCE,
    CAPACITY,
    INTERVAL_NS,
    MOST_CHARACTERS,
    MOST_ROW_BYTES,
    LiveRows,
)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def rows(first: int, count: int) -> Tensor:
    return Tensor("x", "FP32", np.arange(first, first + count, dtype=np.float32)[:, None])


def test_rows_are_spread_over_a_batch_and_replaced_one_by_one() -> None:
    clock = Clock()
    kept = LiveRows(["x"], clock)
    assert kept.tensors() == {} and len(kept) == 0
    kept.offer([rows(0, 1000)])
    assert len(kept) == AT_ONCE and kept.tensors()["x"].max() > 900
    kept.offer([rows(1000, CAPACITY)])
    assert len(kept) == CAPACITY
    kept.offer([rows(5000, 3)])
    assert 5000 not in kept.tensors()["x"]
    clock.now_ns = INTERVAL_NS
    kept.offer([rows(5000, 3)])
    assert kept.tensors()["x"][-1] == 5000 and len(kept) == CAPACITY


def test_only_whole_rows_of_one_shape_are_kept() -> None:
    kept = LiveRows(["x", "t"], Clock())
    texts = Tensor("t", "BYTES", np.array([["a"], ["b"]], object))
    kept.offer([rows(0, 2)])
    kept.offer([rows(0, 3), texts])
    kept.offer([Tensor("x", "FP32", np.array(1, np.float32)), texts])
    kept.offer([rows(0, 0), Tensor("t", "BYTES", np.empty((0, 1), object))])
    assert len(kept) == 0
    kept.offer([texts, rows(0, 2)])
    assert kept.tensors()["t"].tolist() == [["a"], ["b"]]
    kept.offer([Tensor("x", "FP32", np.zeros((1, 2), np.float32)), Tensor("t", "BYTES", np.array([["c"]], object))])
    assert kept.tensors()["t"].tolist() == [["c"]]


def test_large_rows_are_not_kept() -> None:
    kept = LiveRows(["x"], Clock())
    kept.offer([Tensor("x", "UINT8", np.zeros((1, MOST_ROW_BYTES + 1), np.uint8))])
    assert kept.has_large
    kept.offer([Tensor("x", "BYTES", np.array([["a" * (MOST_CHARACTERS + 1)]], object))])
    assert len(kept) == 0
