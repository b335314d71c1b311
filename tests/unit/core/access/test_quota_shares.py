"""Shares of quotas over a fleet: they sum to the quota, follow demand, and come back from a gateway that is lost."""

from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.access.quota_shares import (
    DECAY,
    EVEN_PART,
    MOST_CALLERS,
    WHOLE,
    CallerTotals,
    Demand,
    DemandMeter,
    QuotaShare,
    divide,
    divide_whole,
    share_quotas,
)
from penstock.core.access.table import Quota

GATEWAYS = [f"g{number}" for number in range(8)]
demands = st.dictionaries(st.sampled_from(GATEWAYS), st.floats(0.0, 1e6), min_size=1)


@given(demands)
@example({"g0": 5e-324})
def test_parts_sum_to_the_whole_and_nobody_has_none(demand: Mapping[str, float]) -> None:
    parts = divide(demand)
    assert sum(parts.values()) == pytest.approx(1.0)
    assert min(parts.values()) >= EVEN_PART / len(demand) * 0.999
    ordered = sorted(demand, key=demand.__getitem__)
    assert all(parts[low] <= parts[high] + 1e-12 for low, high in pairwise(ordered))


@given(demands, st.integers(0, 10_000))
def test_whole_numbers_sum_to_the_limit(demand: Mapping[str, float], limit: int) -> None:
    parts = divide(demand)
    shares = divide_whole(limit, parts)
    if limit == 0:
        assert set(shares.values()) == {0}
        return
    assert sum(shares.values()) == max(limit, len(demand))
    assert min(shares.values()) >= 1
    assert all(abs(shares[name] - limit * parts[name]) <= len(demand) + 1 for name in demand)


@given(st.lists(st.floats(0.0, 1e5), min_size=2, max_size=8), st.floats(1.0, 1e5))
def test_what_a_fleet_lets_through_is_the_quota_within_a_tenth(offered: list[float], limit: float) -> None:
    """In a steady state each gateway lets through what it is asked for, up to its share."""
    parts = divide(dict(zip(GATEWAYS, offered, strict=False)))
    used = sum(min(parts[name] * limit, rate) for name, rate in zip(GATEWAYS, offered, strict=False))
    wanted = min(limit, sum(offered))
    assert 0.9 * wanted <= used <= wanted * 1.0001 + 1e-9


def test_a_gateway_alone_or_unknown_has_all_of_each_quota() -> None:
    quotas = {"bot": Quota(10.0)}
    assert share_quotas("a", {"a": {}}, quotas) == share_quotas("c", {"a": {}, "b": {}}, quotas) == {}
    assert WHOLE.of(Quota(10.0, 20.0, 30.0, 4, 50)) == Quota(10.0, 20.0, 30.0, 4, 50)


def test_each_part_of_a_quota_follows_its_own_demand() -> None:
    asked = {"a": {"bot": Demand(10.0, 0.0, 1.0, 3.0, 0.0)}, "b": {"bot": Demand(0.0, 50.0, 1.0, 1.0, 0.0)}}
    quotas = {"bot": Quota(100.0, 100.0, 100.0, 4, 1000), "idle": Quota(concurrent=1)}
    first, second = (share_quotas(name, asked, quotas) for name in "ab")
    assert (first["bot"].requests, second["bot"].requests) == pytest.approx((0.975, 0.025))
    assert (first["bot"].rows, second["bot"].rows) == pytest.approx((0.025, 0.975))
    assert first["bot"].model_ms == first["bot"].body_bytes == 0.5
    assert (first["bot"].concurrent, second["bot"].concurrent) == (3, 1)
    assert first["idle"].concurrent == second["idle"].concurrent == 1
    local = first["bot"].of(quotas["bot"])
    assert (local.requests, local.rows, local.model_ms) == pytest.approx((97.5, 2.5, 50.0))
    assert (local.concurrent, local.body_bytes) == (3, 500)


def test_a_share_is_never_no_limit() -> None:
    local = QuotaShare(0.01, 0.01, 0.01, 1, 0.01).of(Quota(1.0, concurrent=2, body_bytes=10))
    assert (local.requests, local.rows, local.concurrent, local.body_bytes) == (0.01, 0.0, 1, 1)


# Demand.


