"""Batches of rows: which rows can be scored, in which order, and with which another version disagrees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.frames.terms import RowTerms
from penstock.core.tensors import Tensor
from penstock.scoring.binding import BatchBinder
from penstock.scoring.rows import BatchScorer, ModelRunner, ScoredRows, reuse_rows
from tests.unit.scoring.rows_of_numbers import SIGNATURE, Doubling, batch

BIND = BatchBinder(SIGNATURE, RowTerms(("a", "b")))


def test_every_row_is_scored_in_order() -> None:
    scored = BatchScorer(BIND, Doubling()).score(batch(3, 4), {})
    assert scored.outputs[0].data.ravel().tolist() == [33.0, 44.0, 55.0, 66.0]
    assert (scored.rows, scored.faults, scored.disagreeing) == (4, {}, None)


@given(rows=st.integers(1, 20), data=st.data())
@settings(max_examples=40)
def test_rows_that_cannot_be_scored_are_found_one_by_one(rows: int, data: st.DataObject) -> None:
    places = st.sets(st.integers(0, rows - 1))
    refused, unread = data.draw(places), data.draw(places)
    runner = Doubling(bad=[float(place) for place in refused])
    scored = BatchScorer(BIND, runner).score(batch(0, rows), dict.fromkeys(unread, "unread"))
    assert sorted(scored.faults) == sorted(refused | unread)
    assert all(scored.faults[place] == "unread" for place in unread)
    good = [place for place in range(rows) if place not in refused | unread]
    assert scored.good == good
    answers = scored.outputs[0].data.ravel().tolist() if good else []
    assert answers == [11.0 * place for place in good]
    again = reuse_rows(BIND, batch(0, rows), scored)
    assert [tensor.data.tolist() for tensor in again.inputs] == [tensor.data.tolist() for tensor in scored.inputs]


def test_a_reason_names_no_place_in_a_part() -> None:
    texts = pa.RecordBatch.from_pydict({"a": ["1", "x", "2"], "b": ["1", "2.5", "3"]})
    scored = BatchScorer(BatchBinder(SIGNATURE, RowTerms(("a", "b")), are_texts=True), Doubling()).score(texts, {})
    assert scored.faults == {1: "column 'a': expected a number, got 'x'"}


def test_defaults_count_as_missing_values_and_are_run_and_explained() -> None:
    seen: list[Any] = []

    def explain(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        seen.extend(inputs)
        return ()

    bind = BatchBinder(SIGNATURE, RowTerms(("a", "b"), {"b": 7}))
    rows = pa.RecordBatch.from_pydict({"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, None, 3.0, None]})
    scored = BatchScorer(bind, Doubling(bad=[3.0]), explain=explain).score(rows, {})
    assert scored.outputs[0].data.ravel().tolist() == [2, 9, 11]
    assert seen[0].data.tolist() == [[1, 1], [2, 7], [4, 7]]
    for found in (scored, reuse_rows(bind, rows, scored)):
        np.testing.assert_array_equal(found.inputs[0].data, [[1, 1], [2, np.nan], [4, np.nan]])


def test_rows_are_compared_one_by_one() -> None:
    scored = BatchScorer(BIND, Doubling(), Doubling(1.01, bad=[2.0])).score(batch(0, 5), {})
    assert sorted(scored.faults) == [2]
    assert scored.disagreeing == [1, 2, 3]  # of the rows 0, 1, 3 and 4: the first has no number but 0
    assert scored.max_abs_diff == pytest.approx(0.44, rel=1e-3)


class _Model:
    """Remembers the rows of each run."""

    signature = SIGNATURE

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run(self, feeds: dict[str, Any], outputs: Sequence[str]) -> list[Any]:
        data = np.asarray(feeds["x"])
        self.runs.append(len(data))
        return [data.sum(axis=1, keepdims=True)]


def test_runs_have_no_more_rows_than_a_model_allows() -> None:
    model = _Model()
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    [y] = ModelRunner(model, max_rows=2).run([Tensor("x", "FP32", x)])
    assert model.runs == [2, 2, 1]
    assert y.data.ravel().tolist() == x.sum(axis=1).tolist()


def test_nothing_is_good_of_rows_without_outputs() -> None:
    assert ScoredRows(2, (), {0: "a", 1: "b"}).good == []
