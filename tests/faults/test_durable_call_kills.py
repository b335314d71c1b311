"""A whole gateway whose control process is killed right before and right after each of its durable calls, while a fixed
sequence of changes is made: what was acknowledged holds, nothing is half done, and every event arrives.

The calls are enumerated: a first pass through the changes notes which code makes which calls, see ``durable_calls``.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

import pytest

from tests.commands import PLUGIN
from tests.faults import durable_calls
from tests.faults.changes import MODEL, Change
from tests.faults.test_gateway_kills import Gateway, check, check_changes, deliveries, opened
from tests.harness import PATIENCE_S, wait_until
from tests.integration.traffic.drive import FEATURES, scorer

SAMPLE = 8
"""Points of the fast suite."""

UNKNOWN = 599
"""Stands for the status of an answer that never came."""

GONE = (OSError, HTTPException)
OPEN = {"running", "paused", "held"}
ROW = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": [0] * FEATURES}


@dataclass(frozen=True, slots=True)
class Point:
    """The ``number``-th call that code at ``site`` makes in a step of the script, and the moment ``when``."""

    step: str
    site: str
    number: int
    when: str


class Script:
    """The changes, each to be made any number of times; what a step needs is made before it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.changes = gateway.changes
        self.orders = 0
        self.steps: dict[str, Callable[[], None]] = {
            "push": self.push,
            "push of files": lambda: self.push(packed=True),
            "alias": self.alias,
            "route": self.set_route,
            "no route": self.drop_route,
            "rollout": self.begin,
            "promotion": lambda: self.end("promote"),
            "abort": lambda: self.end("abort"),
            "settings": self.configure,
            "retirement": self.retire,
            "feedback": self.feed_back,
            "retraining": self.retrain,
        }

    # The order that the process that is watched reads.

    def _write(self, step: str, point: Point | None) -> None:
        self.orders += 1
        order: dict[str, Any] = {"id": self.orders, "step": step, "site": "", "number": 0, "when": ""}
        if point is not None:
            order |= {"site": point.site, "number": point.number, "when": point.when}
        scratch = self.gateway.workspace / "order.new"
        scratch.write_text(json.dumps(order))
        scratch.replace(self.gateway.workspace / "order.json")

    def _take_back(self) -> None:
        (self.gateway.workspace / "order.json").unlink()

    def perform(self, step: str, point: Point | None = None) -> bool:
        """Make one change, and kill the process at a point of it; whether it was killed."""
        self._prepare(step)
        self._write(step, point)
        try:
            self.steps[step]()
        except GONE:
            self.gateway.server.process.wait(PATIENCE_S)
        finally:
            self._take_back()
        return self._is_dead()

    def _is_dead(self) -> bool:
        """Whether it was killed, also where the kernel has not ended it yet."""
        process = self.gateway.server.process
        if process.poll() is None:
            try:
                self.gateway.server.admin("GET", "/livez")
            except GONE:
                process.wait(PATIENCE_S)
        return process.poll() is not None

    def _prepare(self, step: str) -> None:
        """Whatever an earlier kill left: no rollout is open, and there is a version to work with."""
        self._end_all()
        if step == "retirement":
            self.drop_route()
        if step == "retirement" or not self._version():
            self.push()
        if step in {"promotion", "abort"}:
            self.begin()
        if step == "no route":
            self.set_route()

    def _end_all(self) -> None:
        rollouts = self.gateway.server.admin("GET", f"{MODEL}/rollouts").json()["rollouts"]
        for rollout in [rollout for rollout in rollouts if rollout["state"] in OPEN]:
            self._abort(rollout["id"])

    def _abort(self, rollout: str) -> None:
        reason, _ = self.changes.next("abort")
        self.changes.ask(Change(reason, "rollout.abort"), "POST", f"{MODEL}/rollouts/{rollout}/abort", {})

    def _version(self) -> str:
        """The newest version that was acknowledged and is not retired."""
        return (self.changes.added() or [""])[-1]

    # The steps.

    def push(self, packed: bool = False) -> None:
        reason, number = self.changes.next("push")
        content = scorer(1.0 + number / 1000).SerializeToString()
        content = self.changes.packed(content, number) if packed else content
        self.changes.ask(Change(reason, "version.add", str(number)), "PUT", f"{MODEL}/versions/{number}", content)

    def alias(self) -> None:
        reason, _ = self.changes.next("alias.move")
        version = "1" if self._champion() != "1" else self._version()
        body = {"version": version, "force": True}
        self.changes.ask(Change(reason, "alias.move", version), "PUT", f"{MODEL}/aliases/champion", body)

    def _champion(self) -> str:
        return str(self.gateway.server.admin("GET", MODEL).json()["aliases"]["champion"])

    def set_route(self) -> None:
        reason, number = self.changes.next("route.set")
        share = 1000 + number % 1000
        split = {"1": 10_000 - share, self._version(): share}
        self.changes.ask(Change(reason, "route.set", "set"), "PUT", f"{MODEL}/route", {"split": split})

    def drop_route(self) -> None:
        reason, _ = self.changes.next("route.drop")
        self.changes.ask(Change(reason, "route.set"), "DELETE", f"{MODEL}/route", None)

    def begin(self) -> None:
        """The champion of a rollout is the first version, so that there is another one to roll out."""
        if self._champion() != "1":
            self.alias()
        reason, _ = self.changes.next("rollout")
        body = {"to": self._version(), "steps": [1000, 10_000], "min_step_seconds": 300}
        self.changes.ask(Change(reason, "rollout.start", self._version()), "POST", f"{MODEL}/rollouts", body)

    def end(self, verb: str) -> None:
        [rollout] = [
            rollout
            for rollout in self.gateway.server.admin("GET", f"{MODEL}/rollouts").json()["rollouts"]
            if rollout["state"] in OPEN
        ]
        reason, _ = self.changes.next(verb)
        change = Change(reason, f"rollout.{verb}", self._version())
        self.changes.ask(change, "POST", f"{MODEL}/rollouts/{rollout['id']}/{verb}", {})

    def configure(self) -> None:
        reason, number = self.changes.next("model.configure")
        body = {"keep_warm_seconds": 10 + number}
        self.changes.ask(Change(reason, "model.configure"), "PUT", f"{MODEL}/settings", body)

    def retire(self) -> None:
        """The version that was pushed for it; one that may be gone is not used again."""
        version, (reason, _) = self._version(), self.changes.next("retire")
        change = Change(reason, "version.retire", version)
        self.changes.ask(change, "DELETE", f"{MODEL}/versions/{version}", {"force": True})
        change.status = change.status or UNKNOWN

    def feed_back(self) -> None:
        """A label, which a worker hands on: it hears of no kill but by its answer."""
        server = self.gateway.server
        asked = server.rest("POST", "/v2/models/m/infer", {"inputs": [ROW]})
        assert asked.status == 200, asked
        body = {"feedback": [{"id": asked.headers["x-request-id"], "label": 0}]}
        assert server.rest("POST", "/v2/models/m/feedback", body).status in {200, 202, 503}

    def retrain(self) -> None:
        """Ask for retraining, and wait for the event to be delivered."""
        reason, _ = self.changes.next("retrain")
        change = Change(reason, "retraining.request")
        self.changes.ask(change, "POST", f"{MODEL}/retrain", {"version": "1", "reason": reason})
        wait_until(lambda: self._has_ended() or self._is_idle(), PATIENCE_S, "the end of all deliveries")

    def _has_ended(self) -> bool:
        return self.gateway.server.process.poll() is not None

    def _is_idle(self) -> bool:
        return all(delivery["state"] != "pending" for delivery in deliveries(self.gateway))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    workspace = tmp_path_factory.mktemp("calls")
    with opened(workspace, {PLUGIN: f"{durable_calls.__name__} {workspace}"}) as made:
        yield made


