"""Codecs of requests and answers: V2 JSON, V2 binary, gRPC, and the two of the FastAPI endpoint."""

import http.client
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from loadtests.models import Arrays, BenchModel, Floats
from penstock.proto import grpc_service_pb2 as pb

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
CHECKED = 8
"""Different rows in the requests of a model."""

_NUMPY = {"INT64": "<i8", "FP32": "<f4"}
_GRPC_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Call:
    """One request, ready to send: for gRPC the body is the bare message."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Codec:
    """How to write the request for a row and how to read its answer; ``grpc``: over HTTP/2, else over HTTP/1.1."""

    name: str
    write: Callable[[BenchModel, Floats], Call]
    read: Callable[[BenchModel, Mapping[str, str], bytes], Arrays]
    grpc: bool = False


class WrongAnswer(Exception):
    """The answer of a server differs from that of ONNX Runtime."""


def send(codec: Codec, address: str, call: Call) -> tuple[Mapping[str, str], bytes]:
    """One call over a connection of its own; raises WrongAnswer on any status but success."""
    if codec.grpc:
        with grpc.insecure_channel(address, options=_GRPC_OPTIONS) as channel:
            infer: Callable[..., bytes] = channel.unary_unary(GRPC_METHOD)
            try:
                return {}, infer(call.body, timeout=30)
            except grpc.RpcError as failure:
                raise WrongAnswer(f"{codec.name}: {failure}") from failure
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("POST", call.path, call.body, dict(call.headers))
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise WrongAnswer(f"{codec.name}: {answer.status} {body[:300]!r}")
    return {name.lower(): value for name, value in answer.getheaders()}, body


class ReferenceCalls:
    """Requests for different rows of one model, with the answers of ONNX Runtime."""

    def __init__(self, model: BenchModel) -> None:
        self._model = model
        self._rows = model.rows(CHECKED, seed=1)
        self._expected = model.expected(self._rows)
        self._calls: dict[str, list[Call]] = {}

    def calls(self, codec: Codec) -> list[Call]:
        """One request for each row."""
        if codec.name not in self._calls:
            rows = [self._rows[index : index + 1] for index in range(CHECKED)]
            self._calls[codec.name] = [codec.write(self._model, row) for row in rows]
        return self._calls[codec.name]

    def verify(self, codec: Codec, index: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raise WrongAnswer unless this is the answer to the request for row ``index``."""
        got = codec.read(self._model, headers, body)
        _compare(codec, {name: values[index] for name, values in self._expected.items()}, got)

    def check(self, codec: Codec, address: str) -> int:
        """Send all requests at once and verify the answers; return the size of the longest answer's body in bytes.
        Raises WrongAnswer."""
        with ThreadPoolExecutor(CHECKED) as pool:
            answers = list(pool.map(lambda call: send(codec, address, call), self.calls(codec)))
        for index, (headers, body) in enumerate(answers):
            self.verify(codec, index, headers, body)
        return max(len(body) for _, body in answers)


def _compare(codec: Codec, expected: Arrays, got: Arrays) -> None:
    """Joining rows into one run may change the last bits of a float, so values only have to be close."""
    for name, values in expected.items():
        if not np.allclose(values, got[name].reshape(values.shape), rtol=1e-3, atol=1e-4):
            raise WrongAnswer(f"{codec.name}: {name} is {got[name].ravel()[:8]}, not {values.ravel()[:8]}")


def shorten(rows: Floats) -> list[float]:
    """The values flat, in the four decimals they were made with."""
    return [round(value, 4) for value in rows.ravel().tolist()]


def _path(model: BenchModel) -> str:
    return f"/v2/models/{model.name}/infer"


def _write_json(model: BenchModel, rows: Floats) -> Call:
    tensor = {"name": model.input, "shape": rows.shape, "datatype": "FP32", "data": shorten(rows)}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    return Call(_path(model), body, {"content-type": "application/json"})


def _read_json(_: BenchModel, headers: Mapping[str, str], body: bytes) -> Arrays:
    return {output["name"]: _typed(output, output["data"]) for output in json.loads(body)["outputs"]}


def _typed(output: dict[str, Any], values: Any) -> NDArray[Any]:
    return np.array(values, _NUMPY[output["datatype"]]).reshape(output["shape"])


def _write_binary(model: BenchModel, rows: Floats) -> Call:
    tensor = {
        "name": model.input,
        "shape": rows.shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": rows.nbytes},
    }
    request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    text = json.dumps(request, separators=(",", ":")).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(text))}
    return Call(_path(model), text + rows.tobytes(), headers)


def _read_binary(_: BenchModel, headers: Mapping[str, str], body: bytes) -> Arrays:
    at = int(headers["inference-header-content-length"])
    arrays: Arrays = {}
    for output in json.loads(body[:at])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        arrays[output["name"]] = _raw(output["datatype"], output["shape"], body[at : at + size])
        at += size
    return arrays


def _raw(datatype: str, shape: Any, data: bytes) -> NDArray[Any]:
    return np.frombuffer(data, _NUMPY[datatype]).reshape(shape)


def _write_grpc(model: BenchModel, rows: Floats) -> Call:
    tensor = pb.ModelInferRequest.InferInputTensor(name=model.input, datatype="FP32", shape=rows.shape)
    # With an id of its own every answer to this request is equally long, which is how a load tool that does not
    # read trailers can distinguish an answer from an error.
    message = pb.ModelInferRequest(
        model_name=model.name, id="loadtest", inputs=[tensor], raw_input_contents=[rows.tobytes()]
    )
    return Call(GRPC_METHOD, message.SerializeToString(), {"content-type": "application/grpc", "te": "trailers"})


def _read_grpc(_: BenchModel, headers: Mapping[str, str], body: bytes) -> Arrays:
    answer = pb.ModelInferResponse.FromString(body)
    if not answer.raw_output_contents:
        return {output.name: _typed_contents(output) for output in answer.outputs}
    pairs = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return {output.name: _raw(output.datatype, list(output.shape), data) for output, data in pairs}


def _typed_contents(output: pb.ModelInferResponse.InferOutputTensor) -> NDArray[Any]:
    contents = output.contents
    values = contents.fp32_contents if output.datatype == "FP32" else contents.int64_contents
    return np.array(values, _NUMPY[output.datatype]).reshape(output.shape)


GRPC_PREFIX = 5
"""Bytes before each message of a gRPC body: a flag and its length."""


def _write_rows(_: BenchModel, rows: Floats) -> Call:
    body = json.dumps({"rows": [shorten(row) for row in rows]}, separators=(",", ":")).encode()
    return Call("/predict", body, {"content-type": "application/json"})


def _write_image(_: BenchModel, rows: Floats) -> Call:
    return Call("/predict-raw", rows.tobytes(), {"content-type": "application/octet-stream"})


def _read_by_name(model: BenchModel, headers: Mapping[str, str], body: bytes) -> Arrays:
    return {name: np.array(values) for name, values in json.loads(body).items()}


JSON = Codec("json", _write_json, _read_json)
BINARY = Codec("binary", _write_binary, _read_binary)
GRPC = Codec("grpc", _write_grpc, _read_grpc, grpc=True)
ROWS = Codec("rows", _write_rows, _read_by_name)
IMAGE = Codec("image", _write_image, _read_by_name)
