"""The monitors of three gateways on a real PostgreSQL: one body of evidence, and a gateway that is killed."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import harness, postgres
from tests.harness import PATIENCE_S, Server, call, wait_until
from tests.integration.traffic.drive import GOOD, promote_champion, scorer
from tests.integration.traffic.test_monitor import answer, csv, feedback, send, show, states
from tests.postgres import Postgres
from tests.unit.control.members import Member, lead
from tests.unit.control.monitoring.test_fleet_evidence import REFERENCE, events, fleet, serve
from tests.unit.control.test_monitoring import exchange
from tests.unit.control.trials import Clock

NUMBERS = iter(range(1000))


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres.running() as running:
        yield running


@pytest.fixture
def url(database: Postgres) -> str:
    return database.create_registry(f"evidence{next(NUMBERS)}")


@pytest.fixture
def three(tmp_path: Path, url: str) -> Iterator[list[Member]]:
    members = fleet(tmp_path / "three", Clock(), "abc", url)
    yield members
    for member in members:
        member.kill()


def serves(at: Server) -> bool:
    return at.rest("GET", f"/v2/models/m/versions/{GOOD}/ready").status == 200


@pytest.fixture
def gateways(database: Postgres, tmp_path: Path) -> Iterator[list[Server]]:
    url, blobs = database.create(f"evidence{next(NUMBERS)}"), {"PENSTOCK_BLOBS": str(tmp_path / "blobs")}
    with ExitStack() as stack:
        servers = []
        for name in "ab":
            server = harness.launch(None, tmp_path / name, "--registry", url, "--workers", "1", env=blobs)
            stack.callback(server.kill)
            servers.append(server)
        assert servers[0].push("m", GOOD, scorer().SerializeToString()).status == 201
        promote_champion(servers[0], GOOD)
        for item in servers:
            wait_until(partial(serves, item), PATIENCE_S, "the version")
        yield servers


def test_three_gateways_decide_what_one_with_all_rows_decides(tmp_path: Path, three: list[Member]) -> None:
    alone = fleet(tmp_path / "one", Clock(), "a")
    sources = [np.random.default_rng(11), np.random.default_rng(11)]
    for shift in (0.0,) * 8 + (0.6,) * 3 + (0.0,) * 12:
        shown = []
        for members, generator in zip((alone, three), sources, strict=True):
            serve(members, generator, 300, shift)
            shown.append(lead(members).show())
        assert shown[0]["rows"]["counted"] == shown[1]["rows"]["counted"]
        for one, other in zip(shown[0]["features"], shown[1]["features"], strict=True):
            assert (one["state"], one["counts"], one["since"]) == (other["state"], other["counts"], other["since"])
    assert events(alone[0]) == events(three[0])
    assert len(events(three[0])) == 2


def test_a_killed_leader_costs_what_it_had_not_published_and_no_event_twice(three: list[Member]) -> None:
    generator = np.random.default_rng(12)
    for shift in (0.0,) * 4 + (0.6,) * 2:
        serve(three, generator, 300, shift)
    first = lead(three)
    reported = events(first)
    assert len(reported) == 1
    first.count(REFERENCE, exchange(generator, 70, 0.6))  # published by nobody
    first.kill()
    left = [item for item in three if item is not first]
    wait_until(
        partial(is_succeeded, left), PATIENCE_S, "another leader: PostgreSQL frees the lock once it sees the end"
    )
    for _ in range(3):
        serve(left, generator, 300, 0.6)
    second = lead(left)
    assert second.show()["rows"]["counted"] == 9 * 300
    assert second.show()["features"][0]["state"] == "drift"
    assert events(second) == reported


def is_succeeded(members: list[Member]) -> bool:
    members[0].step()
    return members[0].evidence.is_known


def test_two_real_gateways_share_a_verdict_and_labels_and_emit_each_event_once(gateways: list[Server]) -> None:
    path = f"/admin/v1/models/m/versions/{GOOD}/reference"
    assert call(gateways[0].ops, "PUT", path, csv()).status == 201
    for gateway in gateways:
        wait_until(partial(is_watched, gateway), PATIENCE_S, "the reference")
        wait_until(partial(sends_until_counted, gateway), PATIENCE_S, "a worker that counts")
        send(gateway, GOOD, 600)
    for gateway in gateways:
        wait_until(partial(sums_up, gateway, gateways, 1200), PATIENCE_S, "the rows of both at each")
    for gateway in gateways:
        send(gateway, GOOD, 800, shift=1.0)
        for number in range(10):
            label = answer(gateway, f"{gateway.ops} {number}")
            reported = {"id": f"{gateway.ops} {number}", "label": label}
            wait_until(partial(is_joined, gateway, reported), PATIENCE_S, "an answer that is remembered")
    for gateway in gateways:
        wait_until(partial(drifts, gateway), PATIENCE_S, "the drift at each")
        wait_until(partial(has_labels, gateway, 20), PATIENCE_S, "the labels of both at each")
        wait_until(partial(sums_up, gateway, gateways, 2 * (600 + 800 + 10)), PATIENCE_S, "all rows of both at each")
        document = show(gateway, GOOD)
        assert (document["scope"], len(document["gateways"])) == ("fleet", 2)
    events_reported = gateways[0].admin("GET", "/admin/v1/events").json()["events"]
    begun = [event["data"]["name"] for event in events_reported if event["type"] == "io.penstock.drift.detected.v1"]
    assert begun.count("f0") == 1


def know_each_other(asked: Server) -> bool:
    """Whether a gateway knows of two that serve the model."""
    shown = asked.admin("GET", "/admin/v1/fleet").json()["gateways"]
    return [bool(item["serves"].get("m")) for item in shown] == [True, True]


def test_two_real_gateways_learn_one_reference_of_the_rows_of_both(gateways: list[Server], database: Postgres) -> None:
    """One of them sees other values than the other, and a fifth of the traffic; the database is restarted meanwhile."""
    first, second = gateways
    for gateway in gateways:
        wait_until(partial(know_each_other, gateway), PATIENCE_S, "the gateways as those that serve the version")
    wanted = {"live_reference_rows": 2000, "live_reference_seconds": 3, "live_reference_client_share": 1.0}
    assert first.as_owner("PUT", "/admin/v1/models/m/policy", {"monitor": wanted}).status == 200

    def is_learned() -> bool:
        send(first, GOOD, 40)
        send(second, GOOD, 160, shift=50.0)
        return is_watched(second)

    is_learned()
    database.stop()
    database.start()
    wait_until(is_learned, PATIENCE_S, "a reference that was learned")
    wait_until(partial(is_watched, first), PATIENCE_S, "the reference at the other gateway")
    assert show(first, GOOD)["reference"] == show(second, GOOD)["reference"]
    assert show(first, GOOD)["reference"]["rows"] == 2000
    entries = first.admin("GET", "/admin/v1/audit").json()["entries"]
    [given] = [entry for entry in entries if entry["action"] == "reference.set"]
    assert given["reason"] == "learned from 2000 rows of 2 gateways"


def is_joined(at: Server, reported: dict[str, Any]) -> bool:
    return feedback(at, reported) == (1, 0)


def is_watched(at: Server) -> bool:
    return show(at, GOOD)["reference"] is not None


def own_rows(at: Server) -> int:
    own = at.admin("GET", f"/admin/v1/models/m/monitor?version={GOOD}&scope=gateway").json()
    assert own["scope"] == "gateway"
    return int(own.get("rows", {}).get("counted", 0))


def sends_until_counted(at: Server) -> bool:
    """The gateway knows the reference a moment before its worker counts by it."""
    send(at, GOOD, 40)
    return own_rows(at) > 0


def sums_up(at: Server, gateways: list[Server], least: int) -> bool:
    """What this gateway shows of the fleet is what both have counted."""
    own = [own_rows(gateway) for gateway in gateways]
    return bool(show(at, GOOD).get("rows", {}).get("counted") == sum(own) >= least)


def drifts(at: Server) -> bool:
    return states(at, GOOD)["f0"] == "drift"


def has_labels(at: Server, labels: int) -> bool:
    return bool(show(at, GOOD)["performance"]["labels"] == labels)
