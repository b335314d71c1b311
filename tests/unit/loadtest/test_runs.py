"""The order of windows in each kind of load test, and what becomes of a stop, with a target that is computed."""

import numpy as np
import pytest

from penstock.loadtest.measurement import Measurement, measure
from penstock.loadtest.objectives import parse_objective
from penstock.loadtest.runs import FEWEST_REQUESTS, PAIRS, LoadPlan, Send, find_capacity, judge_all, run_once, run_pairs
from penstock.loadtest.samples import Samples
from penstock.loadtest.schedule import Ramp, due_moments, steady_rate

PLAN = LoadPlan(steady_rate(100), 2.0, 1.0, 7)
P99 = parse_objective("p99<20ms")


def quiet(title: str, seconds: float) -> None:
    """Show nothing."""


class Computed:
    """A target whose answers take so many seconds, and ten times as long above its capacity."""

    def __init__(self, took: float = 0.005, capacity: float = 1e9, stop_at: int = -1, lag: float = 0.0) -> None:
        self.windows: list[tuple[float, float, int]] = []
        self._took, self._capacity, self._stop_at, self._lag = took, capacity, stop_at, lag
        self._now = 0.0

    def clock(self) -> float:
        """The time that the windows took so far."""
        return self._now

    def send(self, ramp: Ramp, seconds: float, seed: int) -> Measurement:
        """A window of load."""
        self.windows.append((ramp.end, seconds, seed))
        self._now += seconds
        due = due_moments(ramp, seconds, "constant", seed)
        took = self._took if ramp.end <= self._capacity else 10 * self._took
        noise = np.random.default_rng(seed).uniform(0.99, 1.01)
        lag = np.full(len(due), self._lag)
        good = np.full(len(due), 200, np.int16)
        stopped = len(self.windows) - 1 == self._stop_at
        return measure(Samples(due, due + lag, due + lag + took * noise, lag, good, stopped), seconds, False)


def test_the_warm_up_does_not_count() -> None:
    target = Computed()
    found = run_once(target.send, PLAN, quiet)
    assert [seconds for _, seconds, _ in target.windows] == [1.0, 2.0]
    assert found.requests == 200
    run_once(target.send, LoadPlan(steady_rate(100), 2.0, 0.0, 7), quiet)
    assert len(target.windows) == 3


def test_a_stop_in_the_warm_up_leaves_nothing() -> None:
    assert run_once(Computed(stop_at=0).send, PLAN, quiet).requests == 0


def test_pairs_have_the_same_schedules_in_random_order() -> None:
    order: list[str] = []

    def noting(name: str, send: Send) -> Send:
        def noted(ramp: Ramp, seconds: float, seed: int) -> Measurement:
            order.append(name)
            return send(ramp, seconds, seed)

        return noted

    own, other = Computed(took=0.006), Computed(took=0.005)
    found = run_pairs(noting("own", own.send), noting("other", other.send), PLAN, quiet)
    assert own.windows == other.windows and len(own.windows) == PAIRS + 1
    assert found.own.seconds == pytest.approx(2.0)
    pairs = {tuple(order[place : place + 2]) for place in range(2, len(order), 2)}
    assert pairs == {("own", "other"), ("other", "own")}
    assert found.ratios["p50_ratio"].estimate == pytest.approx(1.2, rel=0.01)
    assert found.ratios["p50_ratio"].direction == "slower"


def test_a_stop_ends_a_comparison_without_its_pair() -> None:
    own, other = Computed(), Computed(stop_at=3)
    found = run_pairs(own.send, other.send, PLAN, quiet)
    assert found.ratios["p99_ratio"].pairs == 2
    assert len(other.windows) == 4
    assert run_pairs(Computed(stop_at=0).send, Computed().send, PLAN, quiet).own.requests == 0


def test_the_capacity_is_searched_and_confirmed() -> None:
    target = Computed(capacity=733)
    found = find_capacity(target.send, PLAN, [P99], 1000, 1.0, quiet, target.clock)
    assert found.capacity.rate is not None and 690 <= found.capacity.rate <= 733
    assert found.capacity.confirmed
    assert found.measurement.asked_rate == pytest.approx(found.capacity.rate, rel=0.01)
    assert [verdict.outcome for verdict in judge_all([P99], found.measurement, {})] == ["pass"]


def test_a_search_keeps_to_its_time() -> None:
    target = Computed(capacity=733)
    found = find_capacity(target.send, PLAN, [P99], 7.5, 1.0, quiet, target.clock)
    assert [rate for rate, _, _ in target.windows[1:]] == [100, 200, 400]
    assert (found.capacity.rate, found.capacity.confirmed) == (400, False)


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_a_stop_ends_a_search(stop_at: int) -> None:
    target = Computed(stop_at=stop_at)
    found = find_capacity(target.send, PLAN, [P99], 1000, 1.0, quiet, target.clock)
    assert len(target.windows) == stop_at + 1 and len(found.trials) == max(stop_at - 1, 0)
    assert not found.capacity.confirmed


def test_a_generator_that_is_not_in_time_limits_a_search() -> None:
    target = Computed(lag=0.002)
    found = find_capacity(target.send, PLAN, [P99], 60.0, 1.0, quiet, target.clock)
    assert (found.capacity.rate, found.capacity.limit) == (None, "generator")


def test_a_search_that_keeps_nothing_ends_before_windows_without_requests() -> None:
    target = Computed(took=0.05)
    found = find_capacity(target.send, PLAN, [P99], 1000, 1.0, quiet, target.clock)
    assert (found.capacity.rate, found.capacity.limit) == (None, "objective")
    assert found.measurement.requests >= FEWEST_REQUESTS


def test_a_search_that_keeps_everything_ends_at_the_most_requests_of_a_window() -> None:
    target = Computed()
    found = find_capacity(target.send, LoadPlan(steady_rate(3e6), 2.0, 0.0, 7), [P99], 1000, 1.0, quiet, target.clock)
    assert (found.capacity.rate, found.capacity.confirmed) == (3e6, False)


def test_objectives_keep_their_order_and_ratios_need_a_comparison() -> None:
    objectives = [parse_objective(text) for text in ("p99_ratio<2", "p99<20ms", "mean_ratio<2")]
    pairs = run_pairs(Computed().send, Computed().send, PLAN, quiet)
    verdicts = judge_all(objectives, pairs.own, pairs.ratios)
    assert [verdict.objective for verdict in verdicts] == objectives
    assert {verdict.outcome for verdict in verdicts} == {"pass"}
    assert [verdict.outcome for verdict in judge_all(objectives, pairs.own, {})] == ["undecided", "pass", "undecided"]
