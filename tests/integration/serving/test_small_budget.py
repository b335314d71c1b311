"""A worker with little memory for its callers: what is kept once is counted once, what fits is served, and what can
never fit is refused for good, not for now."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto import grpc_service_pb2_grpc as pb_grpc
from tests import zoo
from tests.harness import call, running

MEMORY = 64 << 20
MAX_BODY = 64 << 20
LITTLE = 4 << 20
"""Bytes of a budget that a single request of MAX_BODY would never fit into."""


@pytest.mark.parametrize("share", [0.2, 0.45, 0.7])
def test_a_request_that_fits_is_served_on_a_thread(tmp_path: Path, share: float) -> None:
    zoo.place(tmp_path / "models", "wide", {"1": zoo.identity("FP32")})
    columns = int(MEMORY * share) // 4
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, columns], "parameters": {"binary_data_size": columns * 4}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    fields = {"Inference-Header-Content-Length": str(len(head))}
    limits = {"PENSTOCK_LIMITS__MEMORY_BYTES": str(MEMORY), "PENSTOCK_LIMITS__MAX_BODY_BYTES": str(MAX_BODY)}
    with running(tmp_path / "models", tmp_path, env=limits) as server:
        for _ in range(2):
            answer = call(server.http, "POST", "/v2/models/wide/infer", head + bytes(columns * 4), fields)
            assert answer.status == 200, answer.body[:200]
            assert len(answer.body) > columns * 4


@pytest.fixture(scope="module")
def little(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gateway whose worker holds LITTLE for its callers."""
    folder = tmp_path_factory.mktemp("little")
    zoo.place(folder / "models", "wide", {"1": zoo.identity("FP32")})
    limits = {"PENSTOCK_LIMITS__MEMORY_BYTES": str(LITTLE), "PENSTOCK_LIMITS__MAX_BODY_BYTES": str(MAX_BODY)}
    with running(folder / "models", folder, env=limits) as server:
        yield server


def binary(columns: int) -> tuple[bytes, dict[str, str]]:
    """A request of so many numbers, and its fields."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, columns], "parameters": {"binary_data_size": columns * 4}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + bytes(columns * 4), {"Inference-Header-Content-Length": str(len(head))}


PATH = "/v2/models/wide/infer"


def refused_for_good(answer: Any) -> bool:
    text = json.loads(answer.body)["error"]
    return (answer.status, "retry-after" in answer.headers) == (413, False) and "limits.memory_bytes" in text


@pytest.mark.parametrize("way", ["stated length", "chunks", "gzip"])
def test_a_body_that_never_fits_is_too_large(little: Any, way: str) -> None:
    body, fields = binary((LITTLE + 1000) // 4)
    sent: Any = body
    if way == "chunks":
        sent = iter([body[at : at + 65536] for at in range(0, len(body), 65536)])
    elif way == "gzip":
        sent, fields["Content-Encoding"] = gzip.compress(body), "gzip"
    assert refused_for_good(call(little.http, "POST", PATH, sent, fields))


def test_a_compressed_body_that_fits_is_served(little: Any) -> None:
    body, fields = binary(LITTLE // 3 // 4)
    answer = call(little.http, "POST", PATH, gzip.compress(body), {**fields, "Content-Encoding": "gzip"})
    assert answer.status == 200, answer.body[:200]


def test_numbers_that_never_fit_as_tensors_are_too_large(little: Any) -> None:
    """Two bytes of JSON each become four of a tensor."""
    columns = LITTLE // 4 + 1000
    data = "0," * (columns - 1) + "0"
    tensor = f'{{"name": "x", "datatype": "FP32", "shape": [1, {columns}], "data": [{data}]}}'
    body = f'{{"inputs": [{tensor}], "outputs": [{{"name": "y", "parameters": {{"classification": 1}}}}]}}'
    assert refused_for_good(call(little.http, "POST", PATH, body.encode(), {}))


def message(columns: int) -> Any:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, columns])
    return pb.ModelInferRequest(model_name="wide", inputs=[tensor], raw_input_contents=[bytes(columns * 4)])


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_that_never_fits_is_too_large(little: Any, compression: grpc.Compression) -> None:
    with grpc.insecure_channel(little.grpc, compression=compression) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        assert len(stub.ModelInfer(message(LITTLE // 3 // 4)).raw_output_contents[0]) == LITTLE // 3 // 4 * 4
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(message(LITTLE * 3 // 4 // 4))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    fault: Any = error.value
    assert "over the limit of" in fault.details()
    assert "grpc-retry-pushback-ms" not in dict(fault.trailing_metadata())
