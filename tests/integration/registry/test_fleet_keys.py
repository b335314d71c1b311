"""API keys of two gateways on one PostgreSQL: a change at one holds at both, and bad ones do not hinder good ones."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest

from penstock.core.access.attempts import BURST
from tests import harness
from tests.harness import PATIENCE_S, Server, is_ever_within, wait_until
from tests.keys import ACCEPT_KEYS
from tests.postgres import Postgres

WITHIN_S = 1.0
"""The promise: a revoked key ends on every gateway of the registry within a second."""


@dataclass
class Fleet:
    """Two gateways."""

    gateways: list[Server] = field(default_factory=list)

    def create(self, at: int, name: str, role: str = "viewer") -> str:
        """Create a key at one gateway, and wait until it is valid at both."""
        made = self.change(at, "POST", "", {"name": name, "roles": [role]})
        self.wait(made["key"], 200)
        return str(made["key"])

    def change(self, at: int, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Change keys at one gateway, as its own user."""
        reply = self.gateways[at].as_owner(method, f"/admin/v1/keys{path}", body)
        assert reply.status in {200, 201}, reply
        return reply.json()

    def statuses(self, key: str) -> set[int]:
        """What the ops port and the data port of both gateways answer to a key."""
        headers = {"authorization": f"Bearer {key}"}
        found = {gateway.admin("GET", "/admin/v1/whoami", headers=headers).status for gateway in self.gateways}
        return found | {gateway.rest("GET", "/v2/models", headers=headers).status for gateway in self.gateways}

    def wait_refused(self, key: str) -> None:
        wait_until(lambda: self.statuses(key) <= {401, 429}, PATIENCE_S, "the end of the key")

    def wait(self, key: str, status: int) -> None:
        wait_until(lambda: self.statuses(key) == {status}, PATIENCE_S, lambda: f"{status}, not {self.statuses(key)}")


@pytest.fixture(scope="module")
def fleet(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder, url = tmp_path_factory.mktemp("fleet"), server.create("keys")
    with ExitStack() as stack:
        fleet = Fleet()
        for name in "ab":
            options = ("--registry", url, "--workers", "2")
            running = harness.running(None, folder / name, *options, env=ACCEPT_KEYS)
            fleet.gateways.append(stack.enter_context(running))
        yield fleet


class Asking:
    """Asks one port on one connection, again and again, as long as a key is accepted; ``began`` is when the last
    request that succeeded was sent."""

    def __init__(self, address: str, path: str, key: str) -> None:
        self.began = 0.0
        self._address, self._path, self._headers = address, path, {"authorization": f"Bearer {key}"}
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        with closing(HTTPConnection(self._address, timeout=PATIENCE_S)) as connection:
            while time.monotonic() < deadline:
                began = time.monotonic()
                connection.request("GET", self._path, headers=self._headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    return
                self.began = began
                time.sleep(0.005)


def test_a_revoked_key_ends_on_both_gateways_and_open_connections(fleet: Fleet) -> None:
    assert is_ever_within(WITHIN_S, partial(_outlives, fleet))


def _outlives(fleet: Fleet, name: str) -> float:
    """How long a key is accepted after it was revoked, seconds."""
    key = fleet.create(0, name)
    askers = [
        Asking(address, path, key)
        for gateway in fleet.gateways
        for address, path in ((gateway.http, "/v2/models"),) * 4 + ((gateway.ops, "/admin/v1/whoami"),)
    ]
    for asker in askers:
        asker.thread.start()
    wait_until(lambda: all(asker.began for asker in askers), PATIENCE_S, "a first answer to each")
    fleet.change(0, "DELETE", f"/{name}", {})
    revoked = time.monotonic()
    for asker in askers:
        asker.thread.join(PATIENCE_S)
        assert not asker.thread.is_alive()
    assert fleet.statuses(key) <= {401, 429}
    return max(asker.began for asker in askers) - revoked


def test_while_a_key_replaces_another_both_are_valid_at_both(fleet: Fleet) -> None:
    old = fleet.create(0, "rotated")
    new = fleet.change(1, "POST", "/rotated/rotate", {"overlap_seconds": 3600})["key"]
    fleet.wait(new, 200)
    assert fleet.statuses(old) == {200}
    newest = fleet.change(0, "POST", "/rotated/rotate", {"overlap_seconds": 2})["key"]
    fleet.wait(newest, 200)
    for ended in (old, new):
        fleet.wait_refused(ended)
    assert fleet.statuses(newest) == {200}
    listed = [key for key in fleet.change(1, "GET", "", {})["keys"] if key["name"] == "rotated"]
    assert sorted(key["state"] for key in listed) == ["expired", "expired", "valid"]


def test_bad_credentials_are_limited_and_good_ones_are_not(fleet: Fleet) -> None:
    key = fleet.create(1, "good")
    first, second = fleet.gateways
    found: dict[int, int] = {}
    with closing(HTTPConnection(first.ops, timeout=PATIENCE_S)) as connection:
        for number in range(3 * BURST):
            connection.request("GET", "/admin/v1/whoami", headers={"authorization": f"Bearer pk_{number}"})
            answer = connection.getresponse()
            answer.read()
            found[answer.status] = found.get(answer.status, 0) + 1
            if answer.status == 429:
                assert float(answer.headers["retry-after"]) > 0
    assert set(found) == {401, 429} and found[401] >= BURST // 2
    assert fleet.statuses(key) == {200}
    wrong = {"authorization": "Bearer pk_wrong"}
    assert second.admin("GET", "/admin/v1/whoami", headers=wrong).status == 401  # each gateway counts for itself

    def recorded() -> int:
        """How many refusals the audit has, in how many rows."""
        entries = second.as_owner("GET", "/admin/v1/audit?limit=1000").json()["entries"]
        rows = [entry for entry in entries if entry["action"] == "auth.refuse"]
        assert len(rows) < BURST
        return sum(entry["after"]["count"] for entry in rows if entry["after"]["detail"] == "malformed")

    wait_until(lambda: recorded() >= BURST // 2, 2 * PATIENCE_S, "the refusals in the audit")


def test_keys_stay_valid_at_both_while_the_database_is_away(fleet: Fleet, server: Postgres) -> None:
    key = fleet.create(0, "kept")
    server.stop()
    try:
        assert fleet.statuses(key) == {200}
        assert fleet.statuses("pk_wrong") <= {401, 429}
        refused = fleet.gateways[1].as_owner("DELETE", "/admin/v1/keys/kept", {})
        assert refused.status == 503
    finally:
        server.start()
    wait_until(
        lambda: fleet.gateways[1].as_owner("DELETE", "/admin/v1/keys/kept", {}).status in {200, 404},
        PATIENCE_S,
        "changes after the outage",
    )
    fleet.wait_refused(key)
