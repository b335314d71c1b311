"""Traces, metrics and log lines of a real gateway, in a real OTLP receiver: by every transport, and by real clients."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.openmetrics import parser
from tritonclient import grpc as triton_grpc
from tritonclient import http as triton_http

from penstock.proto import tensorflow_pb2 as tf
from penstock.proto import tensorflow_serving_pb2 as ts
from penstock.proto.grpc_service_pb2 import ModelInferRequest
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.ecs import read_ecs
from tests.harness import PATIENCE_S, Server, running, wait_until
from tests.otlp import Receiver, receiving, values_of
from tests.zoo import affine, place, versioned

NAME = "traced"
BODY: dict[str, Any] = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
READ_OPENMETRICS: Any = parser.text_string_to_metric_families  # it has no types
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def server(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway that traces what callers ask for, and mirrors version 1 to version 2, which answers something else."""
    folder = tmp_path_factory.mktemp("tracing")
    place(folder / "models", NAME, {"1": versioned(1), "2": affine(-1, 0, ("n", 3))})  # another greatest number
    env = {
        "PENSTOCK_TRACING__OTLP_ENDPOINT": receiver.url,
        "PENSTOCK_TRACING__RATIO": "0",
        "PENSTOCK_TRACING__MAX_FORCED_PER_SECOND": "1000",
        "PENSTOCK_METRICS_OTLP__ENDPOINT": receiver.url,
        "PENSTOCK_METRICS_OTLP__INTERVAL_SECONDS": "1",
        "PENSTOCK_LOG_FORMAT": "ecs",
        "PENSTOCK_ACCESS_LOG_RATIO": "1",
        "PENSTOCK_DIALECTS": '["tfs"]',
    }
    with running(folder / "models", folder, env=env) as server:
        route = {"split": {"1": 9000, "2": 1000}, "shadow": [], "reason": "a canary"}
        assert server.admin("PUT", f"/admin/v1/models/{NAME}/route", route).status == 200
        yield server


def parent_of(number: int, flags: str = "01") -> tuple[str, bytes]:
    """A traceparent, and the id of its trace."""
    trace_id = number.to_bytes(16, "big")
    return f"00-{trace_id.hex()}-00f067aa0ba902b7-{flags}", trace_id


def spans_of(receiver: Receiver, trace_id: bytes, count: int = 5) -> dict[str, Span]:
    """The spans of a trace by name, once so many have come."""

    def found() -> list[Span]:
        return [span for span in list(receiver.spans) if span.trace_id == trace_id]

    wait_until(lambda: len(found()) >= count, PATIENCE_S, lambda: f"{len(found())} of {count} spans have come")
    return {span.name: span for span in found()}


def check_request(spans: Mapping[str, Span], name: str, parent_id: bytes = bytes.fromhex("00f067aa0ba902b7")) -> Span:
    """The span of a request, whose stages follow each other."""
    request = spans[name]
    assert request.kind == Span.SPAN_KIND_SERVER
    assert request.parent_span_id == parent_id
    stages = [spans[stage] for stage in ("decode", "queue", "run", "encode")]
    assert all(stage.parent_span_id == request.span_id for stage in stages)
    edges = [stages[0].start_time_unix_nano, *(stage.end_time_unix_nano for stage in stages)]
    assert edges == sorted(edges)
    assert (edges[0], edges[-1]) == (request.start_time_unix_nano, request.end_time_unix_nano)
    attributes = values_of(request.attributes)
    assert attributes["penstock.model.name"] == NAME
    assert attributes["penstock.model.version"] in {"1", "2"}
    assert attributes["penstock.rows"] == 1
    return request


