"""What windows with and without traces within one worker say together."""

import numpy as np
import pytest

from loadtests.tracing_windows import Start, pair_windows, read_log, summarise

LOG = "1000000 1000000 1\n2000000 1500000 0\n3000000 1900000 0\n4000000 2300000 1\n5000000 2800000 1\n"
"""Two pairs of windows of a millisecond: 500 µs of processor time in each with traces, 400 in each without."""


def test_each_window_of_a_pair_counts_by_its_state() -> None:
    answered_us = np.arange(900, 5200, 100, dtype=np.int64)  # ten in each window
    pairs = list(pair_windows(read_log(LOG), answered_us))
    assert [traced / plain for traced, plain in pairs] == pytest.approx([1.25, 1.25])
    assert pairs[0] == pytest.approx((50.0, 40.0))


def test_a_pair_in_which_the_client_was_not_always_there_is_left_out() -> None:
    assert len(list(pair_windows(read_log(LOG), np.arange(900, 4500, 100, dtype=np.int64)))) == 1
    assert list(pair_windows(read_log(LOG), np.arange(2100, 4500, 100, dtype=np.int64))) == []


@pytest.mark.parametrize(
    ("parts", "control_us", "verdict"),
    [
        ([1.005, 1.01], 3.0, "yes"),
        ([1.005, 1.01], 15.0, "no"),
        ([1.03, 1.04], 0.0, "no"),
        ([0.97, 1.0, 1.03, 1.06], 0.0, "undecided"),
    ],
)
def test_worker_and_control_process_count_together(parts: list[float], control_us: float, verdict: str) -> None:
    traced_us = [40.0 * parts[number % len(parts)] for number in range(12)]
    start = Start(traced_us, [40.0] * 12, spans_an_answer=0.05, control_us=control_us)
    cost = summarise("json", [start, start])
    assert cost.verdict == verdict
    assert cost.control == pytest.approx([0.05 * control_us / 40] * 2)
