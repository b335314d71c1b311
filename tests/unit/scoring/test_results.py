"""Composed results: a row for each row, joined columns, names that meet."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor
from penstock.scoring.results import JoinedColumns, compose_results
from penstock.scoring.rows import ScoredRows

SIGNATURE = Signature([], [TensorSpec("y", "FP32", (-1, 1))], batching=True)
BATCH = pa.RecordBatch.from_pydict({"key": ["a", "b", "c"], "x": [1, 2, 3], "y": [True, None, False]})
SCORED = ScoredRows(3, [Tensor("y", "FP32", np.array([[1.0], [3.0]], np.float32))], {1: "no"})


@pytest.mark.parametrize(
    ("join", "key", "names"),
    [
        ("", "", ["y"]),
        ("", "key", ["key", "y"]),
        ("x", "key", ["key", "x", "y"]),
        ("x, key", "key", ["key", "x", "y"]),
        ("all", "", ["key", "x", "y", "output:y"]),
        ("all", "x", ["x", "key", "y", "output:y"]),
    ],
)
def test_joined_columns_come_first(join: str, key: str, names: list[str]) -> None:
    result = compose_results(BATCH, SCORED, JoinedColumns.parse(join, key), SIGNATURE)
    assert result.schema.names == names
    assert result.column(result.num_columns - 1).to_pylist() == [1.0, None, 3.0]
    for name in names[:-1]:
        assert result.column(name).equals(BATCH.column(name))


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInput, match="no column 'z'; it has 'key', 'x', 'y'"):
        compose_results(BATCH, SCORED, JoinedColumns.parse("z"), SIGNATURE)