def test_a_rest_request_continues_the_trace_of_its_caller(server: Server, receiver: Receiver) -> None:
    traceparent, trace_id = parent_of(1)
    headers = {"traceparent": traceparent, "tracestate": "vendor=a1, other@b=2", "x-request-id": "r-1"}
    answer = requests.post(f"http://{server.http}{INFER}", json=BODY, headers=headers, timeout=PATIENCE_S)
    assert answer.status_code == 200
    request = check_request(spans_of(receiver, trace_id), "POST /v2/models/{model}/infer")
    assert answer.headers["traceresponse"] == f"00-{trace_id.hex()}-{request.span_id.hex()}-01"
    assert request.trace_state == "vendor=a1,other@b=2"
    attributes = values_of(request.attributes)
    assert attributes["http.response.status_code"] == 200
    assert attributes["url.path"] == INFER
    assert attributes["penstock.request.id"] == "r-1"
    assert attributes["penstock.route"] == answer.headers["penstock-route"]
    [event] = request.events
    assert event.name == "feature_flag.evaluation"
    stated = values_of(event.attributes)
    assert len(stated.pop("feature_flag.version")) == 16
    assert stated == {
        "feature_flag.key": NAME,
        "feature_flag.result.variant": answer.headers["penstock-model-version"],
        "feature_flag.result.reason": "split",
        "feature_flag.provider.name": "penstock",
    }
    resource = receiver.resources[0]
    assert resource["service.name"] == "penstock" and resource["service.instance.id"].endswith(server.ops)


