"""Retraining over a real database: what is asked, what is under way, and what workers' restarts leave alone."""

import asyncio
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest

from penstock.control.monitoring.schedules import schedule_in
from penstock.control.retraining.rules import MANUAL, Retraining
from penstock.core.errors import InvalidInput, NotFound
from penstock.core.policies import MonitorPolicy, policy_in
from penstock.core.triggers.rules import RuleOutcome
from penstock.core.triggers.state import RuleState, rule_state_in
from penstock.core.versions import CHAMPION
from penstock.registry.records import Author, Document, ModelRecord
from penstock.registry.stores.outbox import Outbox
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.unit.control.trials import ME, World

DRIFTING = {"name": "x", "state": "drift", "psi": 1.0, "since": 1.0, "psi_threshold": 0.1, "rows": 9, "moved": []}


class Room:
    """The rules of a model of three versions; ``drifts`` is what the monitor says of those that answer."""

    can_judge = True

    def __init__(self, folder: Path) -> None:
        self.folder, self.world, self.drifts = folder, World(folder), True
        self.requests: Document = {}
        self.outbox = Outbox(self.world.database, self.world.traffic, self.world.clock)
        self.policy = policy_in(
            {
                "triggers": [{"name": "r", "when": {"drift": {}}, "send": ["log"]}],
                "sinks": {"log": {"file": {"path": "events.jsonl"}}},
                "retraining": {"auto_rollout": {}, "approval": True},
            },
            schedule_in,
        )
        self.open()

    def open(self) -> None:
        """As another gateway does that leads from now on."""
        self.rules = Retraining(
            self.outbox, self._record, self.world.fleet, self, self, (self.folder, True), self.world.clock
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
        return rule_state_in(self.outbox.rule_state("m")[0])


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_rule_asks_once_and_the_request_is_under_way(room: Room) -> None:
    asked = room.step()
    assert asked.in_flight is not None
    assert asked.in_flight.version == "3"
    assert asked.in_flight.event == room.world.traffic.events("m")[0]["id"]
    assert room.step(60).in_flight == asked.in_flight
    kinds = [one["type"].removeprefix("io.penstock.") for one in room.world.traffic.events("m")]
    assert kinds == ["retraining.requested.v1"]
    assert Point(metrics.RETRAINING_REQUESTS, ("m", "r", RuleOutcome.REQUESTED), 1) in list(room.rules.readings())


@pytest.mark.parametrize(("retraining", "pinned"), [({"auto_rollout": {}}, "3"), ({"approval": True}, "3"), ({}, None)])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_version_that_is_decided_on_does_not_answer_when_it_is_pushed(
    room: Room, retraining: Document, pinned: str | None, by_hand: bool
) -> None:
    room.policy = policy_in(
        {
            "triggers": [{"name": "r", "when": {"drift": {}}, "send": ["log"]}],
            "sinks": {"log": {"file": {"path": "events.jsonl"}}},
            "retraining": retraining,
        },
        schedule_in,
    )
    if by_hand:
        room.act(lambda: room.rules.ask("m", {}, ME))
    else:
        room.step()
    champion = room.world.store.model("m").aliases.get(CHAMPION)
    assert (champion.version if champion else None) == pinned


def test_whoever_decides_who_answers_already_still_does(room: Room) -> None:
    room.world.crown("2")
    room.step()
    assert room.world.store.model("m").aliases[CHAMPION].version == "2"


def test_a_restart_of_workers_leaves_the_request_and_its_approvals(room: Room) -> None:
    asked = room.step().in_flight
    room.act(lambda: room.rules.candidates.approve("m", "2", ME))
    for loading, ill in (({"3"}, set()), (set(), {"3"}), ({"1", "2", "3"}, set()), ({"3"}, {"2"}), (set(), set())):
        room.world.fleet.loading, room.world.fleet.ill = loading, ill
        after = room.step()
        assert (after.in_flight, after.approved) == (asked, ("2",)), (loading, ill)


def test_a_takeover_leaves_the_request_and_its_approvals(room: Room) -> None:
    asked = room.step().in_flight
    room.act(lambda: room.rules.candidates.approve("m", "2", ME))
    room.open()
    room.world.fleet.loading = {"1", "2", "3"}
    after = room.step()
    assert (after.in_flight, after.approved) == (asked, ("2",))


def test_a_request_ends_when_another_version_is_to_answer_and_does(room: Room) -> None:
    room.step()
    room.drifts = False
    room.world.crown("2")
    room.world.fleet.loading = {"2"}
    assert room.step().in_flight is not None
    room.world.fleet.loading = set()
    assert room.step().in_flight is None


BURNING = policy_in(
    {
        "slo": {"error_ratio": 0.01},
        "triggers": [{"name": "r", "when": {"slo": {"long_seconds": 600, "short_seconds": 60, "burn_rate": 10}}}],
    },
    schedule_in,
)


@pytest.mark.parametrize("takeovers", [(), (15,), range(30)])
def test_a_burn_rate_asks_when_both_windows_burn_whoever_leads_meanwhile(room: Room, takeovers: Container[int]) -> None:
    room.drifts, room.policy = False, BURNING
    answered = failed = 0
    for _ in range(60):  # all is well, then a fifth of all requests fails
        answered += 100
        room.requests = {"answered": answered, "failed": failed, "slow": 0}
        assert room.step(10).in_flight is None
    steps = 0
    while room.step(10).in_flight is None:
        answered, failed, steps = answered + 100, failed + 20, steps + 1
        room.requests = {"answered": answered, "failed": failed, "slow": 0}
        if steps in takeovers:
            room.open()
        assert steps < 60
    assert steps == 30  # half of the long window at twice the rate
    [event] = room.world.traffic.events("m")
    assert event["data"]["conditions"][0]["statistic"] == "burn rate of error_ratio"


def test_what_burn_rates_look_back_on_is_bounded_and_of_one_version(room: Room) -> None:
    room.drifts, room.policy = False, BURNING
    for _ in range(200):
        room.step(10)
    assert len(room.outbox.requests_over_time(("m", "3"), 0.0)) <= 103  # the window, in steps of 6 s
    room.world.crown("2")
    room.step(10)
    assert not room.outbox.requests_over_time(("m", "3"), 0.0)
    assert len(room.outbox.requests_over_time(("m", "2"), 0.0)) == 1


def test_people_ask_whatever_the_rules_say(room: Room) -> None:
    room.drifts = False
    [told] = room.act(lambda: room.rules.ask("m", {}, Author("me", "a new season")))
    assert (told["version"], told["sinks"]) == ("3", ["log"])
    [event] = room.world.traffic.events("m")
    assert (event["data"]["rule"], event["data"]["reason"]) == (MANUAL, "a new season")
    assert room.kept().in_flight is not None
    for model, document, fault in (
        ("m", {"moon": 1}, InvalidInput),
        ("m", {"version": "9"}, NotFound),
        ("n", {}, NotFound),
    ):
        with pytest.raises(fault):
            room.act(lambda model=model, document=document: room.rules.ask(model, document, ME))
