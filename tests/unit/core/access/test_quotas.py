"""Limits over several workers: each decides by the total of all, and together they keep the limit."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.access.quotas import (
    SAMPLES,
    RateLimit,
    find_allowance,
    place_address,
    place_callers,
    quotas_of,
)
from penstock.core.access.table import AccessTable, Binding, KeyRecord, Quota

EVERYWHERE = 1
IN_TURN = 2


def used(per_second: float, seconds: float, pick: Callable[[float], int], workers: int = 4) -> list[float]:
    """When requests were let through, of ten times as many as the limit allows."""
    clock, total, times = random.Random(7), 0, []
    views = [RateLimit(per_second, 0.0, 0) for _ in range(workers)]
    now = 0.0
    while now < seconds:
        now += clock.expovariate(10 * per_second)
        view = views[pick(now)]
        view.observe(now, total)
        if view.left() >= 1:
            total += 1
            times.append(now)
    return times


@pytest.mark.parametrize("per_second", [10.0, 100.0])
@pytest.mark.parametrize("kind", [EVERYWHERE, IN_TURN])
def test_a_rate_is_kept_over_all_workers(per_second: float, kind: int) -> None:
    picks = random.Random(3)
    times = used(per_second, 20.0, lambda now: picks.randrange(4) if kind == EVERYWHERE else int(now / 3) % 4)
    assert len(times) == pytest.approx(20 * per_second, rel=0.1)
    busiest = max(sum(start <= time < start + 1 for time in times) for start in times)
    assert busiest <= 1.2 * per_second + 1


def test_ten_a_second_are_ten_of_a_hundred_at_once() -> None:
    limit, let = RateLimit(10.0, 5.0, 0), 0
    for number in range(100):
        limit.observe(5.0 + number / 1000, let)
        let += limit.left() >= 1
    assert let == 10


def test_what_became_known_afterwards_has_to_be_earned() -> None:
    limit = RateLimit(50.0, 0.0, 0)
    limit.observe(0.1, 500)
    assert limit.left() < 0
    wait_s = limit.wait_s(0.001)
    assert wait_s == pytest.approx(9.0, abs=0.2)
    limit.observe(0.1 + wait_s + 0.01, 500)
    assert limit.left() > 0


def test_less_than_one_a_second_is_one_in_that_time() -> None:
    limit = RateLimit(0.5, 0.0, 0)
    limit.observe(0.0, 0)
    assert limit.left() == 1
    limit.observe(0.0, 1)
    assert limit.left() == 0 and limit.wait_s(1.0) == pytest.approx(2.0)


@given(st.lists(st.tuples(st.floats(0.0001, 3.0), st.integers(0, 40)), min_size=1, max_size=60))
def test_waiting_as_long_as_stated_is_enough(steps: list[tuple[float, int]]) -> None:
    limit, now, total = RateLimit(10.0, 0.0, 0), 0.0, 0
    for seconds, more in steps:
        now, total = now + seconds, total + more
        limit.observe(now, total)
    wait_s = limit.wait_s(1.0)
    assert (wait_s == 0) == (limit.left() >= 1)
    limit.observe(now + wait_s + limit.window_s / SAMPLES, total)
    assert limit.left() >= 1 - 1e-9


def test_allowances_leave_half_for_the_others() -> None:
    assert [find_allowance(left, 4) for left in (-5.0, 0.0, 7.9, 8.0, 1000.0)] == [0, 0, 0, 1, 125]


def test_callers_have_places_of_their_own_that_stay() -> None:
    names = [f"caller-{number}" for number in range(200)]
    places = place_callers(names, 1024)
    assert len(set(places.values())) == 200 and max(places.values()) < 1024
    more = place_callers([*names, "another"], 1024)
    assert sum(more[name] != place for name, place in places.items()) <= 1


def test_more_callers_than_places_share_some() -> None:
    assert set(place_callers([str(number) for number in range(50)], 8).values()) == set(range(8))


def test_quotas_are_those_of_keys_that_have_one() -> None:
    table = AccessTable(
        keys=(
            KeyRecord("1", "slow", "", ("caller",), quota=Quota(requests=10)),
            KeyRecord("2", "free", "", ("caller",)),
            KeyRecord("3", "slow", "", ("caller",), quota=Quota(requests=20)),
        )
    )
    assert quotas_of(table) == {"slow": Quota(requests=20)}


def test_bindings_have_quotas_by_caller_and_by_group() -> None:
    quota, other = Quota(requests=1.0), Quota(requests=2.0)
    bindings = (
        Binding("caller", "ann"),
        Binding("caller", "ann", quota=quota),
        Binding("viewer", "ann", quota=other),
        Binding("caller", group="team", quota=other),
        Binding("caller", "bot", quota=other),
    )
    keys = (KeyRecord("1", "bot", "", ("caller",), quota=quota), KeyRecord("2", "ann", "", ("caller",)))
    assert quotas_of(AccessTable(bindings=bindings, keys=keys)) == {"ann": quota, "group:team": other, "bot": quota}


def test_addresses_take_no_place_of_a_caller() -> None:
    free = place_address("192.0.2.1", (), 8)
    assert place_address("192.0.2.1", {free}, 8) == (free + 1) % 8
    assert place_address("192.0.2.1", set(range(8)), 8) == free  # none is left: they share
