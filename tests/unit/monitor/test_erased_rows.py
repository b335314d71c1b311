"""Erasure in captures and answers: the rows of the subject are gone, all others stay, and writers go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.erasure import ColumnPlace, SubjectKey
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor import answer_segments, erased_rows
from penstock.monitor.answer_segments import ALL_ROWS, AnswerWriter
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import answers_of
from penstock.monitor.capture import AnsweredRequest, CaptureWriter, list_segments, read_segment
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.erased_rows import ErasedRequests, erase_from_segments
from penstock.monitor.feedback import Feedback

INPUTS = [TensorSpec("x", "FP32", (-1, 2)), TensorSpec("who", "BYTES", (-1, 1))]
OUTPUTS = [TensorSpec("y", "INT64", (-1, 1))]
TARGET = ("m", "1")


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erased_rows, "GRACE_S", 0.0)


class Tally:
    def count_captured(self, size: int) -> None: ...

    def count_capture_dropped(self) -> None:
        raise AssertionError("nothing is dropped")


def request(request_id: str, who: Sequence[str], first: float = 0.0) -> AnsweredRequest:
    rows = len(who)
    x = (np.arange(2 * rows, dtype="<f4") + first).reshape(rows, 2)
    texts = np.empty((rows, 1), object)
    texts[:, 0] = who
    y = np.arange(rows, dtype=np.int64).reshape(rows, 1)
    inputs = [Tensor("x", "FP32", x), Tensor("who", "BYTES", texts)]
    return AnsweredRequest(request_id, "stable", inputs, [Tensor("y", "INT64", y)])


def writer(folder: Path, batching: bool = True) -> CaptureWriter:
    columns = input_columns(INPUTS, batching), output_columns(OUTPUTS, batching)
    return CaptureWriter(folder, TARGET, columns, ())


def kept(folder: Path) -> dict[str, list[str]]:
    """Who is in each request that is left."""
    found = [record for path in list_segments(folder, *TARGET) for record, _ in read_segment(path)]
    return {record.id: record.arrays()["inputs"]["who"].ravel().tolist() for record in found}


def erase(folder: Path, column: str, value: str, features: dict[str, ColumnPlace] | None = None) -> ErasedRequests:
    return erase_from_segments(list_segments(folder, *TARGET), SubjectKey(column, value), features or {})


def test_the_rows_of_a_subject_are_gone(tmp_path: Path) -> None:
    writer(tmp_path).write([request("a", ["ann", "bob", "ann"]), request("b", ["bob"]), request("c", ["ann"])], Tally())
    erased = erase(tmp_path, "who", "ann")
    assert kept(tmp_path) == {"a": ["bob"], "b": ["bob"]}
    assert erased.gone == {"a": (frozenset({0, 2}), 3), "c": (frozenset({0}), 1)}
    assert (erased.rows, erased.files) == (3, 1)
    [path] = list_segments(tmp_path, *TARGET)
    assert b"ann" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    [first, _] = [record.arrays() for record, _ in read_segment(path)]
    assert first["inputs"]["x"].tolist() == [[2, 3]] and first["outputs"]["y"].tolist() == [[1]]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("column", "value", "left"),
    [
        ("x[1]", "3", {"a": ["u"], "b": ["w"]}),
        ("x", "0", {"a": ["v"], "b": ["w"]}),
        ("age", "0", {"a": ["v"], "b": ["w"]}),
        ("output:y", "1", {"a": ["u"], "b": ["w"]}),
        ("id", "b", {"a": ["u", "v"]}),
        ("who[0]", "w", {"a": ["u", "v"]}),
        ("x[7]", "1", {"a": ["u", "v"], "b": ["w"]}),
        ("x", "nobody", {"a": ["u", "v"], "b": ["w"]}),
        ("unknown", "1", {"a": ["u", "v"], "b": ["w"]}),
    ],
)
def test_columns(tmp_path: Path, column: str, value: str, left: dict[str, Any]) -> None:
    writer(tmp_path).write([request("a", ["u", "v"]), request("b", ["w"], 100.0)], Tally())
    erase(tmp_path, column, value, {"age": ColumnPlace("x", 0)})
    assert kept(tmp_path) == left


def test_without_a_batch_dimension_the_whole_request_is_gone(tmp_path: Path) -> None:
    writer(tmp_path, batching=False).write([request("a", ["ann", "bob"])], Tally())
    assert erase(tmp_path, "who", "ann").gone == {"a": (frozenset({0, 1}), 2)}
    assert kept(tmp_path) == {}


def test_a_file_without_the_subject_is_left_alone(tmp_path: Path) -> None:
    writer(tmp_path).write([request("a", ["bob"])], Tally())
    [path] = list_segments(tmp_path, *TARGET)
    before = path.stat()
    assert erase(tmp_path, "who", "ann").files == 0
    assert path.stat() == before


def test_a_writer_goes_on_in_a_new_segment(tmp_path: Path) -> None:
    writing = writer(tmp_path)
    writing.write([request("a", ["ann"]), request("b", ["bob"])], Tally())
    erase(tmp_path, "who", "ann")
    writing.write([request("c", ["cid"])], Tally())
    assert len(list_segments(tmp_path, *TARGET)) == 2
    assert kept(tmp_path) == {"b": ["bob"], "c": ["cid"]}


def test_what_is_written_while_a_segment_is_replaced_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = writer(tmp_path)
    writing.write([request("a", ["ann"])], Tally())
    [path] = list_segments(tmp_path, *TARGET)
    old = path.open("ab")  # as a worker that has looked at its segment just before
    more = writer(tmp_path / "other")
    more.write([request("c", ["cid", "ann"])], Tally())
    record = list_segments(tmp_path / "other", *TARGET)[0].read_bytes()

    def write_now(_: float) -> None:
        old.write(record + record[:10])
        old.close()

    monkeypatch.setattr("penstock.monitor.erased_rows.time.sleep", write_now)
    erased = erase(tmp_path, "who", "ann")
    assert kept(tmp_path) == {"c": ["cid"]}
    assert erased.gone == {"a": (frozenset({0}), 1), "c": (frozenset({1}), 2)}


def remembered(folder: Path, *requests: AnsweredRequest) -> None:
    answers = AnswerWriter(folder, *TARGET)
    for item in requests:
        predicted = answers_of(item.outputs)
        assert predicted is not None
        answers.add([item.id], [len(predicted.values)], predicted)


@pytest.mark.parametrize("full", [False, True], ids=["open segment", "full segment"])
def test_remembered_answers_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    if full:
        monkeypatch.setattr(answer_segments, "CAPACITY", 6)
    remembered(tmp_path, request("a", "uvw"), request("b", "u"), request("c", "uv"))
    store = AnswerStore(tmp_path)
    store.join_feedback("m", [Feedback("a", [5, 6, 7]), Feedback("b", [8])], 0.0, 1e12)
    assert store.erase("m", {"a": frozenset({1}), "b": ALL_ROWS, "none": ALL_ROWS}) == 2
    for reader in (store, AnswerStore(tmp_path)):
        assert reader.labels("m", "1", ["a", "b"]) == {"a": [5.0, 7.0]}
        assert [item.id for item in reader.join_feedback("m", [Feedback("b", [1])], 0.0, 1e12).unknown] == ["b"]
    assert store.join_feedback("m", [Feedback("c", [0, 1])], 0.0, 1e12).unknown == []
    assert len(store.labelled("m", "1", 100)) == 4
    assert store.erase("m", {"a": ALL_ROWS}) == 2


def test_an_id_that_was_used_twice(tmp_path: Path) -> None:
    remembered(tmp_path, request("a", "uvw"), request("a", "uv"))
    store = AnswerStore(tmp_path)
    assert store.erase("m", {"a": frozenset({0})}) == 2
    store.join_feedback("m", [Feedback("a", [9])], 0.0, 1e12)
    assert store.labels("m", "1", ["a"]) == {"a": [9.0]}
