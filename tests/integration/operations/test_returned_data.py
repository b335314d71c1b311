"""A real Prometheus scrapes a real gateway with a rollout, a shadow, labels and a retraining request: every panel of
every dashboard and every rule that `penstock rules` writes returns data."""

import json
import math
import re
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from penstock.telemetry.dashboards.dashboards import dashboard_files
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, call, run_command, wait_until
from tests.integration.traffic.drive import GOOD, SAME, TURNED, Asker, begin, promote_champion, scorer, set_route
from tests.integration.traffic.test_monitor import csv
from tests.integration.traffic.test_prometheus import asked, prometheus

POLICY = {
    "monitor": {"window_seconds": 20, "explained_rows_per_second": 50},
    "capture": {"sample": 1.0},
    "slo": {"error_ratio": 0.001, "latency_p99_ms": 25.6},
    "triggers": [
        {"name": "weekly", "when": {"schedule": "0 3 * * 1"}, "send": ["log"]},
        {"name": "worse", "when": {"performance": {"metric": "accuracy", "below": 0.01}}, "send": ["log"]},
        {"name": "broken", "when": {"quality": {"missing_ratio_above": 0.5}}, "send": ["log"]},
    ],
    "sinks": {"log": {"file": {"path": "sinks/events.jsonl"}}},
}

RARE = {
    "PenstockLoadsFail",
    "PenstockLabelsLost",
    "PenstockMonitorEventsDropped",
    "PenstockDeliveriesGivenUp",
    "PenstockCertificateExpires",
}
"""Alerts on series that begin with the event itself, or that only gateways with certificates have."""

RARE_PANELS = {
    "Refused by quotas": "callers with quotas",
    "Certificates": "certificates",
    "Renewed certificates": "certificates",
    "Spans and pushed metrics": "an OTLP receiver",
    "Requests without their trace": "an OTLP receiver",
    "Answers that labels cannot be joined to": "answers that were dropped",
    "Losses A": "events that were dropped",
}
"""Panels, or one query of a panel, whose series only gateways with something else have."""

_COMPARISON = re.compile(r" (?:==|!=|>=?|<=?) [\d.]+(?: \* [\d.]+)?")


EXPLAINED = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateway")
    zoo.place(folder / "models", "m", {GOOD: scorer(), SAME: scorer(), TURNED: scorer(sign=-1.0)})
    zoo.place(folder / "models", "other", {GOOD: scorer()})
    with harness.running(folder / "models", folder, "--workers", "2") as server:
        assert call(server.ops, "PUT", f"/admin/v1/models/m/versions/{GOOD}/reference", csv()).status == 201
        assert server.as_owner("PUT", "/admin/v1/models/m/policy", POLICY).status == 200
        promote_champion(server, GOOD)
        set_route(server, split={GOOD: 10_000}, shadow=[{"version": TURNED, "percent": 100}])
        begin(server, to=SAME, steps=[3000], min_step_seconds=3600)
        assert server.admin("POST", "/admin/v1/models/m/retrain", {"reason": "a test"}).status in (200, 201, 202)
        yield server


