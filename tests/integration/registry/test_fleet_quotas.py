"""Two gateways on one database share a quota by demand; when one is lost, the other has all of it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests import harness, s3
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.access.ports import ask
from tests.integration.registry.test_gateway import graph
from tests.keys import ACCEPT_KEYS, create_key
from tests.postgres import Postgres

LIMIT = 40
WINDOW_S = 3.0


class Load:
    """Asks one gateway without pause; ``let`` counts what it let through."""

    def __init__(self, server: Server, key: str) -> None:
        self.let, self._server, self._key = 0, server, key
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        host, _, port = self._server.http.rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=PATIENCE_S)
        inputs = [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0.0] * 3}]
        body = json.dumps({"inputs": inputs}).encode()
        try:
            while not self._stop.wait(0.002):
                reply = ask(connection, "POST", "/v2/models/m/infer", self._key, body)
                assert reply.status in (200, 429), reply
                self.let += reply.status == 200
        except (OSError, HTTPException):
            pass  # it was killed
        finally:
            connection.close()


def rate(*loads: Load) -> float:
    """What they let through in a second, over a window."""
    began, before = time.monotonic(), sum(load.let for load in loads)
    time.sleep(WINDOW_S)
    return (sum(load.let for load in loads) - before) / (time.monotonic() - began)


def holds(*loads: Load) -> bool:
    """Whether they let the quota through, within a tenth and what a window may have of a second's burst."""
    return abs(rate(*loads) - LIMIT) <= 0.1 * LIMIT + 1


def serves(server: Server, headers: dict[str, str]) -> bool:
    return server.rest("GET", "/v2/models/m/versions/1/ready", headers=headers).status == 200


def test_a_quota_is_one_over_the_fleet_and_comes_back_from_a_lost_gateway(
    server: Postgres, bucket: s3.Bucket, tmp_path: Path
) -> None:
    url = server.create("fleetquotas")
    env = {**ACCEPT_KEYS, **bucket.environment, "PENSTOCK_BLOBS": f"s3://{bucket.name}/fleetquotas"}
    with ExitStack() as stack:
        first = stack.enter_context(harness.running(None, tmp_path / "a", "--registry", url, env=env))
        second = harness.launch(None, tmp_path / "b", "--registry", url, env=env)
        stack.callback(second.kill)
        admin = {"authorization": f"Bearer {create_key(tmp_path / 'a', 'root', 'admin')}"}
        key = create_key(tmp_path / "a", "bot", "caller", quota={"requests": LIMIT})
        pushed = first.push("m", "1", graph(1), admin)
        assert pushed.status == 201, pushed
        wait_until(lambda: serves(first, admin) and serves(second, admin), PATIENCE_S, "the version")
        loads = [stack.enter_context(Load(item, key).running()) for item in (first, second)]
        wait_until(lambda: holds(*loads), PATIENCE_S, lambda: f"the quota over both: {[load.let for load in loads]}")
        second.kill()
        wait_until(lambda: holds(loads[0]), PATIENCE_S, lambda: f"the quota at the first alone: {loads[0].let}")
