"""Retraining through the whole server: rules, an outbox that outlives it, and sinks of every kind that take events."""

import hashlib
import hmac
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import harness
from tests.harness import PATIENCE_S, Server, call, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic.drive import (
    ERRORS,
    FEATURES,
    GOOD,
    SAME,
    TURNED,
    champion,
    models,
    promote_champion,
    traffic,
)
from tests.integration.traffic.test_monitor import csv, send, show

SECRET = b"not for everybody, but one"


class Receiver:
    """A server that takes what it is sent; ``answers`` are the next statuses and headers, 200 after them."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:  # its sender has ended meanwhile
                    self.close_connection = True
                    return
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                if status == 200:
                    receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(status)
                for name, value in {**headers, "content-length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join(PATIENCE_S)


def set_policy(server: Server, **policy: Any) -> None:
    reply = server.as_owner("PUT", "/admin/v1/models/m/policy", policy)
    assert reply.status == 200, reply


def give_reference(server: Server) -> None:
    made = call(server.ops, "PUT", f"/admin/v1/models/m/versions/{GOOD}/reference", csv())
    assert made.status == 201, made
    promote_champion(server, GOOD)
    wait_until(lambda: show(server, GOOD)["reference"] is not None, PATIENCE_S, "the reference")


def test_a_drift_asks_for_retraining_and_every_sink_receives_the_event(tmp_path: Path) -> None:
    train = tmp_path / "train.py"
    train.write_text(
        "import json, os, shutil, sys\n"
        "event = json.load(sys.stdin)\n"
        "assert event == json.load(open(os.environ['PENSTOCK_EVENT']))\n"
        f"json.dump(event, open({str(tmp_path / 'trained.json')!r}, 'w'))\n"
        f"shutil.copy(os.environ['PENSTOCK_ROWS'], {str(tmp_path / 'rows.parquet')!r})\n"
        "print('trained')\n"
    )
    with receiving() as hook, harness.running(models(tmp_path / "models", GOOD), tmp_path, "--workers", "2") as server:
        home = tmp_path / "home"
        harness.write_secret(home / "hook.key", SECRET + b"\n")
        give_reference(server)
        hook.answers = [(503, {"retry-after": "1"}), (500, {})]
        set_policy(
            server,
            monitor={"window_seconds": 20},
            capture={"sample": 0.2},
            triggers=[
                {
                    "name": "drifted",
                    "when": {"drift": {"scope": "features"}},
                    "for_seconds": 1,
                    "send": ["hook", "log"],
                },
                {"name": "learn", "when": {"drift": {}}, "send": ["train"], "dry_run": True},
            ],
            sinks={
                "hook": {"webhook": {"url": f"{hook.url}/retrain", "secret_file": "hook.key"}},
                "log": {"file": {"path": "events.jsonl"}},
                "train": {"command": {"argv": [sys.executable, str(train)], "timeout_seconds": 30}},
            },
        )
        send(server, GOOD, 1200, shift=1.5)
        wait_until(lambda: bool(hook.got), PATIENCE_S, "the webhook")
        path, headers, body = hook.got[0]
        event = json.loads(body)
        assert path == "/retrain"
        assert headers["content-type"].startswith("application/cloudevents+json")
        assert headers["penstock-signature"] == f"sha256={hmac.new(SECRET, body, hashlib.sha256).hexdigest()}"
        assert (event["specversion"], event["type"]) == ("1.0", "io.penstock.retraining.requested.v1")
        assert event["subject"] == f"models/m/versions/{GOOD}"
        assert event["data"]["rule"] == "drifted"
        [condition] = event["data"]["conditions"]
        assert condition["features"][0]["name"] == "f0"
        assert condition["rows_between_false_alarms"] == 100_000
        log = home / "events.jsonl"
        wait_until(log.exists, PATIENCE_S, "the file")
        assert [json.loads(line)["id"] for line in log.read_text().splitlines()] == [event["id"]]
        reported = server.admin("GET", "/admin/v1/events?model=m").json()["events"]
        assert event["id"] in {item["id"] for item in reported}
        assert metric(server, "penstock_retraining_requests_total", rule="drifted", outcome="requested") == 1
        wait_until(lambda: metric(server, "penstock_outbox_pending", model="m") == 0, PATIENCE_S, "an empty outbox")

        asked = harness.run_command(
            "retrain", "m", "--reason", "because", "--url", server.ops, "--json", folder=tmp_path
        )
        assert asked.returncode == 0, asked.stderr
        manually = json.loads(asked.stdout)
        assert set(manually["sinks"]) == {"hook", "log", "train"}
        wait_until((tmp_path / "rows.parquet").exists, PATIENCE_S, "the command's work")
        wait_until((tmp_path / "trained.json").exists, PATIENCE_S, "the command's work")
        trained = json.loads((tmp_path / "trained.json").read_text())
        assert (trained["id"], trained["data"]["reason"]) == (manually["event"], "because")
        wait_until(lambda: len(hook.got) == 2, PATIENCE_S, "the second event")
        deliveries = server.admin("GET", "/admin/v1/models/m/outbox").json()["deliveries"]
        wait_until(
            lambda: (
                {
                    delivery["state"]
                    for delivery in server.admin("GET", "/admin/v1/models/m/outbox").json()["deliveries"]
                }
                == {"sent"}
            ),
            PATIENCE_S,
            "everything sent",
        )
        assert {delivery["sink"] for delivery in deliveries} == {"hook", "log", "train"}
        audit = server.admin("GET", "/admin/v1/audit?model=m").json()["entries"]
        assert sum(entry["action"] == "retraining.request" for entry in audit) == 2


def test_what_was_decided_is_delivered_after_a_crash(tmp_path: Path) -> None:
    folder = models(tmp_path / "models", GOOD)
    with receiving() as hook:
        policy = {
            "triggers": [{"name": "often", "when": {"age": {"days": 0}}, "send": ["hook"]}],
            "sinks": {"hook": {"webhook": {"url": hook.url, "mode": "binary"}}},
        }
        hook.answers = [(500, {})] * 2
        first = harness.launch(folder, tmp_path, "--workers", "1")
        try:
            set_policy(first, **policy)
            wait_until(lambda: len(hook.answers) < 2, PATIENCE_S, "a first attempt")
        finally:
            first.kill()
        with harness.running(folder, tmp_path, "--workers", "1") as second:
            wait_until(lambda: states(second) == ["sent"], PATIENCE_S, "the delivery")
            ids = [headers["ce-id"] for _, headers, _ in hook.got]
            assert len(set(ids)) == 1
            headers = hook.got[0][1]
            assert headers["ce-type"] == "io.penstock.retraining.requested.v1"
            assert headers["content-type"] == "application/json"
            assert json.loads(hook.got[0][2])["rule"] == "often"


def training(folder: Path, *lines: str) -> dict[str, Any]:
    """Sinks with a command that counts its runs."""
    script = folder / "train.py"
    script.write_text("\n".join((f"open({str(folder / 'runs')!r}, 'a').write('x')", *lines)))
    return {"train": {"command": {"argv": [sys.executable, str(script)]}}}


def under_way(server: Server) -> Any:
    return server.admin("GET", "/admin/v1/models/m/candidates").json()["in_flight"]


def states(server: Server) -> list[str]:
    return [delivery["state"] for delivery in server.admin("GET", "/admin/v1/models/m/outbox").json()["deliveries"]]


def test_a_failed_training_is_run_once_reported_and_ends_its_request(tmp_path: Path) -> None:
    with harness.running(models(tmp_path / "models", GOOD), tmp_path, "--workers", "2") as server:
        set_policy(server, sinks=training(tmp_path, "print('no rows')", "raise SystemExit(3)"))
        assert server.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
        wait_until(lambda: states(server) == ["dead"], PATIENCE_S, "the end of the training")
        shown = harness.run_command("retrain", "m", "--deliveries", "--url", server.ops, folder=tmp_path)
        assert "the command ended with 3" in shown.stdout
        assert "no rows" in shown.stdout
        events = server.admin("GET", "/admin/v1/events?model=m").json()["events"]
        [reported] = [event["data"] for event in events if event["type"] == "io.penstock.delivery.failed.v1"]
        assert (reported["sink"], reported["output"]) == ("train", ["no rows"])
        assert under_way(server) is None
        training(tmp_path)
        assert server.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
        wait_until(lambda: states(server) == ["sent", "dead"], PATIENCE_S, "the end of the next training")
        asked = under_way(server)
        assert asked is not None
        server.kill_worker()
        assert under_way(server) == asked
        assert (tmp_path / "runs").read_text() == "xx"


def test_a_training_that_ended_with_its_gateway_is_not_run_by_the_next(tmp_path: Path) -> None:
    folder, runs = models(tmp_path / "models", GOOD), tmp_path / "runs"
    first = harness.launch(folder, tmp_path, "--workers", "1")
    try:
        set_policy(first, sinks=training(tmp_path, "import time", "time.sleep(5)"))
        assert first.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
        wait_until(lambda: runs.exists() and runs.read_text() == "x", PATIENCE_S, "the training")
    finally:
        first.kill()
    with harness.running(folder, tmp_path, "--workers", "1") as second:
        wait_until(lambda: states(second) == ["dead"], PATIENCE_S, "the word of it")
        shown = harness.run_command("retrain", "m", "--deliveries", "--url", second.ops, folder=tmp_path)
        assert "it is not run again automatically" in shown.stdout
        assert runs.read_text() == "x"


def test_what_a_sink_refuses_for_good_can_be_replayed(plain: Server, tmp_path: Path) -> None:
    server = plain
    with receiving() as hook:
        hook.answers = [(410, {})]
        set_policy(server, sinks={"hook": {"webhook": {"url": hook.url}}})
        assert server.admin("POST", "/admin/v1/models/m/outbox/replay", {}).status == 404
        assert server.admin("POST", "/admin/v1/models/m/retrain", {"version": SAME}).status == 201

        def state() -> list[str]:
            found = server.admin("GET", "/admin/v1/models/m/outbox").json()["deliveries"]
            return [item["state"] for item in found]

        wait_until(lambda: state() == ["dead"], PATIENCE_S, "the dead letter")
        shown = harness.run_command("retrain", "m", "--deliveries", "--url", server.ops, folder=tmp_path)
        assert "it answered 410" in shown.stdout
        assert harness.run_command("retrain", "m", "--replay", "--url", server.ops, folder=tmp_path).returncode == 0
        wait_until(lambda: state() == ["sent"], PATIENCE_S, "the replay")
        assert [event["subject"] for event in hook.events()] == [f"models/m/versions/{SAME}"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/admin/v1/models/nobody/retrain", {}, 404),
        ("/admin/v1/models/m/retrain", {"version": "99"}, 404),
        ("/admin/v1/models/m/retrain", {"when": "now"}, 400),
        ("/admin/v1/models/nobody/outbox/replay", {}, 404),
    ],
)
def test_what_cannot_be_asked(plain: Server, path: str, body: dict[str, Any], status: int) -> None:
    assert plain.admin("POST", path, body).status == status


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    workspace = tmp_path_factory.mktemp("retraining")
    with harness.running(models(workspace / "models", GOOD, SAME), workspace, "--workers", "1") as running:
        yield running


def test_the_loop_closes_by_itself(tmp_path: Path) -> None:
    """A drift, a command that trains and pushes, a rollout, and another version that answers: nobody was asked."""
    graphs = models(tmp_path / "models")
    first, second = (graphs / "m" / version / "model.onnx" for version in (GOOD, SAME))
    train = tmp_path / "train.py"
    train.write_text(
        "import json, os, subprocess, sys\n"
        "event = json.load(sys.stdin)\n"
        "assert os.path.getsize(os.environ['PENSTOCK_ROWS'])\n"
        "push = ['models', 'push', event['data']['model'], sys.argv[1], '--version', '2']\n"
        "subprocess.run([sys.executable, '-m', 'penstock', *push], check=True)\n"
    )
    (tmp_path / "train.csv").write_bytes(csv())
    push = ("models", "push", "m", str(first), "--version", "1", "--reference", str(tmp_path / "train.csv"))
    assert harness.run_command(*push, folder=tmp_path).returncode == 0
    with harness.running(None, tmp_path, "--workers", "1") as server:
        promote_champion(server, "1")
        wait_until(lambda: show(server, "1")["reference"] is not None, PATIENCE_S, "the reference")
        set_policy(
            server,
            capture={"sample": 0.5},
            triggers=[{"name": "drifted", "when": {"drift": {}}, "send": ["train"]}],
            retraining={"auto_rollout": {"steps": [5000, 10_000], "min_step_seconds": 1, "guards": [ERRORS]}},
            sinks={"train": {"command": {"argv": [sys.executable, str(train), str(second)], "timeout_seconds": 60}}},
        )
        send(server, "1", 1200, shift=1.5)
        rollouts = "/admin/v1/models/m/rollouts"
        wait_until(lambda: bool(server.admin("GET", rollouts).json()["rollouts"]), PATIENCE_S, "a rollout")
        [begun] = server.admin("GET", rollouts).json()["rollouts"]
        assert (begun["to"], begun["created_by"]) == ("2", "rules")
        with traffic(server, threads=1):
            wait_until(lambda: champion(server) == "2", PATIENCE_S, "the promotion")
        reported = [event["type"] for event in server.admin("GET", "/admin/v1/events?model=m").json()["events"]]
        wanted = ["drift.detected.v1", "retraining.requested.v1", "rollout.finished.v1"]
        places = [reported.index(f"io.penstock.{item}") for item in wanted]
        assert places == sorted(places)


def answer_and_label(server: Server, rows: int) -> None:
    """Rows that the version in charge answers, each told to be right."""
    generator = np.random.default_rng(8)
    reported = []
    for number in range(rows // 20):
        data = generator.normal(size=(20, FEATURES))
        tensor = {"name": "x", "shape": [20, FEATURES], "datatype": "FP32", "data": data.ravel().tolist()}
        reply = server.rest("POST", "/v2/models/m/infer", {"id": f"r{number}", "inputs": [tensor]})
        [scores] = [output["data"] for output in reply.json()["outputs"] if output["name"] == "y"]
        labels = np.array(scores).reshape(20, 3).argmax(axis=1).tolist()
        reported.append({"id": f"r{number}", "label": labels})
    path = "/v2/models/m/feedback"
    wait_until(
        lambda: server.rest("POST", path, {"feedback": reported}).json().get("unmatched") == 0,
        PATIENCE_S,
        "the labels to be joined",
    )


def test_a_candidate_is_examined_on_held_out_rows_and_waits_for_a_person(tmp_path: Path) -> None:
    graphs = models(tmp_path / "models")

    def push(version: str, graph: str) -> None:
        file = str(graphs / "m" / graph / "model.onnx")
        done = harness.run_command("models", "push", "m", file, "--version", version, folder=tmp_path)
        assert done.returncode == 0, done.stderr

    def candidates() -> dict[str, Any]:
        found = server.admin("GET", "/admin/v1/models/m/candidates").json()
        return {candidate["version"]: candidate for candidate in found["candidates"]}

    push("1", GOOD)
    with harness.running(None, tmp_path, "--workers", "1") as server:
        promote_champion(server, "1")
        exam = {
            "metric": "accuracy",
            "min_rows": 60,
            "share": 0.4,
            "slices": {"columns": ["x[0]"], "floor": 0.5},
            "noise": {"sd": 0.01, "fall_by": 0.1},
        }
        set_policy(
            server,
            capture={"sample": 1.0},
            retraining={
                "gates": {"held_out": exam},
                "approval": True,
                "auto_rollout": {"steps": [5000, 10_000], "min_step_seconds": 1, "guards": [ERRORS]},
            },
        )
        path = "/admin/v1/models/m/candidates"
        assert server.admin("POST", f"{path}/1/approve", {}).status == 409  # nothing is under way
        assert server.admin("POST", f"{path}/99/approve", {}).status == 404
        assert server.admin("POST", "/admin/v1/models/m/retrain", {"reason": "try"}).status == 201
        push("2", TURNED)

        def waits_for_labels() -> bool:  # at first the candidate waits until it is served
            found = candidates().get("2", {})
            return found.get("state") == "waiting" and "60 are asked" in found["reasons"][0]

        wait_until(waits_for_labels, PATIENCE_S, "an exam without labels")
        answer_and_label(server, 400)
        wait_until(lambda: candidates()["2"]["state"] == "refused", PATIENCE_S, "the exam")
        refused = candidates()["2"]
        assert refused["exam"]["whole"]["candidate"] < refused["exam"]["whole"]["champion"] == 1.0
        assert refused["exam"]["whole"]["rows"] >= 60
        assert any("a margin of 0 is required" in reason for reason in refused["reasons"])
        push("3", SAME)
        wait_until(
            lambda: candidates().get("3", {}).get("state") == "waits_for_approval", PATIENCE_S, "the second exam"
        )
        assert (refused["exam"]["tries"], candidates()["3"]["exam"]["tries"]) == (1, 2)
        assert candidates()["3"]["exam"]["same"]
        assert -1 <= refused["exam"]["advantage"]["lower"] <= refused["exam"]["advantage"]["estimate"] < 0
        assert not server.admin("GET", "/admin/v1/models/m/rollouts").json()["rollouts"]
        done = harness.run_command(
            "retrain", "m", "--approve", "3", "--reason", "looks well", "--url", server.ops, folder=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert "passed" in done.stdout
        with traffic(server, threads=1):
            wait_until(lambda: champion(server) == "3", PATIENCE_S, "the promotion")
        reported = [event["type"].removeprefix("io.penstock.") for event in events(server)]
        assert [item for item in reported if item.startswith("candidate.")] == [
            "candidate.refused.v1",
            "candidate.passed.v1",
            "candidate.approved.v1",
        ]
        audit = server.admin("GET", "/admin/v1/audit?model=m").json()["entries"]
        [entry] = [entry for entry in audit if entry["action"] == "candidate.approve"]
        assert entry["reason"] == "looks well"


def events(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.admin("GET", "/admin/v1/events?model=m").json()["events"]
    return found
