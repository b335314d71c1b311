"""Exams of candidates: worse ones hardly pass, better ones mostly do, and many tries do not help."""

import pytest

from loadtests.exams import CASES, find

SHORT = {"worse by 1 point": 60, "equal": 60, "better by 3 points": 60, "one of 24 worse by 1 point": 12}


@pytest.mark.parametrize("name", SHORT)
def test_error_rates_hold_in_short(name: str) -> None:
    [case] = [case for case in CASES if case.name == name]
    found = find(case, range(7100, 7100 + SHORT[name]))
    assert case.least - 0.05 <= found.passed <= case.most + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_error_rates_hold(name: str) -> None:
    [case] = [case for case in CASES if case.name == name]
    found = find(case, range(40_000, 40_200))
    assert case.least <= found.passed <= case.most + (0.03 if case.most == 0.1 else 0.0)