def test_refused_requests_count_as_much_as_the_others_needed() -> None:
    meter = DemandMeter()
    assert meter.observe(0.0, {"bot": CallerTotals(100, 100)}) == {}  # nothing is known of the time before
    totals = CallerTotals(requests=110, rows=120, model_us=50_000, refused=30, open=2, open_bytes=5)
    assert meter.observe(10.0, {"bot": totals}) == {"bot": Demand(4.0, 8.0, 20.0, 8.0, 20.0)}


def test_a_caller_who_is_refused_altogether_has_a_demand() -> None:
    meter = DemandMeter()
    meter.observe(0.0, {"bot": CallerTotals()})
    assert meter.observe(1.0, {"bot": CallerTotals(refused=5)})["bot"] == Demand(5.0, 5.0, 5.0, 5.0, 5.0)


def test_a_demand_falls_gradually_and_ends() -> None:
    meter = DemandMeter()
    meter.observe(0.0, {"bot": CallerTotals()})
    meter.observe(1.0, {"bot": CallerTotals(requests=8)})
    assert meter.observe(2.0, {"bot": CallerTotals(requests=8)})["bot"].requests == 8 * DECAY
    found = [meter.observe(float(second), {"bot": CallerTotals(requests=8)}) for second in range(3, 20)]
    assert found[-1] == {}
    assert meter.observe(30.0, {}) == {}


def test_of_many_callers_the_busiest_are_published() -> None:
    meter, many = DemandMeter(), MOST_CALLERS + 5
    meter.observe(0.0, {f"c{number}": CallerTotals() for number in range(many)})
    found = meter.observe(1.0, {f"c{number}": CallerTotals(requests=number) for number in range(many)})
    assert len(found) == MOST_CALLERS and f"c{many - 1}" in found and "c1" not in found


@pytest.mark.parametrize(
    ("limit", "parts", "shares"),
    [
        (10, {"a": 0.5, "b": 0.5}, {"a": 5, "b": 5}),
        (10, {"a": 0.55, "b": 0.45}, {"a": 6, "b": 4}),
        (11, {"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 5, "b": 3, "c": 3}),
        (4, {"a": 0.9, "b": 0.05, "c": 0.05}, {"a": 2, "b": 1, "c": 1}),
        (2, {"a": 0.8, "b": 0.1, "c": 0.1}, {"a": 1, "b": 1, "c": 1}),
        (100, {"a": 0.999, "b": 0.0005, "c": 0.0005}, {"a": 98, "b": 1, "c": 1}),
        (0, {"a": 0.5, "b": 0.5}, {"a": 0, "b": 0}),
    ],
)
def test_whole_numbers_go_where_most_is_missing(limit: int, parts: dict[str, float], shares: dict[str, int]) -> None:
    assert divide_whole(limit, parts) == shares


def test_a_little_demand_counts_as_much_as_its_part() -> None:
    assert divide({"a": 0.75, "b": 0.25}) == pytest.approx({"a": 0.7375, "b": 0.2625})
    assert divide({"a": 0.0, "b": 0.0}) == {"a": 0.5, "b": 0.5}


def test_a_quota_without_a_limit_of_bytes_has_none_anywhere() -> None:
    assert QuotaShare(body_bytes=0.5).of(Quota(10.0)).body_bytes == 0


def test_each_part_of_a_demand_is_that_of_the_time_that_passed() -> None:
    meter = DemandMeter()
    meter.observe(100.0, {"bot": CallerTotals(10, 20, 3_000, 5, 1, 7)})
    found = meter.observe(102.0, {"bot": CallerTotals(14, 28, 7_000, 5, 2, 9)})
    assert found == {"bot": Demand(2.0, 4.0, 2.0, 2.0, 9.0)}
    assert meter.observe(102.0, {"bot": CallerTotals(14, 28, 7_000, 5, 2, 9)}) == {}


def test_every_part_of_a_demand_falls_by_half() -> None:
    meter = DemandMeter()
    meter.observe(0.0, {"bot": CallerTotals()})
    meter.observe(1.0, {"bot": CallerTotals(8, 16, 4_000, 0, 2, 6)})
    found = meter.observe(2.0, {"bot": CallerTotals(8, 16, 4_000, 0, 0, 0)})
    assert found == {"bot": Demand(4.0, 8.0, 2.0, 1.0, 3.0)}
