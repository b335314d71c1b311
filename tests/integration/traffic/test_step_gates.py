"""A step's gates through the whole server: a real webhook server, and a server of Prometheus' HTTP API."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests import harness
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import GOOD, SAME, begin, look, models, promote_champion, traffic, until

SECRET = b"a secret of the webhook, and of nobody else"
QUERY = 'sum(rate(errors_total{app="shop"}[1m]))'


class Outside(ThreadingHTTPServer):
    """The webhook at /gate, Prometheus' API at /api/v1/query and an MLflow without models; what the first two answer is
    set by the test."""

    daemon_threads = True
    status, value = 503, ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.events: list[tuple[dict[str, Any], bool]] = []
        self.release = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Outside

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/api/2.0/mlflow/registered-models/search":
            self.answer(200, {})
            return
        assert parse_qs(urlsplit(self.path).query)["query"] == [QUERY]
        result = [{"metric": {}, "value": [1.0, self.server.value]}] if self.server.value else []
        self.answer(200, {"status": "success", "data": {"resultType": "vector", "result": result}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/hangs":
            self.server.release.wait(PATIENCE_S)
        signature = "sha256=" + hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        self.server.events.append((json.loads(body), self.headers["penstock-signature"] == signature))
        self.answer(self.server.status, {})

    def answer(self, status: int, document: Any) -> None:
        with suppress(BrokenPipeError):  # the gateway has given up
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def outside() -> Iterator[Outside]:
    server = Outside()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        thread.join(PATIENCE_S)
        server.server_close()


def waits(server: Server, trial: Any, *parts: str) -> dict[str, Any]:
    """Wait until ``waiting_for`` has all of these."""
    last: dict[str, Any] = {}

    def there() -> bool:
        last.update(look(server, trial))
        return all(any(part in item for item in last["waiting_for"]) for part in parts)

    try:
        wait_until(there, PATIENCE_S, "what is waited for")
    except AssertionError as delayed:
        raise AssertionError(f"{delayed}: {parts} in {json.dumps(last)}") from None
    return last


def test_a_step_waits_for_a_webhook_and_a_query(tmp_path: Path) -> None:
    with outside() as others:
        address = f"http://127.0.0.1:{others.server_port}"
        options = ("--workers", "1")
        env = {"PENSTOCK_PROMETHEUS__URL": address}
        with (
            harness.running(models(tmp_path / "models", GOOD, SAME), tmp_path, *options, env=env) as server,
            traffic(server, threads=1),
        ):
            promote_champion(server, GOOD)
            harness.write_secret(tmp_path / "home" / "hook.key", SECRET)
            sinks = {
                "hook": {"webhook": {"url": f"{address}/gate", "secret_file": "hook.key"}},
                "silent": {"webhook": {"url": f"{address}/hangs"}},
                "log": {"file": {"path": "events.jsonl"}},
            }
            for name in ("nobody", "log"):
                stated = {"to": SAME, "steps": [{"weight": 500, "webhook": name}]}
                unproven = server.admin("POST", "/admin/v1/models/m/rollouts", stated)
                assert (unproven.status, unproven.headers["penstock-fault"]) == (403, "unauthorised")
                refused = server.as_owner("POST", "/admin/v1/models/m/rollouts", stated)
                assert (refused.status, f"no webhook '{name}'" in refused.json()["error"]) == (422, True)
            assert server.as_owner("PUT", "/admin/v1/models/m/policy", {"sinks": sinks}).status == 200
            gates = {
                "webhook": {"sink": "hook", "timeout_seconds": 5},
                "query": {"query": QUERY, "operator": "<", "limit": 0.5},
            }
            quick = {"webhook": {"sink": "silent", "timeout_seconds": 0.5}}
            trial = begin(server, to=SAME, steps=[{"weight": 5000, **gates}, {"weight": 9000, **quick}])
            state = waits(server, trial, "webhook 'hook' to answer 200 (it answered 503)", "(it gives no value)")
            assert (state["state"], state["step"]) == ("running", 0)
            assert "webhook 'hook' to answer 200 (it answered 503)" in " ".join(state["progress"])
            others.status = 200
            others.value = "0.7"
            state = waits(server, trial, f"query '{QUERY}' to be < 0.5 (it is 0.7)")
            assert (state["state"], state["step"]) == ("running", 0)
            others.value = "0.25"
            state = waits(server, trial, "webhook 'silent' to answer 200 (it does not answer within 0.5 s)")
            assert (state["state"], state["step"]) == ("running", 1)
            shown = harness.run_command("rollout", "status", "m", "--url", server.ops, folder=tmp_path)
            assert "webhook 'silent' to answer 200 (it does not answer within 0.5 s)" in " ".join(shown.stdout.split())
            others.release.set()
            assert until(server, trial, "promoted")["weight"] == 10_000
        event, signed = others.events[0]
        assert (event["type"], event["subject"]) == ("io.penstock.rollout.gate.v1", f"models/m/versions/{SAME}")
        assert (signed, event["data"]["step"], event["data"]["weight"]) == (True, 0, 5000)
        asked = {item["id"] for item, _ in others.events if item["data"]["step"] == 0}
        assert len(asked) == 1  # the same question has the same id
