"""Labels through the whole server: a rollout rests on those of split answers, at the same age in both versions."""

import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import harness
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import (
    FEATURES,
    GOOD,
    SAME,
    TURNED,
    begin,
    look,
    models,
    patiently,
    promote_champion,
    until,
)

ASKED: dict[str, Any] = {
    "steps": [5000, 10000],
    "min_step_seconds": 300,
    "guards": [{"metric": "performance", "max_increase": 0.2}],
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with harness.running(models(tmp_path / "models", GOOD, SAME, TURNED), tmp_path, "--workers", "2") as running:
        promote_champion(running, GOOD)
        yield running


@pytest.fixture
def labeller(server: Server) -> Iterator["Labeller"]:
    made = Labeller(server)
    yield made
    made.close()


class Labeller:
    """Asks, and knows what the first version would have answered: that is the truth."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = HTTPConnection(server.http, timeout=PATIENCE_S)
        self._random = np.random.default_rng(0)

    def ask(self, number: int, version: str = "") -> dict[str, list[dict[str, Any]]]:
        """The true label of each of so many answers, by the version that answered."""
        found: dict[str, list[dict[str, Any]]] = {}
        path = "/v2/models/m" + (f"/versions/{version}" if version else "") + "/infer"
        for _ in range(number):
            row = self._random.normal(size=FEATURES).round(3).tolist()
            body = {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}]}
            self._connection.request("POST", path, json.dumps(body))
            answer = self._connection.getresponse()
            scores = json.loads(answer.read())["outputs"][0]["data"]
            by = answer.headers["penstock-model-version"]
            truth = int(np.argmin(scores) if by == TURNED else np.argmax(scores))
            found.setdefault(by, []).append({"id": answer.headers["x-request-id"], "label": truth})
        return found

    def close(self) -> None:
        self._connection.close()

    def send_feedback(self, *labels: list[dict[str, Any]]) -> None:
        """Feedback; all of it has to find its answer."""
        reported = [item for some in labels for item in some]
        answer = patiently(lambda: self._server.rest("POST", "/v2/models/m/feedback", {"feedback": reported}))
        assert (answer.status, answer.json()["unmatched"]) == (202, 0), answer


def evidence(server: Server, trial: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = look(server, trial)["evidence"]["performance"]
    return found


def wrong(labels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same answers, called wrong."""
    return [{**label, "label": (label["label"] + 1) % 3} for label in labels]


def test_a_version_that_answers_worse_by_labels_is_rolled_back(server: Server, labeller: Labeller) -> None:
    trial = begin(server, to=TURNED, **ASKED)

    def is_decided() -> bool:
        labeller.send_feedback(*labeller.ask(40).values())
        return bool(look(server, trial)["state"] != "running")

    wait_until(is_decided, PATIENCE_S, "a verdict")  # labels count once their stretch of time is over
    state = until(server, trial, "rolled_back", "promoted", "inconclusive")
    assert state["state"] == "rolled_back", json.dumps(state)
    found = state["evidence"]["performance"]
    assert (found["verdict"], found["effect"]) == ("fail", 1.0)
    assert found["interval"][0] < 1.0 <= found["interval"][1]
    assert found["label_delay_seconds"]["all_below"] >= found["label_delay_seconds"]["median_below"] > 0


def test_pinned_requests_and_late_label_batches_of_one_version_are_not_evidence(
    server: Server, labeller: Labeller
) -> None:
    trial = begin(server, to=SAME, **ASKED)
    kept = labeller.ask(120)  # told later, and of one version only
    labeller.send_feedback(wrong(labeller.ask(60, SAME)[SAME]))  # pinned
    for _ in range(5):
        labeller.send_feedback(*labeller.ask(40).values())

    def counted() -> bool:
        return bool(evidence(server, trial)["n_canary"] > 60)

    wait_until(counted, PATIENCE_S, "labels of both versions")
    before = evidence(server, trial)
    assert before["effect"] == 0.0
    time.sleep(5)  # so that they are older than all that came at once
    labeller.send_feedback(wrong(kept[SAME]))
    waiting = time.monotonic() + 15
    while time.monotonic() < waiting:
        labeller.send_feedback(*labeller.ask(4).values())
        time.sleep(0.5)
    after = evidence(server, trial)
    assert after["effect"] == 0.0, json.dumps(after)
    assert after["log_e"] <= before["log_e"] + 0.1
    assert after["n_canary"] > before["n_canary"]
    assert look(server, trial)["state"] == "running"
