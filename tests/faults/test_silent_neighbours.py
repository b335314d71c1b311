"""A gateway whose MLflow, Prometheus and webhook say nothing: all else goes on, and each is named, until it answers."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests import harness
from tests.commands import DEADLINE_FACTOR
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic import test_step_gates as gates
from tests.integration.traffic.drive import SAME, ask_many, begin, scorer, serve, traffic, until
from tests.relay import Relay, relaying

NEIGHBOURS = ("mlflow", "prometheus", "hook")
READS = ("/livez", "/readyz", "/metrics", "/admin/v1/models", "/admin/v1/events", "/admin/v1/fleet")


@contextmanager
def silent(*relays: Relay) -> Iterator[None]:
    with ExitStack() as stack:
        for relay in relays:
            stack.enter_context(relay.silent())
        yield


def failures(server: Server) -> float:
    return metric(server, "penstock_task_failures_total", task="mlflow")


def looked_at_mlflow(server: Server) -> float:
    return metric(server, "penstock_task_last_success_seconds", task="mlflow")


def policy(hook: Relay) -> dict[str, Any]:
    """A rule that always asks, by a webhook and a file."""
    return {
        "triggers": [{"name": "always", "when": {"age": {"days": 0}}, "send": ["hook", "log"]}],
        "sinks": {
            "hook": {"webhook": {"url": f"http://127.0.0.1:{hook.port}/gate"}},
            "log": {"file": {"path": "events.jsonl"}},
        },
    }


def asked(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def errors_of(server: Server) -> dict[str, str]:
    """Why sinks do not have an event."""
    reported = server.admin("GET", "/admin/v1/models/m/outbox").json()["deliveries"]
    return {item["sink"]: item["error"] for item in reported if item["error"]}


def test_silent_services_hold_up_only_what_needs_them(tmp_path: Path) -> None:
    with gates.outside() as others, ExitStack() as stack:
        others.status, others.value = 200, "0.1"
        mlflow, prometheus, hook = (stack.enter_context(relaying(others.server_port)) for _ in NEIGHBOURS)
        env = {
            "PENSTOCK_PROMETHEUS__URL": f"http://127.0.0.1:{prometheus.port}",
            "PENSTOCK_MLFLOW__URL": f"http://127.0.0.1:{mlflow.port}",
            "PENSTOCK_MLFLOW__POLL_SECONDS": "0.5",
            DEADLINE_FACTOR: "1",
        }
        server = stack.enter_context(harness.running(None, tmp_path, "--workers", "1", env=env))
        serve([server], SAME, scorer())
        before = looked_at_mlflow(server)
        wait_until(lambda: looked_at_mlflow(server) > before, PATIENCE_S, "a look at MLflow")
        failed = failures(server)
        with silent(mlflow, prometheus, hook):
            assert server.as_owner("PUT", "/admin/v1/models/m/policy", policy(hook)).status == 200
            query = {"query": gates.QUERY, "operator": "<", "limit": 0.5}
            steps = [{"weight": 5000, "query": query}, 10_000]
            trial = begin(server, to=SAME, steps=steps)
            with traffic(server, threads=1, pause=0.05) as [asker]:
                wait_until(lambda: asked(tmp_path / "home" / "events.jsonl") == 1, PATIENCE_S, "the rule asks")
                waiting = gates.waits(server, trial, "Prometheus")
                wait_until(lambda: "hook" in errors_of(server), PATIENCE_S, "the webhook is given up for now")
                wait_until(lambda: failures(server) > failed, PATIENCE_S, "the look at MLflow is given up for now")
                for path in READS:
                    assert server.admin("GET", path).status == 200, path
            assert {status for _, _, status in asker.seen} == {200}
            assert (waiting["state"], waiting["step"]) == ("running", 0)
            assert "does not answer" in errors_of(server)["hook"]
            assert "MLflow is not mirrored" in server.log_text()
            assert not others.events
            delayed = looked_at_mlflow(server)
        with traffic(server, threads=1):
            until(server, trial, "promoted")
        wait_until(lambda: bool(others.events), PATIENCE_S, "the event at the webhook")
        wait_until(lambda: looked_at_mlflow(server) > delayed, PATIENCE_S, "MLflow is mirrored again")
        [line] = (tmp_path / "home" / "events.jsonl").read_text().splitlines()
        assert {event["id"] for event, _ in others.events} == {json.loads(line)["id"]}
        assert {(version, status) for version, _, status in ask_many(server, 20)} == {(SAME, 200)}
