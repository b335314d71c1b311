"""How far apart sampled requests are, and how many may be forced."""

import random

import pytest

from penstock.core.traces.sampling import NEVER, DistanceDraw, TokenBucket


@pytest.mark.parametrize(
    ("ratio", "chance", "distance"),
    [
        (0.0, 0.5, NEVER),
        (1.0, 0.5, 1),
        (0.5, 0.0, 1),
        (0.5, 0.49, 1),
        (0.5, 0.51, 2),
        (0.5, 0.76, 3),
        (0.5, 1 - 2**-53, 54),
        (1e-30, 0.9, NEVER),
        (5e-324, 1 - 2**-53, NEVER),
    ],
)
def test_the_distance_follows_the_ratio(ratio: float, chance: float, distance: int) -> None:
    assert DistanceDraw(ratio).draw(chance) == distance


def test_the_share_of_sampled_requests_is_the_ratio() -> None:
    draw = random.Random(7)
    traces = DistanceDraw(0.01)
    distances = [traces.draw(draw.random()) for _ in range(20_000)]
    assert 0.0097 < len(distances) / sum(distances) < 0.0103


def test_a_bucket_lets_its_rate_through_and_a_second_of_it_at_once() -> None:
    bucket = TokenBucket(3.0)
    now = 10**9
    assert [bucket.take(now) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.take(now + 300_000_000)
    assert bucket.take(now + 340_000_000)
    taken = sum(bucket.take(now + 10**9 + step * 10_000_000) for step in range(1000))
    assert 30 <= taken <= 33


def test_a_bucket_of_less_than_one_a_second_lets_single_ones_through() -> None:
    bucket = TokenBucket(0.5)
    assert [bucket.take(10**9 + step * 10**9) for step in range(5)] == [True, False, True, False, True]


def test_a_bucket_of_nothing_stays_empty() -> None:
    bucket = TokenBucket(0.0)
    assert not any(bucket.take(step * 10**12) for step in range(1, 5))


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1.0)
    assert bucket.take(10**10)
    assert not bucket.take(10**9)
    assert not bucket.take(10**10)
