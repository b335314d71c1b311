"""Grants are decided by exact tables, and nobody can delegate more than they have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.access.permissions import (
    EVERYTHING,
    ROLES,
    Grant,
    Permission,
    covers,
    grants_of,
    is_allowed,
    is_model_pattern,
    matches,
    may_anywhere,
    may_delegate,
    may_everywhere,
)

names = st.text("ab-", min_size=1, max_size=4).filter(lambda text: not text.startswith("-"))
patterns = st.one_of(st.just("*"), names, names.map(lambda name: name + "*"))
grants = st.builds(Grant, st.frozensets(st.sampled_from(Permission), max_size=3), patterns)
several = st.lists(grants, max_size=3).map(tuple)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("caller", "predict"),
        ("viewer", "metrics read"),
        ("operator", "feedback metrics operate predict read"),
        ("publisher", "feedback metrics push read"),
        ("approver", "approve metrics read"),
        ("admin", "administer approve feedback metrics operate predict push read"),
        ("feedback", "feedback"),
    ],
)
def test_roles_are_sets_of_permissions(role: str, allowed: str) -> None:
    assert " ".join(sorted(ROLES[role])) == allowed


@pytest.mark.parametrize(
    ("pattern", "model", "expected"),
    [
        ("*", "fraud", True),
        ("fraud", "fraud", True),
        ("fraud", "fraud-2", False),
        ("fraud-*", "fraud-2", True),
        ("fraud-*", "fraud", False),
        ("Fraud", "fraud", False),
    ],
)
def test_a_pattern_names_one_model_or_a_beginning(pattern: str, model: str, expected: bool) -> None:
    assert matches(pattern, model) is expected


@pytest.mark.parametrize("text", ["", "**", "a*b", "*a", "a/b", "a b", "a?", "[a]", ".a", "-a", "a" * 200, "é"])
def test_other_texts_are_not_patterns(text: str) -> None:
    assert not is_model_pattern(text)


def test_grants_hold_for_their_models_and_permissions_only() -> None:
    own = grants_of(["caller", "viewer"], ["fraud-*"]) + grants_of(["operator"], ["digits"])
    assert is_allowed(own, Permission.PREDICT, "fraud-1")
    assert not is_allowed(own, Permission.PREDICT, "other")
    assert not is_allowed(own, Permission.OPERATE, "fraud-1")
    assert is_allowed(own, Permission.OPERATE, "digits")
    assert may_anywhere(own, Permission.READ) and not may_everywhere(own, Permission.READ)
    assert may_everywhere(EVERYTHING, Permission.ADMINISTER)
    assert not is_allowed((), Permission.READ, "digits")


def test_an_unknown_role_grants_nothing() -> None:
    with pytest.raises(KeyError):
        grants_of(["root"])


@given(patterns, patterns, names)
def test_a_pattern_that_covers_another_names_all_that_it_names(one: str, other: str, model: str) -> None:
    if covers(one, other) and matches(other, model):
        assert matches(one, model)


@given(several, several, st.sampled_from(Permission), names)
def test_nobody_delegates_more_than_they_have(
    own: tuple[Grant, ...], given_: tuple[Grant, ...], permission: Permission, model: str
) -> None:
    if may_delegate(own, given_) and is_allowed(given_, permission, model):
        assert is_allowed(own, permission, model)


@given(several)
def test_everything_covers_everything(given_: tuple[Grant, ...]) -> None:
    assert may_delegate(EVERYTHING, given_)


@pytest.mark.parametrize(
    ("pattern", "other", "found"),
    [
        ("team-a*", "team-a*", True),
        ("team-*", "team-a*", True),
        ("team-a*", "team-b*", False),
        ("team-a*", "team-*", False),
        ("*", "team*", True),
        ("team-a", "team-a*", False),
        ("team-a*", "team-a", True),
        ("team-a", "team-a", True),
    ],
)
def test_a_pattern_covers_what_lies_wholly_in_it(pattern: str, other: str, found: bool) -> None:
    assert covers(pattern, other) is found
