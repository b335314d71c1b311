"""A rolling update as Kubernetes does it, with plain processes: a new gateway starts, the old one gets SIGTERM, and
what leads connections to pods notices later.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc as triton

from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.kubernetes import tools
from tests.integration.kubernetes.manifests import read_manifests
from tests.integration.kubernetes.test_chart import SETS
from tests.relay import Relay, relaying

BODY = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
PAUSE_S = 0.02
"""Between two calls of a caller: its connection is idle then, as those of a pool mostly are."""

CALLERS = 4


Call = Callable[[], None]
Client = Callable[[], AbstractContextManager[Call]]


def rest_client(port: int) -> Client:
    """One connection, which is opened again when the server has ended it."""

    @contextmanager
    def client() -> Iterator[Call]:
        with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:

            def call() -> None:
                try:
                    connection.request("POST", "/v2/models/m/infer", BODY)
                    answer = connection.getresponse()
                    assert (answer.status, b"outputs" in answer.read()) == (200, True)
                except BaseException:
                    connection.close()
                    raise

            yield call

    return client


def grpc_client(port: int) -> Client:
    """One channel."""

    @contextmanager
    def client() -> Iterator[Call]:
        x = triton.InferInput("x", [1, 3], "FP32")
        x.set_data_from_numpy(np.ones((1, 3), np.float32))
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as channel:
            yield lambda: channel.infer("m", [x])

    return client


class Callers:
    """Callers that keep their connections, and never try a call again."""

    def __init__(self, http: Relay, grpc: Relay) -> None:
        self._over = threading.Event()
        self.answered = [0] * 2 * CALLERS
        self.failed: list[str] = []
        clients = [rest_client(http.port), grpc_client(grpc.port)] * CALLERS
        self._threads = [threading.Thread(target=self._go, args=pair) for pair in enumerate(clients)]
        for thread in self._threads:
            thread.start()

    def _go(self, number: int, client: Client) -> None:
        with client() as call:
            while not self._over.wait(PAUSE_S):
                try:
                    call()
                except (OSError, HTTPException, triton.InferenceServerException, AssertionError) as error:
                    self.failed.append(f"caller {number}: {error!r}")
                self.answered[number] += 1

    def go_on(self) -> None:
        """Wait until each of them has had more answers."""
        before = list(self.answered)
        wait_until(lambda: all(now > then + 5 for now, then in zip(self.answered, before, strict=True)), PATIENCE_S, "")

    def end(self) -> None:
        """Let them end."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def stops() -> dict[str, str]:
    """The drains of the chart as it is without values about them, as variables."""
    (one,) = tools.render([SETS["folder-insecure"]["values"]])
    (config,) = read_manifests(one.files["penstock/templates/configmap.yaml"])
    stop = json.loads(config["data"]["penstock.yaml"])["stop"]
    return {f"PENSTOCK_STOP__{name.upper()}": str(seconds) for name, seconds in stop.items()}


@contextmanager
def gateway(models: Path, folder: Path, stops: dict[str, str]) -> Iterator[Server]:
    server = harness.launch(models, folder, env=stops)
    try:
        yield server
    finally:
        server.kill()


def test_a_rolling_update_under_load_loses_nothing(tmp_path: Path, stops: dict[str, str]) -> None:
    models = tmp_path / "models"
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), models / "m.onnx")
    with ExitStack() as stack:
        old = stack.enter_context(gateway(models, tmp_path / "old", stops))
        http, grpc = (stack.enter_context(relaying(port_of(address))) for address in (old.http, old.grpc))
        callers = Callers(http, grpc)
        stack.callback(callers.end)
        new = stack.enter_context(gateway(models, tmp_path / "new", stops))
        callers.go_on()
        old.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not old.is_ready(), PATIENCE_S, "the end of readiness")
        callers.go_on()  # they are still led to the old one
        http.lead_to(port_of(new.http))
        grpc.lead_to(port_of(new.grpc))
        assert old.process.wait(PATIENCE_S) == 0, old.log_text()
        callers.go_on()
        callers.end()
        assert callers.failed == []


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])
