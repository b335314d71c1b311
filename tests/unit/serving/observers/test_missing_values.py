"""The monitor counts values as missing where a default stood in for them; the model's inputs stay as they were."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from penstock.core.bins import make_label
from penstock.core.frames.terms import DefaultedColumn
from penstock.core.tensors import Array, Tensor
from penstock.monitor.rows import InputsAndOutputs
from penstock.serving.infer_call import InferCall
from penstock.serving.observers.missing_values import mark_missing
from penstock.serving.observers.row_sampler import RowSampler
from tests.calls import answered


def call(inputs: list[Tensor], *defaulted: DefaultedColumn) -> InferCall:
    """A call that was answered, with its defaults."""
    rows = len(inputs[0].data)
    made = answered([Tensor("y", "FP32", np.zeros((rows, 1), np.float32))], "r", inputs, rows)
    made.defaulted = defaulted
    return made


def numbers(values: list[list[float]], dtype: type = np.float32) -> Tensor:
    """An input of rows of numbers."""
    return Tensor("x", "FP32", np.array(values, dtype))


def column(tensor: str, index: int, *rows: int) -> DefaultedColumn:
    """Defaults in these rows."""
    return DefaultedColumn(tensor, tensor, index, np.array(rows, np.int64))


def stacked(calls: Sequence[InferCall]) -> list[Tensor]:
    """The inputs of calls, one after the other."""
    parts = [np.concatenate([call.tensors[index].data for call in calls]) for index in range(len(calls[0].tensors))]
    return [Tensor(tensor.name, tensor.datatype, part) for tensor, part in zip(calls[0].tensors, parts, strict=True)]


def test_values_are_missing_in_the_rows_of_their_call() -> None:
    calls = [call([numbers([[1, 2]])]), call([numbers([[3, 4], [5, 6]])], column("x", 1, 0, 1), column("x", 0, 1))]
    [marked] = mark_missing(calls, stacked(calls))
    np.testing.assert_array_equal(marked.data, [[1, 2], [3, np.nan], [np.nan, np.nan]])
    assert calls[1].tensors[0].data.tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float16])
def test_every_number_can_be_missing(dtype: type) -> None:
    one = call([numbers([[1], [0]], dtype)], column("x", 0, 1))
    [marked] = mark_missing([one], one.tensors)
    np.testing.assert_array_equal(marked.data, [[1], [np.nan]])


def test_texts_can_be_missing_and_other_inputs_stay() -> None:
    texts: Array = np.array(["a", "b"], object)
    one = call([Tensor("city", "BYTES", texts), Tensor("n", "INT64", np.array([1, 2]))], column("city", 0, 0))
    [city, other] = mark_missing([one], one.tensors)
    assert [make_label(value) for value in city.data] == [None, "b"]
    assert other.data is one.tensors[1].data
    assert texts.tolist() == ["a", "b"]


class Seen:
    """Keeps the inputs that are counted."""

    def __init__(self) -> None:
        self.inputs: list[Array] = []

    def count(self, exchanges: Sequence[InputsAndOutputs]) -> None:
        """Keep inputs."""
        self.inputs += [inputs[0].data for inputs, _ in exchanges]

    def drop(self, rows: int) -> None:
        """Nothing is dropped."""


def test_the_sampler_counts_defaults_as_missing() -> None:
    seen = Seen()

    async def run() -> None:
        sampler = RowSampler(seen, True)
        for rows in ((), (0,)):
            sampler.offer(call([numbers([[1, 2]])], *([column("x", 0, *rows)] if rows else [])))
        sampler.flush()

    asyncio.run(run())
    np.testing.assert_array_equal(np.concatenate(seen.inputs), [[1, 2], [np.nan, 2]])