@contextmanager
def labelled_traffic(server: Server) -> Iterator[None]:
    """A caller that asks, and says what was right."""
    over = threading.Event()

    def work() -> None:
        asker = Asker(server)
        while not over.wait(0.01):
            asker.ask()
            if len(asker.ids) == 20:
                asker.ask({"penstock-source": "batch"})
                server.rest("POST", f"/v2/models/m/versions/{GOOD}/explain", EXPLAINED)
                labels = [{"id": request, "label": number % 3} for number, (request, _) in enumerate(asker.ids)]
                server.rest("POST", "/v2/models/m/feedback", {"feedback": labels})
                asker.ids.clear()
        asker.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def rules(gateway: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for all models."""
    folder = tmp_path_factory.mktemp("rules")
    done = run_command("rules", "--all", "-o", str(folder / "all.yml"), "--url", gateway.ops, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "all.yml"


@pytest.fixture(scope="module")
def address(gateway: Server, rules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, [gateway], rules) as address, labelled_traffic(gateway):
        wait_until(lambda: bool(asked(address, "penstock_leader")), PATIENCE_S, "the first scrape")
        yield address


def has_data(address: str, query: str) -> bool:
    """Whether a query returns a number."""
    reply = call(address, "GET", "/api/v1/query?" + urllib.parse.urlencode({"query": query}))
    document: dict[str, Any] = reply.json()
    assert document["status"] == "success", f"{document['error']}: {query}"
    return any(not math.isnan(float(item["value"][1])) for item in document["data"]["result"])


def wait_for_data(address: str, queries: dict[str, str]) -> None:
    missing = dict(queries)

    def are_there() -> bool:
        for name, query in list(missing.items()):
            if has_data(address, query):
                del missing[name]
        return not missing

    wait_until(are_there, PATIENCE_S, lambda: json.dumps(missing, indent=1))


def test_every_panel_returns_data(address: str) -> None:
    queries, seen = {}, set[str]()
    for file, text in dashboard_files("http://127.0.0.1:8002").items():
        for panel in json.loads(text)["panels"]:
            for target in panel.get("targets", ()):
                titles = {panel["title"], f"{panel['title']} {target['refId']}"}
                seen |= titles
                if titles & RARE_PANELS.keys():
                    continue
                expression = target["expr"].replace("$__rate_interval", "1m")
                queries[f"{file}: {panel['title']} {target['refId']}"] = re.sub(r'=~?"\$\w+"', '=~".+"', expression)
    assert len(queries) > 70
    assert seen >= RARE_PANELS.keys()
    wait_for_data(address, queries)


def test_every_rule_returns_data(address: str, rules: Path) -> None:
    queries = {}
    for group in yaml.safe_load(rules.read_text())["groups"]:
        for number, rule in enumerate(group["rules"]):
            name = f"{group['name']} {number}: {rule.get('record', rule.get('alert'))}"
            if "record" in rule:
                labels = ",".join(f'{label}="{value}"' for label, value in rule.get("labels", {}).items())
                queries[name] = f"{rule['record']}{{{labels}}}"
            elif rule["alert"] not in RARE:
                queries[name] = _COMPARISON.sub("", rule["expr"])  # whether or not it fires
    assert sum("slo" in name for name in queries) > 20
    wait_for_data(address, queries)


def test_no_rule_fails(address: str) -> None:
    groups = call(address, "GET", "/api/v1/rules").json()["data"]["groups"]
    failed = [(rule["name"], rule["lastError"]) for group in groups for rule in group["rules"] if rule.get("lastError")]
    assert failed == []


OPERATE = {
    "event_loop_stall_seconds": {"worker"},
    "memory_budget_bytes": {"worker"},
    "memory_used_bytes": {"worker"},
    "task_last_success_seconds": {"task"},
    "task_failures": {"task"},
    "leader": set(),
    "lease_term": set(),
    "joint_run_mismatches": {"model", "version"},
    "auth_refused": {"reason"},
    "auth_would_refuse": {"reason"},
    "insecure": set(),
}
"""Metrics of operation that every gateway exposes, with their labels; quota_refused_total needs callers with quotas."""


def test_metrics_of_operation_are_exposed(address: str, gateway: Server) -> None:
    text = gateway.admin("GET", "/metrics").body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, labels in OPERATE.items():
        found = families[f"penstock_{name}"].samples
        assert {label for sample in found for label in sample.labels} - {"le"} == labels, name
    value = {name: families[f"penstock_{name}"].samples[0].value for name in OPERATE}
    assert (value["leader"], value["insecure"]) == (1, 0)
    assert value["lease_term"] >= 1
    assert 0 <= value["memory_used_bytes"] < value["memory_budget_bytes"]
    workers = {sample.labels["worker"] for sample in families["penstock_memory_budget_bytes"].samples}
    assert workers == {"0", "1"}


def test_a_limit_between_edges_is_refused_or_rounded(gateway: Server, tmp_path: Path) -> None:
    def write(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command("rules", *arguments, "--url", gateway.ops, folder=tmp_path)

    none = write("other")
    assert (none.returncode, none.stdout) == (4, "")
    assert "the policy of model 'other' has no 'slo'" in none.stderr
    assert write("missing").returncode == 3
    policy = {"slo": {"latency_p99_ms": 20}}
    assert gateway.as_owner("PUT", "/admin/v1/models/other/policy", policy).status == 200
    refused = write("other")
    assert refused.returncode == 4
    assert "other: 'slo.latency_p99_ms' is 20" in refused.stderr
    assert "the nearest are 18.1 and 25.6 ms" in refused.stderr
    assert write("--all").returncode == 4
    rounded = write("other", "--round-latency")
    assert rounded.returncode == 0
    assert 'le="0.018101934"' in rounded.stdout
    assert 'model="m"' not in rounded.stdout


def test_promtool_finds_no_fault_in_the_metrics(address: str, gateway: Server) -> None:
    text = gateway.admin("GET", "/metrics").body
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
