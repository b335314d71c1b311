"""The whole story of a fleet behind a proxy: it drifts, retrains and promotes as one gateway with all rows does."""

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import haproxy, harness, postgres, s3, zoo
from tests.faults import story, train_candidate
from tests.faults.story import CALLERS, MODEL, ROWS, Answer, Caller, Evidence, Gateways, together, until
from tests.harness import Server
from tests.integration.traffic.drive import champion, crown
from tests.integration.traffic.test_retraining import Receiver, receiving

pytestmark = pytest.mark.timeout(400)

NAMES = "abc"
PATIENCE_S = 60.0
BEFORE, AFTER = "1", "2"
USUAL, DRIFTED = 50, 100
"""Requests of each caller before and after the world changes."""

COMPARED = ("drift.detected.v1", "drift.cleared.v1", "quality.violated.v1", "retraining.requested.v1")
"""Events that rest on counts and rules; when errors have changed depends on how many labels come at once."""


def weights() -> story.Floats:
    """The world: the first feature matters most, and who asks does not."""
    found = zoo.weights(4, 3, scale=2.0).astype(np.float64)
    found[0] *= 3
    found[3] = 0
    return found


def reference() -> bytes:
    rows = np.random.default_rng(9).uniform(-1, 1, (12_000, 4))
    rows[:, 3] = 0
    rows[::ROWS, 3] = 1 + np.arange(len(rows) // ROWS) % CALLERS
    lines = ["f0,f1,f2,f3", *(",".join(f"{value:.6f}" for value in row) for row in rows)]
    return "\n".join(lines).encode()


def policy(hook: Receiver, runs: Path, labels: int) -> dict[str, Any]:
    """Retrain by what drifts once so many labels have come."""
    newest = str(CALLERS * DRIFTED * ROWS // 2)
    train = [sys.executable, "-m", "tests.faults.train_candidate", str(runs), newest, AFTER]
    when = {"all": [{"drift": {"scope": "features"}}, {"labels": {"new_at_least": labels}}]}
    return {
        "monitor": {"window_seconds": 3600},
        "capture": {"sample": 1.0},
        "triggers": [{"name": "drifted", "when": when, "send": ["hook", "train"]}],
        "retraining": {
            "gates": {"held_out": {"metric": "accuracy", "by": 0.02, "min_rows": 60, "share": 0.3}},
            "auto_rollout": {"steps": [5000, 10_000], "min_step_seconds": 1, "guards": [{"metric": "errors"}]},
        },
        "sinks": {
            "hook": {"webhook": {"url": hook.url}},
            "train": {"command": {"argv": train, "timeout_seconds": 60}},
        },
    }


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: where requests go, whom to ask, and what it told."""

    address: str
    server: Server
    hook: Receiver
    runs: Path

    def told(self) -> Counter[tuple[str, str, str]]:
        """How often each thing was told of the version that answered before."""
        found: Counter[tuple[str, str, str]] = Counter()
        for one in story.events(self.server):
            kind, data = one["type"].removeprefix("io.penstock."), one["data"]
            if kind in COMPARED:
                found[kind, one["subject"], data.get("name") or data.get("rule", "")] += 1
        return found

    def kinds(self) -> Counter[str]:
        """How often each kind of event was told."""
        return Counter(one["type"].removeprefix("io.penstock.") for one in story.events(self.server))

    def rows(self) -> int:
        """The rows that were counted of the version that answered before."""
        return story.counted_rows(self.server, BEFORE, "fleet")

    def labels(self) -> int:
        """The labels of that version."""
        return int(story.monitor(self.server, BEFORE)["performance"]["labels"])


@contextmanager
def alone(room: Path, model: Path, data: Path) -> Iterator[Side]:
    """A single gateway with a registry of its own."""
    room.mkdir()
    push(room, model, data, paths())
    with receiving() as hook, harness.running(None, room, "--workers", "1", env=paths()) as server:
        yield Side(server.http, server, hook, room / "runs")


def paths() -> dict[str, str]:
    """Training commands find the tests where these do."""
    return {"PYTHONPATH": str(Path(__file__).parents[2])}


def push(room: Path, model: Path, data: Path, env: Mapping[str, str]) -> None:
    """Into the registry, before anybody serves it: rows are counted from the first on."""
    arguments = ("models", "push", MODEL, str(model), "--version", BEFORE, "--reference", str(data))
    done = harness.run_command(*arguments, room=room, env=env)
    assert done.returncode == 0, done.stderr


def begin(side: Side, labels: int) -> None:
    crown(side.server, BEFORE)
    reply = side.server.admin("PUT", f"/admin/v1/models/{MODEL}/policy", policy(side.hook, side.runs, labels))
    assert reply.status == 200, reply


def test_a_fleet_does_what_a_single_gateway_does(tmp_path: Path) -> None:
    model, data = tmp_path / "model.onnx", tmp_path / "reference.csv"
    model.write_bytes(train_candidate.graph(weights(), np.zeros(3)).SerializeToString())
    data.write_bytes(reference())
    all_rows = CALLERS * (USUAL + DRIFTED) * ROWS
    with postgres.running() as database, s3.running() as bucket, ExitStack() as stack:
        url = database.create("story")
        blobs = f"s3://{bucket.name}/story"
        env = {**paths(), **bucket.environment, "PENSTOCK_REGISTRY": url, "PENSTOCK_BLOBS": blobs}
        push(tmp_path, model, data, env)
        gateways = Gateways(tmp_path, NAMES, env, stack)
        single = stack.enter_context(alone(tmp_path / "alone", model, data))
        address = stack.enter_context(haproxy.running(tmp_path, gateways.addresses))
        fleet = Side(address, gateways.any(), stack.enter_context(receiving()), tmp_path / "runs")
        for side in (fleet, single):
            begin(side, all_rows)
        callers = [Caller(number, address, weights()) for number in range(CALLERS)]
        for one in callers:
            stack.callback(one.close)

        usual = asked(callers, USUAL)
        assert {one.gateway for one in usual} == set(NAMES)
        labelled(callers, usual)
        replayed(single, usual)
        drifted = asked(callers, DRIFTED, drifted=True)
        labelled(callers, drifted)
        replayed(single, drifted)
        for side in (fleet, single):
            until(lambda s=side: s.rows() == s.labels() == all_rows, PATIENCE_S, "all rows and labels")  # type: ignore[misc]
        digest = story.monitor(fleet.server, BEFORE)["reference"]["digest"]
        evidence = Evidence(url, tmp_path / "a" / "home", digest)
        stack.callback(evidence.close)
        assert dict(evidence.bins(evidence.counted(BEFORE))) == bins_of(single.server)
        for side in (fleet, single):
            until(lambda s=side: s.kinds()["candidate.passed.v1"] == 1, PATIENCE_S, "a candidate")  # type: ignore[misc]
        assert story.states(fleet.server, BEFORE) == story.states(single.server, BEFORE)
        assert story.accuracy(fleet.server, BEFORE) == story.accuracy(single.server, BEFORE)
        assert fleet.told() == single.told()
        assert set(fleet.told().values()) == {1}

        others = [Caller(number, single.address, weights(), "other") for number in range(CALLERS)]
        with asking([*callers, *others]):
            for side in (fleet, single):
                until(lambda s=side: champion(s.server) == AFTER, PATIENCE_S, "the promotion")  # type: ignore[misc]
        for side in (fleet, single):
            assert side.runs.read_text() == "run\n"
            assert [one["type"] for one in side.hook.events()] == ["io.penstock.retraining.requested.v1"]
            kinds = side.kinds()
            assert [kinds[f"{one}.v1"] for one in ("candidate.passed", "rollout.finished")] == [1, 1]


def asked(callers: Sequence[Caller], number: int, drifted: bool = False) -> list[Answer]:
    """What all callers are answered to so many requests each, in the order of time."""
    before = [len(one.answers) for one in callers]
    together([partial(ask, one, number, drifted) for one in callers], 120)
    found = [answer for one, start in zip(callers, before, strict=True) for answer in one.answers[start:]]
    return sorted(found, key=lambda one: one.at)


def ask(caller: Caller, number: int, drifted: bool) -> None:
    for _ in range(number):
        caller.ask(drifted)


@contextmanager
def asking(callers: Sequence[Caller]) -> Iterator[None]:
    """Traffic of the world as it is now, for the time of a block."""
    over = threading.Event()

    def work(caller: Caller) -> None:
        while not over.is_set():
            caller.ask(drifted=True)
        caller.close()

    running = [threading.Thread(target=work, args=(one,), daemon=True) for one in callers]
    for one in running:
        one.start()
    try:
        yield
    finally:
        over.set()
        for one in running:
            one.join(30)


def labelled(callers: Sequence[Caller], answers: Sequence[Answer]) -> None:
    """Tell the labels of three requests in each call, which the proxy brings to any gateway."""
    for start in range(0, len(answers), 3):
        callers[0].label(answers[start : start + 3])


def replayed(single: Side, answers: Sequence[Answer]) -> None:
    """The same requests and labels to the single gateway."""
    caller = Caller(0, single.address, weights())
    for one in answers:
        assert caller.attempt(one.request)
    labelled([caller], answers)
    caller.close()


def bins_of(server: Server) -> dict[str, list[int]]:
    """The counts of each column by bin, of a window that has all rows in it."""
    return {one["name"]: one["counts"] for one in story.columns(story.monitor(server, BEFORE))}
