"""Turns captured requests into requests of the protocol and answers back into tensors: by REST with binary data, and by
gRPC with raw contents.

The binary data extension of the Open Inference Protocol puts the bytes of tensors behind the JSON, whose length is in
``inference-header-content-length``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote

import numpy as np

from penstock.core.errors import Fault, InvalidInput
from penstock.core.tensors import Array, Tensor, element_count, from_raw, numpy_type, to_raw
from penstock.loadtest.http1_wire import http1_request, split_answer
from penstock.loadtest.http2_wire import grpc_body
from penstock.loadtest.wire import Endpoint
from penstock.monitor.capture import CapturedRequest

MARKS: Final[Mapping[str, str]] = {"penstock-source": "replay", "penstock-class": "batch"}
"""What every request says: it is not live traffic, and live traffic goes first."""

_LENGTH: Final = "inference-header-content-length"
_PREFIX: Final = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its outputs, and the version that it says it is from ("" if it says none)."""

    outputs: Sequence[Tensor]
    version: str


class Codec(Protocol):
    """Encodes requests, and decodes answers of one transport."""

    def encode(self, record: CapturedRequest) -> bytes:
        """Return the request of a record as a connection sends it; raises ``Fault`` if it cannot be encoded."""

    def decode(self, answer: bytes) -> Answer:
        """Return what a successful answer holds; raises ``InvalidInput`` if it is not an answer of the protocol."""


def tensors_of(record: CapturedRequest, side: str) -> list[Tensor]:
    """Return the ``inputs`` or ``outputs`` of a record, in their order."""
    arrays = record.arrays()[side]
    entries = [entry for entry in record.head["tensors"] if entry["side"] == side]
    return [Tensor(entry["name"], entry["datatype"], arrays[entry["name"]]) for entry in entries]


class RestCodec:
    """Binary V2 over HTTP/1.1 for one model, or one of its versions."""

    def __init__(self, endpoint: Endpoint, model: str, version: str, credential: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        place = f"/versions/{quote(version, safe='')}" if version else ""
        self._path = f"/v2/models/{quote(model, safe='')}{place}/infer"
        self._headers = {**credential, **MARKS, "content-type": "application/octet-stream"}

    def encode(self, record: CapturedRequest) -> bytes:
        """See ``Codec``."""
        inputs = tensors_of(record, "inputs")
        raws = [to_raw(tensor.datatype, tensor.data) for tensor in inputs]
        described = [
            {**_describe_tensor(tensor), "parameters": {"binary_data_size": len(raw)}}
            for tensor, raw in zip(inputs, raws, strict=True)
        ]
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in _output_names(record)]
        document = {"id": record.id, "inputs": described, "parameters": {"binary_data_output": True}}
        head = json.dumps({**document, "outputs": outputs} if outputs else document).encode()
        headers = {**self._headers, _LENGTH: str(len(head))}
        return http1_request(self._endpoint, self._path, headers, b"".join([head, *raws]))

    def decode(self, answer: bytes) -> Answer:
        """See ``Codec``."""
        try:
            fields, body = split_answer(answer)
            length = int(fields.get(_LENGTH, len(body)))
            document = json.loads(body[:length])
            outputs = _rest_outputs(document["outputs"], body[length:])
            return Answer(outputs, str(document.get("model_version", "")))
        except (Fault, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput("the answer is not one of the protocol") from error


def _describe_tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.data.shape)}


def _output_names(record: CapturedRequest) -> list[str]:
    return [entry["name"] for entry in record.head["tensors"] if entry["side"] == "outputs"]


def _rest_outputs(described: Sequence[Mapping[str, Any]], raw: bytes) -> list[Tensor]:
    outputs, at = [], 0
    for item in described:
        name, datatype, shape = str(item["name"]), str(item["datatype"]), item["shape"]
        size = (item.get("parameters") or {}).get("binary_data_size")
        if size is None:
            data = from_values(name, datatype, shape, item["data"])
        else:
            data = from_raw(name, datatype, shape, raw[at : at + size])
            at += size
        outputs.append(Tensor(name, datatype, data))
    return outputs


def from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> Array:
    """Return an array of a datatype from a list of values, flat or nested; raises ``ValueError`` if they do not fit."""
    element_count(name, shape)
    return np.asarray(values, numpy_type(name, datatype)).reshape(shape)


class GrpcCodec:
    """Raw contents over gRPC for one model, or one of its versions."""

    def __init__(self, model: str, version: str) -> None:
        from penstock.proto import grpc_service_pb2 as pb  # noqa: PLC0415 - REST needs no protobuf

        self._pb = pb
        self._model = model
        self._version = version

    def encode(self, record: CapturedRequest) -> bytes:
        """See ``Codec``."""
        message = self._pb.ModelInferRequest(model_name=self._model, model_version=self._version, id=record.id)
        for tensor in tensors_of(record, "inputs"):
            message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
            message.raw_input_contents.append(to_raw(tensor.datatype, tensor.data))
        for name in _output_names(record):
            message.outputs.add(name=name)
        return grpc_body(message.SerializeToString())

    def decode(self, answer: bytes) -> Answer:
        """See ``Codec``."""
        if len(answer) < _PREFIX or answer[0]:
            raise InvalidInput("the answer is not one of the protocol, or compressed though nobody asked for that")
        try:
            message = self._pb.ModelInferResponse.FromString(answer[_PREFIX:])
            outputs = [
                Tensor(item.name, item.datatype, _grpc_data(message, place))
                for place, item in enumerate(message.outputs)
            ]
        except Exception as error:  # whatever protobuf, or another server's idea of the protocol, leads to
            raise InvalidInput("the answer is not one of the protocol") from error
        return Answer(outputs, message.model_version)


_TYPED: Final = {
    "BOOL": "bool_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "BYTES": "bytes_contents",
    **{f"INT{bits}": "int_contents" for bits in (8, 16, 32)},
    **{f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)},
}
"""The field of typed contents of each datatype."""


def _grpc_data(message: Any, place: int) -> Array:
    output = message.outputs[place]
    if message.raw_output_contents:
        return from_raw(output.name, output.datatype, output.shape, message.raw_output_contents[place])
    values = list(getattr(output.contents, _TYPED[output.datatype]))
    texts = [value.decode(errors="replace") for value in values] if output.datatype == "BYTES" else values
    return from_values(output.name, output.datatype, output.shape, texts)
