"""Who answers: by the route, the champion, or the newest ready version."""

import pytest

from penstock.control.monitoring.answering import answering_shares
from penstock.core.desired import ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.routing import RouteSpec

ROUTE = RouteSpec({"1": 7000, "3": 3000}, stable="1")


@pytest.mark.parametrize(
    ("aliases", "route", "ready", "shares"),
    [
        ({}, None, "12", [("2", 1.0)]),
        ({}, None, "", []),
        ({"champion": "1"}, None, "123", [("1", 1.0)]),
        ({"champion": "1"}, None, "23", [("3", 1.0)]),
        ({"champion": "2"}, ROUTE, "123", [("1", 0.7), ("3", 0.3)]),
        ({}, RouteSpec({"1": 2000, "3": 8000}, stable="1"), "123", [("3", 0.8), ("1", 0.2)]),
        ({}, ROUTE, "12", [("1", 1.0)]),
        ({}, RouteSpec({"1": 10000, "3": 0}, stable="1"), "123", [("1", 1.0)]),
    ],
)
def test_shares_of_versions_that_answer(
    aliases: dict[str, str], route: RouteSpec | None, ready: str, shares: list[tuple[str, float]]
) -> None:
    model = ModelSpec("m", tuple(VersionSpec(item, "") for item in "123"), aliases, route=route)
    statuses = [
        VersionStatus("m", item, ReadyState.READY if item in ready else ReadyState.UNAVAILABLE) for item in "123"
    ]
    statuses.append(VersionStatus("other", "9", ReadyState.READY))
    assert list(answering_shares(model, statuses).items()) == shares
