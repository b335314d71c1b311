"""What clients do that is rare and legal: byte order marks, long ids, and models with the names of our own paths."""

import gzip
import json
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server

BOM = b"\xef\xbb\xbf"
NAMES = ["stats", "metadata", "ready", "infer", "versions", "config"]
ROW = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
ANSWER = [3.0, 5.0, 7.0]


@pytest.fixture(scope="module")
def habits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("habits")
    for name in NAMES:
        zoo.place(folder / "models", name, {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    with harness.running(folder / "models", folder) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
def test_models_may_have_the_names_of_paths(name: str, habits: Server) -> None:
    assert habits.rest("GET", f"/v2/models/{name}/ready").status == 200
    found = habits.rest("GET", f"/v2/models/{name}")
    assert found.json()["name"] == name
    assert found.json()["inputs"][0]["name"] == "x"
    assert habits.rest("GET", f"/v2/models/{name}/config").json()["name"] == name
    assert habits.rest("GET", f"/v2/models/{name}/versions/1").json()["name"] == name
    for path in (f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/1/infer"):
        answer = habits.rest("POST", path, {"inputs": [ROW]})
        assert answer.json()["outputs"][0]["data"] == ANSWER
    statistics = habits.rest("GET", f"/v2/models/{name}/stats").json()["model_stats"]
    assert [(statistic["name"], statistic["inference_stats"]["success"]["count"]) for statistic in statistics] == [
        (name, 2)
    ]


def test_all_statistics_hold_a_model_called_stats(habits: Server) -> None:
    found = habits.rest("GET", "/v2/models/stats").json()
    assert {stat["name"] for stat in found["model_stats"]} == set(NAMES)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_byte_order_mark_before_json_is_ignored(coding: str, habits: Server) -> None:
    body = BOM + json.dumps({"inputs": [ROW]}).encode()
    sent = gzip.compress(body) if coding == "gzip" else body
    answer = habits.rest("POST", "/v2/models/stats/infer", sent, {"content-encoding": coding})
    assert answer.json()["outputs"][0]["data"] == ANSWER


def test_a_byte_order_mark_before_a_binary_request_is_ignored(habits: Server) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    head = BOM + json.dumps({"inputs": [tensor]}).encode()
    fields = {"inference-header-content-length": str(len(head))}
    raw = np.array([1, 2, 3], "<f4").tobytes()
    for _ in range(2):  # the second takes what was learnt from the first
        answer = habits.rest("POST", "/v2/models/stats/infer", head + raw, fields)
        assert answer.json()["outputs"][0]["data"] == ANSWER


@pytest.mark.parametrize("path", ["/v2/models/stats/feedback", "/v2/repository/index"])
def test_a_byte_order_mark_is_ignored_in_other_requests(path: str, habits: Server) -> None:
    body = {"feedback": [{"id": "a", "reward": 1}]} if path.endswith("feedback") else {"ready": True}
    assert habits.rest("POST", path, BOM + json.dumps(body).encode()).status in (200, 202)


@pytest.mark.parametrize("long", [1, 500, 5_000, 50_000])
def test_ids_of_any_length_come_back_in_the_answer(long: int, habits: Server) -> None:
    call_id = "i" * long
    answer = habits.rest("POST", "/v2/models/stats/infer", {"id": call_id, "inputs": [ROW]})
    assert answer.json()["id"] == call_id
    request = pb.ModelInferRequest(model_name="stats", id=call_id)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.array([1, 2, 3], "<f4").tobytes())
    with grpc.insecure_channel(habits.grpc) as channel:
        assert GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=PATIENCE_S).id == call_id
