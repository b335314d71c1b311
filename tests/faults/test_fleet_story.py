"""The whole story of a fleet behind a proxy: it drifts, retrains and promotes as one gateway with all rows does."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import haproxy, harness, postgres, s3, zoo
from tests.faults import story, train_candidate
from tests.faults.story import CALLERS, MODEL, ROWS, Answer, Caller, Evidence, Gateways, Request, together, until
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import ERRORS, PAUSE_S, champion, promote_champion
from tests.integration.traffic.test_retraining import Receiver, receiving
from tests.postgres import Postgres

pytestmark = pytest.mark.timeout(900)

NAMES = "abc"
BEFORE, AFTER = "1", "2"
USUAL, DRIFTED = 20, 120
"""Requests of each caller in each part of the story before the world changes, and after it."""

STEP = 10
"""Requests of a caller whose labels are told in one call."""

LABELS = 3000
"""Labels that retraining waits for, fewer than come while one of three gateways is frozen."""

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


def policy(hook: Receiver, runs: Path) -> dict[str, Any]:
    """Retrain when it drifts and enough labels have come."""
    newest = "1500"
    code = f"PYTHONPATH={Path(__file__).parents[2]}"  # commands of sinks get no variables but those of the gateway
    train = ["env", code, sys.executable, "-m", "tests.faults.train_candidate", str(runs), newest, AFTER]
    when = {"all": [{"drift": {"scope": "features"}}, {"labels": {"new_at_least": LABELS}}]}
    return {
        "monitor": {"window_seconds": 3600},
        "capture": {"sample": 1.0},
        "triggers": [{"name": "drifted", "when": when, "send": ["hook", "train"]}],
        "retraining": {
            "gates": {"held_out": {"metric": "accuracy", "by": 0.02, "min_rows": 60, "share": 0.3}},
            "approval": True,
            "auto_rollout": {"steps": [5000, 10_000], "min_step_seconds": 1, "guards": [ERRORS]},
        },
        "sinks": {
            "hook": {"webhook": {"url": hook.url}},
            "train": {"command": {"argv": train, "timeout_seconds": 600}},
        },
    }


@dataclass
class Side:
    """One of the two that are compared: where requests go, whom to ask, and what it told."""

    address: str
    server: Server
    hook: Receiver
    runs: Path

    def reported(self) -> Counter[tuple[str, str, str]]:
        """How often each thing was told of the version that answered before."""
        found: Counter[tuple[str, str, str]] = Counter()
        for event in story.events(self.server):
            kind, data = event["type"].removeprefix("io.penstock."), event["data"]
            if kind in COMPARED:
                found[kind, event["subject"], data.get("name") or data.get("rule", "")] += 1
        return found

    def kinds(self) -> Counter[str]:
        """How often each kind of event was told."""
        return Counter(event["type"].removeprefix("io.penstock.") for event in story.events(self.server))

    def rows(self) -> int:
        """The rows that were counted of the version that answered before."""
        return story.counted_rows(self.server, BEFORE, "fleet")

    def labels(self) -> int:
        """The labels of that version."""
        return int(story.monitor(self.server, BEFORE)["performance"]["labels"])

    def wrong(self) -> int:
        """How many of them that version had answered wrongly."""
        reported = story.monitor(self.server, BEFORE)["performance"]
        labels = int(reported["labels"])
        return labels - round(labels * float(reported["accuracy"]))


@contextmanager
def alone(workspace: Path, model: Path, data: Path) -> Iterator[Side]:
    """A single gateway with a registry of its own."""
    workspace.mkdir()
    push(workspace, model, data, paths())
    with receiving() as hook, harness.running(None, workspace, "--workers", "1", env=paths()) as server:
        yield Side(server.http, server, hook, workspace / "runs")


def paths() -> dict[str, str]:
    """Training commands find the tests where these do."""
    return {"PYTHONPATH": str(Path(__file__).parents[2])}


def push(workspace: Path, model: Path, data: Path, env: Mapping[str, str]) -> None:
    """Into the registry, before anybody serves it: rows are counted from the first on."""
    arguments = ("models", "push", MODEL, str(model), "--version", BEFORE, "--reference", str(data))
    done = harness.run_command(*arguments, folder=workspace, env=env)
    assert done.returncode == 0, done.stderr


def begin(side: Side) -> None:
    promote_champion(side.server, BEFORE)
    reply = side.server.as_owner("PUT", f"/admin/v1/models/{MODEL}/policy", policy(side.hook, side.runs))
    assert reply.status == 200, reply


@dataclass
class Stage:
    """All who take part."""

    fleet: Side
    single: Side
    gateways: Gateways
    database: Postgres
    evidence: Evidence
    callers: Sequence[Caller]
    copies: Sequence[Caller]
    """Those that ask the single gateway what the callers asked the fleet."""

    @property
    def sides(self) -> tuple[Side, Side]:
        """Those that are compared."""
        return self.fleet, self.single


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    model, data = tmp_path / "model.onnx", tmp_path / "reference.csv"
    model.write_bytes(train_candidate.graph(weights(), np.zeros(3)).SerializeToString())
    data.write_bytes(reference())
    with postgres.running() as database, s3.running() as bucket, ExitStack() as stack:
        url, blobs = database.create("story"), f"s3://{bucket.name}/story"
        env = {**paths(), **bucket.environment, "PENSTOCK_REGISTRY": url, "PENSTOCK_BLOBS": blobs}
        push(tmp_path, model, data, env)
        gateways = Gateways(tmp_path, NAMES, env, stack)
        single = stack.enter_context(alone(tmp_path / "alone", model, data))
        address = stack.enter_context(haproxy.running(tmp_path, gateways.addresses))
        hook = stack.enter_context(receiving())
        fleet = Side(address, gateways.servers["a"], hook, tmp_path / "runs")
        begin(fleet)
        begin(single)
        digest = story.monitor(fleet.server, BEFORE)["reference"]["digest"]
        evidence = Evidence(url, tmp_path / "a" / "home", digest)
        stack.callback(evidence.close)
        callers = [Caller(number, address, weights()) for number in range(CALLERS)]
        copies = [Caller(number, single.address, weights()) for number in range(CALLERS)]
        for item in (*callers, *copies):
            stack.callback(item.close)
        yield Stage(fleet, single, gateways, database, evidence, callers, copies)


def test_a_fleet_under_faults_does_what_a_single_gateway_does(stage: Stage) -> None:
    fleet, single, callers = stage.fleet, stage.single, stage.callers
    first = asked(callers, USUAL, meanwhile=partial(restart, stage.database), copies=stage.copies)
    assert {item.gateway for item in first} == set(NAMES)
    for side in stage.sides:
        until(partial(has_rows, side, ROWS * len(first)), PATIENCE_S, "the first rows")
    killed, second = killed_meanwhile(stage)
    published = Counter(dict(enumerate(stage.evidence.requests(BEFORE, killed.id))))
    published.subtract(item.request.caller for item in first if item.gateway == killed.name)
    kept = kept_of(killed, callers, published, second)
    replay(single, kept)
    leader = stage.gateways.leader()
    fleet.server = stage.gateways.other_than(leader)
    with frozen(stage.gateways.servers[leader]):
        third = asked(callers, DRIFTED, drifted=True, copies=stage.copies)
        until(lambda: bool(fleet.hook.got), PATIENCE_S, "a request for retraining, by another leader")

    assert {item.version for item in (*first, *second, *third)} == {BEFORE}
    rows = ROWS * (len(first) + len(kept) + len(third))
    for side in stage.sides:
        until(partial(has_rows, side, rows), PATIENCE_S, f"{rows} rows")
    assert dict(stage.evidence.bins(stage.evidence.counted(BEFORE))) == bins_of(single.server)
    compare_labels(stage, killed, ROWS * (len(first) + len(second) + len(third)), rows)
    for side in stage.sides:
        until(partial(reported_once, side, "candidate.passed.v1"), PATIENCE_S, "a candidate")
    assert story.states(fleet.server, BEFORE) == story.states(single.server, BEFORE)
    assert fleet.reported() == single.reported()
    assert set(fleet.reported().values()) == {1}
    promote(stage)
    for side in stage.sides:
        assert side.runs.read_text() == "run\n"
        assert [event["type"] for event in side.hook.events()] == ["io.penstock.retraining.requested.v1"]
        assert reported_once(side, "candidate.passed.v1")
        assert reported_once(side, "rollout.finished.v1")


def has_rows(side: Side, rows: int) -> bool:
    return side.rows() == rows


def reported_once(side: Side, kind: str) -> bool:
    return side.kinds()[kind] == 1


def restart(database: Postgres) -> None:
    database.stop()
    database.start()


@dataclass(frozen=True)
class Killed:
    """A gateway that was killed: its name, what the fleet called it until then, and when (monotonic clock)."""

    name: str
    id: str
    at: float


def killed_meanwhile(stage: Stage) -> tuple[Killed, list[Answer]]:
    """Kill the gateway that leads while callers ask, and start it again; with what callers were answered."""
    until(lambda: stage.gateways.leader() != "", PATIENCE_S, "a leader")
    name, begun = stage.gateways.leader(), len(stage.callers[0].answers)
    times: list[float] = []
    identity = stage.gateways.id(name)
    stage.fleet.server = stage.gateways.other_than(name)

    def kill() -> None:
        wait_until(lambda: len(stage.callers[0].answers) >= begun + USUAL // 4, PATIENCE_S, "traffic")
        stage.gateways.servers[name].kill()
        times.append(time.monotonic())
        stage.gateways.start(name)

    answers = asked(stage.callers, USUAL, meanwhile=kill)
    until(lambda: stage.gateways.leader() != "", PATIENCE_S, "a leader")
    return Killed(name, identity, times[0]), answers


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """A control process that does nothing for the time of a block."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def kept_of(
    killed: Killed, callers: Sequence[Caller], published: Mapping[int, int], answers: Sequence[Answer]
) -> list[Request]:
    """The requests in the fleet's counts: all that other gateways answered, and of each caller the first ones that the
    killed gateway answered, as many as it had published. It may have counted one more that its caller asked again."""
    left = Counter(published)
    found: list[Request] = []
    for answer in answers:
        if answer.gateway != killed.name or answer.at > killed.at:
            found.append(answer.request)
        elif left[answer.request.caller] > 0:
            left[answer.request.caller] -= 1
            found.append(answer.request)
    for caller in callers:
        assert left[caller.number] <= len(caller.repeated)
        found += caller.repeated[: left[caller.number]]
    return found


