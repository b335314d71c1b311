"""Segments of answers: what is appended is seen, found by its key, and written in place; a full one has an index."""

import time
from pathlib import Path

import numpy as np
import pytest

from penstock.core.tensors import Tensor
from penstock.monitor.answer_segments import CAPACITY, INDEX_SUFFIX, AnswerSegment, AnswerWriter, is_complete
from penstock.monitor.answers import RECORD, answers_of, keys_of


def write(writer: AnswerWriter, ids: list[str]) -> None:
    answers = answers_of([Tensor("y", "FP32", np.arange(len(ids), dtype="<f4"))])
    assert answers is not None
    writer.add(ids, [1] * len(ids), answers)


def only(folder: Path) -> AnswerSegment:
    (path,) = folder.glob("*.answers")
    return AnswerSegment(path)


def test_what_a_worker_appends_is_found_by_its_key_after_a_refresh(tmp_path: Path) -> None:
    writer = AnswerWriter(tmp_path, "m", "7")
    write(writer, ["a", "b"])
    segment = only(tmp_path)
    keys = keys_of("m", ["b", "c"])
    assert is_complete(segment.path)
    assert segment.version == "7"
    assert (segment.filled, segment.places(keys)) == (0, {})
    segment.refresh()
    assert segment.filled == 2
    assert {place: places.tolist() for place, places in segment.places(keys).items()} == {0: [1]}
    write(writer, ["c"])
    segment.refresh()
    writer.close()
    assert {place: places.tolist() for place, places in segment.places(keys).items()} == {0: [1], 1: [2]}


def test_records_are_written_back_to_their_places_and_nowhere_else(tmp_path: Path) -> None:
    writer = AnswerWriter(tmp_path, "m", "1")
    write(writer, ["a", "b", "c", "d"])
    writer.close()
    segment = only(tmp_path)
    places = np.array([0, 2, 3])
    records = segment.at(places)
    assert records["answer"].tolist() == [0.0, 2.0, 3.0]
    records["answer"] = [10.0, 12.0, 13.0]
    segment.write(places, records)
    assert segment.read(0, 4)["answer"].tolist() == [10.0, 1.0, 12.0, 13.0]


def test_a_full_segment_gets_an_index_that_finds_what_its_keys_found(tmp_path: Path) -> None:
    writer = AnswerWriter(tmp_path, "m", "1")
    ids = [str(number) for number in range(CAPACITY)]
    write(writer, ids)
    writer.close()
    segment = only(tmp_path)
    segment.refresh()
    wanted = keys_of("m", ["nobody's", "0", str(CAPACITY - 1)])
    assert segment.path.with_suffix(INDEX_SUFFIX).exists()
    assert {place: places.tolist() for place, places in segment.places(wanted).items()} == {1: [0], 2: [CAPACITY - 1]}
    assert segment.bytes() >= CAPACITY * RECORD.itemsize
    segment.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_segment_is_as_old_as_its_last_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = AnswerWriter(tmp_path, "m", "1")
    for now in (1000.0, 2000.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        write(writer, [str(now)])
    writer.close()
    assert only(tmp_path).last_at() == 2000.0
