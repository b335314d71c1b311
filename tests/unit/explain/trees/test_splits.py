"""Splits decide as the runtime does; sets are compared, or looked up by whole numbers."""

import numpy as np
import pytest

from penstock.explain.nodes import NotExact
from penstock.explain.trees.splits import MEMBER, MODES, MemberSets, Splits, check_modes

NAN = float("nan")


def decide(mode: int, values: list[float], *, nan_is_true: bool = False) -> list[bool]:
    """What splits at 1 make of values."""
    count = len(values)
    thresholds = np.ones(count, dtype=np.float32)
    places = np.repeat(np.arange(count), 2)
    members = MemberSets(places, np.tile([1.0, 3.0], count), np.zeros(len(places), dtype=bool))
    splits = Splits(np.arange(count), np.full(count, mode), thresholds, np.full(count, nan_is_true), members)
    return [bool(found) for found in splits.decide(np.array(values))]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("BRANCH_LEQ", [True, True, False, False]),
        ("BRANCH_LT", [True, False, False, False]),
        ("BRANCH_GTE", [False, True, True, False]),
        ("BRANCH_GT", [False, False, True, False]),
        ("BRANCH_EQ", [False, True, False, False]),
        ("BRANCH_NEQ", [True, False, True, True]),
        ("BRANCH_MEMBER", [False, True, True, False]),
    ],
)
def test_each_mode_of_a_split_compares_as_documented(mode: str, expected: list[bool]) -> None:
    assert decide(MODES[mode], [0, 1, 3, NAN]) == expected
    assert decide(MODES[mode], [0, 1, 3, NAN], nan_is_true=True) == [*expected[:3], True]


def test_numbers_are_compared_in_the_precision_of_the_thresholds() -> None:
    assert decide(MODES["BRANCH_EQ"], [1 + 1e-9]) == [True]


def test_large_sets_are_looked_up_by_whole_numbers() -> None:
    sets = MemberSets(np.array([0, 1, 2]), np.array([2.0, 2.0, 2.0]), np.array([True, False, True]))
    assert sets.ask(np.array([2.5, 2.5, NAN, 2.0])).tolist() == [True, False, False, False]


def test_unknown_modes_are_refused() -> None:
    check_modes(np.array([MEMBER]))
    with pytest.raises(NotExact):
        check_modes(np.array([9]))
