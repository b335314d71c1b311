"""Captured requests on the wire of both transports, and answers back."""

import json
import socket
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import InvalidInput
from penstock.loadtest.http1_wire import split_answer
from penstock.loadtest.wire import Endpoint
from penstock.monitor.capture import packed_request
from penstock.proto import grpc_service_pb2 as pb
from penstock.replay.requests import GrpcCodec, RestCodec
from tests.unit.replay.records import tensor

ENDPOINT = Endpoint(socket.AF_INET, ("127.0.0.1", 1), "127.0.0.1:1")
REST = RestCodec(ENDPOINT, "a/b", "2", {"authorization": "Bearer t"})
GRPC = GrpcCodec("a/b", "2")
MIXED = packed_request(
    {"id": "r1", "at": 1.0},
    [("inputs", tensor("x", [[1.5, 2.5]])), ("inputs", tensor("word", [["ä"]], "BYTES")),
     ("outputs", tensor("y", [[0.5]]))],
)  # fmt: skip


def answer_of(head: dict[str, Any], raw: bytes = b"", chunked: bool = False) -> bytes:
    text = json.dumps(head).encode()
    lines = f"HTTP/1.1 200 OK\r\ninference-header-content-length: {len(text)}\r\n".encode()
    body = text + raw
    if chunked:
        return lines + b"transfer-encoding: chunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return lines + b"content-length: %d\r\n\r\n" % len(body) + body


def test_a_request_by_rest_is_binary_marked_and_asks_for_the_captured_outputs() -> None:
    fields, body = split_answer(REST.encode(MIXED))
    assert REST.encode(MIXED).startswith(b"POST /v2/models/a%2Fb/versions/2/infer HTTP/1.1\r\n")
    assert (fields["penstock-source"], fields["penstock-class"]) == ("replay", "batch")
    assert fields["authorization"] == "Bearer t" and int(fields["content-length"]) == len(body)
    length = int(fields["inference-header-content-length"])
    head = json.loads(body[:length])
    assert head["id"] == "r1"
    assert [item["parameters"]["binary_data_size"] for item in head["inputs"]] == [8, 6]
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
    assert body[length:] == np.array([1.5, 2.5], "<f4").tobytes() + b"\x02\x00\x00\x00" + "ä".encode()


def test_a_request_by_grpc_has_raw_contents_and_asks_for_the_captured_outputs() -> None:
    encoded = GRPC.encode(MIXED)
    message = pb.ModelInferRequest.FromString(encoded[5:])
    assert int.from_bytes(encoded[1:5], "big") == len(encoded) - 5
    assert (message.model_name, message.model_version, message.id) == ("a/b", "2", "r1")
    assert [list(item.shape) for item in message.inputs] == [[1, 2], [1, 1]]
    assert [len(raw) for raw in message.raw_input_contents] == [8, 6]
    assert [item.name for item in message.outputs] == ["y"]


@pytest.mark.parametrize("chunked", [False, True])
def test_answers_by_rest_are_binary_or_json(chunked: bool) -> None:
    raw = np.array([[0.5]], "<f4").tobytes()
    outputs = [
        {"name": "y", "datatype": "FP32", "shape": [1, 1], "parameters": {"binary_data_size": 4}},
        {"name": "word", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]
    found = REST.decode(answer_of({"model_version": "7", "outputs": outputs}, raw, chunked))
    assert found.version == "7"
    assert [(item.name, item.data.tolist()) for item in found.outputs] == [("y", [[0.5]]), ("word", ["a"])]


def test_answers_by_grpc_are_raw_or_typed() -> None:
    raw = pb.ModelInferResponse(model_version="3")
    raw.outputs.add(name="y", datatype="FP32", shape=[1])
    raw.raw_output_contents.append(np.array([2.5], "<f4").tobytes())
    typed = pb.ModelInferResponse()
    typed.outputs.add(name="n", datatype="INT32", shape=[2]).contents.int_contents.extend([1, 2])
    typed.outputs.add(name="s", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    for message, values in ((raw, [[2.5]]), (typed, [[1, 2], ["a"]])):
        body = message.SerializeToString()
        found = GRPC.decode(b"\0" + len(body).to_bytes(4, "big") + body)
        assert [item.data.tolist() for item in found.outputs] == values


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n[]", answer_of({"outputs": [{}]}), answer_of({}),
     answer_of({"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 4}}]})],
)  # fmt: skip
def test_answers_over_rest_that_break_the_protocol_are_refused(answer: bytes) -> None:
    with pytest.raises(InvalidInput):
        REST.decode(answer)


@pytest.mark.parametrize("answer", [b"", b"\x01\0\0\0\0", b"\0\0\0\0\x01\xff"])
def test_answers_over_grpc_that_break_the_protocol_are_refused(answer: bytes) -> None:
    with pytest.raises(InvalidInput):
        GRPC.decode(answer)
