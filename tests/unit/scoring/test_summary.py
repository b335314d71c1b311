"""The summary of a run."""

import numpy as np

from penstock.core.tensors import Tensor
from penstock.scoring.rows import ScoredRows
from penstock.scoring.summary import SHOWN_ROWS, RunSummary


def outputs(*values: float) -> list[Tensor]:
    return [Tensor("y", "FP32", np.array(values, np.float32).reshape(-1, 1))]


def test_rows_and_their_speed_are_reported() -> None:
    times = iter([0.0, 2.0])
    summary = RunSummary(clock=lambda: next(times))
    summary.add(0, ScoredRows(4, outputs(1, 2, 3, 4)), [1.0, 2.0, 3.0, None], is_known=True)
    summary.add(4, ScoredRows(6, outputs(1, 2, 3, 4, 5), {0: "no"}), [2.0] * 5)
    assert summary.drift() is None
    document = summary.document()
    performance = document.pop("performance")
    assert document == {"rows": 10, "failed": 1, "resumed": 4, "seconds": 2.0, "rows_per_second": 3}
    assert (performance["labels"], performance["task"]) == (8, "regression")


def test_disagreeing_rows_are_named_by_their_place_in_the_file() -> None:
    summary = RunSummary(against="2")
    summary.add(0, ScoredRows(4, outputs(1, 2, 3), {1: "no"}, [0, 1], 0.5), None)
    summary.add(4, ScoredRows(30, outputs(*range(30)), {}, list(range(30)), 0.25), None)
    found = summary.document()["against"]
    assert (found["version"], found["rows"], found["disagreements"], found["max_abs_diff"]) == ("2", 33, 32, 0.5)
    assert found["first_rows"] == [0, 2, *range(4, 4 + SHOWN_ROWS - 2)]
    assert summary.disagreement == found["share"] == 32 / 33
