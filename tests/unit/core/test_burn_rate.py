"""Burn rates as tables: windows, budgets, counts that fall, and the condition that rests on them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.triggers.burn_rate import BurnRates, History, RequestCounts, burn_rates, find_error_budgets
from penstock.core.triggers.conditions import VersionSnapshot, evaluate
from penstock.core.triggers.parsing import parse_condition
from penstock.core.triggers.state import RuleMemory

SLO = {"error_ratio": 0.01, "latency_p99_ms": 20.0}


def history(*parts: tuple[float, int, float, float]) -> tuple[RequestCounts, ...]:
    """Counts every ten seconds: each part is so many seconds of so many requests a second, of which these shares fail
    and are slow."""
    known = History(3600.0, 10.0)
    now = requests = 0
    failed = slow = 0.0
    known.add(RequestCounts(0.0))
    for seconds, rate, failing, slowing in parts:
        for _ in range(int(seconds / 10)):
            now, requests = now + 10, requests + rate * 10
            failed, slow = failed + rate * 10 * failing, slow + rate * 10 * slowing
            known.add(RequestCounts(float(now), requests, round(failed), round(slow)))
    return known.counts()


@pytest.mark.parametrize(
    ("objectives", "allowed"),
    [
        ({}, {}),
        ({"error_ratio": 0.001}, {"error_ratio": 0.001}),
        ({"latency_p99_ms": 20}, {"latency_p99_ms": 0.01}),
        (SLO, {"error_ratio": 0.01, "latency_p99_ms": 0.01}),
    ],
)
def test_what_objectives_allow(objectives: dict[str, float], allowed: dict[str, float]) -> None:
    assert find_error_budgets(objectives) == allowed


def test_a_burn_rate_is_the_share_of_bad_requests_over_what_is_allowed() -> None:
    counts = history((300, 10, 0.0, 0.0), (300, 10, 0.05, 0.2))
    assert burn_rates(counts, 300, find_error_budgets(SLO)) == BurnRates(
        3000, {"error_ratio": 5.0, "latency_p99_ms": 20.0}
    )
    assert burn_rates(counts, 600, find_error_budgets(SLO)) == BurnRates(
        6000, {"error_ratio": 2.5, "latency_p99_ms": 10.0}
    )
    assert burn_rates(counts, 610, find_error_budgets(SLO)) is None  # it does not reach back so far
    assert burn_rates((), 60, find_error_budgets(SLO)) is None
    assert burn_rates(history((600, 0, 0.0, 0.0)), 300, find_error_budgets(SLO)) == BurnRates(
        0, dict.fromkeys(SLO, 0.0)
    )


def test_falling_counts_add_no_requests() -> None:
    known = History(100.0, 1.0)
    for at, requests in ((0.0, 1000), (1.0, 1100), (2.0, 50), (3.0, 60)):
        known.add(RequestCounts(at, requests, requests // 10))
    assert [count.requests for count in known.counts()] == [0, 100, 100, 110]


@given(st.floats(60, 86_400), st.floats(0.1, 100), st.integers(1, 300))
def test_a_history_is_bounded_and_reaches_back_for_its_window(window: float, step: float, number: int) -> None:
    known = History(window, step)
    for index in range(number):
        known.add(RequestCounts(index * known.step_s, index))
    counts = known.counts()
    assert len(counts) <= 15_003
    if (number - 1) * known.step_s >= window:
        assert counts[-1].at - counts[0].at >= window - 1e-6 * window


WHEN: dict[str, Any] = {"long_seconds": 3000, "short_seconds": 300, "burn_rate": 2}


@pytest.mark.parametrize(
    ("changes", "parts", "holds"),
    [
        ({}, [(3000, 10, 0.05, 0.0)], True),
        ({}, [(3000, 10, 0.0, 0.05)], True),
        ({"objective": "error_ratio"}, [(3000, 10, 0.0, 0.05)], False),
        ({"objective": "latency_p99_ms"}, [(3000, 10, 0.0, 0.05)], True),
        ({}, [(3000, 10, 0.015, 0.0)], False),
        ({}, [(2700, 10, 0.0, 0.0), (300, 10, 0.1, 0.0)], False),  # a short outburst
        ({}, [(2700, 10, 0.05, 0.0), (300, 10, 0.0, 0.0)], False),  # it is over
        ({}, [(2900, 10, 0.05, 0.0)], False),  # not counted for long enough
        ({"min_requests": 3001}, [(3000, 1, 0.05, 0.0)], False),
        ({}, [(3000, 0, 0.0, 0.0)], False),
    ],
)
def test_both_windows_have_to_burn(
    changes: dict[str, Any], parts: list[tuple[float, int, float, float]], holds: bool
) -> None:
    faults: list[str] = []
    condition = parse_condition({"slo": {**WHEN, **changes}}, "when", faults, parse_schedule)
    assert condition is not None, faults
    snapshot = VersionSnapshot("m", "1", 0.0, {}, objectives=SLO, history=history(*parts))
    found = evaluate(condition, snapshot, RuleMemory())
    assert found.holds is holds
    assert bool(found.evidence) is holds


@pytest.mark.parametrize(
    "stated",
    [
        {"short_seconds": 3600},
        {"short_seconds": 59},
        {"long_seconds": 86_401},
        {"burn_rate": 0},
        {"objective": "speed"},
        {"moon": 1},
    ],
)
def test_malformed_burn_rates_are_refused(stated: dict[str, Any]) -> None:
    faults: list[str] = []
    assert parse_condition({"slo": stated}, "when", faults, parse_schedule) is None
    assert faults
