"""Retraining over a real database: what is asked, what is under way, and what workers' restarts leave alone."""

import asyncio
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.control.retraining.rules import MANUAL, Retraining
from penstock.control.sinks import SinkContext
from penstock.core.errors import InvalidInput, NotFound
from penstock.core.policies import MonitorPolicy, parse_policy
from penstock.core.triggers.rules import RuleOutcome
from penstock.core.triggers.state import RuleState, decode_rule_state
from penstock.core.versions import CHAMPION
from penstock.registry.records import Author, Document, ModelRecord
from penstock.registry.stores.outbox import Outbox
from penstock.telemetry import delivery_metrics as metrics
from penstock.telemetry.readings import Point
from tests.unit.control.trials import ME, World

DRIFTING = {"name": "x", "state": "drift", "psi": 1.0, "since": 1.0, "psi_threshold": 0.1, "rows": 9, "moved": []}


class Setup:
    """The rules of a model of three versions; ``drifts`` is what the monitor says of those that answer."""

    can_judge = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.world, self.drifts = folder, World(folder), True
        self.requests: Document = {}
        self.outbox = Outbox(self.world.database, self.world.traffic, self.world.clock)
        self.policy = parse_policy(
            {
                "triggers": [{"name": "r", "when": {"drift": {}}, "send": ["log"]}],
                "sinks": {"log": {"file": {"path": "events.jsonl"}}},
                "retraining": {"auto_rollout": {}, "approval": True},
            },
            parse_schedule,
        )
        self.open()

    def open(self) -> None:
        """As another gateway does that leads from now on."""
        self.rules = Retraining(
            self.outbox, self._record, self.world.fleet, self, self, SinkContext(self.folder), self.world.clock
        )

    def policy_of(self, _: str) -> MonitorPolicy:
        return self.policy

    def feature_names(self, _: tuple[str, str]) -> tuple[str, ...]:
        return ()

    def describe(self, _model: str, _version: str) -> Document:
        return {"features": [DRIFTING] if self.drifts else [], "requests": self.requests}

    async def begin_as_leader(self, _model: str, _document: Document, _by: Author) -> Document:
        raise AssertionError("nobody asked for a rollout")

    async def versions_tried(self, _: str) -> set[str]:
        return set()

    def _record(self, model: str) -> ModelRecord:
        return ModelRecord(model, 1)

    def act(self, *calls: Any) -> list[Any]:
        async def run() -> list[Any]:
            return [await call() for call in calls]

        return asyncio.run(run())

    def step(self, seconds: float = 1.0) -> RuleState:
        self.world.clock.now += seconds
        self.act(self.rules.judge_all, self.rules.deliver_all)
        return self.kept()

    def kept(self) -> RuleState:
        return decode_rule_state(self.outbox.rule_state("m")[0])


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def test_a_rule_asks_once_and_the_request_is_under_way(setup: Setup) -> None:
    asked = setup.step()
    assert asked.in_flight is not None
    assert asked.in_flight.version == "3"
    assert asked.in_flight.event == setup.world.traffic.events("m")[0]["id"]
    assert setup.step(60).in_flight == asked.in_flight
    kinds = [event["type"].removeprefix("io.penstock.") for event in setup.world.traffic.events("m")]
    assert kinds == ["retraining.requested.v1"]
    assert Point(metrics.RETRAINING_REQUESTS, ("m", "r", RuleOutcome.REQUESTED), 1) in list(setup.rules.readings())


@pytest.mark.parametrize(("retraining", "pinned"), [({"auto_rollout": {}}, "3"), ({"approval": True}, "3"), ({}, None)])
@pytest.mark.parametrize("manually", [False, True])
def test_a_version_that_is_decided_on_does_not_answer_when_it_is_pushed(
    setup: Setup, retraining: Document, pinned: str | None, manually: bool
) -> None:
    setup.policy = parse_policy(
        {
            "triggers": [{"name": "r", "when": {"drift": {}}, "send": ["log"]}],
            "sinks": {"log": {"file": {"path": "events.jsonl"}}},
            "retraining": retraining,
        },
        parse_schedule,
    )
    if manually:
        setup.act(lambda: setup.rules.ask("m", {}, ME))
    else:
        setup.step()
    champion = setup.world.store.model("m").aliases.get(CHAMPION)
    assert (champion.version if champion else None) == pinned


