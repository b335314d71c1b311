"""A real Alertmanager with the configuration in ``deploy``: who receives an alert, and which alerts mute others."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PATIENCE_S, call, wait_until
from tests.integration.traffic.test_real_sinks import process, reachable
from tests.ports import free_port

CONFIG = Path(__file__).parents[3] / "deploy" / "prometheus" / "alertmanager.yml"


@pytest.mark.parametrize(("severity", "receiver"), [("page", "pager"), ("ticket", "tickets")])
def test_pages_and_tickets_go_to_different_people(severity: str, receiver: str) -> None:
    command = ["amtool", "config", "routes", "test", f"--config.file={CONFIG}", f"severity={severity}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == receiver, done.stderr


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, address = tmp_path_factory.mktemp("alertmanager"), f"127.0.0.1:{free_port()}"
    options = (f"--web.listen-address={address}", "--cluster.listen-address=", f"--storage.path={folder / 'data'}")
    with process(folder, "prometheus-alertmanager", f"--config.file={CONFIG}", *options):
        wait_until(lambda: reachable(address, "/-/ready"), PATIENCE_S, "Alertmanager")
        yield address


def alert(name: str, severity: str, **labels: str) -> dict[str, Any]:
    return {"labels": {"alertname": name, "severity": severity, "job": "penstock", **labels}}


IRIS = {"model": "iris", "version": "1"}
SOURCES = [
    alert("PenstockDataQuality", "ticket", **IRIS, feature="f0", kind="missing"),
    alert("PenstockErrorBudgetBurn", "page", model="iris", slo="errors"),
    alert("PenstockLatencyBudgetBurn", "page", model="iris", slo="latency"),
    alert("PenstockDown", "page"),
]
MUTED = [
    alert("PenstockDrift", "ticket", **IRIS, feature="f1"),
    alert("PenstockErrorBudgetBurn", "ticket", model="iris", slo="errors"),
    alert("PenstockErrors", "ticket", model="iris"),
    alert("PenstockLatencyBudgetBurn", "ticket", model="iris", slo="latency"),
    alert("PenstockGatewayDown", "ticket", instance="g1"),
]
UNMUTED = [
    alert("PenstockDrift", "ticket", model="other", version="1", feature="f1"),
    alert("PenstockDrift", "ticket", model="iris", version="2", feature="f1"),
    alert("PenstockErrors", "ticket", model="other"),
    alert("PenstockTaskOverdue", "ticket", instance="g1"),
]


def test_drift_is_muted_while_quality_is_broken_and_no_cause_is_sent_twice(address: str) -> None:
    posted = json.dumps([*SOURCES, *MUTED, *UNMUTED]).encode()
    headers = {"content-type": "application/json"}
    assert call(address, "POST", "/api/v2/alerts", posted, headers).status == 200

    def found(inhibited: str) -> list[str]:
        path = f"/api/v2/alerts?inhibited={inhibited}&active={'false' if inhibited == 'true' else 'true'}"
        items = call(address, "GET", path).json()
        return sorted(json.dumps(item["labels"], sort_keys=True) for item in items)

    def expected(alerts: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(item["labels"], sort_keys=True) for item in alerts)

    wait_until(
        lambda: found("true") == expected(MUTED) and found("false") == expected([*SOURCES, *UNMUTED]),
        PATIENCE_S,
        lambda: f"muted: {found('true')}; others: {found('false')}",
    )
