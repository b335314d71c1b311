"""Gateways whose clocks are wrong share a rollout on a real PostgreSQL: only the database's time counts."""

import asyncio
import time
import uuid
from collections.abc import Iterator

import pytest

from penstock.control.delivery.rollouts import Rollouts
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.shared_clock import SharedClock
from penstock.registry.records import Document
from penstock.registry.stores.traffic import TrafficStore
from penstock.registry.stores.versions import VersionStore
from tests import postgres
from tests.unit.control.trials import ME, Clock, FakeFleet

SKEWS = [-3600.0, -11.0, 0.0, 11.0, 3600.0]
ASKED: Document = {"to": "2", "steps": [1000, 10_000], "min_step_seconds": 600, "deadline_seconds": 1800}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres.running() as running:
        yield running.create("clocks")


class SkewedGateway:
    """One gateway's rollouts: its clock is so many seconds wrong."""

    def __init__(self, url: str, name: str, skew: float) -> None:
        self.database: Database = open_database(url, 5.0)
        self.database.clock = SharedClock(lambda: time.time() + skew)
        self.store = VersionStore(self.database)
        self.traffic = TrafficStore(self.database)
        self.fleet = FakeFleet(self.store, Clock())
        self.rollouts = Rollouts(self.traffic, self.fleet, name, self.fleet.labels)

    def step(self) -> None:
        asyncio.run(self.rollouts.step())


@pytest.mark.parametrize("skew", SKEWS)
def test_a_gateway_with_a_wrong_clock_sees_times_as_the_others_do(url: str, skew: float) -> None:
    right, wrong = SkewedGateway(url, "right", 0.0), SkewedGateway(url, "wrong", skew)
    trial = asyncio.run(wrong.rollouts.begin("m", ASKED, ME))
    try:
        assert wrong.traffic.now() == pytest.approx(right.traffic.now(), abs=2.0)
        wrong.fleet.lagging = True  # it serves, and has not the weights of the rollout
        for gateway in (right, wrong, right, wrong, right):
            asyncio.run(right.fleet.serve_changes())
            gateway.step()
        looks = right.traffic.observations(trial["id"])
        assert {look["at"] == pytest.approx(right.traffic.now(), abs=5.0) for look in looks.values()} == {True}
        open_trial = right.traffic.open_trials()[0]
        assert not right.rollouts._is_acknowledged(open_trial, looks.values())
        state = asyncio.run(right.rollouts.get_trial("m", trial["id"]))
        assert (state["state"], state["step"]) == ("running", 0)  # no deadline, no end of the step
        document = open_trial.document["rollout"]
        assert document["step_at"] == pytest.approx(right.traffic.now(), abs=10.0)
        assert lease_is_kept(right, wrong)
    finally:
        asyncio.run(right.rollouts.act("m", trial["id"], "abort", ME))
        for gateway in (right, wrong):
            gateway.rollouts.close()
            gateway.database.close()


def lease_is_kept(right: SkewedGateway, wrong: SkewedGateway) -> bool:
    """Whether a lease that the one took holds for the other until it is over."""
    held, over = (f"sha256:{uuid.uuid4().hex}" for _ in range(2))
    wrong.store.contents.lease(held, 60.0)
    wrong.store.contents.lease(over, -1.0)
    condemned = right.store.contents.mark_for_deletion([held, over])
    return held not in condemned and over in condemned
