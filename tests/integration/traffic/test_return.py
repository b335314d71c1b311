"""A control process that returns acts on what happened while there was none: harm by a canary, drift, lost workers."""

import json
import os
import signal
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from tests import harness
from tests.harness import PATIENCE_S, Server, call, is_alive, wait_until
from tests.integration.traffic.drive import BREAKING, FEATURES, GOOD, begin, look, models, promote_champion, until

OPTIONS = ("--workers", "2", "--drain-delay", "0.1")
SOUND, FAR = -1.0, 5.0
"""Means of the first feature: the breaking version answers the one, and none of the other."""


def ask(server: Server, generator: np.random.Generator, count: int, mean: float) -> Counter[tuple[str, int]]:
    """Who answered so many requests, and how."""
    seen: Counter[tuple[str, int]] = Counter()
    for start in range(0, count, 50):
        connection = HTTPConnection(server.http, timeout=PATIENCE_S)  # each time anew, so that both workers are asked
        for _ in range(start, min(count, start + 50)):
            row = [mean + 0.1 * generator.normal(), *generator.normal(size=FEATURES - 1)]
            tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}
            connection.request("POST", "/v2/models/m/infer", json.dumps({"inputs": [tensor]}))
            answer = connection.getresponse()
            answer.read()
            seen[str(answer.headers["penstock-model-version"]), answer.status] += 1
        connection.close()
    return seen


def reference() -> bytes:
    numbers = np.random.default_rng(9).normal(size=(12_000, FEATURES))
    numbers[:, 0] = SOUND + 0.1 * numbers[:, 0]
    lines = [",".join(f"f{index}" for index in range(FEATURES))]
    return "\n".join([*lines, *(",".join(f"{value:.5f}" for value in row) for row in numbers)]).encode()


def state_of(server: Server, column: str) -> str:
    found = server.admin("GET", f"/admin/v1/models/m/monitor?version={GOOD}").json()["features"]
    return next((str(item["state"]) for item in found if item["name"] == column), "")


def kill_control(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(PATIENCE_S)


def drifted_columns(server: Server) -> set[str]:
    """The columns that events of drift name."""
    events = server.admin("GET", "/admin/v1/events?model=m").json()["events"]
    drifts = [event["data"] for event in events if event["type"] == "io.penstock.drift.detected.v1"]
    return {name for drift in drifts for name in drift["columns"]}


def test_harm_and_drift_during_retraining_are_acted_upon_without_another_request(tmp_path: Path) -> None:
    folder, generator = models(tmp_path / "models", GOOD, BREAKING), np.random.default_rng(1)
    first = harness.launch(folder, tmp_path, *OPTIONS)
    second: Server | None = None
    try:
        promote_champion(first, GOOD)
        path = f"/admin/v1/models/m/versions/{GOOD}/reference"
        assert call(first.ops, "PUT", path, reference()).status == 201
        trial = begin(first, to=BREAKING, steps=[5000, 10_000], min_step_seconds=300, guards=["errors"])

        def counted() -> bool:
            assert {status for _, status in ask(first, generator, 20, SOUND)} == {200}
            return bool(look(first, trial)["evidence"]["errors"]["n_canary"] >= 30 and state_of(first, "f0") == "ok")

        wait_until(counted, PATIENCE_S, "a rollout and a monitor that count")
        kill_control(first)
        seen = ask(first, generator, 400, FAR)
        assert seen[GOOD, 200] > 100
        assert sum(count for (version, status), count in seen.items() if version == BREAKING and status != 200) > 100
        second = harness.launch(folder, tmp_path, *OPTIONS)
        over = until(second, trial, "rolled_back", "promoted", "inconclusive")
        assert over["state"] == "rolled_back", json.dumps(over)
        assert over["evidence"]["errors"]["verdict"] == "fail"
        wait_until(lambda: state_of(second, "f0") == "drift", PATIENCE_S, "the drift of meanwhile")
        wait_until(lambda: "f0" in drifted_columns(second), PATIENCE_S, "the event of the drift")
    finally:
        for server in (first, second):
            if server is not None:
                server.kill()


def test_a_worker_that_ended_while_nobody_watched_is_known_to_have_ended(tmp_path: Path) -> None:
    """It had no calls in hand: it is replaced, and no canary is to blame."""
    folder = models(tmp_path / "models", GOOD, BREAKING)
    first = harness.launch(folder, tmp_path, *OPTIONS)
    second: Server | None = None
    try:
        promote_champion(first, GOOD)
        trial = begin(first, to=BREAKING, steps=[5000, 10_000], min_step_seconds=300, guards=["errors"])
        kill_control(first)
        os.kill(first.workers[0], signal.SIGKILL)
        wait_until(lambda: not is_alive(first.workers[0]), PATIENCE_S, "the worker's end")
        second = harness.launch(folder, tmp_path, *OPTIONS)
        wait_until(second.is_ready, PATIENCE_S, "a new worker")
        found = look(second, trial)
        assert (found["state"], found["worker_losses"]) == ("running", 0)
    finally:
        for server in (first, second):
            if server is not None:
                server.kill()
