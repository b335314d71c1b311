"""The loop that performs a rollout's decisions, over a real database and counters in memory; time is moved by hand."""

import asyncio
import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from penstock.cli.rollout import render
from penstock.control.delivery.rollouts import Rollouts
from penstock.control.delivery.routes import RouteAdmin
from penstock.control.delivery.trial import STEP_S
from penstock.core.errors import Conflict, InvalidInput, NotFound, NotReady, Refused
from penstock.core.rollouts.gates import WebhookGate
from penstock.core.routing import parse_route
from penstock.registry.records import Document
from penstock.registry.stores.traffic import TrialChange
from penstock.telemetry.readings import Point
from tests.harness import PATIENCE_S
from tests.unit.control.trials import ME, FakeFleet, World, at_once

ASKED: Document = {"to": "2", "steps": [1000, 5000, 10000], "min_step_seconds": 1, "reason": "go"}
SECONDS = 120
ERRORS: Document = {"guards": ["errors"]}
"""For what does not depend on the guards: the one of latency takes most of the time of a step."""

QUERY: Document = {"query": "up", "operator": ">=", "limit": 1}


class Gateway:
    """One gateway's rollouts, stepped by hand."""

    def __init__(self, world: World, name: str = "a", fleet: FakeFleet | None = None, **options: Any) -> None:
        self.world = world
        self.fleet = fleet or world.fleet
        self.rollouts = Rollouts(world.traffic, self.fleet, name, self.fleet.labels, clock=world.clock, **options)

    def begin(self, **changes: Any) -> Document:
        return asyncio.run(self.rollouts.begin("m", {**ASKED, **changes}, ME))

    def step(self) -> None:
        async def serve_and_step() -> None:
            await self.fleet.serve_changes()
            await self.rollouts.step()

        asyncio.run(serve_and_step())

    def act(self, trial: Document, verb: str) -> Document:
        return asyncio.run(self.rollouts.act("m", trial["id"], verb, ME))

    def look(self, trial: Document) -> Document:
        return asyncio.run(self.rollouts.get_trial("m", trial["id"]))

    def pass_time(self, trial: Document, until: str, bad: float = 0.0, ms: float = 1.0, **load: Any) -> Document:
        """Traffic and steps until the rollout is in a state; half a second at a time."""
        for _ in range(int(SECONDS / STEP_S)):
            state = self.look(trial)
            if state["state"] == until:
                return state
            traffic(self.fleet, state["weight"], bad, ms, **load)
            self.world.clock.now += STEP_S
            self.step()
        raise AssertionError(self.look(trial))


def points(gateway: Gateway) -> dict[tuple[str, tuple[str, ...]], float]:
    """The values of the rollouts' metrics, by metric and labels."""
    readings = [reading for reading in gateway.rollouts.readings() if isinstance(reading, Point)]
    return {(point.metric.name, point.labels): point.value for point in readings}


def traffic(fleet: FakeFleet, weight: int, bad: float = 0.0, ms: float = 1.0, total: int = 1600) -> None:
    canary = total * weight // 10_000
    failed = math.ceil(canary * bad)
    fleet.answer("2", canary - failed, failed, ms, canary=True)
    fleet.answer("1", total - canary)


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.promote_champion("1")
    return made


