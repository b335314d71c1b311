"""When requests are due again, by how much differences exceed noise, and counts over time in bounded steps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.replay.judgement import PairCounts, excess_of
from penstock.replay.pace import ASAP, Pace, parse_speed
from penstock.replay.time_series import MOST_STEPS, TimeSeries


@pytest.mark.parametrize(("text", "speed"), [("1", 1.0), ("2x", 2.0), ("0.5", 0.5), ("asap", ASAP)])
def test_a_speed_is_a_factor_or_asap(text: str, speed: float) -> None:
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "fast", "2y"])
def test_other_speeds_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--speed: expected a number above 0"):
        parse_speed(text)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.floats(0.1, 100))
def test_moments_keep_the_order_and_the_scaled_distances(gaps: list[float], speed: float) -> None:
    times = (1.7e9 + np.cumsum(gaps)).tolist()
    pace = Pace(speed)
    due = [pace.due(at) for at in times]
    assert due[0] == 0 and due == sorted(due)
    assert due[-1] == pytest.approx((times[-1] - times[0]) / speed)


def test_a_time_that_goes_back_is_due_with_the_one_before() -> None:
    pace = Pace(2.0)
    assert [pace.due(at) for at in (10.0, 14.0, 12.0, 16.0)] == [0.0, 2.0, 2.0, 3.0]
    assert [Pace(ASAP).due(at) for at in (10.0, 14.0)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("counts", "share", "low"),
    [
        (PairCounts(1000, 0, 0, 0), 0.0, 0.0),
        (PairCounts(1000, 1, 0, 0), 0.001, 0.001),  # without noise, one difference counts
        (PairCounts(1000, 50, 50, 10), 0.0, 0.0),
        (PairCounts(1000, 60, 50, 10), 0.01, 0.0),  # as much as noise does by chance
        (PairCounts(1000, 500, 50, 25), 0.45, 0.45 - 1.6448536 * math.sqrt(500) / 1000),
        (PairCounts(1000, 0, 50, 0), 0.0, 0.0),
    ],
)
def test_differences_count_beyond_noise(counts: PairCounts, share: float, low: float) -> None:
    excess = excess_of(counts)
    assert excess.share == pytest.approx(share)
    assert excess.low == pytest.approx(low)


def test_without_comparisons_there_is_no_share() -> None:
    assert math.isnan(excess_of(PairCounts()).share)


def breaches(turned: float) -> float:
    """Return how often a version breaches that changes its mind in a tenth of the requests, and answers otherwise than
    the captured one in another part of them."""
    random, found = np.random.default_rng(1), 0
    for _ in range(400):
        captured, first, second = random.random((3, 1000)) < 0.1
        other = random.random(1000) < turned
        differs, noisy = captured != (first ^ other), first != second
        counts = PairCounts(1000, int(differs.sum()), int(noisy.sum()), int((differs & noisy).sum()))
        found += excess_of(counts).low > 0
    return found / 400


def test_noise_breaches_as_rarely_as_stated_and_what_is_behind_it_is_found() -> None:
    """The promise of the bound: 5 % false alarms, with what 400 trials leave to chance."""
    assert breaches(0.0) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    assert breaches(0.1) >= 0.9


def test_counts_over_time_stay_bounded_and_add_up() -> None:
    series = TimeSeries(("requests", "differ"))
    for second in range(5000):
        series.add(float(second), "requests")
    series.add(-1.0, "differ", 2)
    steps = series.steps()
    assert (series.step_s, len(steps) <= MOST_STEPS) == (16.0, True)
    assert sum(step.counts[0] for step in steps) == 5000
    assert steps[0].counts == (16, 2)
    assert [step.second for step in steps[:3]] == [0.0, 16.0, 32.0]
