"""ModelInfer on real sockets: answers, who answered, deadlines, and one count for each call."""

import threading
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from penstock.api.grpc.services import GrpcOptions
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import wait_until
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.requests import divide, endless, floats, gather, integers, pair, raw, slow
from tests.integration.api_grpc.worker import CALL_SECONDS, Kind, Worker, facts

Stub = GRPCInferenceServiceStub


def refusal(stub: Stub, request: pb.ModelInferRequest, timeout: float = CALL_SECONDS) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(request, timeout=timeout)
    return raised.value


def test_raw_in_raw_out(stub: Stub) -> None:
    response = stub.ModelInfer(pair(1, 2, 3, call_id="mine"))
    assert (response.model_name, response.model_version, response.id) == ("pair", "2", "mine")
    assert floats(response) == [4, 6, 8]


def typed_mixed() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="mixed")
    request.inputs.add(name="number", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, -1, 0])
    request.inputs.add(name="key", datatype="INT64", shape=[1, 2]).contents.int64_contents.extend([5, 6])
    return request


def test_typed_in_raw_out(stub: Stub) -> None:
    response = stub.ModelInfer(typed_mixed())
    assert [output.name for output in response.outputs] == ["doubled", "next", "positive"]
    assert not any(output.HasField("contents") for output in response.outputs)
    assert floats(response) == [2, -2, 0]
    assert np.frombuffer(response.raw_output_contents[1], np.int64).tolist() == [6, 7]
    assert list(response.raw_output_contents[2]) == [1, 0, 0]


def test_typed_in_typed_out_where_it_is_set(models: Path, carrier: Kind) -> None:
    with (
        workers.running(models, GrpcOptions(mirrors_typed=True), carrier) as worker,
        grpc.insecure_channel(worker.address) as channel,
    ):
        response = Stub(channel).ModelInfer(typed_mixed())
        streamed = [tensor.infer_response for tensor in Stub(channel).ModelStreamInfer(iter([typed_mixed()]))]
        raw_one = Stub(channel).ModelInfer(pair(1, 2, 3))
    assert floats(raw_one) == [4, 6, 8]
    for answer in (response, *streamed):
        assert list(answer.outputs[0].contents.fp32_contents) == [2, -2, 0]
        assert list(answer.outputs[1].contents.int64_contents) == [6, 7]
        assert list(answer.outputs[2].contents.bool_contents) == [True, False, False]
        assert not answer.raw_output_contents


def test_requested_outputs_keep_their_order(stub: Stub) -> None:
    request = raw("mixed", "number", "FP32", [[1, -1, 0]])
    request.inputs.add(name="key", datatype="INT64", shape=[1, 2])
    request.raw_input_contents.append(np.array([5, 6], np.int64).tobytes())
    request.outputs.add(name="positive")
    request.outputs.add(name="doubled").parameters["classification"].int64_param = 2
    response = stub.ModelInfer(request)
    assert [(output.name, output.datatype, list(output.shape)) for output in response.outputs] == [
        ("positive", "BOOL", [1, 3]),
        ("doubled", "BYTES", [1, 2]),
    ]
    assert b"2.000000:0" in response.raw_output_contents[1]


def test_scalars_and_empty_batches(stub: Stub) -> None:
    response = stub.ModelInfer(raw("scalar", "x", "FP32", 3.0))
    assert (floats(response), list(response.outputs[0].shape)) == ([7.0], [])
    response = stub.ModelInfer(raw("pair", "x", "FP32", np.zeros((0, 3))))
    assert (floats(response), list(response.outputs[0].shape)) == ([], [0, 3])


@pytest.mark.parametrize(("version", "answers", "route"), [("", "2", "stable"), ("1", "1", "pinned")])
def test_every_answer_says_who_answered(stub: Stub, version: str, answers: str, route: str) -> None:
    response, call = stub.ModelInfer.with_call(pair(version=version, call_id="a b"))
    assert response.model_version == answers
    assert facts(call.initial_metadata()) == {
        "penstock-model-version": answers,
        "penstock-route": route,
        "x-request-id": "a b",
    }


