"""The first rows of a version without a reference: gathered until there are enough, and handed over once."""

from typing import Any

import numpy as np
import pytest

from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns, output_columns
from penstock.serving.observers.baseline_collector import MAX_GATHERED_BYTES, BaselineCollector

Learned = list[tuple[Any, Any, Any]]


def collector(enough: int, learned: Learned, width: int = 2) -> BaselineCollector:
    inputs, outputs = [TensorSpec("x", "FP32", (-1, width))], [TensorSpec("p", "FP32", (-1, 2))]
    columns = input_columns(inputs, True, []), output_columns(outputs, True)
    return BaselineCollector(columns, enough, lambda *found: learned.append(found))


def exchange(rows: int, width: int = 2, outputs: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
    probabilities = np.tile(np.array([[0.25, 0.75]], np.float32), (rows if outputs is None else outputs, 1))
    return [Tensor("x", "FP32", np.ones((rows, width), np.float32))], [Tensor("p", "FP32", probabilities)]


def test_rows_are_handed_over_once_there_are_enough() -> None:
    learned: Learned = []
    gathering = collector(10, learned)
    gathering.count([exchange(4), exchange(5)])
    assert learned == []
    gathering.count([exchange(1), exchange(99)])
    gathering.count([exchange(50)])  # it has learned
    gathering.drop(7)  # and misses nothing
    assert len(learned) == 1
    inputs, outputs, sureness = learned[0]
    assert [sum(map(len, side)) for side in (inputs, outputs)] == [10, 10]
    assert (sureness.classes, sum(sureness.counts)) == (2, 10)


def test_answers_that_do_not_follow_the_rows_are_left_out() -> None:
    learned: Learned = []
    gathering = collector(3, learned)
    gathering.count([exchange(3, outputs=1), exchange(3)])
    assert sum(map(len, learned[0][0])) == 3


def test_wide_rows_are_handed_over_before_they_take_much_memory() -> None:
    learned: Learned = []
    width = 50
    rows = MAX_GATHERED_BYTES // (8 * width) + 1
    collector(1 << 30, learned, width).count([exchange(rows, width)])
    assert len(learned) == 1


@pytest.mark.parametrize("scores", [np.array([[2.0, 3.0]], np.float32), np.array([[np.nan, 1.0]], np.float32)])
def test_numbers_that_are_no_probabilities_say_nothing_of_how_sure(scores: np.ndarray) -> None:
    learned: Learned = []
    gathering = collector(2, learned)
    inputs, _ = exchange(1)
    gathering.count([(inputs, [Tensor("p", "FP32", scores)]), exchange(1)])
    assert learned[0][2] is None
