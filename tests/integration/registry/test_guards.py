"""Requests that ended a worker by what an operator of the model cannot compute: they are answered, and it stays."""

from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests import harness
from tests.harness import PATIENCE_S
from tests.integration.registry.test_exports import put

LEAST = np.iinfo(np.int64).min


def division(operator: str) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N"]) for name in "aby"]
    graph = helper.make_graph([helper.make_node(operator, ["a", "b"], ["y"])], "g", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def recurrent() -> onnx.ModelProto:
    """Sequences of rows of two numbers through an LSTM, batch first."""
    weights = [numpy_helper.from_array(np.full((1, 8, 2), 0.5, np.float32), name) for name in ("w", "r")]
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["", "last"], hidden_size=2),
        helper.make_node("Transpose", ["last"], ["y"], perm=[1, 0, 2]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, 2])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def whole(name: str, *numbers: int) -> dict[str, object]:
    return {"name": name, "datatype": "INT64", "shape": [len(numbers)], "data": list(numbers)}


def over_grpc(stub: GRPCInferenceServiceStub, model: str, **inputs: np.ndarray) -> np.ndarray:
    request = pb.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype="INT64" if array.dtype == np.int64 else "FP32", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    answer = stub.ModelInfer(request, timeout=PATIENCE_S)
    return np.frombuffer(answer.raw_output_contents[0], np.int64)


def test_no_request_ends_the_worker(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for operator in ("Div", "Mod"):
        put(models, operator.lower(), division(operator))
    put(models, "lstm", recurrent())
    with harness.running(models, tmp_path, "--workers", "1") as server, grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        before = server.child_pids()
        a, b = np.array([LEAST, 7, -7]), np.array([-1, -2, 2])
        for model, expected in (("div", [LEAST, -3, -3]), ("mod", [0, -1, 1])):
            body = {"inputs": [whole("a", *a.tolist()), whole("b", *b.tolist())]}
            reply = server.rest("POST", f"/v2/models/{model}/infer", body)
            assert reply.status == 200, reply.body
            assert reply.json()["outputs"][0]["data"] == expected
            assert over_grpc(stub, model, a=a, b=b).tolist() == expected
        nothing = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 3, 2], "data": []}]}
        reply = server.rest("POST", "/v2/models/lstm/infer", nothing)
        assert (reply.status, "a dimension of size 0" in reply.error()) == (400, True)
        with pytest.raises(grpc.RpcError) as refused:
            over_grpc(stub, "lstm", x=np.zeros((0, 3, 2), np.float32))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        one = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1, 2], "data": [1, 2]}]}
        assert server.rest("POST", "/v2/models/lstm/infer", one).status == 200
        assert server.child_pids() == before and all(map(harness.is_alive, server.workers))
        shown = harness.run_command("models", "show", "div:1", "--url", server.ops, folder=tmp_path).stdout
        assert "guarded_divisions: Div y; the least integer by -1 wraps around" in " ".join(shown.split())
