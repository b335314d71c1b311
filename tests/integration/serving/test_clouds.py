"""Gateways started as containers of SageMaker, Vertex AI and Azure ML are: `penstock serve` alone, and the variables of
the platform. The bodies are those of the platforms' documentation."""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import zoo
from tests.commands import Command
from tests.harness import ANY_PORTS, PATIENCE_S, Reply, Server, call, environment, wait_until

ROWS = [[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]
DOUBLED = [[3.0, 5.0, 7.0], [-1.0, 2.0, 1.0]]
"""What ``zoo.affine(2, 1)`` makes of the rows."""

FLAT = [*DOUBLED[0], *DOUBLED[1]]

BINARY = "application/vnd.sagemaker-triton.binary+json;json-header-size="
VERTEX_BINARY = "application/vnd.vertex-ai-triton.binary+json;json-header-size="


@contextmanager
def container(folder: Path, **variables: str) -> Iterator[Server]:
    """`penstock serve` alone, with these variables; it takes free ports of the loopback."""
    ready, log = folder / "ready.json", folder / "stderr.log"
    env = environment(
        folder, {**ANY_PORTS, "PENSTOCK_HOST": "127.0.0.1", "PENSTOCK_READY_FILE": str(ready), **variables}
    )
    server = Server(Command(["serve"], env, Path(os.devnull), log), log, home=folder / "home")
    try:
        wait_until(lambda: ready.exists() or server.process.poll() is not None, PATIENCE_S, "ready file")
        assert server.process.poll() is None, server.log_text()
        server.read_ready(ready)
        yield server
        assert server.stop() == 0, server.log_text()
    finally:
        server.kill()


def npy(values: Any) -> bytes:
    """The .npy file of an array."""
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


def v2(rows: list[list[float]]) -> dict[str, Any]:
    """A V2 request in JSON."""
    return {
        "inputs": [
            {"name": "x", "shape": [len(rows), 3], "datatype": "FP32", "data": [value for row in rows for value in row]}
        ]
    }


def binary(rows: list[list[float]]) -> tuple[bytes, int]:
    """A V2 request whose tensor and whose answer are binary, and the length of its JSON part."""
    raw = np.array(rows, "<f4").tobytes()
    tensor = {"name": "x", "shape": [len(rows), 3], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + raw, len(head)


def tensor_in(answer: Reply, kind: str) -> list[list[float]]:
    """The tensor in a binary answer."""
    stated = answer.headers["content-type"]
    assert stated.startswith(kind), stated
    raw = answer.body[int(stated.removeprefix(kind)) :]
    rows: list[list[float]] = np.frombuffer(raw, "<f4").reshape(-1, 3).tolist()
    return rows


# SageMaker: an endpoint with many models, whose folder stands in for /opt/ml/models.


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives as SageMaker unpacks them."""
    root = tmp_path_factory.mktemp("sagemaker") / "models"
    zoo.save(zoo.affine(2, 1, ("n", 3)), root / "doubled" / "model" / "model.onnx")
    zoo.save(zoo.mixed(), root / "mixed" / "model" / "anything" / "1" / "model.onnx")
    zoo.save(zoo.mlp((64, 2048, 2048, 10)), root / "large" / "model" / "model.onnx")
    (root / "empty" / "model").mkdir(parents=True)
    (root / "empty" / "model" / "readme.txt").write_text("no graph")
    return root


@pytest.fixture(scope="module")
def sagemaker(models: Path) -> Iterator[Server]:
    """An endpoint with many models of which one is loaded, and that has no memory for a large one."""
    variables = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
        "PENSTOCK_MODELS": str(models),
        "PENSTOCK_DEFAULT_MODEL": "doubled",
        "PENSTOCK_WORKERS": "2",
        "PENSTOCK_LIMITS__MODELS_MEMORY_BYTES": str(16 << 20),
    }
    with container(models.parent, **variables) as server:
        assert call(server.http, "GET", "/ping").status == 200
        assert call(server.http, "POST", "/invocations", b"1,2,3", {"content-type": "text/csv"}).status == 404
        assert load(server, models, "doubled").status == 200
        yield server


def load(server: Server, models: Path, name: str, url: str = "") -> Reply:
    """Ask for a model as SageMaker does."""
    body = {"model_name": name, "url": url or f"{models}/{name}/model"}
    return call(server.http, "POST", "/models", json.dumps(body).encode(), {"content-type": "application/json"})


def invoke(server: Server, body: bytes, kind: str, accept: str = "", path: str = "/invocations", **more: str) -> Reply:
    """Ask for predictions as SageMaker does."""
    fields = {"content-type": kind, **({"accept": accept} if accept else {}), **more}
    return call(server.http, "POST", path, body, fields)


CSV = b"1,2,3\n-1,0.5,0\n"
LINES = b'{"y":[3.0,5.0,7.0]}\n{"y":[-1.0,2.0,1.0]}\n'
PREDICTIONS = {"predictions": DOUBLED}


@pytest.mark.parametrize("path", ["/invocations", "/models/doubled/invoke"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", CSV),
        ("text/csv; charset=utf-8; header=present", b"x[2],x[0],x[1]\r\n3,1,2\r\n0,-1,0.5\r\n"),
        ("application/json", json.dumps(ROWS).encode()),
        ("application/json", json.dumps({"instances": ROWS}).encode()),
        ("application/json", json.dumps({"instances": [{"features": row} for row in ROWS]}).encode()),
        ("application/json", json.dumps({"instances": [{"data": {"features": {"values": r}}} for r in ROWS]}).encode()),
        ("application/jsonlines", b'{"features": [1, 2, 3]}\n{"features": [-1, 0.5, 0]}'),
        ("application/jsonlines", b"[1, 2, 3]\n[-1, 0.5, 0]\n"),
        ("application/x-npy", npy(ROWS)),
        ("application/x-npy", npy(np.array(ROWS, np.float32))),
    ],
)
def test_rows_of_every_type_are_answered_in_the_accepted_one(
    sagemaker: Server, path: str, kind: str, body: bytes
) -> None:
    answer = invoke(sagemaker, body, kind, "application/json", path)
    assert (answer.status, answer.json()) == (200, PREDICTIONS), answer


@pytest.mark.parametrize(
    ("accept", "kind", "body"),
    [
        ("", "text/csv; charset=utf-8", b"3.0,5.0,7.0\r\n-1.0,2.0,1.0\r\n"),
        ("*/*", "text/csv; charset=utf-8", b"3.0,5.0,7.0\r\n-1.0,2.0,1.0\r\n"),
        ("application/jsonlines", "application/jsonlines", LINES),
        ("application/x-npy", "application/x-npy", npy(np.array(DOUBLED, np.float32))),
        (
            "text/html, application/json;q=0.5",
            "application/json",
            json.dumps(PREDICTIONS, separators=(",", ":")).encode(),
        ),
    ],
)
def test_answers_have_the_type_that_the_client_prefers(sagemaker: Server, accept: str, kind: str, body: bytes) -> None:
    answer = invoke(sagemaker, CSV, "text/csv", accept)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, body)


@pytest.mark.parametrize(
    ("kind", "body", "accept", "status", "said"),
    [
        ("application/x-recordio-protobuf", b"1", "", 415, "expected content-type text/csv"),
        ("text/csv; charset=latin-1", b"1,2,3", "", 415, "utf-8"),
        ("text/csv", b"1,2,3", "text/html", 406, "accept one of these"),
        ("text/csv", b"1,2", "", 400, "2 fields"),
        ("text/csv", b"1,2,x", "", 400, "row 0"),
        ("application/json", b"{}", "", 400, "instances"),
        ("application/x-npy", npy(np.array([{"a": 1}], object)), "", 400, ".npy"),
    ],
)
def test_refusals_have_the_form_of_the_cloud(
    sagemaker: Server, kind: str, body: bytes, accept: str, status: int, said: str
) -> None:
    answer = invoke(sagemaker, body, kind, accept)
    assert answer.status == status
    assert said in answer.error()


def test_binary_tensors_and_v2_in_json(sagemaker: Server) -> None:
    body, length = binary(ROWS)
    answer = invoke(sagemaker, body, f"{BINARY}{length}")
    assert answer.status == 200
    assert tensor_in(answer, BINARY) == DOUBLED
    answer = invoke(sagemaker, json.dumps(v2(ROWS)).encode(), "application/json")
    assert answer.json()["outputs"][0]["data"] == FLAT
    assert invoke(sagemaker, body, BINARY.partition(";")[0]).status == 400
    assert invoke(sagemaker, body, f"{BINARY}{length + 10**6}").status == 400


def test_ids_and_attributes_of_a_request(sagemaker: Server) -> None:
    more = {"X-Amzn-SageMaker-Inference-Id": "inference-17", "X-Amzn-SageMaker-Custom-Attributes": "trace=7; c000b4f9"}
    answer = invoke(sagemaker, CSV, "text/csv", **more)
    assert answer.headers["x-request-id"] == "inference-17"
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "trace=7; c000b4f9"
    assert answer.headers["penstock-model-version"] == "1"


def test_execution_parameters_are_served(sagemaker: Server) -> None:
    answer = call(sagemaker.http, "GET", "/execution-parameters").json()
    assert answer == {"MaxConcurrentTransforms": 3, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 8}


def test_models_are_loaded_listed_and_unloaded(sagemaker: Server, models: Path) -> None:
    document = {"modelName": "mixed", "modelUrl": f"{models}/mixed/model"}
    assert load(sagemaker, models, "mixed").json() == document
    assert load(sagemaker, models, "mixed").status == 409
    listed = call(sagemaker.http, "GET", "/models").json()
    assert [item["modelName"] for item in listed["models"]] == ["doubled", "mixed"]
    assert call(sagemaker.http, "GET", "/models?next_page_token=doubled").json() == {"models": [document]}
    assert call(sagemaker.http, "GET", "/models/mixed").json() == document
    rows = [{"number": [1.0, 2.0, -3.0], "key": [7, 8]}]
    answer = invoke(
        sagemaker, json.dumps({"instances": rows}).encode(), "application/json", path="/models/mixed/invoke"
    )
    row = {"doubled": [2.0, 4.0, -6.0], "next": [8, 9], "positive": [True, True, False]}
    assert answer.json() == {"predictions": [row]}
    answer = call(sagemaker.http, "DELETE", "/models/mixed")
    assert (answer.status, answer.body) == (200, b"")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
        assert call(sagemaker.http, method, f"/models/mixed{path}", b"").status == 404


@pytest.mark.parametrize(
    ("name", "url", "status"),
    [
        ("large", "", 507),
        ("absent", "", 404),
        ("empty", "", 400),
        ("doubled", "/etc", 400),
        ("mixed", "{models}/doubled/model", 400),
        ("mixed", "{models}/doubled/../mixed/model", 400),
        ("../models/mixed", "", 400),
    ],
)
def test_models_that_are_not_loaded(sagemaker: Server, models: Path, name: str, url: str, status: int) -> None:
    answer = load(sagemaker, models, name, url.format(models=models))
    assert answer.status == status, answer
    assert str(models) not in answer.error()
    listed = call(sagemaker.http, "GET", "/models").json()["models"]
    assert name == "doubled" or name not in [item["modelName"] for item in listed]


# Vertex AI.


@pytest.fixture(scope="module")
def vertex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A container of Vertex AI with two models."""
    folder = tmp_path_factory.mktemp("vertex")
    zoo.place(folder / "models", "doubled", {"1": zoo.affine(2, 1, ("n", 3))})
    zoo.place(folder / "models", "other", {"1": zoo.affine(0, 1, ("n", 3))})
    routes = {"AIP_HEALTH_ROUTE": "/healthz", "AIP_PREDICT_ROUTE": "/v1/endpoints/7:predict", "AIP_HTTP_PORT": "8080"}
    storage = {"AIP_STORAGE_URI": str(folder / "models"), "PENSTOCK_DEFAULT_MODEL": "doubled", "AIP_MODE": "PREDICTION"}
    with container(folder, **routes, **storage) as server:
        yield server


def test_vertex_predictions_are_answered(vertex: Server) -> None:
    def predict(body: Mapping[str, Any] | bytes, kind: str = "application/json", **fields: str) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return call(vertex.http, "POST", "/v1/endpoints/7:predict", raw, {"content-type": kind, **fields})

    assert call(vertex.http, "GET", "/healthz").status == 200
    assert predict({"instances": ROWS}).json() == PREDICTIONS
    assert predict({"instances": ROWS, "parameters": {"timeout": 60_000_000, "top_k": 3}}).json() == PREDICTIONS
    assert predict({"instances": [{"x": row} for row in ROWS]}).json() == PREDICTIONS
    assert predict(v2(ROWS)).json()["outputs"][0]["data"] == FLAT
    body, length = binary(ROWS)
    assert tensor_in(predict(body, f"{VERTEX_BINARY}{length}"), VERTEX_BINARY) == DOUBLED
    redirected = predict(v2(ROWS), **{"X-Vertex-Ai-Triton-Redirect": "v2/models/other/versions/1/infer"}).json()
    assert (redirected["model_name"], redirected["outputs"][0]["data"]) == ("other", [1.0] * 6)
    assert predict({"rows": []}).status == 400
    assert predict(b"1,2,3", "text/csv").status == 415
    for path in ("v2/repository/models/other/unload", "v2/models/other", "metrics", "../v2/models/other/infer", ""):
        assert predict(v2(ROWS), **{"X-Vertex-Ai-Triton-Redirect": path}).status == 403, path
    assert call(vertex.http, "GET", "/ping").status == 404  # the other platforms' paths are off


# Azure Machine Learning.


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A container of Azure ML whose folder has the versions of one model."""
    folder = tmp_path_factory.mktemp("azure")
    zoo.save(zoo.affine(2, 1, ("n", 3)), folder / "model" / "1" / "model.onnx")
    with container(folder, AZUREML_MODEL_DIR=str(folder / "model")) as server:
        yield server


def test_azure_scoring_requests_are_answered(azure: Server) -> None:
    def score(body: Mapping[str, Any], **fields: str) -> Reply:
        return call(
            azure.http, "POST", "/score", json.dumps(body).encode(), {"content-type": "application/json", **fields}
        )

    health = call(azure.http, "GET", "/")
    assert (health.status, health.body) == (200, b"Healthy")
    columns = ["x[2]", "x[0]", "x[1]"]
    split = {"columns": columns, "index": [0, 1], "data": [[row[2], row[0], row[1]] for row in ROWS]}
    for data in (ROWS, split):
        assert score({"input_data": data}).json() == DOUBLED
    answer = score({"data": ROWS}, **{"x-ms-client-request-id": "client-7"})
    assert (answer.json(), answer.headers["x-request-id"]) == (DOUBLED, "client-7")
    assert score(v2(ROWS)).json()["outputs"][0]["data"] == FLAT
    refused = score({"rows": ROWS})
    assert refused.status == 400
    assert "input_data" in refused.json()["message"]
    for query, version in (("", "2.0"), ("?version=2", "2.0"), ("?version=3", "3.1.0")):
        document = call(azure.http, "GET", f"/swagger.json{query}").json()
        assert document.get("swagger", document.get("openapi")) == version
        assert "/score" in document["paths"]
    assert call(azure.http, "GET", "/swagger.json?version=4").status == 404
