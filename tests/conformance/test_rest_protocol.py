"""What REST offers beside plain predictions: health, metadata, binary parts, raw form, compression, connections."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import zoo
from tests.conformance import oracle
from tests.conformance.rawhttp import Wire, connected, request
from tests.conformance.wire import Ask, Input, RequestedOutput, binary_body, read_reply, to_raw
from tests.harness import Reply, Server

VECTOR = "/v2/models/vector/infer"
FLOATS = np.array([1, 2], np.float32)
BODY: dict[str, Any] = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
TEXT = json.dumps(BODY).encode()
ANSWER = [0.75, 1.25]


def data_of(reply: Reply, name: str = "y") -> list[Any]:
    """One output of a JSON answer."""
    assert reply.status == 200, reply
    outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
    found: list[Any] = outputs[name]
    return found


# Health and metadata.


def test_health_is_reported_by_status_and_body(server: Server) -> None:
    live, ready = server.rest("GET", "/v2/health/live"), server.rest("GET", "/v2/health/ready")
    assert (live.status, live.json()) == (200, {"live": True})
    assert (ready.status, ready.json()) == (200, {"ready": True})


def test_a_model_is_ready_or_not(server: Server) -> None:
    for path in ("/v2/models/pair", "/v2/models/pair/versions/1"):
        reply = server.rest("GET", f"{path}/ready")
        assert (reply.status, reply.json()) == (200, {"name": "pair", "ready": True})
    assert server.rest("GET", "/v2/models/broken/ready").status == 503
    assert server.rest("GET", "/v2/models/nobody/ready").status == 404
    assert server.rest("GET", "/v2/models/pair/versions/9/ready").status == 404


def test_the_server_says_what_it_is(server: Server) -> None:
    document = server.rest("GET", "/v2").json()
    assert document["name"] == "penstock"
    assert document["version"]
    offered = set(document["extensions"])
    assert {"binary_tensor_data", "classification", "model_configuration", "model_repository"} <= offered
    assert {"parameters", "statistics"} <= offered
    assert offered.isdisjoint({"sequence", "system_shared_memory", "cuda_shared_memory", "trace", "logging"})


def test_a_model_says_what_it_takes_and_gives(server: Server) -> None:
    assert server.rest("GET", "/v2/models/mixed").json() == {
        "name": "mixed",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "number", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "key", "datatype": "INT64", "shape": [-1, 2]},
        ],
        "outputs": [
            {"name": "doubled", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "next", "datatype": "INT64", "shape": [-1, 2]},
            {"name": "positive", "datatype": "BOOL", "shape": [-1, 3]},
        ],
    }


@pytest.mark.parametrize("datatype", zoo.ONNX_TYPES)
def test_every_datatype_is_described(server: Server, datatype: str) -> None:
    document = server.rest("GET", f"/v2/models/identity_{datatype.lower()}").json()
    assert document["inputs"] == [{"name": "x", "datatype": datatype, "shape": [-1, -1]}]
    assert document["outputs"] == [{"name": "y", "datatype": datatype, "shape": [-1, -1]}]


@pytest.mark.parametrize(
    ("model", "served"),
    [
        ("pair", ["1", "2"]),
        ("counts_to_ten", ["2", "10"]),
        ("semantic", ["1.4.0", "1.10.0"]),
        ("policy_latest", ["3"]),
        ("policy_latest_two", ["2", "3"]),
        ("policy_specific", ["1", "3"]),
        ("policy_all", ["1", "2", "3"]),
        ("vector", ["1"]),
    ],
)
def test_the_versions_that_are_served_are_listed(server: Server, model: str, served: list[str]) -> None:
    assert server.rest("GET", f"/v2/models/{model}").json()["versions"] == served


def test_shapes_count_the_batch_dimension(server: Server) -> None:
    shapes = {
        name: [spec["shape"] for spec in server.rest("GET", f"/v2/models/{name}").json()["inputs"]]
        for name in ("batched", "reshaped", "scalar", "static", "labelled")
    }
    assert shapes == {
        "batched": [[-1, 3]],
        "reshaped": [[-1, 1]],
        "scalar": [[]],
        "static": [[2, 3]],
        "labelled": [[-1, 5]],
    }


def test_the_configuration_is_shown_in_protobuf_text(server: Server) -> None:
    shown = server.rest("GET", "/v2/models/batched/config").json()
    assert shown["name"] == "batched"
    assert shown["backend"] == "onnxruntime"
    assert shown["max_batch_size"] == 4
    [given], [answered] = shown["input"], shown["output"]
    assert (given["name"], given["data_type"], [int(dim) for dim in given["dims"]]) == ("x", "TYPE_FP32", [3])
    assert (answered["name"], answered["data_type"], [int(dim) for dim in answered["dims"]]) == ("y", "TYPE_FP32", [3])
    assert "dynamic_batching" in shown
    derived = server.rest("GET", "/v2/models/mixed/versions/1/config").json()
    assert [spec["name"] for spec in derived["input"]] == ["number", "key"]
    assert [spec["data_type"] for spec in derived["output"]] == ["TYPE_FP32", "TYPE_INT64", "TYPE_BOOL"]


def test_what_cannot_be_served_has_a_reason_and_hides_its_place(server: Server, zoo_folder: Path) -> None:
    lines = {line["name"]: line for line in server.rest("POST", "/v2/repository/index", b"").json()}
    for name in zoo.UNAVAILABLE:
        assert lines[name].get("state") == "UNAVAILABLE", name
        assert lines[name]["reason"], name
        assert str(zoo_folder) not in lines[name]["reason"]
    reasons = {name: lines[name]["reason"] for name in zoo.UNAVAILABLE}
    for name, word in {
        "refused_gpu": "GPU",
        "refused_backend": "tensorrt",
        "refused_platform": "tensorflow_savedmodel",
        "refused_field": "max_batch_sise",
        "refused_name": "another",
        "refused_labels": "label",
        "refused_decoupled": "decoupled",
        "refused_sequence": "sequence",
        "refused_ensemble": "ensemble",
        "refused_warmup": "warm",
        "refused_dims": "[-1, 7]",
        "refused_type": "INT8",
    }.items():
        assert word in reasons[name], reasons[name]


def test_the_index_lists_everything_or_what_is_ready(server: Server) -> None:
    everything = server.rest("POST", "/v2/repository/index", b"").json()
    listed = {(line["name"], line.get("version", "")) for line in everything}
    assert {("pair", "1"), ("pair", "2"), ("semantic", "1.10.0"), ("vector", "1")} <= listed
    ready = server.rest("POST", "/v2/repository/index", {"ready": True}).json()
    assert {line["state"] for line in ready} == {"READY"}
    assert {line["name"] for line in ready}.isdisjoint(zoo.UNAVAILABLE)
    assert all("reason" not in line for line in ready)


# Who answered, and to what.


def test_an_id_comes_back_in_body_and_header(server: Server) -> None:
    stated = server.rest("POST", VECTOR, {**BODY, "id": "from-body"}, {"x-request-id": "from-header"})
    assert (stated.json()["id"], stated.headers["x-request-id"]) == ("from-body", "from-body")
    header = server.rest("POST", VECTOR, BODY, {"x-request-id": "from-header"})
    assert (header.json()["id"], header.headers["x-request-id"]) == ("from-header", "from-header")
    made = {server.rest("POST", VECTOR, BODY).headers["x-request-id"] for _ in range(20)}
    assert len(made) == 20
    assert all(made)


def test_an_id_cannot_smuggle_header_fields(server: Server) -> None:
    reply = server.rest("POST", VECTOR, {**BODY, "id": "a\r\nevil: yes\r\n\r\n\u2028ü"})
    assert reply.status == 200
    assert "evil" not in reply.headers
    assert reply.json()["id"] == "a\r\nevil: yes\r\n\r\n\u2028ü"


def test_an_id_that_fills_no_header_line_comes_back_in_the_body(server: Server) -> None:
    reply = server.rest("POST", VECTOR, {**BODY, "id": "😀" * 40_000})
    assert reply.json()["id"] == "😀" * 40_000
    assert "x-request-id" not in reply.headers


def test_every_answer_says_who_answered(server: Server) -> None:
    rows = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    free = server.rest("POST", "/v2/models/pair/infer", rows)
    assert (free.headers["penstock-model-version"], free.headers["penstock-route"]) == ("2", "stable")
    pinned = server.rest("POST", "/v2/models/pair/versions/1/infer", rows)
    assert (pinned.headers["penstock-model-version"], pinned.headers["penstock-route"]) == ("1", "pinned")
    assert (free.json()["model_version"], pinned.json()["model_version"]) == ("2", "1")


def test_a_failed_run_says_who_failed(server: Server) -> None:
    body = {"id": "lost", "inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [99]}]}
    reply = server.rest("POST", "/v2/models/gather/infer", body)
    assert reply.status == 400
    assert reply.headers["penstock-model-version"] == "1"
    assert reply.headers["penstock-route"] == "stable"
    assert reply.headers["x-request-id"] == "lost"


def test_unknown_parameters_are_ignored(server: Server) -> None:
    body = {**BODY, "parameters": {"priority": 1, "my_own": "x", "other": 1.5}, "extra": [1, {"a": None}]}
    assert data_of(server.rest("POST", VECTOR, body)) == ANSWER


def test_the_query_of_a_path_is_ignored(server: Server) -> None:
    assert data_of(server.rest("POST", f"{VECTOR}?trace=1", BODY)) == ANSWER


def test_a_path_may_be_percent_encoded(server: Server) -> None:
    assert data_of(server.rest("POST", "/v2/models/%76ector/infer", BODY)) == ANSWER


# JSON in and out.


@pytest.mark.parametrize(
    "data",
    [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]], [1.0, 2e0, 30e-1, 4, 5, 6], [[1.0, 2.0, 3.0], [4, 5, 6]]],
    ids=["flat", "nested", "mixed writing", "nested mixed writing"],
)
def test_data_may_be_flat_or_nested(server: Server, data: list[Any]) -> None:
    body = {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": data}]}
    assert data_of(server.rest("POST", "/v2/models/static/infer", body)) == [1, 4, 2, 5, 3, 6]


def test_a_scalar_comes_as_a_list_of_one(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [], "datatype": "FP32", "data": [20]}]}
    reply = server.rest("POST", "/v2/models/scalar/infer", body)
    assert data_of(reply) == [41]
    assert reply.json()["outputs"][0]["shape"] == []


def test_empty_data_may_be_nested(server: Server) -> None:
    forms: list[tuple[list[int], list[Any]]] = [([0, 3], []), ([2, 0], [[], []]), ([2, 0], [])]
    for shape, data in forms:
        body = {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}
        reply = server.rest("POST", "/v2/models/identity_fp32/infer", body)
        assert reply.json()["outputs"][0]["shape"] == shape, reply
        assert data_of(reply) == []


def test_whole_numbers_are_welcome_as_floats_and_spelt_out_texts_come_back(server: Server) -> None:
    texts = ["", "a\u2028b", "\\u0041", "\t", "é"]
    body = {"inputs": [{"name": "x", "shape": [1, 5], "datatype": "BYTES", "data": texts}]}
    assert data_of(server.rest("POST", "/v2/models/identity_bytes/infer", body)) == texts


def test_any_json_white_space_and_escapes_are_read(server: Server) -> None:
    body = b'\n\t{ "inputs" :\r\n[ {"\\u006eame":"\\u0078","shape":[ 2 ],"datatype":"FP32","data":[ 1 ,\n2 ]} ] }\n'
    assert data_of(server.rest("POST", VECTOR, body)) == ANSWER


def test_no_outputs_listed_means_all(server: Server) -> None:
    assert data_of(server.rest("POST", VECTOR, {**BODY, "outputs": []})) == ANSWER


def test_large_json_is_answered_whole(server: Server) -> None:
    values = list(range(300_000))
    body = {"inputs": [{"name": "x", "shape": [300_000], "datatype": "FP32", "data": values}]}
    assert data_of(server.rest("POST", VECTOR, body)) == [value * 0.5 + 0.25 for value in values]


# The binary tensor extension.


def mixed_inputs() -> tuple[Input, Input]:
    """The two inputs of ``mixed``."""
    return Input.of("number", "FP32", [[1, -2, 3]]), Input.of("key", "INT64", [[5, 6]])


@pytest.mark.parametrize("binary_first", [True, False])
def test_json_and_binary_inputs_may_be_mixed(server: Server, zoo_folder: Path, binary_first: bool) -> None:
    number, key = mixed_inputs()
    first: dict[str, Any] = {"name": "number", "shape": [1, 3], "datatype": "FP32"}
    second: dict[str, Any] = {"name": "key", "shape": [1, 2], "datatype": "INT64"}
    packed = number if binary_first else key
    first |= {"parameters": {"binary_data_size": 12}} if binary_first else {"data": [1, -2, 3]}
    second |= {"data": [5, 6]} if binary_first else {"parameters": {"binary_data_size": 16}}
    head = json.dumps({"inputs": [first, second]}).encode()
    fields = {"Inference-Header-Content-Length": str(len(head))}
    reply = server.rest("POST", "/v2/models/mixed/infer", head + to_raw(packed.data), fields)
    assert "inference-header-content-length" not in reply.headers
    oracle.assert_same(read_reply(reply), oracle.run(zoo_folder / "mixed.onnx", [number, key]))


def test_binary_and_json_outputs_may_be_mixed(server: Server, zoo_folder: Path) -> None:
    inputs = mixed_inputs()
    requested = [
        RequestedOutput("next", {"binary_data": True}),
        RequestedOutput("doubled", {"binary_data": False}),
        RequestedOutput("positive"),
    ]
    body, length = binary_body(Ask("mixed", inputs, requested=requested))
    reply = server.rest("POST", "/v2/models/mixed/infer", body, {"Inference-Header-Content-Length": str(length)})
    answer = read_reply(reply)
    oracle.assert_same(answer, oracle.run(zoo_folder / "mixed.onnx", inputs, ["next", "doubled", "positive"]))
    assert answer.outputs[0].parameters == {"binary_data_size": 16}
    assert "binary_data_size" not in answer.outputs[1].parameters
    assert reply.headers["content-type"] == "application/octet-stream"


def test_one_output_may_go_against_the_default(server: Server) -> None:
    inputs = mixed_inputs()
    requested = [RequestedOutput("next", {"binary_data": False}), RequestedOutput("doubled")]
    body, length = binary_body(Ask("mixed", inputs, requested=requested, parameters={"binary_data_output": True}))
    reply = server.rest("POST", "/v2/models/mixed/infer", body, {"Inference-Header-Content-Length": str(length)})
    assert [output.parameters for output in read_reply(reply).outputs] == [{}, {"binary_data_size": 12}]


def test_json_in_and_binary_out(server: Server) -> None:
    reply = server.rest("POST", VECTOR, {**BODY, "parameters": {"binary_data_output": True}})
    length = int(reply.headers["inference-header-content-length"])
    assert json.loads(reply.body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(reply.body[length:], np.float32).tolist() == ANSWER


def test_the_header_may_state_the_whole_body(server: Server) -> None:
    reply = server.rest("POST", VECTOR, TEXT, {"Inference-Header-Content-Length": str(len(TEXT))})
    assert data_of(reply) == ANSWER


def test_an_empty_tensor_takes_no_bytes(server: Server) -> None:
    tensors = [Input("x", "FP32", (0,), np.empty(0, np.float32))]
    body, length = binary_body(Ask("vector", tensors, parameters={"binary_data_output": True}))
    reply = server.rest("POST", VECTOR, body, {"Inference-Header-Content-Length": str(length)})
    assert read_reply(reply).outputs[0].shape == (0,)


def test_the_raw_form_is_one_tensor(server: Server) -> None:
    reply = server.rest("POST", VECTOR, FLOATS.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert reply.headers["content-type"] == "application/octet-stream"
    [output] = read_reply(reply).outputs
    assert (output.shape, output.data.tolist()) == ((2,), ANSWER)


def test_the_raw_form_fills_a_batch_of_one(server: Server) -> None:
    row = np.array([1, 2, 3], np.float32).tobytes()
    reply = server.rest("POST", "/v2/models/batched/infer", row, {"Inference-Header-Content-Length": "0"})
    [output] = read_reply(reply).outputs
    assert (output.shape, output.data.tolist()) == ((1, 3), [[3, 6, 9]])


# Classification.

FIVE: dict[str, Any] = {"name": "x", "shape": [2, 5], "datatype": "FP32", "data": [1, 2, 3, 4, 5, -1, 0, 1, 0, -1]}


@pytest.mark.parametrize("wanted", [1, 2, 4, 9])
def test_classes_are_ranked_and_labelled(server: Server, zoo_folder: Path, wanted: int) -> None:
    requested_output = {"name": "probabilities", "parameters": {"classification": wanted}}
    reply = server.rest("POST", "/v2/models/labelled/infer", {"inputs": [FIVE], "outputs": [requested_output]})
    [output] = reply.json()["outputs"]
    kept = min(wanted, 4)
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, kept])
    given = Input.of("x", "FP32", np.reshape(FIVE["data"], (2, 5)))
    truth = oracle.run(zoo_folder / "labelled/1/model.onnx", [given], ["probabilities"])["probabilities"]
    expected = [index for row in truth for index in np.argsort(-row)[:kept]]
    parts = [text.split(":") for text in output["data"]]
    assert [int(part[1]) for part in parts] == expected
    assert [part[2] for part in parts] == [zoo.LABELS[index] for index in expected]
    values = [truth[place // kept][index] for place, index in enumerate(expected)]
    assert [float(part[0]) for part in parts] == pytest.approx(values, abs=1e-5)


def test_classes_without_labels_are_numbers(server: Server) -> None:
    requested_output = {"name": "probabilities", "parameters": {"classification": 2, "binary_data": True}}
    reply = server.rest("POST", "/v2/models/unlabelled/infer", {"inputs": [FIVE], "outputs": [requested_output]})
    [output] = read_reply(reply).outputs
    assert output.datatype == "BYTES"
    assert all(len(text.split(b":")) == 2 for text in output.data.ravel())


def test_outputs_are_reshaped_as_configured(server: Server) -> None:
    body = {"inputs": [{"name": "x", "shape": [3, 1], "datatype": "FP32", "data": [1, 2, 3]}]}
    reply = server.rest("POST", "/v2/models/reshaped/infer", body)
    assert reply.json()["outputs"][0]["shape"] == [3, 1]
    assert data_of(reply) == [0.75, 1.25, 1.75]


# Compression.


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("GZIP", gzip.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)),
        ("identity", TEXT),
        ("gzip", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:])),
    ],
    ids=["gzip", "upper case", "deflate", "identity", "two members"],
)
def test_packed_requests_are_read(server: Server, encoding: str, packed: bytes) -> None:
    assert data_of(server.rest("POST", VECTOR, packed, {"Content-Encoding": encoding})) == ANSWER


def test_the_json_length_counts_unpacked_bytes(server: Server) -> None:
    body, length = binary_body(Ask("vector", [Input.of("x", "FP32", [1, 2])]))
    fields = {"Inference-Header-Content-Length": str(length), "Content-Encoding": "gzip"}
    assert data_of(server.rest("POST", VECTOR, gzip.compress(body), fields)) == ANSWER


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("deflate, gzip", "gzip"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip; q=0.9 ,deflate;q=0.8", "gzip"),
        ("*", "gzip"),
        ("*;q=0.5, gzip;q=0", "deflate"),
        ("br", None),
        ("identity", None),
        ("gzip;q=0", None),
        ("gzip;q=0, deflate;q=0.0", None),
        ("gzip;q=0.1, identity", None),
        ("gzip;q=nonsense", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_answers_are_packed_as_the_caller_prefers(
    server: Server, accepted: str, encoding: str | None, binary: bool
) -> None:
    body = {**BODY, "parameters": {"binary_data_output": binary}}
    reply = server.rest("POST", VECTOR, body, {"Accept-Encoding": accepted})
    assert reply.headers.get("content-encoding") == encoding
    assert read_reply(reply).array("y").tolist() == ANSWER


# Connections.


def answers(wire: Wire, count: int) -> list[Any]:
    """The next answers' data."""
    return [data_of(wire.reply()) for _ in range(count)]


