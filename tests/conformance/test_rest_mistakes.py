"""Bodies, headers and methods that only REST can get wrong; the connection's server lives on through all of them."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from tests.conformance.mistakes import SAFE
from tests.conformance.rawhttp import connected, request
from tests.conformance.test_refusals import assert_reveals_no_secrets
from tests.conformance.wire import RestJson, to_raw
from tests.harness import Reply, Server

INFER = "/v2/models/vector/infer"
LIMIT = 64 << 20
"""Bytes a body may have by default."""


@pytest.fixture(autouse=True)
def _alive(server: Server) -> Iterator[None]:
    yield
    RestJson(server).infer(SAFE)


def vector(**changes: Any) -> dict[str, Any]:
    """A right request for the model ``vector``, with some fields of its input changed (None leaves one out)."""
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2], **changes}
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def head(**changes: Any) -> dict[str, Any]:
    """A right request with some of its outer fields changed."""
    return {**vector(), **changes}


def refused(reply: Reply, code: int, *fragments: str) -> str:
    """Check the code and the sentence of a refusal."""
    text = reply.error()
    assert reply.status == code, text
    for word in fragments:
        assert word in text
    assert_reveals_no_secrets(text)
    return text


NOT_JSON = {
    "nothing": b"",
    "white space": b"  \r\n",
    "half an object": b'{"inputs": [',
    "half a string": b'{"inputs": "',
    "two objects": b"{}{}",
    "something after": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]} x',
    "single quotes": b"{'inputs': []}",
    "trailing comma": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1,]}]}',
    "comment": b'{"inputs": [] /* none */}',
    "not UTF-8": b'{"id":"\xff","inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}',
    "UTF-16": '{"inputs":[]}'.encode("utf-16"),
    "NaN": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}',
    "Infinity": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[Infinity]}]}',
    "-Infinity": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[-Infinity]}]}',
    "hexadecimal": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[0x10]}]}',
    "leading zero": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[01]}]}',
    "control character": b'{"id":"a\nb","inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}',
    "lone surrogate": b'{"id":"\\ud800","inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}',
    "deep lists": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 200_000,
    "deep closed lists": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":'
    + (b"[" * 100_000)
    + b"1"
    + (b"]" * 100_000)
    + b"}]}",
    "deep objects": b'{"parameters":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_malformed_json_is_refused(server: Server, body: bytes) -> None:
    refused(server.rest("POST", INFER, body), 400)


WRONG_FORMS: dict[str, tuple[Any, str]] = {
    "a list": ([1], ""),
    "null": (None, ""),
    "a text": ("inputs", ""),
    "a number": (7, ""),
    "no inputs": ({}, "inputs"),
    "inputs null": ({"inputs": None}, "inputs"),
    "inputs an object": ({"inputs": vector()["inputs"][0]}, "inputs"),
    "an input a number": ({"inputs": [7]}, ""),
    "no name": (vector(name=None), "name"),
    "name a number": (vector(name=7), "name"),
    "no shape": (vector(shape=None), "shape"),
    "shape a number": (vector(shape=2), "shape"),
    "shape of texts": (vector(shape=["2"]), "shape"),
    "shape with a fraction": (vector(shape=[2.5]), "shape"),
    "shape with a truth": (vector(shape=[True], data=[1]), "shape"),
    "shape beyond 64 bits": (vector(shape=[1 << 70]), "shape"),
    "shape of null": (vector(shape=[None]), "shape"),
    "no datatype": (vector(datatype=None), "datatype"),
    "datatype a number": (vector(datatype=32), "datatype"),
    "no data": (vector(data=None), "x"),
    "data a number": (vector(data=1), "x"),
    "data an object": (vector(data={"0": 1}), "data"),
    "data a text": (vector(data="1 2"), "data"),
    "data holds a list and a number": (vector(data=[1, [2]]), "x"),
    "data holds an object": (vector(data=[1, {}]), "x"),
    "data holds a text": (vector(data=[1, "2"]), "x"),
    "data holds a truth": (vector(data=[1, True]), "x"),
    "data too deep": (vector(data=[[[1, 2]]]), "x"),
    "data ragged": (vector(data=[[1], [2, 3]]), "x"),
    "data half nested": (vector(data=[1, [2]]), "x"),
    "data beyond the range": (vector(data=[1, 1e39]), "x"),
    "id a number": (head(id=7), "id"),
    "id a list": (head(id=["a"]), "id"),
    "parameters a list": (head(parameters=[1]), "parameters"),
    "outputs an object": (head(outputs={}), "outputs"),
    "an output a text": (head(outputs=["y"]), "outputs"),
    "output without a name": (head(outputs=[{}]), "name"),
    "binary_data no truth": (head(outputs=[{"name": "y", "parameters": {"binary_data": "yes"}}]), "binary_data"),
    "binary_data_output no truth": (head(parameters={"binary_data_output": 1}), "binary_data_output"),
    "input in shared memory": (vector(data=None, parameters={"shared_memory_region": "r"}), "shared memory"),
}


@pytest.mark.parametrize(("document", "word"), WRONG_FORMS.values(), ids=WRONG_FORMS)
def test_json_of_the_wrong_form_is_refused(server: Server, document: object, word: str) -> None:
    code = 501 if word == "shared memory" else 400
    refused(server.rest("POST", INFER, json.dumps(document).encode()), code, word)


NUMBERS_OUT_OF_RANGE = [
    ("INT8", "128"),
    ("INT8", "-129"),
    ("UINT8", "-1"),
    ("UINT8", "256"),
    ("INT32", "2147483648"),
    ("INT64", "9223372036854775808"),
    ("UINT64", "18446744073709551616"),
    ("UINT64", "-1"),
    ("INT64", "1" + "0" * 400),
    ("INT64", "1" * 20_000),
    ("FP32", "1e39"),
    ("FP64", "1e999"),
    ("FP64", "-1e999"),
    ("FP64", "1" + "0" * 400),
    ("INT32", "1.5"),
    ("INT32", "1e3"),
    ("INT32", "true"),
    ("INT32", '"1"'),
    ("BOOL", "1"),
    ("BOOL", '"true"'),
    ("BOOL", "null"),
    ("BYTES", "1"),
    ("BYTES", "null"),
    ("BYTES", '"\\ud800"'),
]


@pytest.mark.parametrize(("datatype", "token"), NUMBERS_OUT_OF_RANGE, ids=lambda text: text[:24])
def test_a_value_its_datatype_cannot_hold_is_refused(server: Server, datatype: str, token: str) -> None:
    body = '{"inputs":[{"name":"x","shape":[1,1],"datatype":"%s","data":[%s]}]}' % (datatype, token)  # noqa: UP031
    refused(server.rest("POST", f"/v2/models/identity_{datatype.lower()}/infer", body.encode()), 400)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_has_no_json_form(server: Server, datatype: str) -> None:
    path = f"/v2/models/identity_{datatype.lower()}/infer"
    tensor = {"name": "x", "shape": [1, 1], "datatype": datatype, "data": [1]}
    refused(server.rest("POST", path, {"inputs": [tensor]}), 400, datatype, "binary")
    raw = {"name": "x", "shape": [1, 1], "datatype": datatype, "parameters": {"binary_data_size": 2}}
    reply = binary(server, path, {"inputs": [raw]}, b"\0\0")
    refused(reply, 400, datatype, "binary")


def test_numbers_json_cannot_write_need_the_binary_form(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [-1, 0]}]}
    refused(server.rest("POST", "/v2/models/log/infer", body), 400, "y", "binary")


# The binary tensor extension.


def binary(
    server: Server, path: str, document: Mapping[str, Any], tail: bytes, length: str | None = None, **headers: str
) -> Reply:
    """A request of a JSON part and bytes, with any stated header length."""
    part = json.dumps(document).encode()
    stated = str(len(part)) if length is None else length
    fields = {"Inference-Header-Content-Length": stated, "Content-Type": "application/octet-stream", **headers}
    return server.rest("POST", path, part + tail, fields)


def sized(size: object, **changes: Any) -> dict[str, Any]:
    """A request whose input lies behind the JSON."""
    return vector(data=None, parameters={"binary_data_size": size}, **changes)


TWO_FLOATS = to_raw(np.array([1, 2], np.float32))


@pytest.mark.parametrize("length", ["-1", "x", "", "1.0", "1_0", "+1", " ", "0x10", "٣", "9" * 30, "100000", "1, 2"])
def test_a_wrong_json_length_is_refused(server: Server, length: str) -> None:
    fields = [f"Inference-Header-Content-Length: {length}".encode().decode("latin-1")]
    with connected(server.http) as wire:
        wire.send(request("POST", INFER, json.dumps(vector()).encode(), *fields))
        refused(wire.reply(), 400)


@pytest.mark.parametrize("size", [-1, 7, 9, 1 << 70, 8.0, "8", True, None, [8], 4])
def test_a_wrong_tensor_size_is_refused(server: Server, size: object) -> None:
    refused(binary(server, INFER, sized(size), TWO_FLOATS), 400)


def test_bytes_that_belong_to_no_tensor_are_refused(server: Server) -> None:
    refused(binary(server, INFER, sized(8), TWO_FLOATS + b"\0"), 400)
    refused(binary(server, INFER, vector(), b"\0"), 400)
    refused(binary(server, INFER, sized(8), TWO_FLOATS[:-1]), 400)


def test_data_in_both_places_is_refused(server: Server) -> None:
    document = vector(parameters={"binary_data_size": 8})
    refused(binary(server, INFER, document, TWO_FLOATS), 400, "x")


def test_a_truth_is_zero_or_one(server: Server) -> None:
    document = {
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "BOOL", "parameters": {"binary_data_size": 2}}],
    }
    refused(binary(server, "/v2/models/identity_bool/infer", document, b"\1\2"), 400, "x")


@pytest.mark.parametrize("raw", [b"\1\0\0\0\xff", b"\2\0\0\0a", b"\xff\xff\xff\xffa", b"\1\0\0", b"\1\0\0\0ab", b""])
def test_a_text_tensor_is_wellformed_utf8(server: Server, raw: bytes) -> None:
    document = {
        "inputs": [{"name": "x", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}],
    }
    refused(binary(server, "/v2/models/identity_bytes/infer", document, raw), 400, "x")


def test_the_raw_form_needs_a_model_of_one_input_with_one_free_dimension(server: Server) -> None:
    fields = {"Inference-Header-Content-Length": "0"}
    refused(server.rest("POST", "/v2/models/mixed/infer", b"\0" * 12, fields), 400)
    refused(server.rest("POST", "/v2/models/cube/infer", b"\0" * 16, fields), 400)
    refused(server.rest("POST", INFER, b"\0" * 7, fields), 400)


# Methods, paths and framing.

KNOWN_PATHS = {
    "/v2": "GET",
    "/v2/health/live": "GET",
    "/v2/health/ready": "GET",
    "/v2/models/vector": "GET",
    "/v2/models/vector/ready": "GET",
    "/v2/models/vector/config": "GET",
    "/v2/models/vector/stats": "GET",
    "/v2/models/vector/versions/1": "GET",
    "/v2/models/vector/infer": "POST",
    "/v2/models/vector/versions/1/infer": "POST",
    "/v2/repository/index": "POST",
    "/v2/repository/models/vector/load": "POST",
}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(("path", "right"), KNOWN_PATHS.items(), ids=list(KNOWN_PATHS))
def test_a_wrong_method_is_refused_by_name(server: Server, path: str, right: str, method: str) -> None:
    if method == right:
        return
    reply = server.rest(method, path, b"{}")
    refused(reply, 405)
    assert right in reply.headers["allow"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/nothing",
        "/v2/models/vector/nothing",
        "/v2/models//infer",
        "/v2/models/vector/versions//infer",
        "/v2/models/vector/versions/1/versions/1",
        "/v2/models/..%2fvector/infer",
        "/v2/models/" + "a" * 3000,
        "/v2/models/%00",
        "/v2/models/%ff",
    ],
)
def test_a_missing_path_is_not_found(server: Server, path: str) -> None:
    refused(server.rest("GET", path), 404)


FRAMINGS = {
    "length no number": ["Content-Length: ten"],
    "length negative": ["Content-Length: -1"],
    "length with a sign": ["Content-Length: +10"],
    "two lengths": ["Content-Length: 10", "Content-Length: 11"],
    "length beyond 64 bits": [f"Content-Length: {1 << 70}"],
    "length and chunks": ["Content-Length: 10", "Transfer-Encoding: chunked"],
    "unknown transfer coding": ["Transfer-Encoding: rot13"],
}


@pytest.mark.parametrize("fields", FRAMINGS.values(), ids=FRAMINGS)
def test_a_body_of_unclear_length_is_refused(server: Server, fields: list[str]) -> None:
    with connected(server.http) as wire:
        wire.send(request("POST", INFER, b"5\r\nhello\r\n0\r\n\r\n", *fields))
        wire.finish_sending()
        line = wire.status_line()
        assert line.split()[1:2] in ([b"400"], [b"413"], [b"501"]), line


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\2\3" * 64 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"POST " + b"/" * 100_000,
        b"\r\n" * 500,
    ],
    ids=["noise", "no path", "no such version", "endless path", "empty lines"],
)
def test_malformed_http_is_refused_or_disconnected(server: Server, data: bytes) -> None:
    with connected(server.http) as wire:
        wire.send(data)
        wire.finish_sending()
        line = wire.status_line()
        assert line == b"" or line.split()[1].startswith(b"4"), line


def test_endless_headers_are_cut_off(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 400_000 + b"\r\n")
        line = wire.status_line()
        assert line == b"" or line.split()[1].startswith(b"4"), line


# Compression and size.


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x", "gzip;q=1"])
def test_an_unknown_encoding_is_listed_with_the_known_ones(server: Server, encoding: str) -> None:
    reply = server.rest("POST", INFER, json.dumps(vector()).encode(), {"Content-Encoding": encoding})
    refused(reply, 501, "gzip", "deflate")
    assert reply.headers["accept-encoding"].replace(" ", "") == "gzip,deflate"


PACKED = gzip.compress(json.dumps(vector()).encode())
OVER = f"over the limit of {LIMIT} bytes (limits.max_body_bytes); send less at a time"

BAD_STREAMS = {
    "not packed": ("gzip", json.dumps(vector()).encode()),
    "not packed, deflate": ("deflate", json.dumps(vector()).encode()),
    "cut short": ("gzip", PACKED[:-9]),
    "wrong checksum": ("gzip", PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:]),
    "something after": ("gzip", PACKED + b"more"),
    "nothing": ("gzip", b""),
    "deflate cut short": ("deflate", zlib.compress(json.dumps(vector()).encode())[:-5]),
}


@pytest.mark.parametrize(("encoding", "body"), BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_damaged_stream_is_refused(server: Server, encoding: str, body: bytes) -> None:
    refused(server.rest("POST", INFER, body, {"Content-Encoding": encoding}), 400)


def test_a_stated_length_over_the_limit_is_refused_before_the_body_comes(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(request("POST", INFER, b"", f"Content-Length: {LIMIT + 1}"))
        refused(wire.reply(), 413, OVER)


def test_a_body_that_grows_over_the_limit_is_refused(server: Server) -> None:
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    with connected(server.http) as wire:
        wire.send(request("POST", INFER, b"", "Transfer-Encoding: chunked"))
        for _ in range(66):
            wire.send(chunk)
        refused(wire.reply(), 413, str(LIMIT))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_stopped_while_it_inflates(server: Server, encoding: str) -> None:
    before = peak_memory(server)
    bomb = packed_zeros(encoding, 512 << 20)
    refused(server.rest("POST", INFER, bomb, {"Content-Encoding": encoding}), 413, str(LIMIT))
    assert peak_memory(server) - before < 3 * LIMIT


def packed_zeros(encoding: str, size: int) -> bytes:
    """That many zero bytes, packed."""
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    block = bytes(1 << 24)
    return b"".join([packer.compress(block) for _ in range(size >> 24)] + [packer.flush()])


def peak_memory(server: Server) -> int:
    """The most memory a worker has held, bytes."""
    with open(f"/proc/{server.workers[0]}/status", encoding="ascii") as status:  # noqa: PTH123
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


# Deadlines.


@pytest.mark.parametrize("text", ["soon", "-1", "", "1e3", "NaN", "٣", "1 2"])
def test_a_wrong_timeout_header_is_refused(server: Server, text: str) -> None:
    with connected(server.http) as wire:
        field = f"penstock-timeout-ms: {text}".encode().decode("latin-1")
        wire.send(request("POST", INFER, json.dumps(vector()).encode(), field))
        refused(wire.reply(), 400, "penstock-timeout-ms")


def test_a_timeout_header_is_respected(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    reply = server.rest("POST", "/v2/models/slow/infer", body, {"penstock-timeout-ms": "1"})
    refused(reply, 504, "deadline")


def test_the_smaller_timeout_counts(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "parameters": {"timeout": 1000}}
    reply = server.rest("POST", "/v2/models/slow/infer", body, {"penstock-timeout-ms": "20000"})
    refused(reply, 504, "deadline")
    body["parameters"] = {"timeout": 20_000_000}
    assert server.rest("POST", "/v2/models/slow/infer", body, {"penstock-timeout-ms": "20000"}).status == 200


@pytest.mark.parametrize("body", [b'{"inputs":[]}', b"{", b'{"inputs":[{}]}'], ids=["no input", "no JSON", "no name"])
def test_a_refusal_says_who_was_asked_and_under_which_id(server: Server, body: bytes) -> None:
    reply = server.rest("POST", "/v2/models/pair/versions/1/infer", body, {"x-request-id": "mine"})
    refused(reply, 400)
    assert reply.headers["x-request-id"] == "mine"
    assert reply.headers["penstock-model-version"] == "1"
    assert reply.headers["penstock-route"] == "pinned"
