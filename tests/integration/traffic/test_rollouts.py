"""Rollouts through the whole server, decided by real traffic: good versions, bad ones, and killed processes."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic.drive import (
    BREAKING,
    ERRORS,
    GOOD,
    SAME,
    SLOW,
    TURNED,
    Asker,
    begin,
    champion,
    look,
    models,
    promote_champion,
    scorer,
    traffic,
    until,
)
from tests.ports import free_port

OPTIONS = ("--workers", "2")
ROUTE = "/admin/v1/models/m/route"
ROLLOUTS = "/admin/v1/models/m/rollouts"
QUALITY = {"metric": "quality", "max_increase": 0.05}
LATENCY = {"metric": "latency", "max_ratio": 2.0}
"""Tests share their machine with others: a wide bound keeps noise from being a verdict."""


@pytest.fixture(scope="module")
def prometheus_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, prometheus_port: int) -> Iterator[Server]:
    workspace = tmp_path_factory.mktemp("rollouts")
    env = {"PENSTOCK_PROMETHEUS__URL": f"http://127.0.0.1:{prometheus_port}"}
    zoo.place(models(workspace / "models"), "untouched", {GOOD: scorer()})
    with harness.running(workspace / "models", workspace, *OPTIONS, env=env) as running:
        yield running


@pytest.fixture
def server(shared: Server) -> Server:
    """The server of all tests here, with nothing under way and the good version as the champion."""
    for rollout in shared.admin("GET", ROLLOUTS).json()["rollouts"]:
        if rollout["state"] in ("running", "paused", "held"):
            assert shared.admin("POST", f"{ROLLOUTS}/{rollout['id']}/abort", {"reason": "over"}).status == 200
    assert shared.admin("DELETE", ROUTE).status in (200, 404)
    promote_champion(shared, GOOD)
    return shared


def test_a_good_version_is_promoted_by_itself(server: Server) -> None:
    with traffic(server) as askers:
        guards = [ERRORS, LATENCY, "outputs", QUALITY]
        trial = begin(server, to=SAME, guards=guards, steps=[3000, 5000, 10_000], reason="a better one")
        weights, state = set(), trial

        def is_over() -> bool:
            nonlocal state
            state = look(server, trial)
            weights.update([state["weight"]] if state["state"] == "running" else [])
            return bool(state["state"] != "running")

        wait_until(is_over, PATIENCE_S, "the end of the rollout")
        assert state["state"] == "promoted", json.dumps(state)
        assert weights <= {3000, 5000, 9500}  # until promotion, the control keeps its hold-back
        assert champion(server) == SAME
    assert {status for asker in askers for _, _, status in asker.seen} == {200}
    assert server.admin("GET", ROUTE).json()["split"] == {SAME: 10_000}
    evidence = state["evidence"]
    assert {evidence["verdict"] for evidence in evidence.values()} == {"pass"}
    assert evidence["errors"]["n_canary"] > 0
    assert 0 < evidence["latency"]["run_n_canary"] <= evidence["latency"]["n_canary"]
    assert evidence["latency"]["run_effect"] < 2.0
    [event] = [event for event in server.admin("GET", "/admin/v1/events").json()["events"] if trial["id"] in str(event)]
    assert event["type"] == "io.penstock.rollout.finished.v1"
    assert event["subject"] == f"models/m/versions/{SAME}"
    assert event["specversion"] == "1.0"


@pytest.mark.parametrize(
    ("version", "guards", "guilty"),
    [
        (SLOW, ["errors", LATENCY], "latency"),
        (BREAKING, ["errors", LATENCY], "errors"),
        (TURNED, ["errors", {"metric": "disagreement", "max": 0.05}], "disagreement"),
    ],
)
def test_a_bad_version_is_rolled_back_by_itself(
    server: Server, version: str, guards: list[object], guilty: str
) -> None:
    with traffic(server):
        trial = begin(server, to=version, guards=guards)
        state = until(server, trial, "rolled_back", "promoted", "inconclusive")
    assert state["state"] == "rolled_back", json.dumps(state)
    assert state["evidence"][guilty]["verdict"] == "fail"
    if guilty == "latency":
        assert state["evidence"]["latency"]["run_effect"] > 1.2
    assert champion(server) == GOOD
    assert server.admin("GET", ROUTE).json()["split"] == {GOOD: 10_000}
    asker = Asker(server)  # what is stored reaches the workers a moment later, and stays
    wait_until(lambda: {asker.ask()[0] for _ in range(30)} == {GOOD}, PATIENCE_S, "the stable version alone")
    asker.close()
    entries = server.admin("GET", "/admin/v1/audit?model=m").json()["entries"]
    reported = next(
        entry for entry in entries if entry["action"] == "rollout.roll_back" and trial["id"] in entry["subject"]
    )
    assert reported["after"]["evidence"][guilty]["verdict"] == "fail"


def kill_control(server: Server) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(PATIENCE_S)


STAGES = ("first step", "paused", "second step", "rolled back", "promoted")
WEIGHTS = {"first step": 3000, "second step": 5000}


def reach(server: Server, stage: str) -> dict[str, Any]:
    """Bring the model that is called after a stage there; its rollout."""
    model = stage.replace(" ", "-")
    promote_champion(server, GOOD, model)
    steps = [3000, {"weight": 5000, "approval": True}, 10_000]  # nothing goes on behind the test's back
    slow = stage in ("first step", "paused")
    trial = begin(server, model, to=SAME, steps=steps, min_step_seconds=300 if slow else 0.5)
    verb = {"paused": "pause", "rolled back": "abort", "promoted": "promote"}.get(stage)
    if verb:
        reply = server.admin("POST", f"/admin/v1/models/{model}/rollouts/{trial['id']}/{verb}", {"reason": "a look"})
        assert reply.status == 200, reply
        return trial

    def there() -> bool:
        found = look(server, trial)
        return bool(found["weight"] == WEIGHTS[stage] and found["evidence"]["errors"]["n_canary"] > 100)

    with traffic(server, model=model):
        wait_until(there, PATIENCE_S, stage)
    return trial


def split_of(server: Server, trial: dict[str, Any]) -> Any:
    return server.admin("GET", f"/admin/v1/models/{trial['model']}/route").json()["split"]


def test_a_killed_control_process_leaves_every_rollout_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for stage in STAGES:
        zoo.place(folder, stage.replace(" ", "-"), {GOOD: scorer(), SAME: scorer()})
    first = harness.launch(folder, tmp_path, *OPTIONS)
    second: Server | None = None
    try:
        trials = {stage: reach(first, stage) for stage in STAGES}
        before = {stage: (look(first, trial), split_of(first, trial)) for stage, trial in trials.items()}
        kill_control(first)
        for trial in trials.values():
            asker = Asker(first, model=trial["model"])
            assert {asker.ask()[2] for _ in range(20)} == {200}  # the workers go on
            asker.close()
        second = harness.launch(folder, tmp_path, *OPTIONS)
        for stage, trial in trials.items():
            (expected, split), found = before[stage], look(second, trial)
            assert split_of(second, trial) == split
            assert [found[item] for item in ("state", "weight", "step")] == [
                expected[item] for item in ("state", "weight", "step")
            ]
            # what the last look had not written down yet is still in the counters
            assert found["evidence"]["errors"]["n_canary"] >= expected["evidence"]["errors"]["n_canary"]
        _approve(second, trials["second step"])
    finally:
        for server in (first, second):
            if server is not None:
                server.kill()


def _approve(server: Server, trial: dict[str, Any]) -> None:
    path = f"/admin/v1/models/{trial['model']}/rollouts/{trial['id']}/approve"
    assert server.admin("POST", path, {"reason": "go on"}).status == 200
    with traffic(server, model=trial["model"]):
        assert until(server, trial, "promoted")["state"] == "promoted"


def test_a_killed_worker_neither_promotes_nor_rolls_back(server: Server) -> None:
    trial = begin(server, to=SAME, min_step_seconds=300)
    server.kill_worker()
    assert look(server, trial)["state"] == "running"
    assert server.admin("GET", ROUTE).json()["split"] == {GOOD: 9000, SAME: 1000}


def test_what_cannot_be_started_says_why(server: Server) -> None:
    path = ROLLOUTS
    for body, status in (
        ({}, 400),
        ({"to": "99"}, 404),
        ({"to": GOOD}, 400),
        ({"to": SAME, "steps": [5000, 100]}, 400),
        ({"to": SAME, "guards": [{"metric": "speed"}]}, 400),
    ):
        reply = server.admin("POST", path, body)
        assert reply.status == status, (body, reply)
    assert server.admin("POST", "/admin/v1/models/nobody/rollouts", {"to": "1"}).status == 404
    assert server.admin("GET", f"{path}/nobody").status == 404
    trial = begin(server, to=SAME)
    assert server.admin("POST", path, {"to": SLOW}).status == 409
    assert server.admin("PUT", ROUTE, {"split": {GOOD: 10_000}}).status == 409
    assert server.admin("POST", f"{path}/{trial['id']}/dance", {}).status == 404
    assert server.admin("POST", f"{path}/{trial['id']}/abort", {"reason": "enough"}).json()["state"] == "rolled_back"
    assert server.admin("POST", f"{path}/{trial['id']}/resume", {}).status == 409
    assert trial["id"] in [rollout["id"] for rollout in server.admin("GET", path).json()["rollouts"]]


def test_the_rollout_commands_act_and_print(server: Server, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return harness.run_command(*arguments, "--url", server.ops, folder=tmp_path)

    assert run("route", "set", "m", "--split", f"{GOOD}=9000,{SAME}=1000", "--reason", "x").returncode == 0
    shown = run("route", "show", "m", "--json")
    assert json.loads(shown.stdout)["split"] == {GOOD: 9000, SAME: 1000}
    wrong = run("route", "set", "m", "--split", f"{GOOD}=9000")
    assert (wrong.returncode, "sum to 10000" in wrong.stderr) == (2, True)
    assert run("route", "drop", "m").returncode == 0
    assert run("rollout", "status", "untouched").returncode == 3
    assert run("rollout", "start", "m", "--to", SAME, "--steps", "1000,10000", "--guard", "errors").returncode == 0
    status = run("rollout", "status", "m")
    assert "towards pass" in status.stdout
    assert json.loads(run("rollout", "status", "m", "--json").stdout)["weight"] == 1000
    assert run("rollout", "pause", "m", "--reason", "lunch").returncode == 0
    assert run("rollout", "pause", "nobody").returncode == 3
    assert run("rollout", "resume", "m").returncode == 0
    assert run("rollout", "abort", "m", "--reason", "no").returncode == 0
    watched = run("rollout", "status", "m", "--watch")
    assert (watched.returncode, "rolled_back" in watched.stdout) == (0, True)
    events = run("events", "--json")
    assert json.loads(events.stdout.splitlines()[-1])["type"] == "io.penstock.rollout.finished.v1"
    assert run("experiment", "status", "m").returncode == 3
    assert run("experiment", "start", "m", "--arms", f"{GOOD}=5000,{SAME}=5000").returncode == 0
    assert "Rewards" in run("experiment", "status", "m").stdout
    assert run("experiment", "stop", "m").returncode == 0
    assert run("route", "shadow", f"m:{SAME}").returncode == 0


@pytest.fixture
def prometheus(server: Server, prometheus_port: int, tmp_path: Path) -> Iterator[None]:
    """A Prometheus that scrapes the server, at the address the server asks."""
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: penstock, static_configs: [{{targets: ['{server.ops}']}}]}}]\n"
    )
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{prometheus_port}"], stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.mark.usefixtures("prometheus")
def test_a_real_prometheus_can_fail_a_guard(server: Server) -> None:
    query = 'sum(penstock_requests_total{model="m",code="200"})'
    with traffic(server, threads=1):
        good = begin(server, to=SAME, steps=[10_000], guards=[{"metric": "promql", "query": query, "min": 1}])
        assert until(server, good, "promoted")["evidence"][f"promql:{query}"]["effect"] >= 1
        bad = begin(server, to=SLOW, guards=[{"metric": "promql", "query": query, "max": 0}])
        assert until(server, bad, "rolled_back")["state"] == "rolled_back"
    assert metric(server, "penstock_rollout_state", state="rolled_back", version=SLOW) == 1
