"""Bounds on work that grows with a request, and the pauses within it: texts, shapes, classes."""

import math

import numpy as np
import pytest

from penstock.core.classification import MAX_RANKED, top_classes
from penstock.core.errors import FaultReason, InvalidInput, NotReady, Overloaded, TooLarge, storage_fault, unknown_model
from penstock.core.limits import MEMORY_SETTING, RequestLimits
from penstock.core.placement import STEP, step_towards
from penstock.core.slices import BYTE_SLICE, TEXT_SLICE, WORK_NS, Pacer
from penstock.core.tensors import (
    MAX_ELEMENTS,
    MAX_RANK,
    Tensor,
    bytes_from_raw,
    bytes_to_raw,
    element_count,
    raw_of,
    raw_rows,
)
from penstock.core.texts import escape_terminal, without_paths
from penstock.core.versions import looks_alike


class Pauses:
    """Counts pauses."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def texts(*items: str) -> np.ndarray:
    found = np.empty(len(items), object)
    found[:] = items
    return found


# Texts.


@pytest.mark.parametrize(
    ("items", "pauses"),
    [
        (["a"] * 3, 0),
        (["a"] * TEXT_SLICE, 0),
        (["a"] * (2 * TEXT_SLICE + 1), 2),
        (["a" * (BYTE_SLICE + 1)] * 3, 3),
    ],
    ids=["few", "a slice", "many", "large"],
)
def test_texts_are_read_and_written_in_slices(items: list[str], pauses: int) -> None:
    written, read = Pauses(), Pauses()
    raw = bytes_to_raw(texts(*items), written)
    assert bytes_from_raw("x", len(items), raw, read).tolist() == items
    assert (written.count, read.count) == (pauses, pauses)


def test_oversized_texts_are_refused_before_all_are_written() -> None:
    with pytest.raises(TooLarge, match="more than 9 bytes"):
        bytes_to_raw(texts(*["a" * (BYTE_SLICE + 1)] * 3), most=9)


def test_large_numbers_are_a_view_and_texts_are_not() -> None:
    numbers = np.arange(1 << 18, dtype="<f8")
    view = raw_of("FP64", numbers)
    assert isinstance(view, memoryview)
    assert np.shares_memory(np.frombuffer(view, "<f8"), numbers)
    assert raw_of("FP64", numbers[:2]) == numbers[:2].tobytes()
    assert raw_of("BYTES", texts("ab")) == b"\x02\0\0\0ab"


@pytest.mark.parametrize(("raw", "count", "rows"), [(b"abcdef", 3, [b"ab", b"cd", b"ef"]), (b"", 2, [b"", b""])])
def test_rows_of_the_same_size(raw: bytes, count: int, rows: list[bytes]) -> None:
    assert raw_rows(raw, count) == rows


def test_a_tensor_is_described_in_json() -> None:
    numbers = Tensor("x", "FP32", np.array([[1.5, math.nan, -math.inf]], "<f4"))
    assert numbers.to_json() == {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.5, "nan", "-inf"]}
    text_values = Tensor("w", "BYTES", texts("short", "long" * 1000)).to_json()["data"]
    assert text_values[0] == "short"
    assert len(text_values[1]) < 1000
    assert Tensor("n", "INT8", np.array([1, -2], "i1")).to_json()["data"] == [1, -2]


# Shapes.


@pytest.mark.parametrize(
    ("shape", "count"), [((), 1), ((2, 3), 6), ((0, 5), 0), ((MAX_ELEMENTS, 0), 0), ((1,) * MAX_RANK, 1)]
)
def test_elements_of_a_shape(shape: tuple[int, ...], count: int) -> None:
    assert element_count("x", shape) == count


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1,) * (MAX_RANK + 1), f"rank {MAX_RANK + 1}"),
        ((2, -1), "impossible shape"),
        ((0, -1), "impossible shape"),
        ((1 << 30, 1 << 30), "impossible shape"),
        ((0, 1 << 30, 1 << 30), "impossible shape"),
    ],
)
def test_impossible_shapes_are_refused(shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        element_count("x", shape)


# Classes.


def test_classes_are_the_largest_values_of_each_row() -> None:
    scores = Tensor("p", "FP32", np.array([[0.25, 0.5, 0.25], [math.nan, 1, 2]], "<f4"))
    found = top_classes(scores, 2, ("a", "b"), batching=True)
    assert found.data.tolist() == [["0.500000:1:b", "0.250000:0:a"], ["2.000000:2", "1.000000:1:b"]]
    alone = top_classes(Tensor("n", "INT32", np.array([[3, 9]], "<i4")), 9, (), batching=False)
    assert (alone.data.tolist(), alone.datatype) == (["9:1", "3:0"], "BYTES")


def test_many_classes_are_written_in_slices() -> None:
    pauses = Pauses()
    scores = Tensor("p", "INT32", np.arange(2 * TEXT_SLICE + 1, dtype="<i4")[None])
    assert top_classes(scores, 1 << 20, (), batching=True, pause=pauses).data.shape == (1, 2 * TEXT_SLICE + 1)
    assert pauses.count == 2


@pytest.mark.parametrize(
    ("datatype", "size", "count", "fault", "says"),
    [
        ("FP32", 3, 0, InvalidInput, "at least 1 class, got 0"),
        ("BOOL", 3, 1, InvalidInput, "needs a numeric output"),
        ("INT8", MAX_RANKED + 1, 1, TooLarge, "ranks at most"),
        ("INT8", 11, 11, TooLarge, "would give 11 strings, over the limit of 10"),
    ],
)
def test_classes_that_are_not_ranked(datatype: str, size: int, count: int, fault: type[Exception], says: str) -> None:
    dtype = {"FP32": "<f4", "BOOL": "?", "INT8": "i1"}[datatype]
    with pytest.raises(fault, match=says):
        top_classes(Tensor("p", datatype, np.zeros((1, size), dtype)), count, (), batching=True, max_texts=10)


# Limits and small rules.


def test_limits_are_within_the_memory_and_say_which_setting_it_was() -> None:
    limits = RequestLimits(max_body_bytes=100, max_output_bytes=200)
    assert limits.within(200) == limits
    less = limits.within(150)
    assert (less.max_body_bytes, less.max_output_bytes, less.max_output_setting) == (100, 150, MEMORY_SETTING)
    least = limits.within(50)
    assert (least.max_body_bytes, least.max_body_setting) == (50, MEMORY_SETTING)


def test_the_expected_time_moves_by_one_step_whatever_was_seen() -> None:
    assert step_towards(100.0, 1e9) == 100.0 * STEP
    assert step_towards(100.0, 1.0) == 100.0 / STEP


def test_a_pacer_sleeps_once_it_has_worked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [1_000], list[float]()
    monkeypatch.setattr("penstock.core.slices.monotonic_ns", lambda: now[0])
    monkeypatch.setattr("penstock.core.slices.sleep", slept.append)
    pacer = Pacer()
    now[0] += WORK_NS - 1
    pacer.pause()
    assert slept == []
    now[0] += 1
    pacer.pause()
    pacer.pause()
    assert len(slept) == 1


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("Load model from /srv/models/a/1/model.onnx failed", "Load model from ... failed"),
        ("onnxruntime::Graph::Resolve", ""),
        ("ai.onnx.ml v3 has no TreeEnsemble", "ai.onnx.ml v3 has no TreeEnsemble"),
        ("got 3 /a/b /c/d", "got 3 ..."),
    ],
)
def test_callers_see_no_paths(text: str, public: str) -> None:
    assert without_paths(text) == public


def test_documents_cannot_steer_a_terminal() -> None:
    assert escape_terminal('{"a": "\x1b[2J\u202e"}') == r'{"a": "\u001b[2J\u202e"}'


@pytest.mark.parametrize(
    ("one", "other", "alike"), [("1", "01", True), ("1", "1.", True), ("V1", "v1", True), ("1", "10", False)]
)
def test_versions_that_are_taken_for_each_other(one: str, other: str, alike: bool) -> None:
    assert looks_alike(one, other) is alike


def test_faults_have_a_text_for_callers_and_the_whole_for_operators() -> None:
    assert NotReady("it failed").reason == FaultReason("it failed")
    assert FaultReason("it failed").full_text == NotReady("it failed").full_text == "it failed"
    assert NotReady("it failed", "in /a").reason.full_text == NotReady("it failed", "in /a").full_text == "in /a"
    assert Overloaded("full", 3.0).retry_after_s == 3.0
    assert len(str(unknown_model("m" * 10_000))) < 1_000
    full = storage_fault(OSError(28, "No space left on device", "/srv"))
    assert full is not None
    assert "/srv" not in str(full)
    assert storage_fault(OSError("other")) is None
