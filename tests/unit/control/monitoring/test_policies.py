"""Policies by model: what is stored holds, one that cannot be read holds up no other and leaves the one before."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.policies import USUAL, Policies
from penstock.control.periodic import PeriodicTask
from penstock.core.access.callers import ANONYMOUS, OWNER, Caller, CallerKind
from penstock.core.access.permissions import grants_of
from penstock.core.addresses import parse_hosts
from penstock.core.errors import Conflict, InvalidInput, Unauthorised
from penstock.core.masking import SecretMask
from penstock.core.sink_rules import SinkRules
from penstock.core.sinks import SinkOrigin, SinkSpec
from penstock.registry.records import Document
from penstock.registry.stores.monitor import MonitorStore
from tests.unit.control.trials import ME, World

SHORT, LONG = {"monitor": {"window_seconds": 60}}, {"monitor": {"window_seconds": 900}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    found = BlockingPool("test", 1, "the database", 10)
    yield found
    found.close()


@pytest.fixture
def policies(world: World, pool: BlockingPool) -> Policies:
    async def step() -> None:
        """Steps are made by the tests."""

    task = PeriodicTask("monitor", step, 1.0, clock=world.clock)
    return Policies(MonitorStore(world.database, world.clock), pool, task)


def test_what_is_set_is_stored_and_holds_at_once(policies: Policies, world: World) -> None:
    assert policies.of("m") == USUAL
    reported = asyncio.run(policies.set("m", SHORT, ME))
    assert policies.of("m").window_s == 60
    assert reported["revision"] == world.store.model("m").revision
    assert policies.document("m")["monitor"]["window_seconds"] == 60
    with pytest.raises(Conflict):
        asyncio.run(policies.set("m", LONG, ME, if_revision=reported["revision"] - 1))
    with pytest.raises(InvalidInput):
        asyncio.run(policies.set("m", {"monitor": {"window_seconds": "soon"}}, ME))
    assert policies.of("m").window_s == 60


def test_one_that_cannot_be_read_leaves_the_one_before_and_holds_up_no_other(policies: Policies, world: World) -> None:
    assert policies.take_over({"m": SHORT, "n": SHORT})
    assert not policies.take_over({"m": SHORT, "n": SHORT})
    assert policies.take_over({"m": {"future": 1}, "n": LONG})
    assert (policies.of("m").window_s, policies.of("n").window_s) == (60, 900)
    assert "future" in policies.problem("m")
    assert policies.document("m")["problem"] == policies.problem("m")
    assert "problem" not in policies.document("n")
    world.clock.now += 3600
    assert policies.take_over({"m": LONG, "n": LONG})
    assert policies.of("m").window_s == 900
    assert policies.problem("m") == ""
    assert policies.take_over({"n": LONG})
    assert policies.of("m") == USUAL


def test_a_policy_is_read_again_only_if_it_has_changed(policies: Policies) -> None:
    policies.take_over({"m": SHORT})
    first = policies.of("m")
    policies.take_over({"m": {**SHORT}})
    assert policies.of("m") is first
    policies.take_over({})
    policies.take_over({"m": SHORT})
    assert policies.of("m") == first


# Owner-only settings.

FILE, HOOK = {"file": {"path": "sinks/a"}}, {"webhook": {"url": "https://hooks.example/?token=PLANTED"}}
ADMIN = Caller("a", CallerKind.KEY, grants_of(["admin"]))
OPERATOR = Caller("o", CallerKind.KEY, grants_of(["operator"]))


def bounded(world: World, pool: BlockingPool) -> Policies:
    async def step() -> None:
        """Steps are made by the tests."""

    declared = {"shared": SinkSpec("file", {"path": "all.jsonl"}, SinkOrigin.CONFIGURATION)}
    rules = SinkRules(declared, parse_hosts(["hooks.example"]))
    task = PeriodicTask("monitor", step, 1.0, clock=world.clock)
    return Policies(MonitorStore(world.database, world.clock), pool, task, rules, SecretMask(b"key"))


def test_sinks_belong_to_who_set_them(world: World, pool: BlockingPool) -> None:
    found = bounded(world, pool)

    def put(caller: Caller, **sinks: Document) -> dict[str, SinkOrigin]:
        asyncio.run(found.set("m", {"sinks": sinks}, ME, caller=caller))
        again = bounded(world, pool)
        again.take_over(MonitorStore(world.database, world.clock).policies())  # another gateway
        assert again.of("m") == found.of("m")
        return {name: spec.origin for name, spec in found.of("m").own_sinks.items()}

    assert put(OWNER, a={"command": {"argv": ["true"]}}) == {"a": SinkOrigin.OWNER}
    assert put(ADMIN, a={"command": {"argv": ["true"]}}, b=FILE) == {"a": SinkOrigin.OWNER, "b": SinkOrigin.POLICY}
    assert put(OPERATOR, b=FILE) == {"b": SinkOrigin.POLICY}
    assert put(ANONYMOUS, b=FILE) == {"b": SinkOrigin.POLICY}
    for caller in (ANONYMOUS, OPERATOR):
        with pytest.raises(Unauthorised, match=r"'sinks\.c'"):
            put(caller, b=FILE, c=HOOK)
    with pytest.raises(Unauthorised, match="sink_hosts"):
        put(ADMIN, c={"webhook": {"url": "http://169.254.169.254/"}})
    assert put(OWNER, b=FILE) == {"b": SinkOrigin.OWNER}
    assert put(ANONYMOUS) == {}


def test_sinks_of_the_configuration_are_there_for_every_model(world: World, pool: BlockingPool) -> None:
    found = bounded(world, pool)
    assert list(found.of("m").sinks) == ["shared"]
    trigger = {"name": "t", "when": {"drift": {}}, "send": ["shared"]}
    asyncio.run(found.set("m", {"triggers": [trigger]}, ME))
    assert list(found.of("m").sinks) == ["shared"]
    with pytest.raises(InvalidInput, match="choose another name"):
        asyncio.run(found.set("m", {"sinks": {"shared": FILE}}, ME, caller=OWNER))


def test_secrets_are_stored_and_shown_nowhere(world: World, pool: BlockingPool) -> None:
    found = bounded(world, pool)
    reported = asyncio.run(found.set("m", {"sinks": {"h": HOOK}}, ME, caller=OWNER))
    shown = found.document("m")
    assert reported["sinks"] == shown["sinks"]
    asyncio.run(found.set("m", {**shown, "monitor": {"sample": 0.5}}, ME))  # by anybody: nothing secret changes
    assert found.of("m").own_sinks["h"] == SinkSpec("webhook", HOOK["webhook"], SinkOrigin.OWNER)
    audit = [(entry.before, entry.after) for entry in world.store.audit("m")]
    assert "PLANTED" not in str((reported, shown, audit))
    assert "PLANTED" in str(MonitorStore(world.database, world.clock).policies())
    with pytest.raises(InvalidInput, match="masked value"):
        asyncio.run(found.set("n", shown, ME, caller=OWNER))


def test_a_policy_that_is_set_while_others_are_read_is_not_undone(policies: Policies) -> None:
    assert policies.take_over({"m": SHORT})
    before = policies.changes
    asyncio.run(policies.set("m", LONG, ME))
    assert not policies.take_over({"m": SHORT}, before)  # read before it was set
    assert policies.of("m").window_s == 900
    assert policies.take_over({"m": SHORT}, policies.changes)
    assert policies.of("m").window_s == 60


# Controls.

GATED = {"gates": {"approvals": 2}, "retraining": {"approval": True}}


def test_a_policy_writer_cannot_relax_its_controls_without_administer(policies: Policies) -> None:
    asyncio.run(policies.set("m", GATED, ME, caller=ADMIN))
    asyncio.run(policies.set("m", {**GATED, **SHORT}, ME, caller=OPERATOR))
    assert policies.of("m").gates.approvals == 2 and policies.of("m").window_s == 60
    for relaxed in (SHORT, {**GATED, "gates": {"approvals": 1}}, {**GATED, "retraining": {}}):
        with pytest.raises(Unauthorised, match="holds back"):
            asyncio.run(policies.set("m", relaxed, ME, caller=OPERATOR))
        assert policies.of("m").gates.approvals == 2 and policies.of("m").limits.approval
    with pytest.raises(Unauthorised, match="'gates'"):
        asyncio.run(policies.set("n", {"gates": {"approvals": 1}}, ME, caller=OPERATOR))
    asyncio.run(policies.set("m", SHORT, ME, caller=ADMIN))
    assert policies.of("m").gates.approvals == 0


def test_a_gateway_that_has_not_read_them_yet_cannot_relax_them_either(world: World, pool: BlockingPool) -> None:
    here, elsewhere = bounded(world, pool), bounded(world, pool)
    asyncio.run(elsewhere.set("m", {**GATED, "sinks": {"b": FILE}}, ME, caller=OWNER))
    with pytest.raises(Unauthorised, match="'gates'"):
        asyncio.run(here.set("m", SHORT, ME, caller=OPERATOR))
    here.take_over(MonitorStore(world.database, world.clock).policies())
    assert here.of("m").gates.approvals == 2
    asyncio.run(here.set("m", {**here.document("m"), **SHORT}, ME, caller=OPERATOR))  # and the owner's sinks stay


def test_an_administrator_of_the_model_replaces_an_unreadable_policy(world: World, policies: Policies) -> None:
    broken = {"capture": {"sample": "all", "mask": 7}, "gates": [], "future": 1}
    MonitorStore(world.database, world.clock).set_policy("m", broken, ME)
    asyncio.run(policies.set("m", SHORT, ME, caller=ADMIN))
    assert policies.of("m").window_s == 60