def test_real_clients_bring_their_traces_over_every_transport(server: Server, receiver: Receiver) -> None:
    inputs = [triton_http.InferInput("x", [1, 3], "FP32")]
    inputs[0].set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
    traceparent, rest = parent_of(2)
    with triton_http.InferenceServerClient(server.http) as client:
        client.infer(NAME, inputs, headers={"traceparent": traceparent})
    check_request(spans_of(receiver, rest), "POST /v2/models/{model}/infer")

    traceparent, unary = parent_of(3)
    message = ModelInferRequest(model_name=NAME, model_version="1", raw_input_contents=[bytes(12)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        _, call = stub.ModelInfer.with_call(message, metadata=(("traceparent", traceparent),))
    request = check_request(spans_of(receiver, unary), "inference.GRPCInferenceService/ModelInfer")
    assert ("traceresponse", f"00-{unary.hex()}-{request.span_id.hex()}-01") in call.initial_metadata()
    attributes = values_of(request.attributes)
    assert attributes["rpc.system.name"] == "grpc" and attributes["rpc.response.status_code"] == "OK"
    assert values_of(request.events[0].attributes)["feature_flag.result.reason"] == "static"

    traceparent, streamed = parent_of(4)
    answers: SimpleQueue[Any] = SimpleQueue()
    grpc_inputs = [triton_grpc.InferInput("x", [1, 3], "FP32")]
    grpc_inputs[0].set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answers.put(error or result), headers={"traceparent": traceparent})
        for _ in range(2):
            client.async_stream_infer(NAME, grpc_inputs)
        stated = [answers.get(timeout=PATIENCE_S).get_response().parameters["traceresponse"] for _ in range(2)]
        client.stop_stream()
    spans_of(receiver, streamed, count=10)
    requests_of = [item for item in receiver.find(STREAM) if item.trace_id == streamed]
    assert {item.string_param for item in stated} == {
        f"00-{streamed.hex()}-{item.span_id.hex()}-01" for item in requests_of
    }


STREAM = "inference.GRPCInferenceService/ModelStreamInfer"


def test_refused_calls_of_grpc_say_which_trace_they_belong_to(server: Server, receiver: Receiver) -> None:
    unary_parent, unary = parent_of(20)
    streamed_parent, streamed = parent_of(21)
    unknown = ModelInferRequest(model_name="nowhere")
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(unknown, metadata=(("traceparent", unary_parent),))
        error: Any = caught.value
        [answer] = stub.ModelStreamInfer(iter([unknown]), metadata=(("traceparent", streamed_parent),))
    request = spans_of(receiver, unary, count=1)["inference.GRPCInferenceService/ModelInfer"]
    said = dict([*error.initial_metadata(), *error.trailing_metadata()])
    assert said["traceresponse"] == f"00-{unary.hex()}-{request.span_id.hex()}-01"
    request = spans_of(receiver, streamed, count=1)[STREAM]
    parameter = answer.infer_response.parameters["traceresponse"]
    assert parameter.string_param == f"00-{streamed.hex()}-{request.span_id.hex()}-01"
    assert values_of(request.attributes)["rpc.response.status_code"] == "NOT_FOUND"


def test_requests_of_a_dialect_have_its_names(server: Server, receiver: Receiver) -> None:
    traceparent, trace_id = parent_of(22)
    headers = {"traceparent": traceparent}
    reply = server.rest("POST", f"/v1/models/{NAME}:predict", {"instances": [[1, 2, 3]]}, headers)
    assert reply.status == 200
    request = check_request(spans_of(receiver, trace_id), "POST /v1/models/{model}:predict")
    assert values_of(request.attributes)["url.path"] == f"/v1/models/{NAME}:predict"
    assert reply.headers["traceresponse"] == f"00-{trace_id.hex()}-{request.span_id.hex()}-01"
    traceparent, trace_id = parent_of(23)
    path = f"/v1/models/{NAME}/versions/9:predict"
    assert server.rest("POST", path, {"instances": []}, {"traceparent": traceparent}).status == 404
    spans_of(receiver, trace_id, count=1)["POST /v1/models/{model}/versions/{version}:predict"]


def test_tensorflow_serving_over_grpc_has_its_names(server: Server, receiver: Receiver) -> None:
    traceparent, trace_id = parent_of(24)
    request = ts.PredictRequest(model_spec=ts.ModelSpec(name=NAME))
    request.inputs["x"].CopyFrom(tf.TensorProto(dtype=tf.DT_FLOAT, float_val=[1, 2, 3]))
    for size in (1, 3):
        request.inputs["x"].tensor_shape.dim.add(size=size)
    with grpc.insecure_channel(server.grpc) as channel:
        predict = channel.unary_unary(
            f"/{PREDICT_METHOD}",
            request_serializer=ts.PredictRequest.SerializeToString,
            response_deserializer=ts.PredictResponse.FromString,
        )
        predict(request, metadata=(("traceparent", traceparent),), timeout=PATIENCE_S)
    check_request(spans_of(receiver, trace_id), PREDICT_METHOD)


PREDICT_METHOD = "tensorflow.serving.PredictionService/Predict"


def test_an_explanation_is_a_request_of_its_own_path(server: Server, receiver: Receiver) -> None:
    traceparent, trace_id = parent_of(25)
    reply = server.rest("POST", f"/v2/models/{NAME}/explain", BODY, {"traceparent": traceparent})
    request = spans_of(receiver, trace_id, count=1)["POST /v2/models/{model}/explain"]
    assert values_of(request.attributes)["penstock.explanation"] is True
    assert reply.headers["traceresponse"] == f"00-{trace_id.hex()}-{request.span_id.hex()}-01"


@pytest.mark.parametrize(
    ("number", "headers", "body", "status"),
    [
        (26, {}, {"inputs": []}, 400),
        (27, {"penstock-timeout-ms": "x"}, BODY, 400),
        (28, {}, {**BODY, "parameters": {"method": "none"}}, 400),
        (29, {"penstock-timeout-ms": "0"}, BODY, 504),
    ],
)
def test_an_explanation_that_fails_says_its_trace(
    server: Server, receiver: Receiver, number: int, headers: dict[str, str], body: Any, status: int
) -> None:
    traceparent, trace_id = parent_of(number)
    reply = server.rest("POST", f"/v2/models/{NAME}/explain", body, {"traceparent": traceparent, **headers})
    assert reply.status == status
    request = spans_of(receiver, trace_id, count=1)["POST /v2/models/{model}/explain"]
    assert reply.headers["traceresponse"] == f"00-{trace_id.hex()}-{request.span_id.hex()}-01"
    assert values_of(request.attributes)["http.response.status_code"] == status


def test_a_prediction_by_the_ops_port_continues_the_trace(server: Server, receiver: Receiver) -> None:
    traceparent, trace_id = parent_of(5)
    answer = server.admin("POST", f"/admin/v1/models/{NAME}/predict", BODY, {"traceparent": traceparent})
    assert answer.status == 200
    request = check_request(spans_of(receiver, trace_id), "POST /v2/models/{model}/infer")
    assert answer.headers["traceresponse"] == f"00-{trace_id.hex()}-{request.span_id.hex()}-01"


MALFORMED = [
    "",
    "00",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
    "00-00000000000000000000000000000000-b7ad6b7169203331-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
    "x" * 8000,
]


def test_a_malformed_traceparent_or_state_is_ignored(server: Server, receiver: Receiver) -> None:
    for text in MALFORMED:
        reply = server.rest("POST", INFER, BODY, {"traceparent": text, "tracestate": "a=1"})
        assert reply.status == 200 and "traceresponse" not in reply.headers
    traceparent, trace_id = parent_of(6)
    hostile = ",".join(f"k{number}==a=;b" for number in range(500))
    assert server.rest("POST", INFER, BODY, {"traceparent": traceparent, "tracestate": hostile}).status == 200
    assert spans_of(receiver, trace_id)["POST /v2/models/{model}/infer"].trace_state == ""


def test_a_caller_may_decline_and_failures_are_kept(server: Server, receiver: Receiver) -> None:
    declined, trace_id = parent_of(7, "00")
    reply = server.rest("POST", INFER, BODY, {"traceparent": declined})
    assert reply.status == 200 and "traceresponse" not in reply.headers
    overdue = server.rest("POST", INFER, BODY, {"traceparent": declined, "penstock-timeout-ms": "0"})
    assert overdue.status == 504
    request = spans_of(receiver, trace_id, count=1)["POST /v2/models/{model}/infer"]
    assert overdue.headers["traceresponse"] == f"00-{trace_id.hex()}-{request.span_id.hex()}-01"
    assert request.status.code == Status.STATUS_CODE_ERROR
    attributes = values_of(request.attributes)
    assert (attributes["error.type"], attributes["http.response.status_code"]) == ("deadline", 504)
    assert attributes["penstock.trace.kept"] is True
    assert [span.trace_id for span in receiver.spans].count(trace_id) < 6  # not the one that was answered


def test_a_disagreeing_shadow_is_kept_and_links_its_request(server: Server, receiver: Receiver) -> None:
    route = {"split": {"1": 10_000}, "shadow": [{"version": "2", "percent": 100}], "reason": "a shadow"}
    assert server.admin("PUT", f"/admin/v1/models/{NAME}/route", route).status == 200

    def ask() -> bool:
        reply = server.rest("POST", INFER, BODY)
        assert "traceresponse" not in reply.headers  # nobody asks for a trace
        return bool(receiver.find("shadow"))

    wait_until(ask, PATIENCE_S, "the span of the shadow")
    shadow = receiver.find("shadow")[0]
    [link] = shadow.links
    attributes = values_of(shadow.attributes)
    assert attributes["penstock.model.version"] == "2" and attributes["penstock.shadow.disagrees"] is True
    linked = spans_of(receiver, link.trace_id, count=4)["POST /v2/models/{model}/infer"]
    assert linked.span_id == link.span_id
    assert values_of(linked.attributes)["penstock.request.id"] == attributes["penstock.request.id"]
    assert values_of(linked.events[0].attributes)["feature_flag.result.reason"] == "default"

    def samples() -> set[str]:
        document = server.admin("GET", f"/admin/v1/models/{NAME}/shadow/2").json()
        return {sample["trace_id"] for sample in document["samples"]}

    wait_until(lambda: link.trace_id.hex() in samples(), PATIENCE_S, "the sample with the trace of its request")


def test_histograms_have_exemplars_and_metrics_are_pushed(server: Server, receiver: Receiver) -> None:
    traceparent, trace_id = parent_of(8)
    assert server.rest("POST", INFER, BODY, {"traceparent": traceparent}).status == 200
    spans_of(receiver, trace_id)

    def exemplars() -> list[Any]:
        text = server.admin("GET", "/metrics", headers={"accept": "application/openmetrics-text"}).body.decode()
        families = {family.name: family for family in READ_OPENMETRICS(text)}
        samples = families["penstock_request_duration_seconds"].samples
        return [
            sample for sample in samples if sample.exemplar and sample.exemplar.labels["trace_id"] == trace_id.hex()
        ]

    wait_until(lambda: bool(exemplars()), PATIENCE_S, "the exemplar")
    [sample] = exemplars()
    assert sample.exemplar.value <= float(sample.labels["le"])
    assert " # {" not in server.admin("GET", "/metrics").body.decode()

    def pushed() -> list[Any]:
        found = [item for item in list(receiver.metrics) if item.name == "penstock_request_duration_seconds"]
        points = [point for item in found for point in item.histogram.data_points]
        return [item for point in points for item in point.exemplars if item.trace_id == trace_id]

    wait_until(lambda: bool(pushed()), PATIENCE_S, "the exemplar in a push")
    counters = [item for item in receiver.metrics if item.name == "penstock_requests_total"]
    assert counters[-1].sum.is_monotonic and counters[-1].sum.data_points
    text = server.admin("GET", "/metrics").body.decode()
    assert 'penstock_otlp_items_total{outcome="sent",signal="traces"}' in text


def test_access_log_lines_follow_the_schema_and_name_their_traces(server: Server, receiver: Receiver) -> None:
    traceparent, trace_id = parent_of(9)
    headers = {"traceparent": traceparent, "x-request-id": "logged"}
    assert server.rest("POST", INFER, BODY, headers).status == 200
    request = spans_of(receiver, trace_id)["POST /v2/models/{model}/infer"]

    def lines() -> list[dict[str, Any]]:
        complete = server.log_text().rpartition("\n")[0].splitlines()
        return [read_ecs(line) for line in complete if line.startswith("{")]

    def found() -> list[dict[str, Any]]:
        return [line for line in lines() if line.get("http.request.id") == "logged"]

    wait_until(lambda: bool(found()), PATIENCE_S, "the line")
    [line] = found()
    assert (line["trace.id"], line["span.id"]) == (trace_id.hex(), request.span_id.hex())
    assert (line["event.dataset"], line["url.path"], line["labels.model"]) == ("penstock.access", INFER, NAME)
    assert line["event.duration"] == request.end_time_unix_nano - request.start_time_unix_nano
    assert json.dumps(BODY["inputs"][0]["data"]) not in server.log_text()


def test_a_receiver_that_is_away_costs_bounded_memory_and_callers_force_no_more_than_the_limit(
    tmp_path: Path,
) -> None:
    place(tmp_path / "models", NAME, {"1": versioned(1)})
    with receiving() as gone:
        url = gone.url
    env = {
        "PENSTOCK_TRACING__OTLP_ENDPOINT": url,
        "PENSTOCK_TRACING__MAX_FORCED_PER_SECOND": "3",
        "PENSTOCK_TRACING__RATIO": "0",
    }
    with running(tmp_path / "models", tmp_path, env=env) as server:
        forced = 0
        for number in range(300):
            traceparent, _ = parent_of(100 + number)
            reply = server.rest("POST", INFER, BODY, {"traceparent": traceparent})
            assert reply.status == 200
            forced += "traceresponse" in reply.headers
        assert forced >= 3

        def text() -> str:
            return server.admin("GET", "/metrics").body.decode()

        dropped = f'penstock_traces_dropped_total{{reason="forced"}} {300.0 - forced}'
        wait_until(lambda: dropped in text(), PATIENCE_S, text)
        waiting = f'penstock_otlp_waiting{{signal="traces"}} {5.0 * forced}'
        wait_until(lambda: waiting in text(), PATIENCE_S, text)
        wait_until(lambda: "does not take spans" in server.log_text(), PATIENCE_S, "the warning")
