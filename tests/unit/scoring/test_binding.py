"""How the columns of a record batch become a version's inputs."""

from typing import Any

import pyarrow as pa
import pytest

from penstock.core.errors import InvalidInput
from penstock.core.frames.terms import RowTerms
from penstock.core.signature import Signature, TensorSpec
from penstock.scoring.binding import BatchBinder

FEATURES = Signature([TensorSpec("x", "FP32", (-1, 2))], [], batching=True)
COLUMNS = Signature([TensorSpec("age", "INT64", (-1, 1)), TensorSpec("town", "BYTES", (-1, 1))], [], batching=True)
IMAGE = Signature([TensorSpec("x", "FP32", (-1, 2, 2))], [], batching=True)


def bound(binder: BatchBinder, columns: dict[str, Any]) -> list[Any]:
    batch = pa.RecordBatch.from_pydict(columns)
    binder.check(batch.schema.names)
    return [tensor.data.tolist() for tensor in binder(batch).inputs]


def test_columns_are_found_by_name_and_others_ignored() -> None:
    binder = BatchBinder(FEATURES, RowTerms(("a", "b")))
    assert bound(binder, {"b": [2, 4], "key": ["k", "l"], "a": [1.0, 3.0]}) == [[[1, 2], [3, 4]]]
    assert binder.columns == ("a", "b")


def test_columns_without_names_are_taken_in_their_order() -> None:
    assert bound(BatchBinder(FEATURES, RowTerms()), {"p": [1.0], "q": [2.0]}) == [[[1, 2]]]


def test_texts_are_parsed_where_numbers_are_expected() -> None:
    binder = BatchBinder(COLUMNS, RowTerms(), are_texts=True)
    assert bound(binder, {"age": ["30"], "town": ["007"]}) == [[[30]], [["007"]]]
    with pytest.raises(InvalidInput, match="column 'age'"):
        bound(binder, {"age": ["x"], "town": ["y"]})


def test_lists_are_inputs_as_they_are() -> None:
    assert bound(BatchBinder(IMAGE, RowTerms()), {"x": [[1.0, 2.0, 3.0, 4.0]]}) == [[[[1, 2], [3, 4]]]]
    assert bound(BatchBinder(IMAGE, RowTerms()), {"x": [[[1.0, 2.0], [3.0, 4.0]]]}) == [[[[1, 2], [3, 4]]]]
    assert bound(BatchBinder(FEATURES, RowTerms(("a", "b"))), {"x": [[1.0, 2.0]]}) == [[[1, 2]]]
    with pytest.raises(InvalidInput, match="lists of 4 numbers"):
        bound(BatchBinder(IMAGE, RowTerms()), {"x": [[1.0, 2.0, 3.0]]})


def test_missing_columns_are_named_unless_they_have_a_default() -> None:
    with pytest.raises(InvalidInput, match="no column 'b'"):
        bound(BatchBinder(FEATURES, RowTerms(("a", "b"))), {"a": [1.0], "c": [1.0], "d": [1.0]})
    assert bound(BatchBinder(FEATURES, RowTerms(("a", "b"), {"b": 7})), {"a": [1.0, 2.0]}) == [[[1, 7], [2, 7]]]


def test_a_model_without_names_says_how_to_name_its_columns() -> None:
    with pytest.raises(InvalidInput, match="in order, with --features"):
        BatchBinder(Signature([TensorSpec("X", "FP32", (-1, 13))], [], True), RowTerms()).check(
            ["f0", "f1", "f2", "label"]
        )
