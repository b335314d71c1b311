"""Users of a sticky split through the whole server: one of them is one vote, many are harm."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import (
    BREAKING,
    FEATURES,
    GOOD,
    SECONDS,
    begin,
    look,
    models,
    promote_champion,
    set_route,
    until,
)

USERS = 60
BAD = 5.0
"""A first feature that the breaking version cannot take, and all others can."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with harness.running(models(tmp_path / "models", GOOD, BREAKING), tmp_path, "--workers", "2") as running:
        promote_champion(running, GOOD)
        yield running


class Users:
    """Users on a connection each time anew, so that they come by every worker."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def ask(self, user: str, first: float, times: int) -> tuple[str, set[int]]:
        """Who answered so many requests of a user, and with which statuses."""
        statuses, by = set(), ""
        connection = HTTPConnection(self._server.http, timeout=PATIENCE_S)
        data = [first, *[0.0] * (FEATURES - 1)]
        body = json.dumps({"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": data}]})
        for _ in range(times):
            connection.request("POST", "/v2/models/m/infer", body, {"x-user-id": user})
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
            by = answer.headers["penstock-model-version"]
        connection.close()
        return by, statuses


def counted(server: Server, trial: dict[str, Any], users: Users, good: list[str], bad: str) -> dict[str, Any]:
    """The rollout once users of both versions and the failure of the one that always fails are counted: what they asked
    before votes were taken has cost them no vote."""
    found: dict[str, Any] = {}

    def there() -> bool:
        users.ask(bad, BAD, 1)
        for name in good:
            users.ask(name, -1.0, 1)
        found.update(look(server, trial))
        errors = found["evidence"]["errors"]
        return bool(min(errors["n_canary"], errors["n_control"]) >= 10 and errors["effect"] > 0)

    wait_until(there, SECONDS, "users that are counted")
    return found


def test_one_user_is_one_vote_and_many_users_are_harm(server: Server) -> None:
    set_route(server, split={GOOD: 10_000}, sticky="header:x-user-id")
    trial = begin(server, to=BREAKING, steps=[3000, 10_000], min_step_seconds=300, guards=["errors"])
    users = Users(server)
    names = [f"user {number}" for number in range(USERS)]
    versions = {name: users.ask(name, -1.0, 3)[0] for name in names}
    canary = [name for name in names if versions[name] == BREAKING]
    assert 5 < len(canary) < USERS - 5
    users.ask(canary[0], BAD, 1)  # at once, when nobody has looked at the counts
    for _ in range(8):  # the same user by new connections: to every worker
        by, statuses = users.ask(canary[0], BAD, 250)
        assert by == BREAKING
        assert 200 not in statuses
        for name in names[::4]:
            users.ask(name, -1.0, 2)
    found = counted(server, trial, users, [name for name in names if name != canary[0]], canary[0])
    assert found["state"] == "running", json.dumps(found)
    assert found["evidence"]["errors"]["log_e"] < found["evidence"]["errors"]["log_e_fail_at"]
    assert found["evidence"]["errors"]["effect"] < 0.2
    for name in names:
        users.ask(name, BAD, 3)
    over = until(server, trial, "rolled_back", "promoted", "inconclusive")
    assert over["state"] == "rolled_back", json.dumps(over)
    assert over["evidence"]["errors"]["verdict"] == "fail"
