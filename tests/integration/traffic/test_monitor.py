"""The monitor through the whole server: references learned and pushed, drift seen and told, counts that add up."""

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, call, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic.drive import FEATURES, GOOD, SAME, models, scorer

MONITOR = "/admin/v1/models/m/monitor"
POLICY = {"monitor": {"live_reference_rows": 1000, "live_reference_seconds": 1, "window_seconds": 20}}
"""A monitor that learns and looks soon."""
BATCHES = count()


def set_policy(server: Server) -> None:
    reply = server.as_owner("PUT", "/admin/v1/models/m/policy", POLICY)
    assert reply.status == 200, reply


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = tmp_path_factory.mktemp("monitor")
    with harness.running(models(workspace / "models"), workspace, "--workers", "2") as running:
        set_policy(running)
        yield running


def send(server: Server, version: str, rows: int, shift: float = 0.0, threads: int = 4) -> None:
    """Rows from several connections, ten in a request."""
    batch = next(BATCHES)

    def work(seed: int) -> None:
        generator = np.random.default_rng((seed, batch))
        connection = HTTPConnection(server.http, timeout=PATIENCE_S)
        for _ in range(rows // threads // 10):
            numbers = generator.normal(size=(10, FEATURES))
            numbers[:, 0] += shift
            tensor = {"name": "x", "shape": [10, FEATURES], "datatype": "FP32", "data": numbers.ravel().tolist()}
            connection.request("POST", f"/v2/models/m/versions/{version}/infer", json.dumps({"inputs": [tensor]}))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        connection.close()

    running = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(PATIENCE_S)


def learn(server: Server, version: str) -> None:
    """Send rows until a reference is learned from them; without more rows it would be looked for less often."""

    def is_learned() -> bool:
        send(server, version, 600, threads=6)
        return show(server, version)["reference"] is not None

    wait_until(is_learned, PATIENCE_S, "a learned reference")


def show(server: Server, version: str) -> dict[str, Any]:
    reply = server.admin("GET", f"{MONITOR}?version={version}")
    assert reply.status == 200, reply
    found: dict[str, Any] = reply.json()
    return found


def states(server: Server, version: str) -> dict[str, str]:
    document = show(server, version)
    return {feature["name"]: feature["state"] for feature in (*document["features"], *document["outputs"])}


def csv(rows: int = 12_000) -> bytes:
    numbers = np.random.default_rng(9).normal(size=(rows, FEATURES))
    lines = [",".join(f"f{index}" for index in range(FEATURES))]
    return "\n".join([*lines, *(",".join(f"{value:.5f}" for value in row) for row in numbers)]).encode()


def test_a_pushed_reference_measures_from_then_on(server: Server) -> None:
    assert show(server, GOOD)["reference"] is None
    path = f"/admin/v1/models/m/versions/{GOOD}/reference"
    made = call(server.ops, "PUT", path, csv(), {"penstock-actor": "ann"})
    assert made.status == 201, made
    assert (made.json()["rows"], made.json()["source"]) == (12_000, "training")
    wait_until(lambda: show(server, GOOD)["reference"] is not None, PATIENCE_S, "the reference in use")
    assert show(server, GOOD)["reference"] == {
        "source": "training",
        "digest": made.json()["digest"],
        "rows": 12_000,
        "small": False,
    }
    send(server, GOOD, 2000)
    wait_until(lambda: set(states(server, GOOD).values()) == {"ok"}, PATIENCE_S, "enough rows")
    before = show(server, GOOD)
    assert before["rows"]["seen"] == before["rows"]["counted"]
    assert all(sum(feature["counts"]) == feature["rows"] for feature in before["features"])
    assert metric(server, "penstock_monitor_rows_total", version=GOOD) == before["rows"]["counted"]
    assert metric(server, "penstock_feature_bin_total", version=GOOD, feature="f0") == metric(
        server, "penstock_monitor_rows_total", version=GOOD
    )
    send(server, GOOD, 1200, shift=1.0)
    wait_until(lambda: states(server, GOOD)["f0"] == "drift", PATIENCE_S, "the drift")
    document = show(server, GOOD)
    assert [feature["state"] for feature in document["features"]][1:] == ["ok"] * (FEATURES - 1)
    assert metric(server, "penstock_drift_state", version=GOOD, feature="f0") == 1
    assert metric(server, "penstock_drift_alarms_total", version=GOOD) >= 1
    events = server.admin("GET", "/admin/v1/events").json()["events"]
    reported = next(event for event in events if event["type"] == "io.penstock.drift.detected.v1")
    assert (reported["subject"], reported["data"]["name"]) == (f"models/m/versions/{GOOD}", "f0")
    assert reported["data"]["moved"]
    assert "f0" in reported["data"]["columns"]
    assert reported["data"]["since"] is not None
    assert reported["data"]["log_e"] > 0
    log = server.log_text()
    assert f"model m version {GOOD}: {reported['data']['message']}" in log
    assert reported["data"]["message"].startswith("f0 drifts from its reference since 20")
    assert document["latency"]["count"] > 0
    assert 0 < document["latency"]["p50"] <= document["latency"]["p99"] <= document["latency"]["p999"]


def test_without_a_reference_one_is_learned(server: Server) -> None:
    learn(server, SAME)
    assert show(server, SAME)["reference"]["source"] == "live"
    assert show(server, SAME)["reference"]["small"]
    send(server, SAME, 1200)
    wait_until(lambda: set(states(server, SAME).values()) == {"ok"}, PATIENCE_S, "enough rows")


def test_rows_of_one_client_do_not_make_a_reference_and_relearning_can_be_requested(
    server: Server, tmp_path: Path
) -> None:
    learn(server, SAME)
    before = show(server, SAME)["reference"]
    again = ("monitor", "m", "--relearn", "--version", SAME, "--reason", "a new season", "--url", server.ops)
    done = harness.run_command(*again, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1000 rows of at least 100 requests over 1 s, at most 50% of them from one client" in done.stderr
    assert show(server, SAME)["reference"] is None
    assert harness.run_command(*again, folder=tmp_path).returncode == 3
    send(server, SAME, 3000, threads=1)
    entries = server.admin("GET", "/admin/v1/audit?model=m").json()["entries"]
    [entry] = [entry for entry in entries if entry["action"] == "reference.relearn"]
    assert entry["reason"] == "a new season"
    events = server.admin("GET", "/admin/v1/events").json()["events"]
    [reported] = [event for event in events if event["type"] == "io.penstock.reference.relearned.v1"]
    assert reported["data"]["reference"] == before["digest"]
    learn(server, SAME)
    assert show(server, SAME)["reference"]["digest"] != before["digest"]


@pytest.mark.parametrize(
    ("data", "word"), [(b"", "CSV"), (b"a,b\n1,2\n", "columns"), (b"PK\x03\x04nothing", "arrays"), (b"\xff\xff", "CSV")]
)
def test_data_that_does_not_fit_is_refused_with_a_reason(server: Server, data: bytes, word: str) -> None:
    reply = call(server.ops, "PUT", f"/admin/v1/models/m/versions/{GOOD}/reference", data)
    assert reply.status == 400, reply
    assert word in reply.error()
    assert "/" not in reply.error()


def test_what_is_not_there(server: Server) -> None:
    assert server.admin("GET", "/admin/v1/models/nobody/monitor").status == 404
    assert server.admin("GET", f"{MONITOR}?version=99").status == 404
    assert call(server.ops, "PUT", "/admin/v1/models/m/versions/99/reference", csv(100)).status == 404
    assert server.as_owner("PUT", "/admin/v1/models/m/policy", {"monitor": {"sample": 2}}).status == 400
    assert set(server.admin("GET", MONITOR).json()["versions"]) == {"1", "2", "3", "4", "5"}


@pytest.fixture
def referenced(server: Server) -> Iterator[Server]:
    """The gateway, with a reference of a version; its policy may be changed."""
    if show(server, GOOD)["reference"] is None:
        made = call(server.ops, "PUT", f"/admin/v1/models/m/versions/{GOOD}/reference", csv())
        assert made.status == 201, made
        wait_until(lambda: show(server, GOOD)["reference"] is not None, PATIENCE_S, "the reference in use")
    yield server
    set_policy(server)


def test_the_monitor_commands_print_the_state(referenced: Server, tmp_path: Path) -> None:
    server = referenced

    def run(*arguments: str) -> Any:
        return harness.run_command(*arguments, folder=tmp_path)

    (tmp_path / "train.csv").write_bytes(csv(500))
    graph = tmp_path / "model.onnx"
    zoo.save(scorer(), graph)
    made = run("profile", str(tmp_path / "train.csv"), "--model", str(graph), "-o", str(tmp_path / "ref.json"))
    assert made.returncode == 0, made.stderr
    assert "these are few rows" in made.stderr
    assert json.loads((tmp_path / "ref.json").read_text())["rows"] == 500
    wrong = run("profile", str(graph), "--model", str(graph), "-o", str(tmp_path / "no.json"))
    assert wrong.returncode == 2
    shown = run("monitor", "m", "--version", GOOD, "--url", server.ops)
    assert "training reference of 12000 rows" in shown.stdout
    assert f"m:{GOOD}  it answers no requests; version 5 answers 100 % of the requests" in shown.stdout
    assert json.loads(run("monitor", "m", "--json", "--url", server.ops).stdout)["versions"][GOOD]["features"]
    assert run("monitor", "m", "--url", server.ops).stdout.startswith("m:5  it answers all requests")
    split = {"split": {GOOD: 2500, SAME: 7500}}
    assert server.admin("PUT", "/admin/v1/models/m/route", split).status == 200
    whole = json.loads(run("monitor", "m", "--json", "--url", server.ops).stdout)
    assert (whole["version"], whole["answers"]) == (SAME, {SAME: 0.75, GOOD: 0.25})
    assert whole["reference"] == whole["versions"][SAME]["reference"]
    assert server.admin("DELETE", "/admin/v1/models/m/route").status == 200
    assert "window_seconds: 20" in run("policy", "show", "m", "--url", server.ops).stdout
    (tmp_path / "policy.yaml").write_text("monitor: {window_seconds: 30}\n")
    assert run("policy", "check", str(tmp_path / "policy.yaml")).returncode == 0
    assert run("policy", "set", "m", str(tmp_path / "policy.yaml"), "--url", server.ops).returncode == 0
    (tmp_path / "policy.yaml").write_text("monitor: {windows: 30}\n")
    assert run("policy", "check", str(tmp_path / "policy.yaml")).returncode == 2


def test_a_push_brings_its_training_data(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(csv(400))
    models(tmp_path / "models", GOOD)
    graph = tmp_path / "models" / "m" / GOOD / "model.onnx"
    push = ("models", "push", "m", str(graph), "--version", "1", "--reference", str(tmp_path / "train.csv"), "--json")
    manually = harness.run_command(*push, folder=tmp_path)
    assert manually.returncode == 0, manually.stderr
    digest = json.loads(manually.stdout)["reference"]["digest"]
    with harness.running(None, tmp_path, "--workers", "1") as running:
        wait_until(lambda: show(running, "1")["reference"] is not None, PATIENCE_S, "the reference in use")
        assert show(running, "1")["reference"]["digest"] == digest
        again = harness.run_command(*push[:4], "--version", "2", *push[6:], "--url", running.ops, folder=tmp_path)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["reference"]["rows"] == 400
        names = [f"c{index}" for index in range(FEATURES)]
        card = {"summary": "a model", "features": dict.fromkeys(names, "a number")}
        (tmp_path / "card.json").write_text(json.dumps(card))
        keywords = (*push[:4], "--version", "3", *push[6:], "--card", str(tmp_path / "card.json"), "--url", running.ops)
        third = harness.run_command(*keywords, folder=tmp_path)
        assert third.returncode == 0, third.stderr
        wait_until(lambda: show(running, "3")["reference"] is not None, PATIENCE_S, "the reference in use")
        assert [feature["name"] for feature in show(running, "3")["features"]] == names


def feedback(server: Server, *reported: dict[str, Any]) -> tuple[int, int]:
    reply = server.rest("POST", "/v2/models/m/feedback", {"feedback": list(reported)})
    assert reply.status == 202, reply
    found = reply.json()
    return found["accepted"], found["unmatched"]


def answer(server: Server, call_id: str, rows: int = 1) -> int:
    """The class of the first row of a request with this id."""
    numbers = np.random.default_rng(len(call_id)).normal(size=(rows, FEATURES))
    tensor = {"name": "x", "shape": [rows, FEATURES], "datatype": "FP32", "data": numbers.ravel().tolist()}
    path = f"/v2/models/m/versions/{GOOD}/infer"
    reply = server.rest("POST", path, {"id": call_id, "inputs": [tensor]})
    assert reply.status == 200, reply
    data = reply.json()["outputs"][0]["data"]
    return int(np.argmax(data[: len(data) // rows]))


def test_labels_outlive_every_process(tmp_path: Path) -> None:
    folder = models(tmp_path / "models", GOOD)
    first = harness.launch(folder, tmp_path, "--workers", "2")
    try:
        truth = {f"r{number}": answer(first, f"r{number}") for number in range(40)}
        reported = [{"id": item, "label": label} for item, label in truth.items()]
        assert feedback(first, *reported[:20], {"id": "nobody", "label": 1}) == (21, 1)
        assert feedback(first, reported[0]) == (1, 0)
        assert show(first, GOOD)["performance"]["outcomes"] == {"joined": 20, "doubled": 1}
        answer(first, "batch", rows=3)
        assert feedback(first, {"id": "batch", "label": [0, None, 1]}) == (1, 0)
        assert metric(first, "penstock_labels_total", version=GOOD, outcome="joined") == 22
    finally:
        first.kill()
    with harness.running(folder, tmp_path, "--workers", "1") as second:
        wrong = {"id": "r39", "label": 1 - truth["r39"], "timestamp": "2999-01-01T00:00:00Z"}
        assert feedback(second, *reported[20:39], {"id": "batch", "label": [0, 1]}, reported[0], wrong) == (22, 1)
        performance = show(second, GOOD)["performance"]
        assert performance["labels"] == 22 + 19 + 1
        assert performance["outcomes"] == {"joined": 20, "doubled": 2, "late": 1}
        assert performance["task"] == "classification"
        assert performance["windowed"]["accuracy"] > 0.9


def test_bad_feedback_is_refused(server: Server) -> None:
    for item in ({"id": "a"}, {"id": "a", "label": {}}, {"id": "a", "label": 1, "timestamp": "soon"}, {"label": 1}):
        assert server.rest("POST", "/v2/models/m/feedback", {"feedback": [item]}).status == 400


def test_requests_are_captured_where_a_policy_asks_for_it(tmp_path: Path) -> None:
    policy = {"capture": {"sample": 1.0, "mask": ["x[1]"]}}
    with harness.running(models(tmp_path / "models", GOOD), tmp_path, "--workers", "1") as running:
        answer(running, "before")
        assert running.as_owner("PUT", "/admin/v1/models/m/policy", policy).status == 200
        ids = (f"after {number}" for number in range(1000))

        def captured() -> int:
            answer(running, next(ids))
            return int(show(running, GOOD)["capture"]["captured"])

        wait_until(lambda: captured() > 1, PATIENCE_S, "the first captured requests")
        last = f"{next(ids)}"
        answer(running, last)
        assert feedback(running, {"id": last, "label": 1}) == (1, 0)
        table = tmp_path / "rows.parquet"
        done = harness.run_command("capture", f"m:{GOOD}", "-o", str(table), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = parquet.read_table(table).to_pylist()
        assert rows[-1]["id"] == last
        assert "before" not in {row["id"] for row in rows}
        assert all(len(row["x"]) == FEATURES and np.isnan(row["x"][1]) for row in rows)
        assert [row["label"] for row in rows].count(1.0) == 1
        assert metric(running, "penstock_captured_requests_total", version=GOOD) == len(rows)
        missing = harness.run_command("capture", "m:99", "-o", str(table), folder=tmp_path)
        assert missing.returncode == 3
        assert harness.run_command("capture", "m", "-o", str(table), folder=tmp_path).returncode == 2


def test_the_monitor_tests_itself(tmp_path: Path) -> None:
    done = harness.run_command("monitor", "--self-test", "--streams", "1", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert [item["holds"] for item in found] == [True] * 6
    assert harness.run_command("monitor", folder=tmp_path).returncode == 2


def test_promises_are_held_against_what_was_counted(server: Server, tmp_path: Path) -> None:
    send(server, GOOD, 40)
    before = server.admin("GET", "/admin/v1/models/m/policy").json()
    policy = {name: part for name, part in before.items() if name in ("monitor", "capture")}
    slo = {"latency_p99_ms": 0.001, "error_ratio": 0.5}
    assert server.as_owner("PUT", "/admin/v1/models/m/policy", {**policy, "slo": slo}).status == 200
    reported = show(server, GOOD)["slo"]
    assert (reported["latency_p99_ms"]["met"], reported["error_ratio"]["met"]) == (False, True)
    assert reported["error_ratio"] == {"objective": 0.5, "value": 0.0, "met": True}
    shown = harness.run_command("monitor", "m", "--version", GOOD, "--url", server.ops, folder=tmp_path)
    assert "latency_p99_ms" in shown.stdout
    assert "not met" in shown.stdout
    assert server.as_owner("PUT", "/admin/v1/models/m/policy", policy).status == 200
