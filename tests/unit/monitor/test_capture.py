"""Capture: what is kept is what was there, nothing masked reaches a file, and files stay within their budget."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from penstock.core.errors import NotFound
from penstock.core.row_shares import RowAmount
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor import capture
from penstock.monitor.answer_segments import AnswerWriter
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import answers_of
from penstock.monitor.capture import AnsweredRequest, CaptureWriter, list_segments, read_segment, sweep
from penstock.monitor.captured_rows import CapturedRows, LabelledRows, RowSelection, is_held_out, select_labelled_rows
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.feedback import Feedback
from penstock.monitor.row_tables import write_table

INPUTS = [TensorSpec("x", "FP32", (-1, 3)), TensorSpec("word", "BYTES", (-1, 1))]
OUTPUTS = [TensorSpec("p", "FP32", (-1, 2))]
COLUMNS = input_columns(INPUTS, True), output_columns(OUTPUTS, True)
TARGET = ("m", "1")


class Tally:
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.lost = 0

    def count_captured(self, size: int) -> None:
        self.sizes.append(size)

    def count_capture_dropped(self) -> None:
        self.lost += 1


def seen(call_id: str, rows: int = 1, start: float = 0.0) -> AnsweredRequest:
    x = (np.arange(rows * 3, dtype="<f4") + start).reshape(rows, 3)
    word = np.array([[f"w{row}"] for row in range(rows)], object)
    p = np.tile(np.array([[0.25, 0.75]], "<f4"), (rows, 1))
    return AnsweredRequest(
        call_id, "canary", [Tensor("x", "FP32", x), Tensor("word", "BYTES", word)], [Tensor("p", "FP32", p)]
    )


def captured(path: Path) -> list[dict[str, Any]]:
    return [{**item.head, **item.arrays()} for item, _ in read_segment(path)]


def export(folder: Path, store: AnswerStore, target: tuple[str, str], output: Path, without: float = 0.0) -> int:
    selection = RowSelection(*target, without)
    return write_table(CapturedRows(folder, store).batches(selection), selection, output)


def labelled(folder: Path, store: AnswerStore, target: tuple[str, str], share: float, most: int) -> LabelledRows | None:
    return select_labelled_rows(
        CapturedRows(folder, store).newest_first(RowSelection(*target, share, for_exam=True)), most
    )


def test_what_is_kept_is_what_was_there(tmp_path: Path) -> None:
    writer, tally = CaptureWriter(tmp_path, TARGET, COLUMNS, ()), Tally()
    writer.write([seen("a", 2), seen("b", 1, 100.0)], tally)
    [path] = list_segments(tmp_path, *TARGET)
    assert path.stat().st_size == sum(tally.sizes)
    first, second = captured(path)
    assert (first["id"], first["route"], second["id"]) == ("a", "canary", "b")
    assert sum((amount for _, amount in read_segment(path)), RowAmount()) == RowAmount(3, path.stat().st_size)
    assert first["inputs"]["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert first["inputs"]["word"].tolist() == [["w0"], ["w1"]]
    assert first["outputs"]["p"].dtype == np.float32
    assert second["inputs"]["x"].tolist() == [[100, 101, 102]]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 3)  # as while it is being written
    assert [record["id"] for record in captured(path)] == ["a"]


@pytest.mark.parametrize(
    ("masked", "x", "word"),
    [
        (("x[1]",), [0, None, 2], ["w0"]),
        (("word",), [0, 1, 2], None),
        (("x", "p"), None, ["w0"]),
    ],
)
def test_what_is_masked_never_reaches_the_file(tmp_path: Path, masked: tuple[str, ...], x: Any, word: Any) -> None:
    CaptureWriter(tmp_path, TARGET, COLUMNS, masked).write([seen("a")], Tally())
    [path] = list_segments(tmp_path, *TARGET)
    [found] = captured(path)
    values = found["inputs"].get("x")
    if x is None:
        assert values is None
        assert "p" not in found["outputs"]
    else:
        assert [None if np.isnan(value) else value for value in values[0]] == x
    if word is None:
        assert b"w0" not in path.read_bytes()
    else:
        assert found["inputs"]["word"].tolist() == [word]


@pytest.mark.parametrize("masked", ["x[1]", "income"])
def test_a_mask_by_place_holds_when_columns_have_names(tmp_path: Path, masked: str) -> None:
    with_names = input_columns([TensorSpec("x", "FP32", (-1, 3))], True, ["age", "income", "years"]), COLUMNS[1]
    CaptureWriter(tmp_path, TARGET, with_names, (masked,)).write([seen("a")], Tally())
    [found] = captured(list_segments(tmp_path, *TARGET)[0])
    assert np.isnan(found["inputs"]["x"][0]).tolist() == [False, True, False]


def test_a_table_of_rows_with_their_labels(tmp_path: Path) -> None:
    writer, answers = CaptureWriter(tmp_path, TARGET, COLUMNS, ()), AnswerWriter(tmp_path, *TARGET)
    for call_id, rows in (("a", 2), ("b", 1)):
        one = seen(call_id, rows)
        writer.write([one], Tally())
        predicted = answers_of(one.outputs)
        assert predicted is not None
        answers.add([call_id], [rows], predicted)
    store = AnswerStore(tmp_path)
    store.join_feedback("m", [Feedback("a", [1, 0])], 0.0, 1e12)
    assert export(tmp_path, store, TARGET, tmp_path / "rows.parquet") == 3
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [(item["id"], item["row"], item["label"], item["x"], item["word"]) for item in table] == [
        ("a", 0, 1.0, [0, 1, 2], ["w0"]),
        ("a", 1, 0.0, [3, 4, 5], ["w1"]),
        ("b", 0, None, [0, 1, 2], ["w0"]),
    ]
    assert table[0]["output:p"] == [0.25, 0.75]
    with pytest.raises(NotFound):
        export(tmp_path, store, ("m", "2"), tmp_path / "none.parquet")


def test_labels_that_come_with_a_later_segment_are_in_the_table(tmp_path: Path) -> None:
    answers = AnswerWriter(tmp_path, *TARGET)
    for call_id in ("a", "b"):
        writer = CaptureWriter(tmp_path, TARGET, COLUMNS, ())
        one = seen(call_id)
        writer.write([one], Tally())
        writer.close()  # the next one begins another segment
        predicted = answers_of(one.outputs)
        assert predicted is not None
        answers.add([call_id], [1], predicted)
    store = AnswerStore(tmp_path)
    store.join_feedback("m", [Feedback("b", 1)], 0.0, 1e12)
    assert export(tmp_path, store, TARGET, tmp_path / "rows.parquet") == 2
    assert parquet.read_table(tmp_path / "rows.parquet").column("label").to_pylist() == [None, 1.0]


def test_it_is_bounded_in_every_direction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "SEGMENT_BYTES", 4096)
    writer, tally = CaptureWriter(tmp_path, TARGET, COLUMNS, ()), Tally()
    writer.write([seen(str(number)) for number in range(100)], tally)
    assert (len(tally.sizes), tally.lost) == (capture.MOST_OF_A_BATCH, 100 - capture.MOST_OF_A_BATCH)
    assert all(path.stat().st_size <= 4096 for path in list_segments(tmp_path, *TARGET))
    monkeypatch.setattr(capture, "MOST_BYTES_OF_ONE", 500)
    writer.write([seen("large", 100)], tally)
    assert tally.lost == 100 - capture.MOST_OF_A_BATCH + 1
    newest = list_segments(tmp_path, *TARGET)[-1]
    assert sweep(tmp_path, 9000) <= 9000
    assert list_segments(tmp_path, *TARGET)[-1] == newest
    assert sweep(tmp_path, 0) == 0
    assert list_segments(tmp_path, *TARGET) == []


def test_a_disk_that_is_full_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, tally = CaptureWriter(tmp_path, TARGET, COLUMNS, ()), Tally()

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    writer.write([seen("a")], tally)
    assert (tally.sizes, tally.lost) == ([], 1)
    writer.close()


def test_what_is_held_out_for_exams_is_in_no_training_file(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, TARGET, COLUMNS, ())
    answers = AnswerWriter(tmp_path / "answers", *TARGET)
    ids = [f"r{index}" for index in range(40)]
    for index, id_ in enumerate(ids):
        request = seen(id_, 2, float(index))
        writer.write([request], Tally())
        predicted = answers_of(request.outputs)
        assert predicted is not None
        answers.add([id_], [2], predicted)
    store = AnswerStore(tmp_path / "answers")
    store.join_feedback("m", [Feedback(id_, [1, None if id_ == "r3" else 0]) for id_ in ids], 1e9, 1e9)
    out = is_held_out("m", ids, 0.3)
    assert 0 < out.sum() < len(ids)
    rows = export(tmp_path, store, TARGET, tmp_path / "rows.parquet", 0.3)
    trained = set(parquet.read_table(tmp_path / "rows.parquet").column("id").to_pylist())
    assert rows == 2 * len(trained)
    assert trained == {id_ for id_, held in zip(ids, out, strict=True) if not held}
    kept = labelled(tmp_path, store, TARGET, 0.3, 1000)
    assert kept is not None
    firsts = {float(row[0]) for row in kept.inputs[0].data}
    expected = {float(index + three) for index, held in enumerate(out.tolist()) if held for three in (0, 3)}
    assert firsts == expected - ({6.0} if out[3] and not out[6] else set())
    assert len(kept.labels) == 2 * out.sum() - int(out[3])
    few = labelled(tmp_path, store, TARGET, 0.3, 4)
    assert few is not None
    assert len(few.labels) == 4
    assert labelled(tmp_path, store, ("m", "2"), 0.3, 4) is None
