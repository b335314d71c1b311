"""The outbox under kill -9 between verdict and delivery: whatever was decided arrives, and repeats tell themselves."""

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.control.retraining.rules import Retraining
from penstock.control.sinks import SinkContext
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.leases import LEASE_S
from penstock.core.policies import MonitorPolicy, parse_policy
from penstock.core.sinks import SinkOrigin
from penstock.registry.db.database import open_database
from penstock.registry.records import Author, ModelRecord
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.traffic import TrafficStore
from tests.harness import PATIENCE_S, processor_seconds, wait_until

SPEED = 100
DRIFTING = {"name": "x", "state": "drift", "psi": 1.0, "since": 1.0, "psi_threshold": 0.1, "rows": 9, "moved": []}
QUIET = {**DRIFTING, "state": "ok"}
POLICY = parse_policy(
    {
        "triggers": [{"name": "r", "when": {"drift": {}}, "send": ["log"], "cooldown_seconds": 0}],
        "sinks": {"log": {"file": {"path": "events.jsonl"}}},
        "retraining": {"timeout_seconds": 1, "budget_per_day": 1000, "escalate_after": 1000},
    },
    parse_schedule,
    origins=SinkOrigin.OWNER,
)


class World:
    """A model whose monitor says by turns that it drifts and that it is calm; time runs a hundred times as fast."""

    desired = Desired(1, (ModelSpec("m", (VersionSpec("1", ""),)),))
    can_judge = True

    def __init__(self, home: Path) -> None:
        self.began = time.time()
        self.turn = 0
        database = open_database(f"sqlite:///{home / 'registry.db'}", 5.0)
        self.outbox = Outbox(database, TrafficStore(database, self.clock), self.clock)
        self.rules = Retraining(self.outbox, self.record, self, self, self, SinkContext(home), self.clock)

    async def begin_as_leader(self, model: str, document: dict[str, Any], by: Author) -> dict[str, Any]:
        raise AssertionError

    async def versions_tried(self, model: str) -> set[str]:
        return set()

    def clock(self) -> float:
        return self.began + (time.time() - self.began) * SPEED

    def record(self, model: str) -> ModelRecord:
        return ModelRecord(model, 0)

    def statuses(self) -> list[VersionStatus]:
        return [VersionStatus("m", "1", ReadyState.READY)]

    def feature_names(self, key: tuple[str, str]) -> tuple[str, ...]:
        return ()

    def policy_of(self, model: str) -> MonitorPolicy:
        return POLICY

    def describe(self, model: str, version: str) -> dict[str, Any]:
        self.turn += 1
        return {"features": [DRIFTING if self.turn % 2 else QUIET], "outputs": [], "slices": {}, "quality": {}}


def work(home: Path, ready: int) -> None:
    """Decide and send without end; a byte goes to the pipe ``ready`` when that begins."""

    async def on() -> None:
        world = World(home)
        os.write(ready, b".")
        while True:
            await world.rules.judge_all()
            await world.rules.deliver_all()
            await asyncio.sleep(0.001)

    asyncio.run(on())


def killed(home: Path, seconds: float) -> None:
    begun, ready = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work(home, ready)
        finally:
            os._exit(1)
    os.close(ready)
    os.read(begun, 1)
    os.close(begun)
    time.sleep(LEASE_S / SPEED)  # the lease of the one that was killed ends first
    until = processor_seconds(pid) + seconds
    wait_until(lambda: processor_seconds(pid) >= until, PATIENCE_S, "work")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def kill_over_and_over(workspace: Path, points: int, seed: int) -> tuple[int, int]:
    """How many events were decided, and how many lines the sink got beyond one for each."""
    rng = random.Random(seed)
    for _ in range(points):
        killed(workspace, rng.random() * 0.15)
    world = World(workspace)
    decided = {item["id"] for item in _all(world)}

    async def rest() -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await asyncio.to_thread(world.outbox.pending):
                world.turn = 1  # calm from now on: only what was decided is sent
                await world.rules.judge_all()
                await world.rules.deliver_all()
                await asyncio.sleep(0.01)

    asyncio.run(rest())
    decided |= {item["id"] for item in _all(world)}
    lines = (workspace / "events.jsonl").read_text().splitlines()
    got = [json.loads(line)["id"] for line in lines if line.endswith("}")]
    assert set(got) == decided  # a receiver that knows ids sees each exactly once
    order = [json.loads(line)["sequence"] for line in lines if line.endswith("}")]
    first = [item for index, item in enumerate(order) if item not in order[:index]]
    assert first == sorted(first)
    return len(decided), len(got) - len(decided)


def _all(world: World) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = 0
    while part := world.outbox._traffic.events("m", after, 1000):
        found += part
        after = part[-1]["sequence"]
    return found


def test_nothing_decided_is_lost_at_fifteen_points(tmp_path: Path) -> None:
    decided, _ = kill_over_and_over(tmp_path, 15, seed=5)
    assert decided > 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_decided_is_lost_at_a_thousand_points(tmp_path: Path) -> None:
    decided, _ = kill_over_and_over(tmp_path, 1000, seed=20261121)
    assert decided > 100  # enough for most points to lie between a decision and its delivery
