"""How far ahead of its reader a stream works."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.api.grpc.stream_window import UNKNOWN, AnswerSizes, StreamWindow
from penstock.core.signature import Signature, TensorSpec
from penstock.monitor.counters.slot import Slot
from penstock.serving.version_info import VersionIdentity, VersionInfo


def test_a_request_whose_answer_nobody_can_weigh_is_alone_until_one_was_seen() -> None:
    window = StreamWindow(8, 1000)
    first = window.admit(10, UNKNOWN)
    assert first == 10
    assert window.admit(10, UNKNOWN) == -1
    held = window.set_answer_size(first, 300)
    assert window.admit(10, UNKNOWN) == 310
    assert window.admit(10, UNKNOWN) == 310
    assert window.admit(10, UNKNOWN) == -1  # 920 are taken
    window.release(held)
    assert window.admit(10, UNKNOWN) == 310


def test_shapes_weigh_an_answer_before_one_was_seen() -> None:
    window = StreamWindow(8, 1000)
    assert [window.admit(0, 400) for _ in range(3)] == [400, 400, -1]
    window.set_answer_size(400, 50)  # shapes give only a bound
    assert window.admit(0, 400) == 50


def test_a_request_that_is_alone_always_fits() -> None:
    window = StreamWindow(8, 1000)
    assert window.admit(10**9, 10**9) > 0
    assert window.admit(0, 0) == -1
    assert not window.has_capacity


def test_the_number_of_requests_is_bounded() -> None:
    window = StreamWindow(3, 1000)
    assert [window.admit(1, 1) for _ in range(4)] == [2, 2, 2, -1]
    assert not window.has_capacity
    window.release(2)
    assert window.has_capacity


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400), st.integers(-1, 400), st.integers(0, 3000))))
def test_what_is_held_stays_within_the_window_and_one_answer(steps: list[tuple[bool, int, int, int]]) -> None:
    window = StreamWindow(8, 1000)
    under_way: list[int] = []
    for admits, request, expected, answer in steps:
        if admits or not under_way:
            held = window.admit(request, expected)
            if held >= 0:
                under_way.append(held)
        else:
            window.release(window.set_answer_size(under_way.pop(0), answer))
        assert len(under_way) <= 8
        assert sum(under_way) == window._used_bytes
        assert len(under_way) == 1 or sum(under_way) <= 1000
    for held in under_way:
        window.release(held)
    assert window.has_capacity
    assert window._used_bytes == 0


@pytest.mark.parametrize(
    ("row_in", "row_out", "request_bytes", "expected"),
    [
        (("FP32", (-1, 3)), ("FP32", (-1, 1000)), 12, 8000),
        (("FP32", (-1, 3)), ("FP32", (-1, 1000)), 120, 44000),
        (("FP32", (-1, 3)), ("FP32", (-1, -1)), 12, UNKNOWN),
        (("FP32", (-1, -1)), ("FP32", (-1, 3)), 12, UNKNOWN),
        (("BYTES", (-1, 3)), ("FP32", (-1, 3)), 12, UNKNOWN),
        (("FP32", (-1, 3)), ("BYTES", (-1, 3)), 12, UNKNOWN),
        (("FP32", (-1, 0)), ("INT8", (-1, 3)), 4, 15),
    ],
)
def test_what_shapes_say_about_an_answer(row_in: Any, row_out: Any, request_bytes: int, expected: int) -> None:
    signature = Signature([TensorSpec("x", *row_in)], [TensorSpec("y", *row_out)], batching=True)
    loaded = VersionInfo(VersionIdentity("m", "1"), signature, Slot.in_process().block(1))
    assert AnswerSizes(loaded).expected(request_bytes) == expected
