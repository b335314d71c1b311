"""A real Prometheus over two gateways: from their sums the rules compute what one gateway with all the rows says."""

import json
import math
import re
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from tests import harness
from tests.harness import PATIENCE_S, Server, call, wait_until
from tests.integration.traffic.drive import FEATURES, GOOD, models
from tests.integration.traffic.test_monitor import csv
from tests.ports import free_port

RULES = Path(__file__).parents[3] / "deploy" / "prometheus"


@contextmanager
def prometheus(
    folder: Path,
    servers: list[Server],
    rules_file: Path = RULES / "penstock.rules.yml",
    options: tuple[str, ...] = (),
) -> Iterator[str]:
    """The Debian package's, with rules at a pace for tests."""
    rules = folder / "rules.yml"
    rules.write_text(re.sub(r"(?<=^  interval: )\w+$", "1s", rules_file.read_text(), flags=re.MULTILINE))
    config, port = folder / "prometheus.yml", free_port()
    targets = ", ".join(f"'{server.ops}'" for server in servers)
    config.write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{rules}']\n"
        f"scrape_configs: [{{job_name: penstock, static_configs: [{{targets: [{targets}]}}]}}]\n"
    )
    address = f"127.0.0.1:{port}"
    command = ["prometheus", *options, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=log)
    try:
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def asked(address: str, query: str) -> dict[tuple[str, ...], float]:
    """What a query gives, by model, version and feature or output."""
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        answer = call(address, "GET", path)
    except OSError:
        return {}
    if answer.status != 200:
        return {}
    found: dict[tuple[str, ...], float] = {}
    for item in answer.json()["data"]["result"]:
        labels = item["metric"]
        name = labels.get("feature", labels.get("output", ""))
        found[labels.get("model", ""), labels.get("version", ""), name] = float(item["value"][1])
    return found


def send(server: Server, numbers: Any) -> None:
    connection = HTTPConnection(server.http, timeout=PATIENCE_S)
    for start in range(0, len(numbers), 50):
        part = numbers[start : start + 50]
        tensor = {"name": "x", "shape": list(part.shape), "datatype": "FP32", "data": part.ravel().tolist()}
        connection.request("POST", f"/v2/models/m/versions/{GOOD}/infer", json.dumps({"inputs": [tensor]}))
        assert connection.getresponse().read()
    connection.close()


def watched(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.admin("GET", f"/admin/v1/models/m/monitor?version={GOOD}").json()
    return found


RULE_TOLERANCES = {"psi": 1e-6, "hellinger": 2e-6, "ks": 0.01}
"""The gateway's KS distance is smoothed."""


def differences(address: str, document: dict[str, Any]) -> dict[tuple[str, str], float]:
    """How far each distance that the rules compute lies from the gateway's, over what it may; no answer is infinity."""
    found: dict[tuple[str, str], float] = {}
    for kind in ("feature", "output"):
        for measure, tolerance in RULE_TOLERANCES.items():
            numbers = asked(address, f"penstock:{kind}:{measure}5m")
            for item in document[f"{kind}s"]:
                reported = numbers.get(("m", GOOD, item["name"]), math.inf)
                found[measure, item["name"]] = abs(reported - item[measure]) / tolerance
    return found


def computes(address: str, document: dict[str, Any]) -> bool:
    """Whether every rule has run over all rows, and says what the gateway says."""
    moved = asked(address, "penstock:feature:tvd5m") | asked(address, "penstock:output:tvd5m")
    return max(differences(address, document).values()) <= 1 and all(0 < item < 1 for item in moved.values())


def test_the_rules_compute_of_two_gateways_what_one_says(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    first, second = generator.normal(size=(1500, FEATURES)), generator.normal(0.4, 1.3, size=(900, FEATURES))
    with ExitStack() as stack:
        servers = []
        for number in range(3):
            workspace = tmp_path / str(number)
            workspace.mkdir()
            one = stack.enter_context(harness.running(models(workspace / "models", GOOD), workspace, "--workers", "1"))
            made = call(one.ops, "PUT", f"/admin/v1/models/m/versions/{GOOD}/reference", csv())
            assert made.status == 201, made
            servers.append(one)
        wait_until(lambda: all(watched(server)["reference"] for server in servers), PATIENCE_S, "the references")
        address = stack.enter_context(prometheus(tmp_path, servers[:2]))
        wait_until(lambda: bool(asked(address, "penstock:feature:rows5m")), PATIENCE_S, "the first scrape")
        send(servers[0], first)
        send(servers[1], second)
        send(servers[2], np.concatenate([first, second]))
        wait_until(lambda: watched(servers[2])["rows"]["counted"] == 2400, PATIENCE_S, "all rows")
        rows = "penstock:feature:rows5m"
        wait_until(lambda: asked(address, rows).get(("m", GOOD, "f0")) == 2400, PATIENCE_S, "all rows in Prometheus")
        document = watched(servers[2])
        wait_until(lambda: computes(address, document), PATIENCE_S, lambda: f"{differences(address, document)}")
        send(servers[0], first[:100])  # a rate needs a counter that was there before

        def p99() -> float:
            return asked(address, "penstock:request_duration_seconds:p99_5m").get(("m", GOOD, ""), 0.0)

        wait_until(lambda: p99() > 0, PATIENCE_S, "quantiles")


def test_the_rules_are_sound() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(RULES / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
