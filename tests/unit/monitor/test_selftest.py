"""The monitor's self-test: it finds what was put in, and fails where the monitor would."""

import pytest

from penstock.monitor import selftest
from penstock.monitor.selftest import CASES, SelfTestCase, StreamResult, judge_case, run
from tests.budgets import THOROUGH


@pytest.mark.simulation
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_case_holds(case: SelfTestCase) -> None:
    found = judge_case(case, [run(case, seed, unchanged_rows=1000) for seed in range(8 if THOROUGH else 3)])
    assert found.holds, found


def test_a_case_that_misses_its_limits_does_not_hold() -> None:
    shifted = next(case for case in CASES if case.within == 200)
    slow = [StreamResult(2000, 0, 900), StreamResult(2000, 0, 1000)]
    assert not judge_case(shifted, slow).holds
    assert not judge_case(shifted, [StreamResult(2000, 0, 100), StreamResult(2000, 0, None)]).holds
    assert not judge_case(CASES[0], [StreamResult(20_000, 4)]).holds
    nothing = SelfTestCase("a change that is none", lambda _, rows: rows, 100)
    assert run(nothing, 0, most=400).delay is None


def test_rows_that_are_alike_are_correlated() -> None:
    stream = selftest.SyntheticStream(0, 0.6)
    rows = stream.rows(5000)[0][0].data[:, 5]
    assert (rows[1:] * rows[:-1]).mean() == pytest.approx(0.6, abs=0.05)
