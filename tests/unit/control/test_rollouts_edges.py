"""A rollout at its edges: verbs that lose against other writers, unknown ones, another form, and its end."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.control.delivery import trial as trial_module
from penstock.control.delivery.trial import STEP_S
from penstock.core.errors import Conflict, NotFound, NotReady
from penstock.core.rollouts.rollout import RolloutState
from penstock.registry.records import Document
from penstock.registry.stores.traffic import Trial, TrialChange
from penstock.telemetry import metrics
from penstock.telemetry.readings import Point
from tests.unit.control.test_rollouts import ASKED, Gateway, Hook, traffic
from tests.unit.control.trials import ME, World, at_once


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    world = World(tmp_path)
    world.promote_champion("1")
    return Gateway(world)


def test_a_rollout_of_an_unknown_model_cannot_begin(gateway: Gateway) -> None:
    with pytest.raises(NotFound, match="unknown model"):
        asyncio.run(gateway.rollouts.begin("n", ASKED, ME))


def test_a_verb_that_does_not_exist_names_those_that_do(gateway: Gateway) -> None:
    trial = gateway.begin()
    with pytest.raises(NotFound, match="paused, resumed, approved, promoted or aborted"):
        gateway.act(trial, "fly")


@pytest.mark.parametrize("writes", [1, trial_module.TRIES])
def test_a_verb_is_tried_again_where_the_controller_writes_at_the_same_moment(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    trial = gateway.begin()
    store, left = gateway.rollouts.store, [writes]
    change = store.change

    def beside_another(known: Trial, *more: Any) -> Trial:
        if left[0]:
            left[0] -= 1
            newest = store.trial("m", "rollout", trial["id"])
            change(newest, lambda _: TrialChange(newest.document, keep_route=True), "note", ME)
        return change(known, *more)

    monkeypatch.setattr(store, "change", beside_another)
    if writes < trial_module.TRIES:
        assert gateway.act(trial, "pause")["state"] == "paused"
    else:
        with pytest.raises(Conflict, match="the rollout is changing at this moment"):
            gateway.act(trial, "pause")
        assert gateway.look(trial)["state"] == "running"


def test_a_step_that_loses_against_a_person_changes_nothing(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = gateway.begin()
    keep = gateway.rollouts.leader.keep

    def after_a_person(known: Trial, document: Any) -> Trial:
        monkeypatch.setattr(gateway.rollouts.leader, "keep", keep)
        Gateway(gateway.world, "b").act(trial, "pause")
        return keep(known, document)

    monkeypatch.setattr(gateway.rollouts.leader, "keep", after_a_person)
    for _ in range(4):
        traffic(gateway.fleet, 1000)
        gateway.world.clock.now += STEP_S
        gateway.step()
    assert gateway.look(trial)["state"] == "paused"


def test_a_rollout_that_fails_by_itself_is_put_off(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = gateway.begin()
    steps: list[str] = []

    async def fail(known: Trial) -> None:
        steps.append(known.id)
        raise ZeroDivisionError

    monkeypatch.setattr(gateway.rollouts, "_observe", fail)
    monkeypatch.setattr(gateway.rollouts._keyed._task, "clock", lambda: 0.0)
    for _ in range(3):
        gateway.step()
    assert steps == [trial["id"]]
    assert "ZeroDivisionError" in gateway.look(trial)["problem"]


def test_metrics_are_of_rollouts_that_this_release_understands(gateway: Gateway) -> None:
    gateway.begin()
    gateway.step()
    assert states(gateway) == {state.value for state in RolloutState}
    newest = gateway.rollouts.newest
    newest["m"] = replace(newest["m"], document={"rollout": {"spec": "of a newer release"}})
    assert states(gateway) == set()


def states(gateway: Gateway) -> set[str]:
    """The states of rollouts that are measured."""
    points = [point for point in gateway.rollouts.readings() if isinstance(point, Point)]
    return {point.labels[2] for point in points if point.metric is metrics.ROLLOUT_STATE}


def test_after_its_end_nothing_is_asked_of_the_database(gateway: Gateway) -> None:
    gateway.rollouts.close()
    with pytest.raises(NotReady, match="the gateway is stopping"):
        gateway.begin()


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({"webhook": "hook"}, "webhook 'hook' to answer 200 (no webhooks are available)"),
        ({"query": {"query": "up", "operator": "==", "limit": 1}}, "(no Prometheus is configured)"),
    ],
)
def test_a_step_waits_where_a_new_process_has_nobody_to_ask(gateway: Gateway, gate: Document, reason: str) -> None:
    world = gateway.world
    ask = {"up": 0.0}.get
    before = Gateway(world, ask=ask, webhooks=Hook(), questions=at_once(world.clock))
    trial = before.begin(steps=[{"weight": 1000, **gate}, 10_000], guards=["errors"])
    for _ in range(30):
        traffic(world.fleet, 1000)
        world.clock.now += STEP_S
        gateway.step()
    shown = gateway.look(trial)
    assert (shown["state"], shown["step"]) == ("running", 0)
    assert reason in shown["waiting_for"][0]
