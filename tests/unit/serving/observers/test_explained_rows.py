"""Live rows are taken to be explained one in each interval, few at a time, and none that is too large."""

from collections.abc import Sequence

import numpy as np
import pytest

from penstock.core.tensors import Tensor
from penstock.serving.observers.explained_rows import MOST_VALUES, MOST_WAITING, TOGETHER, ExplainedRows
from penstock.serving.observers.row_sampler import RowKeepers


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Kept:
    def __init__(self) -> None:
        self.offered = 0

    def offer(self, inputs: Sequence[Tensor]) -> None:
        self.offered += len(inputs)


def rows(*shape: int) -> Tensor:
    return Tensor("x", "FP32", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def test_one_row_of_each_interval_waits_and_eight_are_explained_together() -> None:
    clock, waiting = Clock(), list[int]()
    taken = ExplainedRows(["x"], 2.0, lambda item: waiting.append(len(item)), clock)
    for _ in range(4 * TOGETHER):
        taken.offer([rows(100, 3)])
        clock.now_ns += 250_000_000
    assert len(taken) == 2 * TOGETHER and waiting[0] == TOGETHER
    arrays = taken.take()
    assert arrays["x"].shape == (TOGETHER, 3) and len(taken) == TOGETHER
    assert set(arrays["x"][:, 0]) <= set(range(0, 300, 3))


def test_while_many_wait_none_are_taken() -> None:
    clock = Clock()
    taken = ExplainedRows(["x"], 50.0, lambda _: None, clock)
    for _ in range(2 * MOST_WAITING):
        taken.offer([rows(4, 3)])
        clock.now_ns += 1_000_000_000
    assert len(taken) == MOST_WAITING


@pytest.mark.parametrize("inputs", [[], [rows()], [rows(0, 3)], [rows(1, MOST_VALUES + 1)]], ids=len)
def test_calls_that_are_not_rows_or_too_large_are_not_sampled(inputs: list[Tensor]) -> None:
    taken = ExplainedRows(["x"], 1.0, lambda _: None, Clock())
    taken.offer(inputs)
    assert len(taken) == 0 and taken.take() == {}


def test_rows_of_other_shapes_are_not_explained_together() -> None:
    clock = Clock()
    taken = ExplainedRows(["x"], 1.0, lambda _: None, clock)
    for width in (3, 4, 3):
        taken.offer([rows(1, width)])
        clock.now_ns += 1_000_000_000
    assert taken.take()["x"].shape == (2, 3)


def test_rows_are_offered_to_both_keepers() -> None:
    first, second = Kept(), Kept()
    RowKeepers(first, second).offer([rows(1, 3)])
    assert first.offered == second.offered == 1
