"""The fleet: gateways say that they live, leave, are forgotten after a day, and any of them shows all."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.control.plane.fleet import MOST_MODELS, FleetMember, describe_fleet, ready_versions
from penstock.core.desired import ReadyState, VersionStatus
from penstock.core.errors import NotReady
from penstock.core.leases import Lease
from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.stores.gateways import (
    FORGOTTEN_S,
    SILENT_S,
    FleetStatus,
    GatewayDescription,
    GatewayHeartbeat,
    GatewayStore,
)
from tests.harness import PATIENCE_S
from tests.leases import leading

READY = [VersionStatus("m", "1", ReadyState.READY), VersionStatus("m", "2", ReadyState.LOADING)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = leading(open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0), "a")
    yield opened
    opened.close()


def test_gateways_are_seen_by_each_other_and_leave(database: Database) -> None:
    store = GatewayStore(database)
    first, second = (FleetMember(store, name, "1.0", lambda: 7, lambda: READY) for name in "ab")
    for member in (first, second, first):
        asyncio.run(member.step())
    shown = asyncio.run(second.document())
    assert (shown["asked"], shown["leader"], shown["term"]) == ("b", "a", 1)
    reported = [
        (gateway["id"], gateway["state"], gateway["leads"], gateway["revision"], gateway["serves"])
        for gateway in shown["gateways"]
    ]
    assert reported == [("a", "alive", True, 7, {"m": ["1"]}), ("b", "alive", False, 7, {"m": ["1"]})]
    asyncio.run(first.stop())
    assert [gateway["id"] for gateway in asyncio.run(second.document())["gateways"]] == ["b"]


def test_a_gateway_without_a_heartbeat_for_a_day_is_forgotten(database: Database) -> None:
    store = GatewayStore(database)
    store.beat(GatewayDescription("old", "h", "1.0", 0.0, 0, {}))
    with database.recording() as connection:
        connection.execute(schema.gateways.update().values(seen=schema.gateways.c.seen - FORGOTTEN_S - 1))
    assert store.fleet().gateways[0].silent_s > FORGOTTEN_S
    store.beat(GatewayDescription("new", "h", "1.0", 0.0, 0, {}))
    assert [gateway.gateway.id for gateway in store.fleet().gateways] == ["new"]


def test_the_silent_and_the_leaderless_are_shown_as_such() -> None:
    gateway = GatewayDescription("a", "h", "1.0", 0.0, 3, {})
    shown = describe_fleet(FleetStatus((GatewayHeartbeat(gateway, 60.0),), Lease("a", 4, -1.0), 5), "b")
    assert (shown["leader"], shown["lease_seconds"], shown["revision"]) == (None, 0.0, 5)
    assert (shown["gateways"][0]["state"], shown["gateways"][0]["leads"]) == ("silent", False)


def test_what_a_gateway_publishes_is_bounded() -> None:
    many = [VersionStatus(f"m{number}", "1", ReadyState.READY) for number in range(MOST_MODELS + 1)]
    assert len(ready_versions(many)) == MOST_MODELS


def test_a_gateway_knows_why_its_last_write_failed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GatewayStore(database)
    member = FleetMember(store, "a", "1.0", lambda: 7, lambda: READY)
    beat = store.beat

    def refused(_: GatewayDescription) -> bool:
        raise NotReady("it can only be read")

    monkeypatch.setattr(store, "beat", refused)
    with pytest.raises(NotReady):
        asyncio.run(member.step())
    assert member.problem == "it can only be read"
    monkeypatch.setattr(store, "beat", beat)
    asyncio.run(member.step())
    assert member.problem == ""
    member.close()


def test_a_database_that_hangs_holds_neither_the_task_nor_who_asks(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, go = GatewayStore(database), threading.Event()
    monkeypatch.setattr(store, "beat", lambda _: go.wait(PATIENCE_S))
    member = FleetMember(store, "a", "1.0", lambda: 7, lambda: READY)
    member.pools[0]._deadline_s = 0.01
    with pytest.raises(NotReady, match="did not answer"):
        asyncio.run(member.step())
    assert asyncio.run(member.document())["asked"] == "a"
    go.set()
    member.close()


def test_a_gateway_that_is_asked_for_rows_looks_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store, looks = GatewayStore(database), list[int]()
    member = FleetMember(store, "a", "1.0", lambda: 7, lambda: READY, rows_asked=lambda: looks.append(1))
    asyncio.run(member.step())
    assert looks == []
    monkeypatch.setattr(store, "beat", lambda _: True)
    asyncio.run(member.step())
    assert looks == [1]
    member.close()


class Quotas:
    """Quotas that publish a demand and keep what they are to use."""

    def __init__(self, demand: dict[str, list[float]]) -> None:
        self.has_quotas, self._demand = bool(demand), demand
        self.used: list[tuple[str, dict[str, Any]]] = []

    def measure(self) -> dict[str, Any]:
        return dict(self._demand)

    def use(self, own: str, published: Mapping[str, Any]) -> None:
        self.used.append((own, dict(published)))


def test_gateways_publish_the_demand_of_callers_until_they_are_silent(database: Database) -> None:
    store = GatewayStore(database)
    members = {name: FleetMember(store, name, "1.0", lambda: 7, lambda: READY) for name in "abc"}
    quotas = {"a": Quotas({"bot": [1.0]}), "b": Quotas({"bot": [2.0]}), "c": Quotas({})}
    for name, member in members.items():
        member.share_quotas(quotas[name])
    for name in ("a", "b", "c", "a"):
        asyncio.run(members[name].step())
    assert quotas["a"].used[-1] == ("a", {"a": {"bot": [1.0]}, "b": {"bot": [2.0]}, "c": {}})
    assert quotas["c"].used == []
    with database.recording() as connection:
        silent = schema.gateways.update().where(schema.gateways.c.id == "b")
        connection.execute(silent.values(seen=schema.gateways.c.seen - SILENT_S - 1))
    asyncio.run(members["a"].step())
    assert quotas["a"].used[-1] == ("a", {"a": {"bot": [1.0]}, "c": {}})
