"""Which version is meant to answer: a table over routes, aliases and states."""

import pytest

from penstock.core.desired import ReadyState, VersionStatus, serving_version
from penstock.core.routing import RouteSpec

STATES = {"+": ReadyState.READY, "~": ReadyState.LOADING, "-": ReadyState.UNAVAILABLE}
ROUTE = RouteSpec({"1": 9000, "2": 1000}, stable="1")


@pytest.mark.parametrize(
    ("versions", "route", "champion", "expected"),
    [
        ("+1 +2", None, None, "2"),
        ("+9 +10", None, None, "10"),
        ("+1 ~2", None, None, "2"),  # a worker was restarted
        ("~1 ~2", None, None, "2"),
        ("+1 -2", None, None, "1"),
        ("-1 -2", None, None, "2"),
        ("+1 +2", None, "1", "1"),
        ("~1 +2", None, "1", "1"),
        ("-1 +2", None, "1", "1"),
        ("+2 +3", None, "1", "3"),  # an alias to what is not served
        ("+1 +2", ROUTE, "2", "1"),
        ("-1 +2", ROUTE, "2", "1"),
        ("", None, None, None),
    ],
)
def test_the_version_that_is_meant_to_answer(
    versions: str, route: RouteSpec | None, champion: str | None, expected: str | None
) -> None:
    statuses = [VersionStatus("m", item[1:], STATES[item[0]]) for item in versions.split()]
    assert serving_version(route, champion, statuses) == expected


def test_one_version_may_be_left_out() -> None:
    statuses = [VersionStatus("m", version, ReadyState.READY) for version in ("1", "2")]
    assert serving_version(None, None, statuses, but="2") == "1"
