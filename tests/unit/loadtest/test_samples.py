"""What a window records, what it shows, and whether it was of the gateway or of the generator."""

import math
from typing import Any

import numpy as np
import pytest

from penstock.loadtest.measurement import combine, measure
from penstock.loadtest.runs import keeps_up
from penstock.loadtest.samples import INTERRUPTED, LoadWindow, Samples
from penstock.loadtest.wire import LOST, TIMED_OUT, UNSENT


def window_of(*outcomes: int, took: float = 0.001, lag: float = 0.0) -> LoadWindow:
    """A window with a request each 10 ms, each sent after the lag and answered after so many seconds."""
    window = LoadWindow([number / 100 for number in range(len(outcomes))])
    for number, outcome in enumerate(outcomes):
        at = number / 100 + lag
        assert window.is_due(at) and window.note_sent(at, 0.0) == number
        if outcome < 0:
            window.note_failure(number, outcome)
        else:
            window.note_answer(number, at + took, outcome)
    assert window.is_complete
    return window


def test_a_duration_runs_from_the_moment_a_request_was_due() -> None:
    window = LoadWindow([0.0, 0.1])
    window.note_sent(0.5, 0.0)
    window.note_answer(0, 0.6, 200)
    window.note_sent(0.7, 0.6)  # the only connection was free since 0.6
    window.note_answer(1, 0.8, 200)
    found = measure(window.samples(), 1.0, transport_is_grpc=False)
    assert found.latency.percentile_us(50) == pytest.approx(600_000, rel=0.001)
    assert found.latency.percentile_us(100) == pytest.approx(700_000, rel=0.001)
    assert found.service.percentile_us(100) == pytest.approx(100_000, rel=0.001)
    assert found.lag.percentile_us(50) == pytest.approx(100_000, rel=0.001)
    assert found.lag.percentile_us(100) == pytest.approx(500_000, rel=0.001)
    assert found.waited == 1


def test_failures_rank_beyond_all_answers_and_are_counted_by_cause() -> None:
    window = window_of(200, 200, 429, 503, LOST, TIMED_OUT, UNSENT, 200)
    found = measure(window.samples(), 1.0, transport_is_grpc=False)
    assert (found.requests, found.good, found.error_ratio) == (8, 3, 5 / 8)
    assert found.failures == {
        "HTTP 429": 1,
        "HTTP 503": 1,
        "connection lost": 1,
        "timed out": 1,
        "no connection was free": 1,
    }
    assert found.figures()["p50"] == math.inf and found.figures()["mean"] == math.inf
    assert (window.finished, window.failed) == (8, 5)


@pytest.mark.parametrize(("outcome", "name"), [(8, "RESOURCE_EXHAUSTED"), (14, "UNAVAILABLE"), (99, "gRPC status 99")])
def test_failures_of_grpc_have_the_names_of_its_statuses(outcome: int, name: str) -> None:
    assert measure(window_of(0, outcome).samples(), 1.0, transport_is_grpc=True).failures == {name: 1}


def test_a_stopped_window_has_what_was_due_by_then() -> None:
    window = LoadWindow([0.0, 0.1, 0.2, 5.0])
    window.note_sent(0.0, 0.0)
    window.note_answer(0, 0.05, 200)
    window.note_sent(0.1, 0.05)
    window.stop(0.25)
    assert window.is_stopped and not window.is_complete
    window.note_failure(1, INTERRUPTED)
    window.give_up(2.0, 0.0, INTERRUPTED)
    assert window.is_complete
    found = measure(window.samples(), 10.0, transport_is_grpc=False)
    assert (found.requests, found.good, found.failures, found.stopped) == (1, 1, {}, True)
    assert found.seconds == pytest.approx(0.2)


def test_requests_without_a_connection_are_given_up_after_the_timeout() -> None:
    window = LoadWindow([0.0, 1.0])
    window.give_up(1.5, 1.0, UNSENT)
    assert (window.finished, window.failed, window.until_due(0.5)) == (1, 1, 0.5)
    window.give_up(2.5, 1.0, UNSENT)
    assert window.is_complete and window.until_due(9.0) == math.inf


def test_a_series_has_the_percentiles_of_each_second() -> None:
    window = window_of(*[200] * 100, *[503] * 50, *[200] * 50)
    first, second = measure(window.samples(), 2.0, transport_is_grpc=False).series
    assert (first.due, first.failed) == (100, 0) and first.p99_ms == pytest.approx(1.0)
    assert (second.due, second.failed, second.p99_ms) == (100, 50, None)
    assert second.p50_ms == pytest.approx(1.0)


def test_windows_add_up() -> None:
    parts = [measure(window_of(200, 200, 503).samples(), 1.0, transport_is_grpc=False) for _ in range(3)]
    whole = combine(parts)
    assert (whole.requests, whole.good, whole.seconds, whole.failures) == (9, 6, 3.0, {"HTTP 503": 3})
    assert [second.second for second in whole.series] == [0, 1, 2]
    nothing = combine([])
    assert nothing.requests == 0 and math.isnan(nothing.error_ratio) and nothing.rate == 0


@pytest.mark.parametrize(
    ("lag", "took", "most_ms", "valid"),
    [(0.0, 0.001, 1.0, True), (0.002, 0.001, 1.0, False), (0.002, 0.001, 3.0, True), (0.002, 0.1, 1.0, True)],
)
def test_a_generator_that_was_not_in_time_says_so(lag: float, took: float, most_ms: float, valid: bool) -> None:
    found = measure(window_of(*[200] * 200, took=took, lag=lag).samples(), 2.0, transport_is_grpc=False)
    assert (found.generator_problem(most_ms) == "") == valid


@pytest.mark.parametrize(("took", "keeps"), [(0.001, True), (0.4, True)])
def test_slow_answers_alone_do_not_count_as_a_backlog(took: float, keeps: bool) -> None:
    assert keeps_up(measure(window_of(*[200] * 100, took=took).samples(), 1.0, transport_is_grpc=False)) == keeps


def test_growing_delays_count_as_a_backlog() -> None:
    due = np.arange(100) / 100
    samples = Samples(due, due, due * 3, np.zeros(100), np.full(100, 200, np.int16), stopped=False)
    assert not keeps_up(measure(samples, 1.0, transport_is_grpc=False))


def test_without_requests_nothing_is_wrong() -> None:
    found = measure(LoadWindow(()).samples(), 0.0, transport_is_grpc=False)
    figures: dict[str, Any] = found.figures()
    assert all(math.isnan(value) for value in figures.values())
    assert found.generator_problem(1.0) == "" and keeps_up(found)
