"""ModelStreamInfer on real sockets: order, errors inside the stream, its bounds and its end."""

import queue
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from penstock.api.grpc.services import GrpcOptions
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import wait_until
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.requests import floats, pair, raw, slow
from tests.integration.api_grpc.worker import CALL_SECONDS, Worker

Stub = GRPCInferenceServiceStub
Requests = Iterator[pb.ModelInferRequest]


class Feed:
    """Requests that are sent when the test says so."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()

    def send(self, *requests: pb.ModelInferRequest) -> None:
        """Send some."""
        for request in requests:
            self._queue.put(request)

    def end(self) -> None:
        """Close our half of the stream."""
        self._queue.put(None)

    def __iter__(self) -> Requests:
        return iter(self._queue.get, None)


def test_answers_come_in_the_order_of_the_requests(stub: Stub) -> None:
    sent = [slow(), pair(1, 1, 1, call_id="b"), raw("slow", "x", "FP32", [1], id="c"), pair(2, 2, 2, call_id="d")]
    sent[0].id = "a"
    answers = [answer.infer_response for answer in stub.ModelStreamInfer(iter(sent), timeout=CALL_SECONDS)]
    assert [answer.id for answer in answers] == ["a", "b", "c", "d"]
    assert floats(answers[3]) == [6, 6, 6]
    told = answers[1].parameters
    assert told["penstock-model-version"].string_param == "2"
    assert told["penstock-route"].string_param == "stable"


def test_more_requests_than_the_window_holds(stub: Stub) -> None:
    sent = (pair(x, x, x, call_id=str(x)) for x in range(500))
    answers = list(stub.ModelStreamInfer(sent, timeout=CALL_SECONDS))
    assert [answer.infer_response.id for answer in answers] == [str(x) for x in range(500)]


def test_an_error_leaves_the_stream_open(stub: Stub, worker: Worker) -> None:
    known, unknown = worker.outcomes("pair", "2"), worker.outcomes()
    wrong = raw("pair", "x", "FP32", [[1, 2]], id="wrong")
    sent = iter([pair(), wrong, raw("nobody", "x", "FP32", [1]), pair(1, 1, 1)])
    answers = list(stub.ModelStreamInfer(sent, timeout=CALL_SECONDS))
    assert [bool(answer.error_message) for answer in answers] == [False, True, True, False]
    assert answers[1].error_message == "input 'x' got shape [1, 2]; expected 'x' FP32 [-1, 3]"
    assert answers[1].infer_response.id == "wrong"
    assert answers[2].error_message == "Request for unknown model 'nobody'"
    worker.awaits({"ok": 2, "invalid": 1}, "pair", "2", since=known)
    worker.awaits({"not_found": 1}, since=unknown)


def test_bytes_that_are_no_message_leave_the_stream_open(channel: grpc.Channel) -> None:
    send: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer"
    )
    answers = list(send(iter([b"\xff\xff", pair().SerializeToString()]), timeout=CALL_SECONDS))
    first, second = map(pb.ModelStreamInferResponse.FromString, answers)
    assert first.error_message == "the message is not a valid ModelInferRequest"
    assert floats(second.infer_response) == [4, 6, 8]


def test_an_error_is_a_status_for_those_who_want_one(stub: Stub) -> None:
    sent = iter([pair(), raw("nobody", "x", "FP32", [1]), pair()])
    answers = stub.ModelStreamInfer(sent, metadata=(("triton_grpc_error", "true"),), timeout=CALL_SECONDS)
    assert not next(answers).error_message
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == "Request for unknown model 'nobody'"


def test_a_closing_answer_for_those_who_want_one(stub: Stub) -> None:
    closing = pair(call_id="7")
    closing.parameters["triton_enable_empty_final_response"].bool_param = True
    answers = list(stub.ModelStreamInfer(iter([closing, pair()]), timeout=CALL_SECONDS))
    flags = [answer.infer_response.parameters.get("triton_final_response") for answer in answers]
    assert [None if flag is None else flag.bool_param for flag in flags] == [False, True, None]
    assert answers[1].infer_response.id == "7"
    assert not answers[1].infer_response.outputs


def test_an_idle_stream_stays_open_and_answers_at_once(stub: Stub) -> None:
    feed = Feed()
    answers = stub.ModelStreamInfer(iter(feed), timeout=CALL_SECONDS)
    for x in range(3):
        feed.send(pair(x, x, x))
        assert floats(next(answers).infer_response) == [2 * x + 2] * 3
    feed.end()
    assert list(answers) == []


def test_cancelling_a_stream_gives_its_requests_up(stub: Stub, worker: Worker) -> None:
    before = worker.outcomes("slow")
    feed = Feed()
    answers = stub.ModelStreamInfer(iter(feed))
    feed.send(*[slow() for _ in range(5)])
    wait_until(lambda: worker.totals("slow").inflight == 5, CALL_SECONDS, "the requests are under way")
    answers.cancel()
    worker.awaits({"cancelled": 5}, "slow", since=before)
    worker.settles("slow")
    feed.end()


def test_a_stream_keeps_to_its_window(models: Path) -> None:
    with (
        workers.running(models, GrpcOptions(stream_window=2)) as narrow,
        grpc.insecure_channel(narrow.address) as channel,
    ):
        seen = 0
        answers = Stub(channel).ModelStreamInfer(iter([slow() for _ in range(5)]), timeout=CALL_SECONDS)
        for _ in range(5):
            seen = max(seen, narrow.totals("slow").inflight)
            next(answers)
        assert 1 <= seen <= 2


def test_draining_ends_streams_after_what_they_asked(models: Path) -> None:
    with workers.running(models) as worker, grpc.insecure_channel(worker.address) as channel:
        feed = Feed()
        answers = Stub(channel).ModelStreamInfer(iter(feed), timeout=CALL_SECONDS)
        feed.send(slow(), pair(1, 1, 1))
        wait_until(lambda: worker.totals("slow").inflight == 1, CALL_SECONDS, "the requests are under way")
        time.sleep(0.05)  # the second one, answered out of sight, is counted only after its turn
        worker.call(worker.server.drain)
        assert next(answers).infer_response.model_name == "slow"
        assert floats(next(answers).infer_response) == [4, 4, 4]
        with pytest.raises(grpc.RpcError) as raised:
            next(answers)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert raised.value.details() == "the server is stopping; open another stream"
        feed.end()