def test_a_good_version_is_promoted_step_by_step(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    assert (trial["state"], trial["weight"], trial["from"]) == ("running", 1000, "1")
    assert world.split() == {"1": 9000, "2": 1000}
    over = gateway.pass_time(trial, "promoted")
    assert over["weight"] == 10_000
    assert world.champion() == "2"
    assert world.split() is None  # the alias alone decides again
    actions = [entry.action for entry in world.store.audit("m", limit=100)]
    assert actions[-4:] == ["rollout.advance", "alias.move", "rollout.promote", "rollout.promote"]
    reported = world.traffic.events()[-1]
    assert (reported["type"], reported["subject"]) == ("io.penstock.rollout.finished.v1", "models/m/versions/2")
    assert reported["data"]["state"] == "promoted"
    assert reported["data"]["evidence"]["errors"]["verdict"] == "pass"
    assert world.traffic.open_trials() == []


@pytest.mark.parametrize(("load", "guard"), [({"bad": 0.2}, "errors"), ({"ms": 3.0}, "latency")])
def test_a_bad_version_loses_its_traffic_in_one_change(world: World, load: dict[str, float], guard: str) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    before = world.store.model("m").revision
    over = gateway.pass_time(trial, "rolled_back", **load)
    assert (over["weight"], over["step"]) == (0, 0)
    assert over["evidence"][guard]["verdict"] == "fail"
    assert guard in over["reason"]
    assert world.split() is None  # as before the rollout
    assert world.champion() == "1"
    audit = [entry for entry in world.store.audit("m", limit=100) if entry.action == "rollout.roll_back"]
    assert audit[0].actor == "controller"
    assert audit[-1].after is not None
    assert audit[-1].after["evidence"][guard]["log_e"] > 0
    assert world.store.model("m").revision == before + 2  # the route and the rollout itself, in one transaction


LABELS: Document = {"guards": [{"metric": "performance", "max_increase": 0.1}], "min_step_seconds": 3}


def labelled(gateway: Gateway, trial: Document, seconds: float, wrong: tuple[int, int], **how: Any) -> Document:
    """Traffic whose labels come at once: of ten, so many are wrong of the canary's and of the control's."""
    for _ in range(int(seconds / STEP_S)):
        state = gateway.look(trial)
        if state["state"] != "running":
            break
        traffic(gateway.fleet, state["weight"])
        for version, number in (("2", wrong[0]), ("1", wrong[1])):
            gateway.fleet.label(version, 10 - number, number, **how)
        gateway.world.clock.now += STEP_S
        gateway.step()
    return gateway.look(trial)


def test_labels_promote_a_good_version_and_say_how_old_they_were(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(**LABELS)
    over = labelled(gateway, trial, 120, (1, 1))
    assert over["state"] == "promoted", over
    evidence = over["evidence"]["performance"]
    low, high = evidence["interval"]
    assert low < 0 < high < 0.25
    assert evidence["label_delay_seconds"] == {"median_below": 1.0, "all_below": 1.0}


def test_worse_answers_by_labels_roll_back(world: World) -> None:
    gateway = Gateway(world)
    over = labelled(gateway, gateway.begin(**LABELS), 120, (5, 1))
    assert (over["state"], over["evidence"]["performance"]["verdict"]) == ("rolled_back", "fail")


@pytest.mark.parametrize("how", [{"age_s": 100.0}, {"by_split": False}])
def test_labels_from_before_the_step_and_of_other_routes_do_not_count(world: World, how: dict[str, Any]) -> None:
    gateway = Gateway(world)
    over = labelled(gateway, gateway.begin(**LABELS), 8, (10, 0), **how)
    evidence = over["evidence"]["performance"]
    assert (over["state"], evidence["n_canary"], evidence["n_control"]) == ("running", 0, 0)
    assert (evidence["log_e"], evidence["label_delay_seconds"]) == (0.0, None)


@pytest.mark.simulation
@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("wrong", [True, False])
def test_a_late_batch_of_labels_of_one_version_changes_nothing(world: World, version: str, wrong: bool) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(**{**LABELS, "min_step_seconds": 3600})
    world.clock.now += 60
    before = labelled(gateway, trial, 11, (1, 1))["evidence"]["performance"]
    for _ in range(5):
        world.fleet.label(version, 0 if wrong else 200, 200 if wrong else 0, age_s=40.0)
        world.clock.now += STEP_S
        gateway.step()
    world.clock.now += 3600
    gateway.step()
    after = gateway.look(trial)["evidence"]["performance"]
    assert before["n_canary"] > 100
    assert (after["verdict"], after["effect"]) == (before["verdict"], pytest.approx(before["effect"], abs=0.02))
    assert after["n_canary"] <= before["n_canary"] + 10  # the last of those that came at once


def test_labels_that_wait_for_the_other_version_are_shown(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(**LABELS)
    assert gateway.look(trial)["labels"] == {"waiting": {}, "unmatched": 0}
    for _ in range(4):
        traffic(world.fleet, 1000)
        world.fleet.label("1", 5)
        world.clock.now += STEP_S
        gateway.step()
    reported = gateway.look(trial)
    assert reported["labels"]["waiting"] == {"1": 15, "2": 0}  # the first were of before the step
    console = Console(width=160, record=True, file=StringIO())
    console.print(render(reported))
    assert "15 of version 1" in console.export_text()


def test_labels_of_each_gateway_count_for_the_one_that_leads_whatever_their_clocks_say(world: World) -> None:
    first, second = Gateway(world, "a"), Gateway(world, "b", FakeFleet(world.store, world.clock))
    trial = first.begin(**LABELS)
    for _ in range(30):
        second.fleet.label("2", 1, 9)
        second.fleet.label("1", 9, 1)
        world.clock.now += STEP_S
        second.step()
        first.step()
    over = first.look(trial)
    assert (over["state"], over["evidence"]["performance"]["verdict"]) == ("rolled_back", "fail")


@pytest.mark.parametrize(("run_ms", "state"), [(2.0, "rolled_back"), (1.0, "promoted"), (0.1, "promoted")])
def test_slow_runs_are_found_where_whole_requests_take_the_same_time(world: World, run_ms: float, state: str) -> None:
    """A slow canary holds up the control's requests too, where they share workers."""
    gateway = Gateway(world)
    now = trial = gateway.begin(guards=["latency"])
    while now["state"] == "running":
        world.fleet.answer("2", 400 * now["weight"] // 10_000, ms=9.0, canary=True, run_ms=run_ms)
        world.fleet.answer("1", 400 - 400 * now["weight"] // 10_000, ms=9.0, run_ms=1.0)
        world.clock.now += STEP_S
        gateway.step()
        now = gateway.look(trial)
    assert now["state"] == state
    evidence = now["evidence"]["latency"]
    assert evidence["effect"] == pytest.approx(1.0, abs=0.1)
    assert (evidence["run_effect"] > 1.5) == (state == "rolled_back")
    assert evidence["run_n_canary"] == evidence["n_canary"] > 0


@pytest.mark.simulation
@pytest.mark.parametrize(("units", "state"), [(1, "running"), (5, "rolled_back")])
@pytest.mark.parametrize("guard", ["errors", "error_ratio"])
def test_one_unit_of_a_sticky_split_cannot_roll_a_canary_back(world: World, guard: str, units: int, state: str) -> None:
    """Each unit fails once, as its worker counts it."""
    split = {"split": {"1": 10_000}, "sticky": "header:x-user"}
    world.traffic.set_route("m", lambda _: parse_route(split), ME)
    gateway = Gateway(world)
    limits = {"metric": guard} | ({"max": 0.0001} if guard == "error_ratio" else {})
    trial = gateway.begin(guards=[limits], steps=[5, 10_000], min_step_seconds=3600, alpha=0.1)
    for number in range(20):
        world.fleet.answer("2", 1, 10 <= number < 10 + units, canary=True)
        world.fleet.answer("1", 2000)
        world.clock.now += STEP_S
        gateway.step()
    assert gateway.look(trial)["state"] == state


@pytest.mark.simulation
@pytest.mark.parametrize("every", [20, 1000])
def test_a_canary_that_always_fails_is_found_where_requests_are_rare(world: World, every: int) -> None:
    """One request a second: no look has requests of both versions."""
    gateway = Gateway(world)
    trial = gateway.begin(steps=[5000])
    for index in range(120):
        if index % every == 0:
            gateway = Gateway(world)
        if index % 4 < 2:  # a request every second, to one version after the other
            bad = index % 4 == 0
            world.fleet.answer("2" if bad else "1", 0 if bad else index % 2, int(bad), canary=bad)
        world.clock.now += STEP_S
        gateway.step()
    over = gateway.look(trial)
    assert over["state"] == "rolled_back"
    assert over["evidence"]["errors"]["n_canary"] < 30


def test_without_requests_nothing_is_decided(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    for _ in range(10):
        world.clock.now += STEP_S
        gateway.step()
    state = gateway.look(trial)
    assert (state["state"], state["step"]) == ("running", 0)
    assert {evidence["verdict"] for evidence in state["evidence"].values()} == {"undecided"}


@pytest.mark.simulation
@pytest.mark.parametrize(("policy", "state", "split"), [("hold", "paused", 1000), ("abort", "inconclusive", None)])
def test_a_deadline_without_evidence(world: World, policy: str, state: str, split: int | None) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(deadline_seconds=10, on_inconclusive=policy)
    over = gateway.pass_time(trial, state, total=20)
    assert "deadline" in over["reason"]
    assert world.split() == (None if split is None else {"1": 10_000 - split, "2": split})


def test_nothing_counts_before_every_worker_has_the_weights(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(**ERRORS)
    world.fleet.lagging = True
    for _ in range(8):
        traffic(world.fleet, 1000)
        world.clock.now += STEP_S
        gateway.step()
    assert gateway.look(trial)["evidence"]["errors"]["n_control"] == 0
    world.fleet.lagging = False
    gateway.pass_time(trial, "promoted")


def test_actions_of_people_come_before_evidence(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    assert gateway.act(trial, "pause")["state"] == "paused"
    assert world.split() == {"1": 9000, "2": 1000}
    for _ in range(8):
        traffic(world.fleet, 1000)
        world.clock.now += STEP_S
        gateway.step()
    assert gateway.look(trial)["state"] == "paused"  # however good it is
    with pytest.raises(Conflict, match="running already"):
        gateway.act(gateway.act(trial, "resume"), "resume")
    assert gateway.act(trial, "promote")["state"] == "promoted"
    assert world.champion() == "2"
    for verb in ("pause", "resume", "promote", "abort"):
        with pytest.raises(Conflict, match="over"):
            gateway.act(trial, verb)
    again = gateway.begin(to="3")
    assert again["from"] == "2"
    assert gateway.act(again, "abort")["state"] == "rolled_back"
    assert world.split() is None
    with pytest.raises(NotFound):
        gateway.act(again | {"id": "nobody"}, "pause")


def test_one_rollout_at_a_time_and_no_change_of_its_route_meanwhile(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    with pytest.raises(Conflict, match="not over"):
        gateway.begin(to="3")
    routes = RouteAdmin(world.store, world.traffic, world.fleet)
    with pytest.raises(Conflict, match=trial["id"]):
        asyncio.run(routes.set_route("m", {"split": {"1": 10_000}}, ME))
    assert world.split() == {"1": 9000, "2": 1000}
    gateway.act(trial, "abort")
    assert asyncio.run(routes.set_route("m", {"split": {"1": 10_000}}, ME))["split"] == {"1": 10_000}


def test_what_cannot_begin(world: World) -> None:
    gateway = Gateway(world)
    with pytest.raises(InvalidInput):
        gateway.begin(steps=[0])
    with pytest.raises(NotFound):
        gateway.begin(to="9")
    with pytest.raises(InvalidInput, match="already answers"):
        gateway.begin(to="1")
    world.fleet.ill = {"2"}
    with pytest.raises(Refused, match="not ready"):
        gateway.begin()
    world.fleet.ill = set()
    with pytest.raises(Refused, match=r"prometheus\.url"):
        gateway.begin(guards=[{"metric": "promql", "query": "up", "min": 1}])
    world.traffic.set_route("m", lambda _: parse_route({"split": {"1": 5000, "3": 5000}}), ME)
    with pytest.raises(Refused, match="'3'"):
        gateway.begin()
    assert world.traffic.open_trials() == []


def test_a_canary_that_stops_to_answer_is_rolled_back(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    world.fleet.ill = {"2"}
    assert "cannot answer" in gateway.pass_time(trial, "rolled_back")["reason"]


def test_the_previous_route_comes_back_with_its_rules(world: World) -> None:
    rule = {"header": "x-a", "equals": "b", "version": "3"}
    route = parse_route({"split": {"1": 10_000}, "sticky": "header:x-user", "rules": [rule]})
    world.traffic.set_route("m", lambda _: route, ME)
    gateway = Gateway(world)
    trial = gateway.begin(**ERRORS)
    during = world.store.model("m").route
    assert during is not None
    assert (during.sticky, len(during.rules)) == ("x-user", 1)
    gateway.pass_time(trial, "promoted")
    after = world.store.model("m").route
    assert after is not None
    assert (dict(after.split), after.sticky, after.stable) == ({"2": 10_000}, "x-user", "2")
    assert after.rules == route.rules


BEFORE: list[Document | None] = [
    None,
    {"split": {"1": 10_000}},
    {"split": {"1": 9000, "2": 1000}, "sticky": "header:x-user"},
    {
        "split": {"1": 10_000},
        "rules": [{"header": "x-a", "equals": "b", "version": "3"}],
        "shadow": [{"version": "2", "percent": 10}],
    },
]


@pytest.mark.simulation
@pytest.mark.parametrize("route", BEFORE)
@pytest.mark.parametrize("end", ["harm", "abort", "abort while paused", "deadline", "unready"])
def test_without_promotion_the_previous_route_comes_back_unchanged(
    world: World, route: Document | None, end: str
) -> None:
    if route is not None:
        world.traffic.set_route("m", lambda _: parse_route(route), ME)
    before = world.store.model("m").route
    gateway = Gateway(world)
    deadline = 2 if end == "deadline" else None
    trial = gateway.begin(deadline_seconds=deadline, on_inconclusive="abort", **ERRORS)
    if end == "abort while paused":
        gateway.act(trial, "pause")
    if end.startswith("abort"):
        gateway.act(trial, "abort")
    elif end == "unready":
        world.fleet.ill = {"2"}
        gateway.pass_time(trial, "rolled_back")
    elif end == "deadline":
        gateway.pass_time(trial, "inconclusive", total=0)
    else:
        gateway.pass_time(trial, "rolled_back", bad=0.5)
    assert world.store.model("m").route == before


@pytest.mark.parametrize("held", ["by hand", "deadline", "conflict"])
def test_a_paused_canary_is_guarded(world: World, held: str) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(deadline_seconds=4 if held == "deadline" else None, **ERRORS)
    if held == "by hand":
        gateway.act(trial, "pause")
    elif held == "conflict":
        world.store.aliases.move("m", "champion", "3", ME, in_registry=False, force=True)
    gateway.pass_time(trial, "paused")
    assert gateway.look(trial)["weight"] > 0
    over = gateway.pass_time(trial, "rolled_back", bad=0.5)
    assert "errors" in over["reason"]
    assert world.split() is None


def test_at_the_last_step_the_canary_is_still_compared(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(steps=[10_000], min_step_seconds=20)
    assert world.split() == {"1": 500, "2": 9500}
    over = gateway.pass_time(trial, "rolled_back", bad=1.0)
    assert over["evidence"]["errors"]["n_control"] > 0


def test_a_rollout_held_at_its_deadline_can_be_resumed(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(deadline_seconds=12, **ERRORS)
    gateway.pass_time(trial, "paused", total=20)
    gateway.act(trial, "resume")
    world.clock.now += STEP_S
    gateway.step()
    assert gateway.look(trial)["state"] == "running"
    gateway.pass_time(trial, "promoted")


def test_the_shadow_stage_comes_first_where_a_guard_needs_it(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(guards=[{"metric": "disagreement", "max": 0.02}, "errors"])
    assert (trial["step"], trial["weight"]) == (-1, 0)
    route = world.store.model("m").route
    assert route is not None
    assert [(item.version, item.percent) for item in route.shadow] == [("2", 100.0)]
    for _ in range(40):
        world.fleet.mirror("2", 50)
        world.clock.now += STEP_S
        gateway.step()
    assert gateway.look(trial)["step"] == 0
    gateway.act(trial, "abort")
    bad = gateway.begin(to="3", guards=[{"metric": "disagreement", "max": 0.02}])
    for _ in range(40):
        world.fleet.mirror("3", 50, disagreements=10)
        world.clock.now += STEP_S
        gateway.step()
    assert gateway.look(bad)["state"] == "rolled_back"


def test_a_dry_run_changes_nothing(world: World) -> None:
    world.traffic.set_route("m", lambda _: parse_route({"split": {"1": 9000, "2": 1000}}), ME)
    gateway = Gateway(world)
    trial = gateway.begin(dry_run=True, steps=[1000])
    over = gateway.pass_time(trial, "rolled_back", bad=0.3)
    assert over["dry_run"]
    assert world.split() == {"1": 9000, "2": 1000}
    assert world.champion() == "1"


def test_a_champion_that_moved_meanwhile_is_not_overruled(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(**ERRORS)
    world.store.aliases.move("m", "champion", "3", ME, in_registry=False, force=True)
    over = gateway.pass_time(trial, "paused")
    assert "points to 3" in over["reason"]
    assert world.champion() == "3"
    with pytest.raises(Conflict, match="points to 3"):
        gateway.act(trial, "promote")


def test_a_version_that_is_not_ready_is_not_promoted_by_hand(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    world.fleet.ill = {"2"}
    with pytest.raises(Refused, match="version '2' of model 'm' is not ready"):
        gateway.act(trial, "promote")
    world.fleet.ill = set()
    assert gateway.act(trial, "promote")["state"] == "promoted"
    with pytest.raises(Conflict, match="over"):
        gateway.act(trial, "promote")


def test_a_prometheus_query_can_fail_a_guard(world: World) -> None:
    answers: list[float | None] = [None, 0.5, 0.5, 9.0, 9.0, 9.0]

    def ask(query: str) -> float | None:
        if query == "away":
            raise NotReady("nobody")
        return answers.pop(0) if answers else 9.0

    gateway = Gateway(world, ask=ask, questions=at_once(world.clock))
    guards = [{"metric": "promql", "query": "load", "max": 1.0}, {"metric": "promql", "query": "away", "max": 1.0}]
    trial = gateway.begin(guards=guards)
    over = gateway.pass_time(trial, "rolled_back")
    assert over["evidence"]["promql:load"]["verdict"] == "fail"
    assert over["evidence"]["promql:away"]["verdict"] == "undecided"


@pytest.mark.simulation
@pytest.mark.parametrize("every", [4, 5, 7])
def test_a_new_control_process_goes_on_with_the_same_verdict(world: World, every: int) -> None:
    """Each look may be the last of its process: the next one reads everything from the database and the counters."""
    gateway = Gateway(world)
    trial = gateway.begin(**ERRORS)
    states, number = [], 0
    while (state := gateway.look(trial))["state"] == "running":
        number += 1
        assert number < 200
        if not number % every:
            gateway = Gateway(world)
        traffic(world.fleet, state["weight"])
        world.clock.now += STEP_S
        gateway.step()
        states.append(state["evidence"]["errors"]["n_canary"])
    assert gateway.look(trial)["state"] == "promoted"
    assert states == sorted(states)


def test_nothing_counted_is_lost_between_two_control_processes(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(min_step_seconds=1000)

    def move(gateway: Gateway) -> None:
        traffic(world.fleet, 1000)
        world.clock.now += STEP_S
        gateway.step()

    for _ in range(6):
        move(gateway)
    before = gateway.look(trial)["evidence"]["errors"]["n_canary"]
    successor = Gateway(world)
    world.fleet.lagging = True  # its workers have not reported yet
    for _ in range(3):
        move(successor)
    world.fleet.lagging = False
    move(successor)
    assert successor.look(trial)["evidence"]["errors"]["n_canary"] == before + 4 * 160


@pytest.mark.simulation
def test_two_gateways_count_and_one_decides(world: World, tmp_path: Path) -> None:
    first = Gateway(world, "a")
    second = Gateway(world, "b", FakeFleet(world.store, world.clock))
    state = trial = first.begin(min_step_seconds=10, **ERRORS)
    for _ in range(int(SECONDS / STEP_S)):
        state = first.look(trial)
        if state["state"] != "running":
            break
        for gateway in (first, second):
            traffic(gateway.fleet, state["weight"])
        world.clock.now += STEP_S
        second.step()
        first.step()
    assert state["state"] == "promoted"
    counted = sum(sum(gateway.fleet.totals("m", "2").split_outcomes()) for gateway in (first, second))
    one = sum(first.fleet.totals("m", "2").split_outcomes())
    assert 1.5 * one < state["evidence"]["errors"]["n_canary"] <= counted


def test_what_is_measured(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    gateway.step()
    reported = points(gateway)
    assert reported["rollout_state", ("m", "2", "running")] == 1
    assert reported["rollout_state", ("m", "2", "paused")] == 0
    assert reported["rollout_log_evidence", ("m", "2", "errors")] == 0.0
    gateway.act(trial, "abort")
    gateway.step()
    reported = points(gateway)
    assert reported["rollout_state", ("m", "2", "running")] == 0
    assert reported["rollout_state", ("m", "2", "rolled_back")] == 1


def test_a_move_of_the_champion_that_a_route_overrides_is_refused(world: World) -> None:
    world.traffic.set_route("m", lambda _: parse_route({"split": {"1": 10_000}}), ME)
    with pytest.raises(Refused, match="would change nothing"):
        world.store.aliases.move("m", "champion", "3", ME, in_registry=False)
    with pytest.raises(Refused, match="would change nothing"):
        world.store.aliases.roll_back("m", "champion", ME, lambda _: True, fallback="3")
    assert world.champion() == "1"
    with pytest.raises(Refused, match="would change nothing"):
        world.store.aliases.drop("m", "champion", ME)
    assert world.champion() == "1"
    assert world.store.aliases.move("m", "challenger", "3", ME, in_registry=False).note == {}
    assert world.store.aliases.drop("m", "challenger", ME).note == {}


def test_a_forced_change_of_the_champion_says_that_it_has_no_effect_yet(world: World) -> None:
    world.traffic.set_route("m", lambda _: parse_route({"split": {"1": 10_000}}), ME)
    moved = world.store.aliases.move("m", "champion", "3", ME, in_registry=False, force=True)
    assert (
        world.champion(),
        "a route decides which version answers; the alias takes effect" in moved.note["note"],
    ) == (
        "3",
        True,
    )
    assert world.store.aliases.move("m", "champion", "3", ME, in_registry=False, force=True).note == moved.note
    back = world.store.aliases.roll_back("m", "champion", ME, lambda _: True, force=True)
    assert (world.champion(), back.note) == ("1", moved.note)
    dropped = world.store.aliases.drop("m", "champion", ME, force=True)
    assert (world.champion(), "its removal takes effect" in dropped.note["note"]) == (None, True)


def test_a_move_that_a_rollout_overrides_names_what_has_to_end(world: World) -> None:
    trial = Gateway(world).begin()
    with pytest.raises(Refused, match=f"rollout {trial['id']} of 'm' .* end the rollout first, or force it"):
        world.store.aliases.move("m", "champion", "3", ME, in_registry=False)


@pytest.mark.simulation
@pytest.mark.parametrize(("promoted", "to", "warned"), [(False, "3", True), (False, "2", False), (True, "3", False)])
def test_a_rollout_of_what_answers_anyway_says_that_it_stays(
    tmp_path: Path, promoted: bool, to: str, warned: bool
) -> None:
    world = World(tmp_path)
    if promoted:
        world.promote_champion("1")
    gateway = Gateway(world)
    trial = gateway.begin(to=to, **{"from": "1"})
    assert any("no champion is set, so version '3' answers" in warning for warning in trial["warnings"]) == warned
    assert len(trial["warnings"]) == warned
    over = gateway.act(trial, "abort")
    assert over["warnings"] == []
    assert world.split() is None


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"hold_back": 0}, "errors and latency"),
        ({"hold_back": 0, "guards": ["quality", "error_ratio"]}, "quality"),
        ({"hold_back": 0, "guards": ["error_ratio"]}, ""),
        ({"hold_back": 0, "steps": [1000, 9000]}, ""),
        ({"hold_back": 1}, ""),
    ],
)
def test_a_last_step_without_a_control_says_that_it_waits_for_a_person(
    world: World, asked: dict[str, Any], names: str
) -> None:
    world.promote_champion("1")
    trial = Gateway(world).begin(**{"guards": ["errors", "latency"], **asked})
    assert [f"compare {names} with" in warning for warning in trial["warnings"]] == [True] * bool(names)


def test_after_a_rollback_the_champion_decides_again(world: World) -> None:
    gateway = Gateway(world)
    gateway.pass_time(gateway.begin(), "rolled_back", bad=0.5)
    world.promote_champion("3")
    routes = RouteAdmin(world.store, world.traffic, world.fleet)
    assert asyncio.run(routes.route("m"))["answers"] == "version 3 answers: alias 'champion'"


def test_a_route_says_who_answers_and_why(world: World) -> None:
    routes = RouteAdmin(world.store, world.traffic, world.fleet)
    trial = Gateway(world).begin()
    present = asyncio.run(routes.route("m"))
    assert present["answers"] == f"version 1 90 %, version 2 10 %: rollout {trial['id']} decides"
    assert present["trial"] == {"kind": "rollout", "id": trial["id"]}
    Gateway(world).act(trial, "abort")
    asyncio.run(routes.set_route("m", {"split": {"2": 10_000}}, ME))
    reported = asyncio.run(routes.route("m"))["answers"]
    assert reported == "version 2 100 %: the route decides; alias 'champion' (version 1) has no effect meanwhile"


@pytest.mark.parametrize("broken", [{}, {"rollout": {"spec": {"to": "2", "guards": ["a new one"]}}}, {"rollout": 7}])
def test_a_rollout_of_another_form_does_not_stop_the_others(world: World, broken: Document) -> None:
    def alien(_: Any, __: str) -> TrialChange:
        return TrialChange(broken, keep_route=True)

    world.traffic.begin("another", "rollout", alien, ME)
    gateway = Gateway(world)
    over = gateway.pass_time(gateway.begin(), "rolled_back", bad=0.5)
    assert "errors" in over["reason"]
    assert {point.labels[0] for point in gateway.rollouts.readings()} == {"m"}


@pytest.mark.parametrize("broken", [{}, {"rollout": {"spec": {"to": "2", "guards": ["a new one"]}}}, {"rollout": 7}])
def test_a_rollout_of_another_form_is_refused_with_the_reason(world: World, broken: Document) -> None:
    trial = world.traffic.begin("m", "rollout", lambda *_: TrialChange(broken, keep_route=True), ME)
    rollouts = Gateway(world).rollouts
    for asked in (rollouts.get_trial("m", trial.id), rollouts.act("m", trial.id, "abort", ME)):
        with pytest.raises(Refused, match=f"rollout {trial.id} was written by another release of Penstock"):
            asyncio.run(asked)


def test_a_rollout_of_another_form_that_is_over_hides_no_other(world: World) -> None:
    gateway = Gateway(world)
    known = gateway.begin()
    gateway.act(known, "abort")
    world.clock.now += 1
    world.traffic.begin("m", "rollout", lambda *_: TrialChange({"rollout": []}, open=False, keep_route=True), ME)
    for _ in range(20):
        gateway.step()
    assert [trial["id"] for trial in asyncio.run(gateway.rollouts.list_trials("m"))] == [known["id"]]
    assert list(gateway.rollouts.readings()) == []  # the newest one is not to be understood here


def test_a_gateway_that_saw_nothing_of_a_rollout_measures_the_same(world: World) -> None:
    first, second = Gateway(world, "a"), Gateway(world, "b", FakeFleet(world.store, world.clock))
    first.act(first.begin(), "abort")
    delayed = Gateway(world, "c", FakeFleet(world.store, world.clock))
    seen = []
    for gateway in (first, second, delayed):
        for _ in range(20):
            gateway.step()
        points = [reading for reading in gateway.rollouts.readings() if isinstance(reading, Point)]
        seen.append({(point.metric.name, point.labels): point.value for point in points})
    assert seen[0] == seen[1] == seen[2]
    assert seen[2]["rollout_state", ("m", "2", "rolled_back")] == 1


def test_every_gateway_measures_the_same_state(world: World) -> None:
    first, second = Gateway(world, "a"), Gateway(world, "b", FakeFleet(world.store, world.clock))
    trial = first.begin()
    for gateway in (first, second):
        gateway.step()
    first.act(trial, "abort")
    for gateway in (first, second):
        gateway.step()
        reported = points(gateway)
        assert reported["rollout_state", ("m", "2", "running")] == 0
        assert reported["rollout_state", ("m", "2", "rolled_back")] == 1


@pytest.mark.parametrize(("load", "guard"), [({"bad": 0.2}, "error_ratio"), ({"ms": 50.0}, "latency_p99")])
def test_absolute_limits_hold_without_a_control(world: World, load: dict[str, float], guard: str) -> None:
    slo = {"error_ratio": 0.001, "latency_p99_ms": 20.0}
    gateway = Gateway(world, slo=lambda _: slo)
    trial = gateway.begin(steps=[10_000], hold_back=0, min_step_seconds=30)
    assert trial["weight"] == 10_000
    over = gateway.pass_time(trial, "rolled_back", **load)
    assert (over["evidence"][guard]["verdict"], over["evidence"]["errors"]["n_control"]) == ("fail", 0)


def test_absolute_limits_hold_up_no_good_version(world: World) -> None:
    gateway = Gateway(world, slo=lambda _: {"error_ratio": 0.001, "latency_p99_ms": 20.0})
    over = gateway.pass_time(gateway.begin(), "promoted")
    assert over["evidence"]["error_ratio"]["verdict"] == "undecided"


def test_a_step_waits_for_a_persons_approval(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(steps=[{"weight": 1000, "approval": True}, 10_000], **ERRORS)
    for _ in range(20):
        traffic(world.fleet, 1000)
        world.clock.now += STEP_S
        gateway.step()
    waiting = gateway.look(trial)
    assert (waiting["state"], waiting["step"], waiting["waiting_for"]) == ("running", 0, ["a person's approval"])
    gateway.act(trial, "approve")
    over = gateway.pass_time(trial, "promoted")
    assert over["weight"] == 10_000
    with pytest.raises(Conflict, match="does not wait for approval"):
        gateway.act(gateway.begin(to="3"), "approve")


class Hook:
    """A webhook that answers a status, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 503
        self.events: list[Document] = []

    def has(self, model: str, sink: str) -> bool:
        return (model, sink) == ("m", "hook")

    def ask(self, model: str, gate: WebhookGate, event: Document) -> float:
        self.events.append(event)
        return self.status


def test_a_step_waits_for_a_webhook_a_query_and_labels(world: World) -> None:
    hook, values = Hook(), {"up": 0.0}
    gateway = Gateway(world, ask=values.get, webhooks=hook, questions=at_once(world.clock))
    gates = {"webhook": "hook", "query": {"query": "up", "operator": "==", "limit": 1}, "min_labels": 5}
    trial = gateway.begin(steps=[{"weight": 1000, **gates}, 10_000], **ERRORS)

    def go_on(labels: int = 0) -> Document:
        for _ in range(20):
            traffic(world.fleet, 1000)
            world.fleet.label("1", labels)
            world.fleet.label("2", labels)
            world.clock.now += STEP_S
            gateway.step()
        return gateway.look(trial)

    labels = "5 more labels of the canary's answers at this step"
    assert go_on()["waiting_for"][0] == labels
    assert hook.events == []  # others are asked when nothing else is missing
    reported = ["webhook 'hook' to answer 200 (it answered 503)", "query 'up' to be == 1 (it is 0)"]
    waiting = go_on(labels=1)
    assert (waiting["state"], waiting["step"], waiting["waiting_for"]) == ("running", 0, reported)
    assert len({event["id"] for event in hook.events}) == 1
    assert len(hook.events) <= 16  # every two seconds
    hook.status, values["up"] = 200, 1.0
    assert gateway.pass_time(trial, "promoted")["weight"] == 10_000


@pytest.mark.parametrize(
    ("step", "reason"), [({"webhook": "other"}, "no webhook 'other'"), ({"query": QUERY}, "none is configured")]
)
def test_a_gate_that_could_never_pass_is_refused(world: World, step: Document, reason: str) -> None:
    gateway = Gateway(world, webhooks=Hook())
    with pytest.raises(Refused, match=reason):
        gateway.begin(steps=[{"weight": 1000, **step}, 10_000])


def test_a_canary_that_a_gate_holds_up_is_guarded(world: World) -> None:
    gateway = Gateway(world, webhooks=Hook(), questions=at_once(world.clock))
    trial = gateway.begin(steps=[{"weight": 1000, "webhook": "hook"}, 10_000])
    assert gateway.pass_time(trial, "rolled_back", bad=0.3)["step"] == 0


def test_progress_says_when_a_step_has_begun(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin()
    assert (trial["in_place"], trial["progress"][0]) == (False, "10 % begins as soon as every worker has the weights")
    for _ in range(6):
        traffic(world.fleet, 1000)
        world.clock.now += STEP_S
        gateway.step()
    reported = gateway.look(trial)
    assert (reported["in_place"], reported["progress"][0]) == (True, "at 10 %")


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_canary_that_ends_workers_is_rolled_back_though_nothing_can_be_counted(world: World, state: str) -> None:
    world.fleet.lost["2"] = 7  # before the rollout
    gateway = Gateway(world)
    trial = gateway.begin()
    if state == "paused":
        gateway.act(trial, "pause")
    world.fleet.lagging = True  # workers that die again and again never have the weights for a moment
    for losses in (0, 1, 1):
        world.fleet.lost["2"] += losses
        world.fleet.lost["1"] += 5
        world.clock.now += STEP_S
        gateway.step()
    reported = gateway.look(trial)
    assert (reported["state"], reported["worker_losses"]) == (state, 2)
    assert "workers that ended with its calls in hand: 2; at 3 it is rolled back" in reported["progress"]
    successor = Gateway(world)
    successor.step()
    assert successor.look(trial)["worker_losses"] == 2
    world.fleet.lost["2"] += 1
    world.clock.now += STEP_S
    Gateway(world).step()  # and one that has never looked before
    over = successor.look(trial)
    assert (over["state"], over["reason"]) == (
        "rolled_back",
        "3 workers ended while they had calls of version '2' in hand",
    )


def test_a_slow_load_holds_up_no_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step changed is brought to the workers beside the steps; a newer change takes the place of the wait."""
    gateway = Gateway(world)
    trial = gateway.begin()
    begun: list[int] = []

    async def slow() -> bool:
        begun.append(len(begun))
        await asyncio.Event().wait()
        return True

    async def act() -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (await gateway.rollouts.get_trial("m", trial["id"]))["state"] == "running":
                traffic(gateway.fleet, 1000, bad=0.5)
                world.clock.now += STEP_S
                gateway.fleet.renew()
                await gateway.rollouts.step()  # the last one would wait for ever
            await asyncio.sleep(0)
            number = len(begun)
            for _ in range(2):
                gateway.rollouts.background.start("other")
            await asyncio.sleep(0)
        assert (number > 0, len(begun)) == (True, number + 1)

    monkeypatch.setattr(gateway.fleet, "serve_changes", slow)
    asyncio.run(act())
    assert gateway.look(trial)["state"] == "rolled_back"


def test_a_rollout_shows_its_evidence_over_time_and_who_changed_it(world: World) -> None:
    gateway = Gateway(world)
    trial = gateway.begin(**ERRORS)
    over = gateway.pass_time(trial, "promoted")
    history = over["evidence_history"]
    errors = history["guards"]["errors"]
    assert len(history["at"]) == len(history["step"]) == len(errors["log_e"]) == len(errors["log_e_pass"]) > 3
    assert history["at"] == sorted(history["at"])
    assert list(dict.fromkeys(history["weight"])) == [1000, 5000, 9500]
    assert max(errors["log_e_pass"]) >= over["evidence"]["errors"]["log_e_pass_at"]
    first, *_, last = over["changes"]
    assert (first["action"], first["actor"], first["reason"], first["weight"]) == ("start", "me", "a test", 1000)
    assert (last["action"], last["actor"], last["state"]) == ("promote", "controller", "promoted")
    assert [change["seq"] for change in over["changes"]] == sorted(change["seq"] for change in over["changes"])
    [listed] = asyncio.run(gateway.rollouts.list_trials("m"))
    assert not {"evidence_history", "changes"} & set(listed)


def test_a_rollout_is_previewed_and_nothing_begins(world: World) -> None:
    gateway = Gateway(world)
    traffic(world.fleet, 0)
    preview = asyncio.run(gateway.rollouts.preview("m", {**ASKED, **ERRORS}, 100.0))
    assert (preview["model"], preview["to"], preview["from"]) == ("m", "2", "1")
    assert [step["weight"] for step in preview["steps"]] == [1000, 5000, 9500]
    assert all(step["requests"] for step in preview["steps"])
    assert asyncio.run(gateway.rollouts.preview("m", {**ASKED, **ERRORS}))["total_seconds"] is None
    assert asyncio.run(gateway.rollouts.list_trials("m")) == []
    assert world.split() is None


def test_a_preview_is_refused_as_the_rollout_would_be(world: World) -> None:
    gateway = Gateway(world)
    for document, fault in (({"to": "1"}, InvalidInput), ({"to": "9"}, NotFound), ({"to": "x"}, InvalidInput)):
        with pytest.raises(fault):
            asyncio.run(gateway.rollouts.preview("m", document))
    with pytest.raises(NotFound):
        asyncio.run(gateway.rollouts.preview("nothing", ASKED))
    gateway.begin()
    with pytest.raises(Conflict, match="is not over"):
        asyncio.run(gateway.rollouts.preview("m", {**ASKED, "to": "3"}))
