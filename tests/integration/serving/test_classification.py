"""Who asks for classes, or asks for them wrongly, changes the answers of nobody else, on either transport."""

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server

CALLS = 25
ROW = [3.0, 1.0, 2.0]
VALUES, CLASSES = [7.0, 3.0, 5.0], ["7.000000:0", "5.000000:2", "3.000000:1"]
Ask = Callable[[Server, int], object]
"""Asks for so many classes, 0 for values, -1 for what is refused; what came, with its datatype."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("classes")
    zoo.place(folder / "models", "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    with harness.running(folder / "models", folder) as running:
        yield running


def by_rest(server: Server, classes: int) -> object:
    wanted = [{"name": "y", "parameters": {"classification": classes}}] if classes else []
    item = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": ROW}
    reply = server.rest("POST", "/v2/models/m/infer", {"inputs": [item], **({"outputs": wanted} if wanted else {})})
    if reply.status != 200:
        return reply.status
    output = reply.json()["outputs"][0]
    return output["datatype"], output["shape"], output["data"]


def by_grpc(server: Server, classes: int) -> object:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.array(ROW, "<f4").tobytes())
    if classes:
        request.outputs.add(name="y").parameters["classification"].int64_param = classes
    with grpc.insecure_channel(server.grpc) as channel:
        try:
            answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=PATIENCE_S)
        except grpc.RpcError as failure:
            return failure.code()
    output, raw = answer.outputs[0], answer.raw_output_contents[0]
    data = texts(raw) if output.datatype == "BYTES" else np.frombuffer(raw, "<f4").tolist()
    return output.datatype, list(output.shape), data


def texts(raw: bytes) -> list[str]:
    found, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at)
        found.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return found


@pytest.mark.parametrize(
    ("ask", "refused"), [(by_rest, 400), (by_grpc, grpc.StatusCode.INVALID_ARGUMENT)], ids=["rest", "grpc"]
)
def test_callers_of_classes_and_of_values_get_each_their_own(ask: Ask, refused: object, server: Server) -> None:
    """Classes and values have the same shape here, so nothing but the datatype distinguishes the answers."""
    expected = {
        0: ("FP32", [1, 3], VALUES),
        3: ("BYTES", [1, 3], CLASSES),
        1: ("BYTES", [1, 1], CLASSES[:1]),
        -1: refused,
    }
    with ThreadPoolExecutor(8) as pool:
        asked = list(expected) * CALLS
        found = list(pool.map(lambda classes: ask(server, classes), asked))
    for classes, answer in zip(asked, found, strict=True):
        assert answer == expected[classes]
