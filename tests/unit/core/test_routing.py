"""Routes: what may be stated, how points change hands, and which version answers a request."""

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import InvalidInput
from penstock.core.routing import (
    POINTS,
    Range,
    RouteSpec,
    SplitTable,
    decode_stored_route,
    describe_route,
    encode_stored_route,
    lay_out,
    moved_points,
    parse_route,
    stable_of,
)
from tests.budgets import THOROUGH, examples

VERSIONS = ("1", "2", "3", "4", "5")
PICKS = 1_000_000 if THOROUGH else 200_000


@st.composite
def splits(draw: st.DrawFn) -> dict[str, int]:
    """Weights of one to five versions that sum to 10 000; zeros are common."""
    names = draw(st.lists(st.sampled_from(VERSIONS), min_size=1, max_size=5, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, POINTS), min_size=len(names) - 1, max_size=len(names) - 1)))
    return {name: high - low for name, low, high in zip(names, [0, *cuts], [*cuts, POINTS], strict=True)}


def picks(route: RouteSpec, keys: int, sticky: bool) -> Counter[str]:
    points = SplitTable("m", route, {version: version for version in route.split})
    return Counter(points.pick(f"key {number}".encode() if sticky else None) for number in range(keys))


@settings(deadline=None)
@given(splits())
def test_every_version_has_as_many_points_as_its_weight(split: dict[str, int]) -> None:
    ranges = lay_out(split)
    owners = Counter[str]()
    start = 0
    for end, version in ranges:
        owners[version] += end - start
        start = end
    assert start == POINTS
    assert owners == Counter({version: weight for version, weight in split.items() if weight})


@settings(deadline=None, max_examples=examples(50))
@given(splits(), splits(), splits())
def test_no_more_points_move_than_weights_do(
    first: dict[str, int], second: dict[str, int], third: dict[str, int]
) -> None:
    ranges = lay_out(first)
    before = first
    for split in (second, third):
        after = lay_out(split, ranges)
        least = sum(max(0, before.get(version, 0) - split.get(version, 0)) for version in before)
        assert moved_points(ranges, after) == least
        assert lay_out(split, after) == after
        ranges, before = after, split


def owners_of(ranges: Iterable[Range]) -> list[str]:
    starts = [0, *(end for end, _ in ranges)]
    return [version for start, (end, version) in zip(starts, ranges, strict=False) for _ in range(start, end)]


@settings(deadline=None, max_examples=50)
@given(splits(), splits())
def test_a_shrinking_version_gives_up_its_last_points_and_a_growing_one_takes_the_first_free_ones(
    first: dict[str, int], second: dict[str, int]
) -> None:
    before = lay_out(first)
    expected: list[str] = []
    left = Counter(second)
    for version in owners_of(before):
        expected.append(version if left[version] > 0 else "")
        left[version] -= 1
    lacking = iter([item for item in sorted(second) for _ in range(second[item] - expected.count(item))])
    assert owners_of(lay_out(second, before)) == [version or next(lacking) for version in expected]


@given(st.integers(0, POINTS), st.integers(0, POINTS), st.binary(max_size=40))
def test_a_raised_weight_takes_nobody_off_the_canary(one: int, other: int, key: bytes) -> None:
    low, high = sorted((one, other))
    ranges = lay_out({"1": POINTS - low, "2": low})
    small = RouteSpec({"1": POINTS - low, "2": low}, ranges=ranges)
    large = RouteSpec({"1": POINTS - high, "2": high}, ranges=lay_out({"1": POINTS - high, "2": high}, ranges))
    names = {"1": "1", "2": "2"}
    if SplitTable("m", small, names).pick(key) == "2":
        assert SplitTable("m", large, names).pick(key) == "2"


@pytest.mark.simulation
@pytest.mark.parametrize("sticky", [True, False])
@pytest.mark.parametrize("seed", range(3 if THOROUGH else 1))
def test_a_split_is_exact_within_a_tenth_of_a_point(seed: int, sticky: bool) -> None:
    generator = random.Random(seed)
    cuts = sorted(generator.randrange(POINTS + 1) for _ in range(2))
    split = {"1": cuts[0], "2": cuts[1] - cuts[0], "3": POINTS - cuts[1], "4": 0}
    found = picks(RouteSpec(split, ranges=lay_out(split), salt=str(seed)), PICKS, sticky)
    for version, weight in split.items():
        assert abs(found[version] / PICKS - weight / POINTS) <= 1.5 / PICKS**0.5  # three standard deviations at a half
    assert found["4"] == 0


