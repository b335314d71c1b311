"""Guards, rollouts and intervals of experiments err as seldom as stated."""

import math

import pytest

from loadtests.verdicts import CASES, Case, find

QUICK = [case for case in CASES if not case.name.startswith(("rollout", "latency, the same"))]


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_error_rates_hold_in_short(case: Case) -> None:
    found = find(case, [case.run(seed) for seed in range(10)])
    assert found.holds, found


def test_what_is_above_a_limit_is_counted() -> None:
    none = Case("nothing is found", "", float, -math.inf, 0.05)
    assert not find(none, [*[50.0] * 20, *[math.inf] * 80]).holds
    assert find(none, [math.inf, math.inf]).holds
    soon = Case("found soon", "", float, 2000, 0.0)
    assert not find(soon, [50.0, math.inf]).holds
    assert find(soon, [50.0, 2000.0]).holds


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_error_rates_hold(case: Case) -> None:
    found = find(case, [case.run(seed) for seed in range(90_000, 90_200)])
    assert found.holds, found