def test_a_connection_serves_many_requests(server: Server) -> None:
    with connected(server.http) as wire:
        for _ in range(5):
            wire.send(request("POST", VECTOR, TEXT))
            assert answers(wire, 1) == [ANSWER]
            wire.send(request("GET", "/v2/health/live"))
            assert wire.reply().status == 200


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    slow = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "id": "1"}).encode()
    quick = [json.dumps({**BODY, "id": str(number)}).encode() for number in range(2, 5)]
    with connected(server.http) as wire:
        wire.send(request("POST", "/v2/models/slow/infer", slow))
        wire.send(request("POST", VECTOR, quick[0]) + request("GET", "/v2") + request("POST", VECTOR, quick[1]))
        wire.send(request("POST", VECTOR, b"{") + request("POST", VECTOR, quick[2]))
        assert wire.reply().json()["id"] == "1"
        assert wire.reply().json()["id"] == "2"
        assert wire.reply().json()["name"] == "penstock"
        assert wire.reply().json()["id"] == "3"
        assert wire.reply().status == 400
        assert wire.reply().json()["id"] == "4"


def test_what_came_before_noise_is_answered_first(server: Server) -> None:
    slow = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "id": "1"}).encode()
    for path, body in (("/v2/models/slow/infer", slow), (VECTOR, TEXT)):
        with connected(server.http) as wire:
            wire.send(request("POST", path, body) + b"\0\1 no request at all\r\n\r\n")
            assert [wire.reply().status, wire.reply().status] == [200, 400]
            assert wire.is_closed()


