"""The four ways a prediction can be asked for, behind one small interface; codecs of the tests' own."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import CALL_SECONDS, Reply, Server

Array = NDArray[Any]

NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.int8,
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
    "BYTES": object,
}
RAW_ONLY = ("FP16", "BF16")
"""Datatypes without a JSON and without a typed gRPC form."""

TYPED_FIELDS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

GRPC_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The contract's codes: REST to gRPC."""

Parameters = Mapping[str, bool | int | str | float]


@dataclass(frozen=True, slots=True)
class Input:
    """An input as the caller states it; ``data`` need not fit ``shape`` or ``datatype``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Array

    @classmethod
    def of(cls, name: str, datatype: str, values: object) -> "Input":
        """An honest input: shape and data agree."""
        array = np.array(values, NUMPY_TYPES[datatype])
        if datatype == "BYTES":
            array = _objects(array.ravel(), array.shape)
        return cls(name, datatype, array.shape, array)


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """A requested output."""

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """One inference request, before any transport."""

    model: str
    inputs: Sequence[Input]
    version: str = ""
    id: str = ""
    requested: Sequence[RequestedOutput] | None = None
    parameters: Parameters = field(default_factory=dict)

    def path(self) -> str:
        """The REST path."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self.model}{version}/infer"


@dataclass(frozen=True, slots=True)
class Output:
    """One tensor of an answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Array
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A prediction, after any transport; ``facts`` are response headers or initial metadata."""

    model: str
    version: str
    id: str
    outputs: list[Output]
    facts: Mapping[str, str]

    def array(self, name: str) -> Array:
        """The data of one output."""
        return next(output.data for output in self.outputs if output.name == name)


class Refused(Exception):
    """The server answered with an error: the REST code it stands for, and its sentence."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Transport(Protocol):
    """One way to ask."""

    name: str
    raw: bool

    def infer(self, ask: Ask) -> Answer:
        """Ask for a prediction.

        Raises:
            Refused: the server said no.
        """

    def close(self) -> None:
        """Let go of the connection."""


# Tensor data.


def to_raw(array: Array) -> bytes:
    """Little-endian row-major bytes; elements of object arrays with their length in front."""
    if array.dtype == object:
        return b"".join(len(item).to_bytes(4, "little") + item for item in map(_as_bytes, array.ravel()))
    return array.tobytes()


def from_raw(datatype: str, shape: Sequence[int], raw: bytes) -> Array:
    """The inverse of ``to_raw``; BYTES elements stay bytes."""
    if datatype != "BYTES":
        return np.frombuffer(raw, NUMPY_TYPES[datatype]).reshape(shape)
    items: list[bytes] = []
    while raw:
        end = 4 + int.from_bytes(raw[:4], "little")
        assert end <= len(raw), "an element runs past the end"
        items.append(raw[4:end])
        raw = raw[end:]
    return _objects(items, shape)


def _objects(items: Iterable[object], shape: Sequence[int]) -> Array:
    encoded = list(map(_as_bytes, items))
    array = np.empty(len(encoded), object)
    array[:] = encoded
    return array.reshape(shape)


def _as_bytes(item: object) -> bytes:
    return item.encode() if isinstance(item, str) else bytes(item)  # type: ignore[call-overload]


def _json_values(array: Array) -> list[Any]:
    if array.dtype == object:
        return [_as_bytes(item).decode() for item in array.ravel()]
    values: list[Any] = array.ravel().tolist()
    return values


def _array(datatype: str, shape: Sequence[int], values: Sequence[object]) -> Array:
    assert len(values) == prod(shape), f"{len(values)} values for the shape {shape}"
    if datatype == "BYTES":
        return _objects(values, shape)
    return np.array(values, NUMPY_TYPES[datatype]).reshape(shape)


# REST.


class Rest:
    """What both REST forms share."""

    name = "rest"
    raw = False

    def __init__(self, server: Server) -> None:
        self._server = server

    def infer(self, ask: Ask) -> Answer:
        """Post the request and read the answer."""
        reply = self._post(ask)
        if reply.status != 200:
            raise Refused(reply.status, reply.error())
        return read_reply(reply)

    def close(self) -> None:
        """Nothing is kept open."""

    def _post(self, ask: Ask) -> Reply:
        raise NotImplementedError


class RestJson(Rest):
    """Everything as JSON."""

    name = "rest-json"

    def _post(self, ask: Ask) -> Reply:
        body = rest_head(ask, [{"data": _json_values(given.data)} for given in ask.inputs])
        return self._server.rest("POST", ask.path(), body)


class RestBinary(Rest):
    """The binary tensor extension, both ways."""

    name = "rest-binary"
    raw = True

    def _post(self, ask: Ask) -> Reply:
        body, length = binary_body(replace(ask, parameters={"binary_data_output": True, **ask.parameters}))
        headers = {"Inference-Header-Content-Length": str(length), "Content-Type": "application/octet-stream"}
        return self._server.rest("POST", ask.path(), body, headers)


def rest_head(ask: Ask, extras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON part of a request; ``extras`` are merged into the inputs."""
    head: dict[str, Any] = {
        "inputs": [
            {"name": given.name, "shape": list(given.shape), "datatype": given.datatype, **extra}
            for given, extra in zip(ask.inputs, extras, strict=True)
        ]
    }
    if ask.id:
        head["id"] = ask.id
    if ask.parameters:
        head["parameters"] = dict(ask.parameters)
    if ask.requested is not None:
        head["outputs"] = [
            {"name": requested_output.name, "parameters": dict(requested_output.parameters)}
            for requested_output in ask.requested
        ]
    return head