@pytest.fixture(scope="module")
def points(gateway: Gateway) -> list[Point]:
    """Every point that two passes through the script have in common: the others are calls of what goes on beside it."""
    script = Script(gateway)
    passes: list[dict[tuple[str, str, int], None]] = []
    for _ in range(2):
        (gateway.workspace / "calls.txt").write_text("")
        for step in script.steps:
            assert not script.perform(step)
        lines = [json.loads(line) for line in (gateway.workspace / "calls.txt").read_text().splitlines()]
        passes.append({(line["step"], line["site"], line["number"]): None for line in lines})
    both = [key for key in passes[0] if key in passes[1]]
    found = [Point(*key, when) for key in both for when in ("before", "after")]
    kinds = {point.site.split(" ", 1)[0] for point in found}
    assert {"fsync", "replace", "unlink", "commit"} <= kinds, kinds
    assert {point.step for point in found} == set(script.steps), found
    return found


def kill_at(gateway: Gateway, points: list[Point], most: int) -> list[Point]:
    """Kill it at so many of these points; those at which it was. Some are met only now and then."""
    killed: list[Point] = []
    script = Script(gateway)
    for point in points:
        if len(killed) == most:
            break
        if script.perform(point.step, point):
            gateway.wait_killed()
            gateway.start_again()
            killed.append(point)
            check_changes(gateway)
    check(gateway)
    return killed


def interleaved(points: list[Point], rng: random.Random) -> list[Point]:
    """Points in a random order, of each step by turns."""
    left = {step: rng.sample(own, len(own)) for step, own in by_step(points).items()}
    found: list[Point] = []
    while any(left.values()):
        found += [own.pop() for own in left.values() if own]
    return found


def by_step(points: list[Point]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.step, []).append(point)
    return found


def test_kills_at_some_durable_calls(gateway: Gateway, points: list[Point]) -> None:
    killed = kill_at(gateway, interleaved(points, random.Random(18)), SAMPLE)
    assert len(killed) == SAMPLE


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_at_every_durable_call(gateway: Gateway, points: list[Point]) -> None:
    killed = kill_at(gateway, points, len(points))
    missed = [point for point in points if point not in killed]
    assert len(missed) < len(points) / 10, missed
    assert {point.step for point in killed} == {point.step for point in points}
