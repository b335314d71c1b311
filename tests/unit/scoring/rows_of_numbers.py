"""Record batches of numbers, and a runner without a model, for tests of scoring."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor

SIGNATURE = Signature([TensorSpec("x", "FP32", (-1, 2))], [TensorSpec("y", "FP32", (-1, 1))], batching=True)


def batch(first: int, rows: int) -> Any:
    """Rows whose numbers are their places, and ten times these."""
    numbers = np.arange(first, first + rows, dtype=np.float32)
    return pa.RecordBatch.from_pydict({"key": [f"k{n:g}" for n in numbers], "a": numbers, "b": 10 * numbers})


class Doubling:
    """Answers the sum of a row, times a factor; counts its rows, and refuses rows that begin with ``bad``."""

    def __init__(self, factor: float = 1.0, bad: Sequence[float] = ()) -> None:
        self.factor, self.bad = factor, bad
        self.rows = 0

    @property
    def signature(self) -> Signature:
        return SIGNATURE

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        data = inputs[0].data
        if np.isin(data[:, 0], self.bad).any():
            raise InvalidInput("the graph cannot take these values")
        self.rows += len(data)
        return [Tensor("y", "FP32", self.factor * data.sum(axis=1, keepdims=True, dtype=np.float32))]