def binary_body(ask: Ask) -> tuple[bytes, int]:
    """A body with every input in binary, and the length of its JSON part."""
    parts = [to_raw(given.data) for given in ask.inputs]
    head = json.dumps(rest_head(ask, [{"parameters": {"binary_data_size": len(part)}} for part in parts])).encode()
    return b"".join([head, *parts]), len(head)


def read_reply(reply: Reply) -> Answer:
    """A prediction from an HTTP answer in either form."""
    body = reply.inflated()
    length = int(reply.headers.get("inference-header-content-length", len(body)))
    head = json.loads(body[:length], parse_constant=_no_token)
    rest, outputs = body[length:], []
    for output in head["outputs"]:
        parameters = output.get("parameters", {})
        if "data" in output:
            array = _array(output["datatype"], output["shape"], output["data"])
        else:
            size = parameters["binary_data_size"]
            array, rest = from_raw(output["datatype"], output["shape"], rest[:size]), rest[size:]
        outputs.append(Output(output["name"], output["datatype"], tuple(output["shape"]), array, parameters))
    assert not rest, f"{len(rest)} bytes after the last output"
    return Answer(head["model_name"], head["model_version"], head.get("id", ""), outputs, reply.headers)


def _no_token(token: str) -> object:
    raise AssertionError(f"the answer holds {token}, which is not JSON")


# gRPC.


class Grpc:
    """What both gRPC forms share."""

    name = "grpc"
    raw = False

    def __init__(self, server: Server) -> None:
        self._channel = grpc.insecure_channel(server.grpc, options=[("grpc.max_receive_message_length", -1)])
        self.stub = GRPCInferenceServiceStub(self._channel)

    def infer(self, ask: Ask) -> Answer:
        """Call ModelInfer."""
        try:
            response, outcome = self.stub.ModelInfer.with_call(self.message(ask), timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise refused(error) from None
        return read_response(response, {str(k): str(v) for k, v in outcome.initial_metadata()})

    def message(self, ask: Ask) -> "pb.ModelInferRequest":
        """The request message."""
        message = pb.ModelInferRequest(model_name=ask.model, model_version=ask.version, id=ask.id)
        set_parameters(message.parameters, ask.parameters)
        for given in ask.inputs:
            tensor = message.inputs.add(name=given.name, datatype=given.datatype, shape=given.shape)
            self.add(message, tensor, given.data)
        for requested_output in ask.requested or ():
            set_parameters(message.outputs.add(name=requested_output.name).parameters, requested_output.parameters)
        return message

    def add(self, message: Any, tensor: Any, data: Array) -> None:
        """Put one input's data into the message."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class GrpcRaw(Grpc):
    """Raw contents."""

    name = "grpc-raw"
    raw = True

    def add(self, message: Any, tensor: Any, data: Array) -> None:
        """Append the bytes."""
        message.raw_input_contents.append(to_raw(data))


class GrpcTyped(Grpc):
    """Typed contents, in the field of the stated datatype."""

    name = "grpc-typed"

    def add(self, message: Any, tensor: Any, data: Array) -> None:
        """Fill the field."""
        values = [_as_bytes(item) for item in data.ravel()] if data.dtype == object else data.ravel().tolist()
        target = TYPED_FIELDS.get(tensor.datatype, "fp32_contents")
        getattr(tensor.contents, target).extend(values)


def set_parameters(target: Any, parameters: Parameters) -> None:
    """Fill a message's parameter map."""
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(target[name], kind, value)


def refused(error: grpc.RpcError) -> Refused:
    """A gRPC error as the REST code that means the same (429 and 413 share one status)."""
    status, text = error.code(), error.details() or ""
    codes = [code for code, name in GRPC_STATUS.items() if name == status]
    if not codes:
        raise AssertionError(f"a status the contract does not know: {status} {text}")
    return Refused(429 if codes == [413, 429] and "large" not in text and "limit" not in text else codes[0], text)


def read_response(response: Any, facts: Mapping[str, str]) -> Answer:
    """A prediction from a gRPC answer in either form."""
    raws = list(response.raw_output_contents)
    assert not raws or len(raws) == len(response.outputs), "raw contents must pair with the outputs"
    outputs = []
    for index, output in enumerate(response.outputs):
        if raws:
            array = from_raw(output.datatype, output.shape, raws[index])
        else:
            array = _array(output.datatype, output.shape, getattr(output.contents, TYPED_FIELDS[output.datatype]))
        parameters = {name: _choice(parameter) for name, parameter in output.parameters.items()}
        outputs.append(Output(output.name, output.datatype, tuple(output.shape), array, parameters))
    return Answer(response.model_name, response.model_version, response.id, outputs, facts)


def _choice(parameter: Any) -> Any:
    return getattr(parameter, parameter.WhichOneof("parameter_choice"))


TRANSPORTS: tuple[type[RestJson | RestBinary | GrpcRaw | GrpcTyped], ...] = (RestJson, RestBinary, GrpcRaw, GrpcTyped)