def compare_labels(stage: Stage, killed: Killed, reported: int, replayed: int) -> None:
    """Each label that was taken counts once, but those that the killed gateway had joined and not published."""
    most = ROWS * len([answer for caller in stage.callers for answer in caller.answers if answer.at < killed.at])

    def settled() -> bool:
        return stage.fleet.labels() == sum(stage.evidence.labels(BEFORE).values()) >= reported - most

    until(settled, PATIENCE_S, "the labels")
    until(lambda: stage.fleet.wrong() == stage.single.wrong(), PATIENCE_S, "all labels of the changed world")
    assert stage.fleet.labels() <= reported
    assert stage.single.labels() == replayed


def promote(stage: Stage) -> None:
    """Traffic on both sides until the candidate is the champion; the database is restarted in between."""
    others = [Caller(number, stage.single.address, weights(), "other") for number in range(CALLERS)]
    for side in stage.sides:
        until(partial(approved, side), PATIENCE_S, "the approval")
    with asking([*stage.callers, *others]):
        restart(stage.database)
        for side in stage.sides:
            until(partial(is_promoted, side), 2 * PATIENCE_S, "the promotion")


def approved(side: Side) -> bool:
    """All rows are in: the candidate may have its rollout, which takes traffic from the version that is compared."""
    path = f"/admin/v1/models/{MODEL}/candidates/{AFTER}/approve"
    return side.server.admin("POST", path, {"reason": "all rows are counted"}).status == 200


