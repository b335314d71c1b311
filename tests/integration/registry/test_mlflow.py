"""A real MLflow server, mirrored: its ONNX versions are served, its aliases hold, and its webhooks are heeded."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.registry.test_gateway import ask
from tests.ports import free_port

SECRET = "a secret shared with MLflow"
LOG_MODEL = """
import sys, mlflow, onnx
mlflow.set_tracking_uri(sys.argv[1])
with mlflow.start_run():
    mlflow.log_param("depth", 3)
    mlflow.log_metric("accuracy", 0.75)
    for path in sys.argv[3:]:
        model = onnx.load(path)
        mlflow.onnx.log_model(model, name="net", registered_model_name=sys.argv[2], pip_requirements=["onnx"])
"""
"""Its requirements are given: to find them out, MLflow would load each model in a process of its own."""


@dataclass(slots=True)
class Tracking:
    """A running MLflow server."""

    url: str
    folder: Path

    def log(self, name: str, *versions: int) -> None:
        """Register these versions of a model, in a process of its own, as a data scientist does."""
        paths = []
        for version in versions:
            paths.append(str(self.folder / f"{name}{version}.onnx"))
            zoo.save(zoo.versioned(version), Path(paths[-1]))
        command = [sys.executable, "-c", LOG_MODEL, self.url, name, *paths]
        ended = subprocess.run(command, capture_output=True, timeout=240, check=False)
        assert ended.returncode == 0, ended.stderr.decode()

    def copy(self, name: str, version: int, to: str) -> None:
        """Register a version once more, as the first one of another model."""
        found = self.post(f"model-versions/get?name={name}&version={version}", "", "GET")["model_version"]
        self.post("registered-models/create", json.dumps({"name": to}))
        model = found["source"].removeprefix("models:/")
        copied = {"name": to, "source": found["source"], "run_id": found["run_id"], "model_id": model}
        self.post("model-versions/create", json.dumps(copied))

    def post(self, path: str, body: str, method: str = "POST") -> Any:
        """The answer to one plain call to its REST API."""
        request = urllib.request.Request(
            f"{self.url}/api/2.0/mlflow/{path}", body.encode(), {"content-type": "application/json"}, method=method
        )
        return json.loads(urllib.request.urlopen(request, timeout=PATIENCE_S).read())

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=PATIENCE_S).read()
        except OSError:
            return False
        return True

    def delete_alias(self, name: str, alias: str) -> None:
        """Take an alias away."""
        self.post("registered-models/alias", f'{{"name": "{name}", "alias": "{alias}"}}', "DELETE")

    def alias(self, name: str, alias: str, version: int) -> None:
        """Set an alias."""
        self.post("registered-models/alias", f'{{"name": "{name}", "alias": "{alias}", "version": "{version}"}}')


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "art"),
    ]
    allow = {"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true", "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https"}
    allow |= {"MLFLOW_WEBHOOK_CACHE_TTL": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *stores], stdout=log, stderr=log, env={**os.environ, **allow}, cwd=folder, start_new_session=True
        )
    try:
        found = Tracking(f"http://127.0.0.1:{port}", folder)
        wait_until(found.is_up, PATIENCE_S, (folder / "log").read_text)
        yield found
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture(scope="module")
def gateway(tracking: Tracking) -> Iterator[Server]:
    secret = tracking.folder / "webhook.key"
    harness.write_secret(secret, SECRET.encode() + b"\n")
    env = {
        "PENSTOCK_MLFLOW__URL": tracking.url,
        "PENSTOCK_MLFLOW__POLL_SECONDS": "1",
        "PENSTOCK_MLFLOW__WEBHOOK_SECRET_FILE": str(secret),
    }
    with harness.running(None, tracking.folder / "gateway", env=env) as running:
        yield running


def served(gateway: Server, model: str, version: str) -> bool:
    return gateway.rest("GET", f"/v2/models/{model}/versions/{version}/ready").status == 200


def shown(gateway: Server, model: str) -> Any:
    return gateway.admin("GET", f"/admin/v1/models/{model}").json()


@pytest.fixture(scope="module")
def digits(tracking: Tracking) -> str:
    """A model with two versions."""
    tracking.log("digits", 1, 2)
    return "digits"


@pytest.mark.usefixtures("digits")
def test_versions_aliases_and_lineage_come_over(tracking: Tracking, gateway: Server) -> None:
    wait_until(lambda: served(gateway, "digits", "2"), PATIENCE_S, "both versions")
    tracking.alias("digits", "champion", 1)
    wait_until(lambda: ask(gateway, "digits").headers["penstock-model-version"] == "1", PATIENCE_S, "the alias")
    version = shown(gateway, "digits")["versions"][0]
    assert version["created_by"] == "mlflow"
    assert version["metadata"]["source"] == "mlflow"
    assert version["metadata"]["parameters"] == {"depth": "3"}
    assert version["metadata"]["metrics"] == {"accuracy": 0.75}
    assert version["metadata"]["tags"]["mlflow.run_id"]
    assert version["admission"]["verdict"] == "admitted"
    tracking.alias("digits", "champion", 2)
    wait_until(lambda: ask(gateway, "digits").headers["penstock-model-version"] == "2", PATIENCE_S, "the moved alias")
    tracking.delete_alias("digits", "champion")
    wait_until(lambda: shown(gateway, "digits")["aliases"] == {}, PATIENCE_S, "the alias gone")


def test_what_people_pushed_is_left_alone(tracking: Tracking, gateway: Server) -> None:
    assert gateway.push("own", "1", zoo.versioned(1).SerializeToString()).status == 201
    time.sleep(2.5)
    assert served(gateway, "own", "1")


def test_a_webhook_is_heeded_at_once_and_only_a_signed_one(tracking: Tracking, digits: str, tmp_path: Path) -> None:
    secret = tmp_path / "webhook.key"
    harness.write_secret(secret, SECRET.encode())
    env = {
        "PENSTOCK_MLFLOW__URL": tracking.url,
        "PENSTOCK_MLFLOW__MODELS": '["hooked"]',
        "PENSTOCK_MLFLOW__POLL_SECONDS": "3600",
        "PENSTOCK_MLFLOW__WEBHOOK_SECRET_FILE": str(secret),
    }
    with harness.running(None, tmp_path, env=env) as gateway:
        forged = {"x-mlflow-signature": "v1,AAAA", "x-mlflow-timestamp": "1", "x-mlflow-delivery-id": "x"}
        assert gateway.admin("POST", "/admin/v1/webhooks/mlflow", {}, forged).status == 400
        events = '[{"entity": "MODEL_VERSION", "action": "CREATED"}]'
        url = f"http://{gateway.ops}/admin/v1/webhooks/mlflow"
        body = f'{{"name": "penstock", "url": "{url}", "events": {events}, "secret": "{SECRET}", "status": "ACTIVE"}}'
        tracking.post("webhooks", body)
        time.sleep(1.0)  # the first look at MLflow is over by now
        tracking.copy(digits, 1, "hooked")
        wait_until(lambda: served(gateway, "hooked", "1"), PATIENCE_S, "the version of the webhook")
        assert {model["name"] for model in gateway.admin("GET", "/admin/v1/models").json()["models"]} == {"hooked"}


def test_an_outage_of_mlflow_changes_nothing(tmp_path: Path) -> None:
    env = {"PENSTOCK_MLFLOW__URL": "http://127.0.0.1:1", "PENSTOCK_MLFLOW__POLL_SECONDS": "0.5"}
    with harness.running(None, tmp_path, env=env) as gateway:
        assert gateway.push("own", "1", zoo.versioned(1).SerializeToString()).status == 201
        wait_until(lambda: "MLflow is not mirrored" in gateway.log_text(), PATIENCE_S, "the complaint")
        assert served(gateway, "own", "1")
