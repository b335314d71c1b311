"""Version and alias names, their order, and what a version policy chooses."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.versions import VersionPolicy, is_alias, is_model_name, is_version, sort_key

ASCENDING = [
    ["1", "2", "10", "17"],
    ["1.4.0-alpha", "1.4.0-alpha.1", "1.4.0-alpha.beta", "1.4.0-beta", "1.4.0-beta.2", "1.4.0-beta.11", "1.4.0"],
    ["1.4.0-rc.1", "1.4.0", "1.4.1", "1.10.0", "2"],
    ["2026-01-02", "2026-11-19", "2026-11-20"],
]


@pytest.mark.parametrize("ordered", ASCENDING, ids=lambda row: row[0])
def test_versions_sort_numerically_then_semantically(ordered: list[str]) -> None:
    shuffled = ordered[:]
    random.Random(7).shuffle(shuffled)
    assert sorted(shuffled, key=sort_key) == ordered


@pytest.mark.parametrize(
    ("text", "version", "alias"),
    [
        ("1", True, False),
        ("1.4.0+build.5", True, False),
        ("2026-11-20", True, False),
        ("champion", False, True),
        ("v10", False, True),
        ("", False, False),
        ("-1", False, False),
        ("1/2", False, False),
        ("1 ", False, False),
        ("1\n", False, False),
        ("٣", False, False),
        ("1" * 64, True, False),
        ("1" * 65, False, False),
    ],
)
def test_version_names_are_checked(text: str, version: bool, alias: bool) -> None:
    assert is_version(text) is version
    assert is_alias(text) is alias


@pytest.mark.parametrize(
    ("name", "fine"), [("iris", True), ("a.b-c_d", True), ("..", False), ("-a", False), ("a/b", False), ("", False)]
)
def test_model_names_are_checked(name: str, fine: bool) -> None:
    assert is_model_name(name) is fine


@given(st.lists(st.from_regex(r"[0-9][0-9A-Za-z._+-]{0,12}", fullmatch=True), unique=True))
def test_every_version_has_its_place(versions: list[str]) -> None:
    backwards = versions[::-1]
    assert sorted(versions, key=sort_key) == sorted(backwards, key=sort_key)


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (VersionPolicy(), ("1", "2", "10")),
        (VersionPolicy("latest"), ("10",)),
        (VersionPolicy("latest", 2), ("2", "10")),
        (VersionPolicy("latest", 9), ("1", "2", "10")),
        (VersionPolicy("specific", specific=("2", "7")), ("2",)),
    ],
)
def test_the_version_policy_chooses_versions(policy: VersionPolicy, chosen: tuple[str, ...]) -> None:
    assert policy.choose(["10", "1", "2"]) == chosen
