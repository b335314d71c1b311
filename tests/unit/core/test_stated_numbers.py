"""Numbers in documents of users are tested in one place, with one sentence."""

import math
from typing import Any

import pytest

from penstock.core.stated_numbers import number_fault


@pytest.mark.parametrize("value", [0, 0.0, 1.5, 10, 10.0])
def test_a_number_within_its_bounds_has_no_fault(value: Any) -> None:
    assert number_fault("a.b", value, 0, 10) == ""


@pytest.mark.parametrize("value", [-1, 10.1, True, "1", None, [1], math.nan, math.inf, -math.inf, 10**400])
def test_a_value_that_is_no_number_within_the_bounds_is_named_with_them(value: Any) -> None:
    assert number_fault("a.b", value, 0, 10) == "'a.b' must be a number from 0 to 10"


@pytest.mark.parametrize("value", [1.0, 1.5, True, 0, 4])
def test_whole_numbers_are_integers(value: Any) -> None:
    assert number_fault("n", value, 1, 3, whole=True) == "'n' must be a whole number from 1 to 3"
    assert number_fault("n", 3, 1, 3, whole=True) == ""


@pytest.mark.parametrize(
    ("least", "most", "text"),
    [
        (1e-9, 0.5, " from 1e-09 to 0.5"),
        (0, 30 * 86_400, " from 0 to 2592000"),
        (1, 1e6, " from 1 to 1000000"),
        (3, math.inf, ", at least 3"),
        (-math.inf, math.inf, ""),
    ],
)
def test_bounds_are_shown_with_all_their_digits(least: float, most: float, text: str) -> None:
    assert number_fault("n", "x", least, most) == f"'n' must be a number{text}"
    assert number_fault("n", math.nan, least, most) == f"'n' must be a number{text}"
