"""Which tests may run once more, alone."""

import pytest

from tests.again import COMPLETE_WITH_FAILURES, MOST, failed_tests

FEW = [f"tests/unit/test_x.py::test_{number}" for number in range(MOST)]


def test_a_few_tests_of_a_complete_run_are_run_again() -> None:
    assert failed_tests(COMPLETE_WITH_FAILURES, FEW) == FEW


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        (COMPLETE_WITH_FAILURES, [*FEW, "tests/unit/test_x.py::test_more"]),
        (COMPLETE_WITH_FAILURES, []),
        (COMPLETE_WITH_FAILURES, ["tests/unit/test_x.py"]),  # a file that could not be read
        ("0", FEW),  # of another run
        ("2", FEW),  # it was interrupted, for example by a process that crashed
        ("3", FEW),
    ],
)
def test_others_are_not(status: str, failed: list[str]) -> None:
    assert failed_tests(status, failed) == []
