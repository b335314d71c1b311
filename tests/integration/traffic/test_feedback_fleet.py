"""Three gateways on one PostgreSQL behind HAProxy that sends each request to the next one: every label is joined."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests import haproxy, harness, postgres
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.registry.test_gateway import graph

NAMES = "abc"
OUTCOMES = ("joined", "unknown", "dropped", "expired", "doubled", "late")


class Fleet:
    """Three gateways of which each can be started again on its home."""

    def __init__(self, workspace: Path, url: str, stack: ExitStack) -> None:
        self._workspace, self._stack = workspace, stack
        self._options = ("--registry", url, "--workers", "1")
        self._env = {"PENSTOCK_BLOBS": str(workspace / "blobs")}
        self.servers = {name: self._launch(name) for name in NAMES}

    def _launch(self, name: str) -> Server:
        server = harness.launch(None, self._workspace / name, *self._options, env=self._env)
        self._stack.callback(server.kill)
        return server

    def restart(self, name: str) -> None:
        """End a gateway with its workers at once, and start it again."""
        self.servers[name].kill()
        self.servers[name] = self._launch(name)

    def outcomes(self) -> Counter[str]:
        """What became of labels, over all gateways; of gateways that were killed, since they began anew."""
        found: Counter[str] = Counter()
        for server in self.servers.values():
            for line in server.admin("GET", "/metrics").body.decode().splitlines():
                if line.startswith("penstock_labels_total{"):
                    outcome = next(item for item in (*OUTCOMES, "unusable") if f'outcome="{item}"' in line)
                    found[outcome] += int(float(line.rsplit(" ", 1)[1]))
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with postgres.running() as database, ExitStack() as stack:
        (tmp_path / "blobs").mkdir()
        made = Fleet(tmp_path, database.create("labels"), stack)
        first = made.servers["a"]
        assert first.push("m", "1", graph(1)).status == 201
        assert first.admin("PUT", "/admin/v1/models/m/aliases/champion", {"version": "1"}).status == 200
        wait_until(lambda: everywhere(made), PATIENCE_S, "the version at every gateway")
        wait_until(lambda: knows_others(made), PATIENCE_S, "that each gateway knows of the others")
        yield made


def everywhere(fleet: Fleet) -> bool:
    return all(infer(server.http).status == 200 for server in fleet.servers.values())


def knows_others(fleet: Fleet) -> bool:
    probes = [{"id": "nobody's", "label": 1}]
    return all(send_feedback(server.http, probes).get("pending") for server in fleet.servers.values())


class Reply:
    def __init__(self, status: int, body: bytes, by: str = "") -> None:
        self.status, self.body, self.id = status, body, by


def infer(address: str) -> Reply:
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.2, 0.3]}]}
    return post(address, "/v2/models/m/infer", body)


def post(address: str, path: str, body: dict[str, Any]) -> Reply:
    connection = HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), answer.headers.get("x-request-id", ""))
    except OSError:
        return Reply(0, b"")
    finally:
        connection.close()


def send_feedback(address: str, labels: list[dict[str, Any]]) -> dict[str, int]:
    """What the gateway says of labels that it takes."""
    answer = post(address, "/v2/models/m/feedback", {"feedback": labels})
    assert answer.status == 202, answer.body
    found: dict[str, int] = json.loads(answer.body)
    return found


def asked(address: str, number: int) -> list[str]:
    """The ids of so many requests."""
    return [infer(address).id for _ in range(number)]


def test_every_label_is_joined_behind_a_proxy_and_over_a_restart(fleet: Fleet, tmp_path: Path) -> None:
    before = fleet.outcomes()
    with haproxy.running(tmp_path, {name: server.http for name, server in fleet.servers.items()}) as address:
        ids = asked(address, 91)
        assert len(set(ids)) == 91
        labels = [{"id": id_, "label": 1.0} for id_ in reversed(ids)]
        said = [send_feedback(address, labels[start : start + 1]) for start in range(61)]
        assert [item["accepted"] for item in said] == [1] * 61
        assert sum(item["unmatched"] for item in said) == 0
        assert 0 < sum(item.get("pending", 0) for item in said) < 61  # some came to the gateway that had answered
        wait_until(lambda: (fleet.outcomes() - before)["joined"] == 61, PATIENCE_S, "every label at its gateway")
    delayed = [send_feedback(fleet.servers["a"].http, [label]) for label in labels[61:76]]
    delayed += [send_feedback(fleet.servers["b"].http, [label]) for label in labels[76:]]
    fleet.restart("b")  # labels of its answers are on their way, and so are some that it took for others
    assert sum(item["unmatched"] for item in delayed) == 0
    wait_until(lambda: total(fleet) == 91, PATIENCE_S, "the labels that came while a gateway was away")
    after = fleet.outcomes()
    assert (after["dropped"], after["expired"], after["late"]) == (0, 0, 0)


def total(fleet: Fleet) -> int:
    """Labels of the version that all gateways remember; these outlive the end of a control process."""
    shown = [
        server.admin("GET", "/admin/v1/models/m/monitor?version=1&scope=gateway").json()
        for server in fleet.servers.values()
    ]
    return sum(int(item["performance"]["labels"]) for item in shown)
