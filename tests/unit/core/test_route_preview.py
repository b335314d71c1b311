"""What a route would do, in sentences: a table, and that the points are those that requests get."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.route_preview import RoutePlan, preview_document
from penstock.core.routing import POINTS, RouteSpec, parse_route, resolve_split

BEFORE = parse_route({"split": {"1": 9500, "2": 500}})
SPLIT = "version 1 answers 95 %, version 2 answers 5 % of the requests"


def sentences(document: dict[str, Any], before: RouteSpec | None = BEFORE, **options: Any) -> list[str]:
    route = parse_route(document, before)
    plan = RoutePlan(route, before, "1", **{"able": {"1", "2", "3"}, **options})
    found: list[str] = preview_document(plan)["sentences"]
    return found


@pytest.mark.parametrize(
    ("document", "options", "said"),
    [
        ({"split": {"1": 9500, "2": 500}}, {}, [SPLIT, "this changes nothing"]),
        (
            {"split": {"1": 9500, "2": 500}, "rules": [{"header": "x-canary", "equals": "a", "version": "2"}]},
            {},
            [SPLIT, "first of all, requests with header x-canary = 'a' go to version 2"],
        ),
        (
            {
                "split": {"1": 9500, "2": 500},
                "rules": [
                    {"header": "x-canary", "equals": "a", "version": "3"},
                    {"header": "x-canary", "equals": "b", "version": "2"},
                ],
            },
            {"able": {"1", "2"}},
            [
                SPLIT,
                "first of all, requests with header x-canary = 'a' go to version 3, which cannot; version 1 does",
                "then, requests with header x-canary = 'b' go to version 2",
            ],
        ),
        (
            {"split": {"1": 9500, "2": 500}, "sticky": "header:x-user-id"},
            {},
            [
                SPLIT,
                "requests with the same value of header x-user-id keep their version; without it each is drawn",
            ],
        ),
        (
            {"split": {"2": POINTS}, "sticky": "header:x-user-id"},
            {},
            [
                "version 2 answers 100 % of the requests",
                "header x-user-id has no effect while one version has all the points",
            ],
        ),
        (
            {"split": {"1": 9500, "2": 500}, "shadow": [{"version": "3", "percent": 12.5}]},
            {},
            [SPLIT, "version 3 also answers a copy of 12.5 % of the requests, unseen by callers"],
        ),
        (
            {"split": {"1": 9500, "2": 500}, "stable": "1"},
            {"able": {"1"}},
            [
                "version 1 answers 100 % of the requests",
                "version 2 cannot answer; version 1 does in its place",
                "this changes nothing",
            ],
        ),
        ({"split": {"1": 9000, "2": 1000}}, {"able": set()}, ["no version can answer"]),
        (
            {"split": {"1": 9000, "2": 1000}},
            {"champion": "3", "trial": "rollout 1a"},
            [
                "rollout 1a decides the traffic; this route is refused until it is over",
                "version 1 answers 90 %, version 2 answers 10 % of the requests",
                "alias 'champion' (version 3) has no effect meanwhile",
            ],
        ),
    ],
)
def test_a_route_in_sentences(document: dict[str, Any], options: dict[str, Any], said: list[str]) -> None:
    assert sentences(document, **options) == said


def test_the_first_route_always_has_an_effect() -> None:
    """It keeps versions that are pushed later from answering."""
    assert sentences({"split": {"1": POINTS}}, before=None) == ["version 1 answers 100 % of the requests"]
    plan = RoutePlan(parse_route({"split": {"2": POINTS}}), None, None, {"2"})
    assert (plan.moved, plan.has_effect) == (POINTS, True)


WEIGHTS = st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any)


def split_of(weights: list[int]) -> dict[str, int]:
    points = {str(number): weight * POINTS // sum(weights) for number, weight in enumerate(weights, 1)}
    points["1"] += POINTS - sum(points.values())
    return points


@given(WEIGHTS, WEIGHTS, st.sets(st.sampled_from("123456")))
def test_points_and_moved_callers_are_those_of_the_split(old: list[int], new: list[int], able: set[str]) -> None:
    before = parse_route({"split": split_of(old)})
    after = parse_route({"split": split_of(new)}, before)
    document = preview_document(RoutePlan(after, before, "1", able))
    assert sum(document["points"].values()) == (POINTS if able else 0)
    assert set(document["points"]) <= able
    assert document["points"] == {
        version: share for version, share in resolve_split(after, None, able).items() if share
    }
    gained = [max(0, after.split.get(version, 0) - before.split.get(version, 0)) for version in after.split]
    assert document["moved_points"] == sum(gained)
    assert document["changes"] == (sum(gained) > 0 or after.stable != before.stable)