def test_the_same_key_meets_the_same_version_and_another_salt_shuffles() -> None:
    split = {"1": 5000, "2": 5000}
    route = RouteSpec(split, ranges=lay_out(split))
    names = {"1": "1", "2": "2"}
    one, other = SplitTable("m", route, names), SplitTable("m", RouteSpec(split, ranges=route.ranges, salt="x"), names)
    elsewhere = SplitTable("n", route, names)
    keys = [f"user {number}".encode() for number in range(4000)]
    assert [one.pick(key) for key in keys] == [one.pick(key) for key in keys]
    for shuffled in (other, elsewhere):
        agreeing = sum(one.pick(key) == shuffled.pick(key) for key in keys)
        assert 1800 < agreeing < 2200


def test_versions_that_answer_alike_need_no_pick() -> None:
    split = {"1": 5000, "2": 5000}
    stable = object()
    points = SplitTable("m", RouteSpec(split, ranges=lay_out(split)), {"1": stable, "2": stable})
    assert points.pick(None) is stable
    assert points.pick(b"x") is stable


GOOD = {
    "split": {"1": 9500, "2": 500},
    "sticky": "header:X-User-Id",
    "rules": [{"header": "X-Canary", "equals": "always", "version": "2"}],
    "shadow": [{"version": "3", "percent": 12.5}],
    "reason": "a try",
}


def test_a_route_comes_back_as_it_was_stated() -> None:
    route = parse_route(GOOD)
    assert route.receivers() == {"1", "2", "3"}
    assert describe_route(route) == {
        "split": {"1": 9500, "2": 500},
        "sticky": "header:x-user-id",
        "rules": [{"header": "x-canary", "equals": "always", "version": "2"}],
        "shadow": [{"version": "3", "percent": 12.5}],
        "stable": "1",
    }
    assert decode_stored_route(encode_stored_route(route)) == route
    assert parse_route(describe_route(route), route) == route


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"split": {"1": 9999}}, "sum to 10000"),
        ({"split": {"1": 10001}}, "whole numbers"),
        ({"split": {"1": -1, "2": 10001}}, "whole numbers"),
        ({"split": {"1": 5000.0, "2": 5000}}, "whole numbers"),
        ({"split": {"1": True, "2": 9999}}, "whole numbers"),
        ({"split": {}}, "weights"),
        ({"split": None}, "weights"),
        ({"split": [1, 2]}, "weights"),
        ({"split": {"champion": 10000}}, "not a version"),
        ({"split": {str(number): 0 for number in range(40)} | {"99": 10000}}, "at most 32"),
        ({"sticky": "cookie:x"}, "'sticky'"),
        ({"sticky": "header:"}, "'sticky'"),
        ({"sticky": "header:a b"}, "'sticky'"),
        ({"sticky": 7}, "'sticky'"),
        ({"rules": {}}, "'rules'"),
        ({"rules": [{"header": "x", "equals": "y"}]}, "'rules'"),
        ({"rules": [{"header": "x y", "equals": "y", "version": "2"}]}, "'rules'"),
        ({"rules": [{"header": "x", "equals": 3, "version": "2"}]}, "'rules'"),
        ({"rules": [{"header": "x", "equals": "y" * 300, "version": "2"}]}, "'rules'"),
        ({"rules": [{"header": "x", "equals": "y", "version": "champion"}]}, "'rules'"),
        ({"shadow": [{"version": "3", "percent": 101}]}, "'percent'"),
        ({"shadow": [{"version": "3", "percent": "all"}]}, "'percent'"),
        ({"shadow": [{"version": "x", "percent": 1}]}, "'shadow'"),
        ({"shadow": [{"version": "3"}, {"version": "3"}]}, "once"),
        ({"shadow": [{"percent": 3}]}, "'shadow'"),
        ({"stable": "9"}, "'stable'"),
        ({"weights": {}}, "'weights'"),
    ],
)
def test_a_faulty_route_is_refused_with_a_sentence(change: dict[str, object], fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        parse_route({**GOOD, **change})


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_route({"split": {"1": 1}, "sticky": "x", "rules": 1, "shadow": 2, "more": 3})
    for word in ("'split'", "'sticky'", "'rules'", "'shadow'", "'more'"):
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("split", "champion", "stable"),
    [
        ({"1": 9500, "2": 500}, None, "1"),
        ({"1": 9500, "2": 500}, "2", "2"),
        ({"1": 9500, "2": 500}, "3", "1"),
        ({"10": 5000, "9": 5000}, None, "9"),
        ({"1": 0, "2": 10000}, "1", "1"),
    ],
)
def test_the_stable_version_of_a_route(split: dict[str, int], champion: str | None, stable: str) -> None:
    assert stable_of(split, champion) == stable