def is_promoted(side: Side) -> bool:
    return champion(side.server) == AFTER


def asked(
    callers: Sequence[Caller],
    number: int,
    drifted: bool = False,
    meanwhile: Callable[[], object] = tuple,
    copies: Sequence[Caller] = (),
) -> list[Answer]:
    """What all callers are answered to so many requests each, in the order of time; they tell the labels at once.

    Copies ask the same of the single gateway at the same time, so that both sides look at the same rows. Callers wait
    for each other after each step: one that is held up would change who asks how often.
    """
    before = [len(caller.answers) for caller in callers]
    step = threading.Barrier(len(callers), timeout=300)
    works = [
        partial(ask, caller, copies[caller.number] if copies else None, number, drifted, step) for caller in callers
    ]
    together([meanwhile, *works], 400)
    found = [answer for caller, start in zip(callers, before, strict=True) for answer in caller.answers[start:]]
    return sorted(found, key=lambda item: item.at)


def ask(caller: Caller, copy: Caller | None, number: int, drifted: bool, step: threading.Barrier) -> None:
    """Ask, and tell the labels of some requests in each call, which the proxy brings to any gateway."""
    for start in range(0, number, STEP):
        step.wait()
        answers = [caller.ask(drifted) for _ in range(start, min(number, start + STEP))]
        if copy is not None:
            repeat(copy, [answer.request for answer in answers])
        caller.label(answers)


def repeat(copy: Caller, requests: Sequence[Request]) -> None:
    """The same requests and labels once more."""
    copy.label([item for item in map(copy.attempt, requests) if item is not None])


@contextmanager
def asking(callers: Sequence[Caller]) -> Iterator[None]:
    """Traffic of the world as it is now, for the time of a block."""
    over = threading.Event()

    def work(caller: Caller) -> None:
        while not over.wait(4 * PAUSE_S):  # each request has ten rows, and all of them are captured
            caller.ask(drifted=True)
        caller.close()

    running = [threading.Thread(target=work, args=(caller,), daemon=True) for caller in callers]
    for item in running:
        item.start()
    try:
        yield
    finally:
        over.set()
        for item in running:
            item.join(PATIENCE_S)


def replay(single: Side, requests: Sequence[Request]) -> None:
    """The same requests and labels to the single gateway."""
    caller = Caller(0, single.address, weights())
    for start in range(0, len(requests), 5):
        repeat(caller, requests[start : start + 5])
    caller.close()


def bins_of(server: Server) -> dict[str, list[int]]:
    """The counts of each column by bin, of a window that has all rows in it."""
    return {column["name"]: column["counts"] for column in story.columns(story.monitor(server, BEFORE))}
