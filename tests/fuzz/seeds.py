"""The first inputs of guided fuzzing, sound requests of every kind: ``python -m tests.fuzz.seeds`` writes them."""

import json
import struct
from pathlib import Path

import hpack
import numpy as np

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.header_encoding import encode_literal
from penstock.api.grpc.services import INFER
from penstock.proto import grpc_service_pb2 as pb
from tests.conformance.rawhttp import request

CORPUS = Path(__file__).with_name("corpus")
WHOLE = b"\0"
"""A first byte that lets an input come whole."""

ROW = np.arange(3, dtype="<f4")


def _json(**more: object) -> bytes:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.5, 1e3, -2]}
    return json.dumps({"inputs": [{**tensor, **more}]}).encode()


def _binary(data: bytes, **more: object) -> tuple[bytes, bytes]:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    return json.dumps({"inputs": [{**tensor, **more}]}).encode(), data


def _message(**more: object) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3])
    built = pb.ModelInferRequest(model_name="row", inputs=[tensor], raw_input_contents=[ROW.tobytes()])
    for name, value in more.items():
        setattr(built, name, value)
    return built.SerializeToString()


def _typed() -> bytes:
    contents = pb.InferTensorContents(fp32_contents=[1, 2, 3])
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 3], contents=contents)
    built = pb.ModelInferRequest(model_name="row", id="typed", inputs=[tensor])
    built.parameters["timeout"].int64_param = 1000
    built.outputs.add(name="y").parameters["classification"].int64_param = 2
    return built.SerializeToString()


def _block(path: str, *more: tuple[bytes, bytes]) -> bytes:
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"localhost")]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]
    return b"".join(encode_literal(name, value) for name, value in fields)


def _call(number: int, message: bytes, path: str = INFER, *more: tuple[bytes, bytes]) -> bytes:
    body = struct.pack(">BI", 0, len(message)) + message
    head = frames.encode_frame(frames.HEADERS, frames.END_HEADERS, number, _block(path, *more))
    return head + frames.encode_frame(frames.DATA, frames.END_STREAM, number, body)


def seeds() -> dict[str, list[bytes]]:
    """The seeds of each target."""
    header, data = _binary(ROW.tobytes())
    path = "/v2/models/row/infer"
    settings = frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 1 << 20})
    more_window = frames.window_update(0, 1 << 20)
    ping = frames.encode_frame(frames.PING, 0, 0, b"8 octets")
    length = f"inference-header-content-length: {len(header)}"
    sound = request("POST", path, _json())
    return {
        "rest": [
            WHOLE + sound,
            WHOLE + sound * 3,
            b"\x09" + sound,
            WHOLE + request("POST", path, header + data, length),
            WHOLE + request("POST", path, _json(), "penstock-timeout-ms: 5", "penstock-class: batch"),
            WHOLE + request("GET", "/v2/health/ready"),
            WHOLE + request("POST", "/v2/models/nobody/infer", _json()) + sound,
            WHOLE + request("POST", path, _json(), "connection: upgrade", "upgrade: h2c") + sound,
            WHOLE + request("CONNECT", "a:1") + sound,
        ],
        "grpc": [
            WHOLE + settings + _call(1, _message()) + _call(3, _message(id="second")),
            b"\x11" + settings + more_window + _call(1, _typed()),
            WHOLE + settings + ping + _call(1, _message(), INFER, (b"grpc-timeout", b"5m"), (b"x-request-id", b"a")),
            WHOLE + settings + _call(1, b"", "/inference.GRPCInferenceService/ServerLive"),
            WHOLE + settings + _call(1, _message()) + frames.reset(1, frames.ErrorCode.CANCEL),
        ],
        "json": [_json(), _json(data=[[1, 2, 3]]), _json(datatype="BYTES", data=["a", "b", "c"]), _json(shape=[0, 3])],
        "binary": [len(item).to_bytes(2, "little") + item + raw for item, raw in (_binary(ROW.tobytes()), (b"", data))],
        "message": [_message(), _message(id="one"), _typed()],
        "heads": [
            *(bytes((len(block),)) + block for block in (_block(INFER), _block("/", (b"x-b-bin", b"AA==")))),
            b"".join(bytes((len(block),)) + block for block in _indexed()),
        ],
    }


def _indexed() -> list[bytes]:
    """Blocks of one client, as they are usually sent: the first fill its table, the others refer to it."""
    encoder, fields = hpack.Encoder(), [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("te", "trailers")]
    usual = [*fields, ("content-type", "application/grpc")]
    return [encoder.encode(some) for some in (usual, usual, [*usual, ("x", "1")], [*usual, ("x", "1")], usual)]


def main() -> None:
    """Write them."""
    for name, inputs in seeds().items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
