"""The monitor's self-test: it finds what was put in, and fails where the monitor would."""

import pytest

from penstock.monitor import selftest
from penstock.monitor.selftest import CASES, Case, Outcome, finding, run
from tests.budgets import THOROUGH


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_case_holds(case: Case) -> None:
    found = finding(case, [run(case, seed, unchanged_rows=1000) for seed in range(8 if THOROUGH else 3)])
    assert found.holds, found


def test_a_case_that_misses_its_limits_does_not_hold() -> None:
    shifted = next(case for case in CASES if case.within == 200)
    slow = [Outcome(2000, 0, 900), Outcome(2000, 0, 1000)]
    assert not finding(shifted, slow).holds
    assert not finding(shifted, [Outcome(2000, 0, 100), Outcome(2000, 0, None)]).holds
    assert not finding(CASES[0], [Outcome(20_000, 4)]).holds
    nothing = Case("a change that is none", lambda _, rows: rows, 100)
    assert run(nothing, 0, most=400).delay is None


def test_rows_that_are_alike_are_so() -> None:
    stream = selftest.Stream(0, 0.6)
    rows = stream.rows(5000)[0][0].data[:, 5]
    assert (rows[1:] * rows[:-1]).mean() == pytest.approx(0.6, abs=0.05)