def test_a_request_id_comes_from_the_message_the_metadata_or_us(stub: Stub) -> None:
    stated = (("x-request-id", "from-metadata"),)
    response, call = stub.ModelInfer.with_call(pair(), metadata=stated)
    assert response.id == facts(call.initial_metadata())["x-request-id"] == "from-metadata"
    response, call = stub.ModelInfer.with_call(pair(call_id="from-message"), metadata=stated)
    assert response.id == facts(call.initial_metadata())["x-request-id"] == "from-message"
    made = {stub.ModelInfer(pair()).id for _ in range(5)}
    assert len(made) == 5
    assert "" not in made


def test_any_text_may_be_a_request_id(stub: Stub) -> None:
    response, call = stub.ModelInfer.with_call(pair(call_id="naïve\n"))
    assert response.id == "naïve\n"
    assert facts(call.initial_metadata())["x-request-id"] == "na%C3%AFve%0A"
    response, call = stub.ModelInfer.with_call(pair(call_id="x" * 100_000))
    assert response.id == "x" * 100_000
    assert "x-request-id" not in facts(call.initial_metadata())


def test_errors_say_who_refused(stub: Stub) -> None:
    error = refusal(stub, raw("pair", "x", "FP32", [[1, 2]], id="7"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "input 'x' got shape [1, 2]; expected 'x' FP32 [-1, 3]"
    expected = {"penstock-model-version": "2", "penstock-route": "stable", "x-request-id": "7"}
    assert facts(error.initial_metadata()) == expected
    error = refusal(stub, raw("nobody", "x", "FP32", [[1, 2]], id="7"))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "Request for unknown model 'nobody'")
    assert facts(error.initial_metadata()) == {"x-request-id": "7"}


def test_a_model_that_is_not_ready_is_refused_in_trailers(stub: Stub) -> None:
    error = refusal(stub, raw("loading", "x", "FP32", [1], id="7"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert facts(error.initial_metadata()) == {}
    assert facts(error.trailing_metadata()) == {"x-request-id": "7"}


def test_a_failing_run_is_an_answer(stub: Stub, worker: Worker) -> None:
    before = worker.outcomes("divide")
    error = refusal(stub, divide(8, 0))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "onnx" not in (error.details() or "").lower()
    assert integers(stub.ModelInfer(divide(8, 2))) == [4]
    worker.awaits({"ok": 1, "internal": 1}, model="divide", since=before)


def test_values_that_the_graph_cannot_take_are_the_callers(stub: Stub, worker: Worker) -> None:
    before = worker.outcomes("gather")
    error = refusal(stub, gather(9))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "idx=9 must be within" in (error.details() or "")
    assert floats(stub.ModelInfer(gather(3))) == [40]
    worker.awaits({"ok": 1, "invalid": 1}, model="gather", since=before)


def test_malformed_bytes_are_refused_as_a_message(channel: grpc.Channel, worker: Worker) -> None:
    before = worker.outcomes()
    send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with pytest.raises(grpc.RpcError) as raised:
        send(b"\xff\xff\xff", timeout=CALL_SECONDS)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    worker.awaits({"invalid": 1}, since=before)


def test_every_call_is_counted_once(stub: Stub, worker: Worker) -> None:
    known, unknown = worker.outcomes("pair", "1"), worker.outcomes()
    stub.ModelInfer(pair(version="1"))
    refusal(stub, raw("pair", "x", "INT64", [[1, 2, 3]], model_version="1"))
    refusal(stub, raw("pair", "x", "FP32", [[1, 2]], model_version="1"))
    refusal(stub, pair(version="9"))
    refusal(stub, raw("loading", "x", "FP32", [1]))
    worker.awaits({"ok": 1, "invalid": 2}, model="pair", since=known)
    worker.awaits({"not_found": 1, "not_ready": 1}, since=unknown)


def test_a_grpc_deadline_is_kept(stub: Stub, worker: Worker) -> None:
    before = worker.outcomes("slow").get("deadline", 0)

    def is_counted() -> bool:  # on a busy machine the client may give up before the worker has begun, or has noticed
        assert refusal(stub, slow(), timeout=0.05).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return worker.outcomes("slow").get("deadline", 0) > before

    wait_until(is_counted, CALL_SECONDS, "a deadline is counted")
    worker.settles("slow")
    assert stub.ModelInfer(slow(), timeout=CALL_SECONDS).model_name == "slow"


def test_the_parameter_timeout_is_kept(stub: Stub, worker: Worker) -> None:
    before = worker.outcomes("slow")
    request = slow()
    request.parameters["timeout"].int64_param = 50_000
    error = refusal(stub, request)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    worker.awaits({"deadline": 1}, model="slow", since=before)
    worker.settles("slow")


def test_a_caller_who_goes_away_frees_the_thread(stub: Stub, worker: Worker) -> None:
    before = worker.outcomes("steps")
    waiting = [stub.ModelInfer.future(endless()) for _ in range(5)]
    wait_until(lambda: worker.totals("steps").inflight == 5, CALL_SECONDS, "the calls are under way")
    for call in waiting:
        call.cancel()
    worker.awaits({"cancelled": 5}, model="steps", since=before)
    worker.settles("steps")
    stub.ModelInfer(slow(), timeout=CALL_SECONDS)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(stub: Stub, compression: grpc.Compression) -> None:
    assert floats(stub.ModelInfer(pair(1, 1, 1), compression=compression)) == [4, 4, 4]


def test_calls_side_by_side_get_their_own_answers(stub: Stub) -> None:
    calls = [(x, stub.ModelInfer.future(pair(x, x, x, call_id=str(x)))) for x in range(200)]
    for x, call in calls:
        response = call.result(timeout=CALL_SECONDS)
        assert response.id == str(x)
        assert floats(response) == [2 * x + 2] * 3


def test_a_message_over_the_limit_is_refused_and_small_ones_go_on(models: Path) -> None:
    large = pair(*([1.0] * 3), call_id="x" * 5000)
    options = GrpcOptions(max_message_bytes=4096)
    with workers.running(models, options) as small, grpc.insecure_channel(small.address) as channel:
        stub = Stub(channel)
        for compression in (None, grpc.Compression.Gzip):
            with pytest.raises(grpc.RpcError) as raised:
                stub.ModelInfer(large, timeout=CALL_SECONDS, compression=compression)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert floats(stub.ModelInfer(pair(1, 1, 1), timeout=CALL_SECONDS)) == [4, 4, 4]


def test_answers_may_be_large(stub: Stub, channel: grpc.Channel, worker: Worker) -> None:
    rows = np.ones((1_500_000, 3))
    with grpc.insecure_channel(worker.address, options=[("grpc.max_receive_message_length", -1)]) as large:
        response = Stub(large).ModelInfer(raw("pair", "x", "FP32", rows), timeout=CALL_SECONDS)
    assert len(response.raw_output_contents[0]) == rows.size * 4


RETRYING = """{"methodConfig": [{"name": [{"service": "inference.GRPCInferenceService"}],
  "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
  "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]}}]}"""


def test_a_full_queue_is_refused_so_that_clients_retry(worker: Worker) -> None:
    group = 10_000
    options = [("grpc.enable_retries", 1), ("grpc.service_config", RETRYING)]
    with grpc.insecure_channel(worker.address, options=options) as patient:
        held = worker.plane.route(("slow", ""), {})[0].limiter
        worker.call(lambda: setattr(held, "in_system", held.in_system + group))
        with pytest.raises(grpc.RpcError) as raised, grpc.insecure_channel(worker.address) as channel:
            Stub(channel).ModelInfer(slow(), timeout=CALL_SECONDS)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        reported = facts(raised.value.trailing_metadata())
        assert reported["retry-after"] == "1"
        assert reported["grpc-retry-pushback-ms"] == "1000"
        assert reported["penstock-model-version"] == "1"
        threading.Timer(0.5, lambda: worker.call(lambda: setattr(held, "in_system", held.in_system - group))).start()
        assert Stub(patient).ModelInfer(slow(), timeout=CALL_SECONDS).model_name == "slow"


def test_a_call_that_would_wait_too_long_is_refused_at_once(worker: Worker, stub: GRPCInferenceServiceStub) -> None:
    known, queue = worker.begun("slow"), 20
    before = [stub.ModelInfer.future(slow(), timeout=CALL_SECONDS) for _ in range(queue)]
    wait_until(lambda: worker.begun("slow") >= known + queue, CALL_SECONDS, "the queue")
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(slow(), timeout=1)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "s long, and the call has less time" in (refused.value.details() or "")
    assert int(workers.facts(refused.value.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1
    for call in before:
        call.cancel()
    worker.settles("slow")
