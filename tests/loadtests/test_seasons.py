"""Seasons through the monitor: what is usual at an hour raises no alarm, and a shift on top is found."""

import pytest

from loadtests.seasons import CASES, DAY_S, Case, find, run

HOURLY = next(case for case in CASES if case.knows == "hours" and not case.shift)
SHIFTED = [case for case in CASES if case.knows == "hours" and case.shift]


def test_two_days_of_a_season_raise_no_alarm() -> None:
    assert run(HOURLY, 11, 2 * DAY_S).alarms == 0


def test_a_season_that_the_reference_knows_nothing_of_raises_many() -> None:
    assert run(Case("", 10, "nothing"), 12, DAY_S).alarms > 5


def test_the_order_of_rows_alone_keeps_a_season_from_raising_any() -> None:
    assert run(Case("", 10, "order"), 13, DAY_S).alarms == 0


@pytest.mark.parametrize("case", SHIFTED, ids=lambda case: case.name)
def test_a_shift_on_top_is_found(case: Case) -> None:
    found = find(case, [run(case, seed) for seed in range(3)])
    assert (found.alarms, found.found) == (0.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_error_rates_hold(case: Case) -> None:
    found = find(case, [run(case, seed) for seed in range(60_000, 60_200)])
    assert found.holds, found