def test_an_existing_route_decides_after_a_push_too(setup: Setup) -> None:
    setup.world.promote_champion("2")
    setup.step()
    assert setup.world.store.model("m").aliases[CHAMPION].version == "2"


def test_a_restart_of_workers_leaves_the_request_and_its_approvals(setup: Setup) -> None:
    asked = setup.step().in_flight
    setup.act(lambda: setup.rules.candidates.approve("m", "2", ME))
    for loading, ill in (({"3"}, set()), (set(), {"3"}), ({"1", "2", "3"}, set()), ({"3"}, {"2"}), (set(), set())):
        setup.world.fleet.loading, setup.world.fleet.ill = loading, ill
        after = setup.step()
        assert (after.in_flight, after.approved) == (asked, ("2",)), (loading, ill)


def test_a_takeover_leaves_the_request_and_its_approvals(setup: Setup) -> None:
    asked = setup.step().in_flight
    setup.act(lambda: setup.rules.candidates.approve("m", "2", ME))
    setup.open()
    setup.world.fleet.loading = {"1", "2", "3"}
    after = setup.step()
    assert (after.in_flight, after.approved) == (asked, ("2",))


def test_a_request_ends_when_another_version_is_to_answer_and_does(setup: Setup) -> None:
    setup.step()
    setup.drifts = False
    setup.world.promote_champion("2")
    setup.world.fleet.loading = {"2"}
    assert setup.step().in_flight is not None
    setup.world.fleet.loading = set()
    assert setup.step().in_flight is None


BURNING = parse_policy(
    {
        "slo": {"error_ratio": 0.01},
        "triggers": [{"name": "r", "when": {"slo": {"long_seconds": 600, "short_seconds": 60, "burn_rate": 10}}}],
    },
    parse_schedule,
)


@pytest.mark.parametrize("takeovers", [(), (7,), range(15)])
def test_a_burn_rate_asks_when_both_windows_burn_whoever_leads_meanwhile(
    setup: Setup, takeovers: Container[int]
) -> None:
    setup.drifts, setup.policy = False, BURNING
    answered = failed = 0
    for _ in range(30):  # all is well, then a fifth of all requests fails
        answered += 100
        setup.requests = {"answered": answered, "failed": failed, "slow": 0}
        assert setup.step(20).in_flight is None
    steps = 0
    while setup.step(20).in_flight is None:
        answered, failed, steps = answered + 100, failed + 20, steps + 1
        setup.requests = {"answered": answered, "failed": failed, "slow": 0}
        if steps in takeovers:
            setup.open()
        assert steps < 30
    assert steps == 15  # half of the long window at twice the rate
    [event] = setup.world.traffic.events("m")
    assert event["data"]["conditions"][0]["statistic"] == "burn rate of error_ratio"


@pytest.mark.simulation
def test_what_burn_rates_look_back_on_is_bounded_and_of_one_version(setup: Setup) -> None:
    setup.drifts, setup.policy = False, BURNING
    for _ in range(120):
        setup.step(10)
    assert len(setup.outbox.requests_over_time(("m", "3"), 0.0)) <= 103  # the window, in steps of 6 s
    setup.world.promote_champion("2")
    setup.step(10)
    assert not setup.outbox.requests_over_time(("m", "3"), 0.0)
    assert len(setup.outbox.requests_over_time(("m", "2"), 0.0)) == 1


def test_a_person_can_request_retraining_whatever_the_rules_say(setup: Setup) -> None:
    setup.drifts = False
    [reported] = setup.act(lambda: setup.rules.ask("m", {}, Author("me", "a new season")))
    assert (reported["version"], reported["sinks"]) == ("3", ["log"])
    [event] = setup.world.traffic.events("m")
    assert (event["data"]["rule"], event["data"]["reason"]) == (MANUAL, "a new season")
    assert setup.kept().in_flight is not None
    for model, document, fault in (
        ("m", {"moon": 1}, InvalidInput),
        ("m", {"version": "9"}, NotFound),
        ("n", {}, NotFound),
    ):
        with pytest.raises(fault):
            setup.act(lambda model=model, document=document: setup.rules.ask(model, document, ME))
