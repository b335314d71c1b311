"""The webhooks that steps of a rollout ask: those among the sinks of the model's policy, and no others."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from penstock.control.delivery.step_gates import PolicyWebhooks, StepGates
from penstock.control.sinks.base import SinkContext, SinkFault
from penstock.core.rollouts.gates import QueryGate, WebhookGate
from penstock.core.sinks import SinkOrigin, SinkSpec
from tests.unit.control.trials import Clock, at_once

EVENT = {"id": "e1", "type": "io.penstock.rollout.gate.v1", "data": {"model": "m"}}


class Answer(BaseHTTPRequestHandler):
    """Lets pass what is asked on /yes."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200 if self.path == "/yes" else 409)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    """A server that is asked."""
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def webhooks(url: str, home: Path) -> PolicyWebhooks:
    sinks = {
        "yes": SinkSpec("webhook", {"url": f"{url}/yes"}, SinkOrigin.OWNER),
        "no": SinkSpec("webhook", {"url": f"{url}/no"}, SinkOrigin.CONFIGURATION),
        "file": SinkSpec("file", {"path": "events.jsonl"}),
    }
    return PolicyWebhooks(lambda model: sinks if model == "m" else {}, SinkContext(home))


@pytest.mark.parametrize(("sink", "status"), [("yes", 200), ("no", 409)])
def test_a_webhook_answers_with_its_status(url: str, tmp_path: Path, sink: str, status: int) -> None:
    hooks = webhooks(url, tmp_path)
    assert hooks.has("m", sink)
    assert hooks.ask("m", WebhookGate(sink, 5.0), EVENT) == status


@pytest.mark.parametrize(("model", "sink"), [("m", "file"), ("m", "none"), ("n", "yes")])
def test_other_sinks_and_other_models_have_none(tmp_path: Path, model: str, sink: str) -> None:
    hooks = webhooks("http://127.0.0.1:9", tmp_path)
    assert not hooks.has(model, sink)
    with pytest.raises(SinkFault, match="no webhook of this name"):
        hooks.ask(model, WebhookGate(sink, 5.0), EVENT)


def test_a_step_that_nobody_can_be_asked_for_could_never_pass(tmp_path: Path) -> None:
    hooks = webhooks("http://127.0.0.1:9", tmp_path)
    asked = (WebhookGate("yes", 5.0), WebhookGate("none", 5.0), QueryGate("up", ">=", 1.0))
    clock = Clock()
    assert StepGates(lambda query: 1.0, hooks, at_once(clock)).missing("m", asked) == [
        "the policy of model 'm' has no webhook 'none' among its sinks"
    ]
    assert len(StepGates(None, None, at_once(clock)).missing("m", asked)) == 3