@pytest.mark.parametrize(
    "before", [b"", request("GET", "/v2"), request("POST", VECTOR, TEXT)], ids=["", "GET", "infer"]
)
def test_a_body_that_breaks_off_into_noise_is_refused(server: Server, before: bytes) -> None:
    for path in (VECTOR, "/v2/repository/index"):
        with connected(server.http) as wire:
            wire.send(before + request("POST", path, b"2\r\n{}\r\nnoise\r\n", "Transfer-Encoding: chunked"))
            expected = [200, 400] if before else [400]
            assert [wire.reply().status for _ in expected] == expected
            assert wire.is_closed()


def test_two_hundred_pipelined_requests(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(b"".join(request("POST", VECTOR, json.dumps({**BODY, "id": str(n)}).encode()) for n in range(200)))
        assert [wire.reply().json()["id"] for _ in range(200)] == [str(number) for number in range(200)]


def test_a_request_may_come_in_drops(server: Server) -> None:
    with connected(server.http) as wire:
        for byte in request("POST", VECTOR, TEXT):
            wire.send(bytes([byte]))
        assert answers(wire, 1) == [ANSWER]


def test_a_body_may_come_in_chunks(server: Server) -> None:
    pieces = [TEXT[place : place + 7] for place in range(0, len(TEXT), 7)]
    chunks = b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\ntrailer: x\r\n\r\n"
    with connected(server.http) as wire:
        wire.send(request("POST", VECTOR, chunks, "Transfer-Encoding: chunked"))
        assert answers(wire, 1) == [ANSWER]
        wire.send(request("POST", VECTOR, TEXT))
        assert answers(wire, 1) == [ANSWER]


def test_a_careful_caller_is_reported_to_continue(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(request("POST", VECTOR, b"", f"Content-Length: {len(TEXT)}", "Expect: 100-continue"))
        assert wire.reply().status == 100
        wire.send(TEXT)
        assert answers(wire, 1) == [ANSWER]


def test_a_careful_caller_is_refused_before_sending(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(request("POST", VECTOR, b"", f"Content-Length: {1 << 40}", "Expect: 100-continue"))
        assert wire.reply().status == 413


def test_http_one_nought_is_answered_and_closed(server: Server) -> None:
    for data in (request("POST", VECTOR, TEXT, version="1.0"), request("GET", "/v2/health/live", version="1.0")):
        with connected(server.http) as wire:
            wire.send(data)
            assert wire.reply().status == 200
            assert wire.is_closed()


def test_a_caller_may_end_the_connection(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(request("POST", VECTOR, TEXT, "Connection: close"))
        reply = wire.reply()
        assert data_of(reply) == ANSWER
        assert reply.headers["connection"] == "close"
        assert wire.is_closed()


def test_a_half_closed_connection_is_still_answered(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(request("POST", VECTOR, TEXT))
        wire.finish_sending()
        assert answers(wire, 1) == [ANSWER]


# Classes of requests.


@pytest.mark.parametrize(("stated", "status"), [("critical", 200), ("default", 200), ("batch", 200), ("urgent", 400)])
def test_a_request_may_state_its_class(server: Server, stated: str, status: int) -> None:
    with connected(server.http) as wire:
        wire.send(request("POST", VECTOR, TEXT, f"penstock-class: {stated}", f"Content-Length: {len(TEXT)}"))
        wire.finish_sending()
        assert wire.reply().status == status


# Features that are not offered say so.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("POST", "/v2/cudasharedmemory/region/r/register"),
        ("GET", "/v2/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/logging"),
        ("POST", "/v2/models/vector/generate"),
        ("POST", "/v2/models/vector/generate_stream"),
    ],
)
def test_what_is_not_offered_says_so(server: Server, method: str, path: str) -> None:
    reply = server.rest(method, path, b"{}" if method == "POST" else None)
    assert reply.status == 501
    assert reply.error()
    assert "accept-encoding" not in reply.headers  # which says that the body's encoding was the trouble


def test_an_unknown_encoding_is_answered_with_those_that_are_known(server: Server) -> None:
    reply = server.rest("POST", "/v2/repository/index", b"{}", {"content-encoding": "br"})
    assert reply.status in (415, 501)
    assert "gzip" in reply.headers["accept-encoding"]


@pytest.mark.parametrize("kind", ["system", "cuda"])
def test_missing_shared_memory_can_be_queried_and_unregistered(server: Server, kind: str) -> None:
    base = f"/v2/{kind}sharedmemory"
    assert server.rest("GET", f"{base}/status").json() == []
    assert server.rest("POST", f"{base}/unregister", b"").status == 200
    assert server.rest("POST", f"{base}/region/r/unregister", b"").status == 200
    assert server.rest("GET", f"{base}/region/r/status").status == 404


# Paths as clients write them.


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/vector"])
def test_a_trailing_slash_changes_nothing(server: Server, path: str) -> None:
    plain, slashed = server.rest("GET", path), server.rest("GET", f"{path}/")
    assert (slashed.status, slashed.json()) == (200, plain.json())


def test_a_trailing_slash_after_infer_changes_nothing(server: Server) -> None:
    assert data_of(server.rest("POST", f"{VECTOR}/", BODY)) == ANSWER
    assert data_of(server.rest("POST", f"{VECTOR}/?trace=1", BODY)) == ANSWER


def test_the_root_has_no_path_without_a_slash(server: Server) -> None:
    assert server.rest("GET", "/").status == server.rest("GET", "/nobody/").status == 404


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":null}', b'{"ready":false}'])
def test_the_index_takes_null_as_nothing_stated(server: Server, body: bytes) -> None:
    lines = server.rest("POST", "/v2/repository/index", body).json()
    assert any(line.get("state") == "UNAVAILABLE" for line in lines)


# Its own description.


def test_the_description_names_what_is_there(server: Server) -> None:
    document = server.rest("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.")
    for path in ("/v2", "/v2/health/ready", "/v2/models/{model}/infer", "/v2/repository/index"):
        assert path in document["paths"]
    page = server.rest("GET", "/docs")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"http://" not in page.body
    assert b"https://" not in page.body
