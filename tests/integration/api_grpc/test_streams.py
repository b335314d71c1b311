"""ModelStreamInfer on real sockets: order, errors inside the stream, its bounds and its end."""

import gc
import queue
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from penstock.api.grpc.framing import add_prefix
from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.frames import encode_frame
from penstock.api.grpc.http2_server import Http2Server
from penstock.api.grpc.infer_stream import InferStream, StreamedRequest
from penstock.api.grpc.services import GrpcOptions
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from penstock.serving.infer_call import InferCall
from tests.harness import wait_until
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.raw import STREAM, Raw
from tests.integration.api_grpc.requests import endless, floats, long, pair, raw, slow
from tests.integration.api_grpc.worker import CALL_SECONDS, Kind, Worker

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
    reported = answers[1].parameters
    assert reported["penstock-model-version"].string_param == "2"
    assert reported["penstock-route"].string_param == "stable"


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
    worker.awaits({"ok": 2, "invalid": 1}, model="pair", version="2", since=known)
    worker.awaits({"not_found": 1}, since=unknown)


def test_malformed_bytes_leave_the_stream_open(channel: grpc.Channel) -> None:
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
    before = worker.outcomes("steps")
    feed = Feed()
    answers = stub.ModelStreamInfer(iter(feed))
    feed.send(*[endless() for _ in range(5)])
    wait_until(lambda: worker.totals("steps").inflight == 5, CALL_SECONDS, "the requests are under way")
    answers.cancel()
    worker.awaits({"cancelled": 5}, model="steps", since=before)
    worker.settles("steps")
    feed.end()


def test_a_stream_keeps_to_its_window(models: Path) -> None:
    with (
        workers.running(models, GrpcOptions(stream_requests=2)) as narrow,
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
        wait_until(lambda: worker.begun("slow") == 1, CALL_SECONDS, "the requests are under way")
        time.sleep(0.05)  # the second one, answered out of sight, is counted only after its turn
        worker.call(worker.server.drain)
        assert next(answers).infer_response.model_name == "slow"
        assert floats(next(answers).infer_response) == [4, 4, 4]
        with pytest.raises(grpc.RpcError) as raised:
            next(answers)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert raised.value.details() == "the server is stopping; open another stream"
        feed.end()


def wide(call_id: str = "") -> pb.ModelInferRequest:
    """A request of a few bytes whose answer has a megabyte."""
    return raw("wide", "x", "FP32", [[1]], id=call_id)


@pytest.fixture
def own(models: Path, carrier: Kind) -> Iterator[Worker]:
    """A worker whose memory no other test uses, with streams of at most 3 MB."""
    with workers.running(models, GrpcOptions(stream_window_bytes=3 << 20), carrier) as running:
        yield running


def unread(worker: Worker, requests: list[pb.ModelInferRequest]) -> Any:
    """A stream whose answers are not read; small windows keep them in the server."""
    options = [("grpc.http2.lookahead_bytes", 1), ("grpc.max_receive_message_length", -1), ("grpc.http2.bdp_probe", 0)]
    channel = grpc.insecure_channel(worker.address, options=options)
    feed = Feed()
    feed.send(*requests)
    return channel, feed, Stub(channel).ModelStreamInfer(iter(feed), timeout=CALL_SECONDS)


def test_a_stream_does_not_run_ahead_of_a_reader_who_does_not_read(own: Worker) -> None:
    channel, feed, answers = unread(own, [wide(str(x)) for x in range(64)])
    with channel:
        wait_until(lambda: own.outcomes("wide").get("ok", 0) >= 2, CALL_SECONDS, "the first answers")
        time.sleep(0.5)  # nothing says that nothing more happens
        assert own.outcomes("wide")["ok"] <= 12  # those in the window, in the socket and in the client
        assert own.plane.memory.used < 8 << 20
        feed.end()
        assert [answer.infer_response.id for answer in answers] == [str(x) for x in range(64)]
    wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")
    assert own.outcomes("wide") == {"ok": 64}


def test_a_stream_that_is_cancelled_gives_everything_back_at_once(own: Worker) -> None:
    large = raw("pair", "x", "FP32", np.ones((20_000, 3)), model_version="1")
    gc.collect()
    gc.disable()
    earlier = _kept()  # by other workers of this process
    try:
        for _ in range(3):
            channel, feed, answers = unread(own, [*[wide()] * 5, *[large] * 20])
            with channel:
                next(answers)
                answers.cancel()
                feed.end()
            wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")
        own.settles("slow")
        wait_until(lambda: len(_kept()) <= len(earlier), CALL_SECONDS, "nothing is kept")
    finally:
        gc.enable()


def _kept() -> list[object]:
    return [item for item in gc.get_objects() if isinstance(item, StreamedRequest | InferStream | InferCall)]


def test_requests_that_come_together_share_runs(stub: Stub, worker: Worker, carrier: Kind) -> None:
    if carrier is not Http2Server:
        pytest.skip("grpcio gives each message of a stream a turn of the loop of its own")

    def batches() -> dict[int, int]:
        return {size: count for size, count, *_ in worker.totals("pair", "2").batches()}

    before = batches()
    sent = iter([pair(x, x, x, call_id=str(x)) for x in range(400)])
    answers = list(stub.ModelStreamInfer(sent, timeout=CALL_SECONDS))
    assert [floats(answer.infer_response) for answer in answers] == [[2 * x + 2] * 3 for x in range(400)]
    added = {size: count - before.get(size, 0) for size, count in batches().items() if count != before.get(size, 0)}
    assert sum(size * count for size, count in added.items()) == 400
    assert max(added) > 1


def test_a_full_queue_is_an_answer_that_costs_no_decoding(worker: Worker, stub: Stub) -> None:
    limiter = worker.plane.route(("slow", ""), {})[0].limiter
    wrong = raw("slow", "x", "FP32", [1, 2, 3], id="wrong")  # which a decoded request would be told
    worker.call(lambda: setattr(limiter, "in_system", limiter.in_system + 10_000))
    try:
        (answer,) = stub.ModelStreamInfer(iter([wrong]), timeout=CALL_SECONDS)
    finally:
        worker.call(lambda: setattr(limiter, "in_system", limiter.in_system - 10_000))
    assert "queue of this model is full" in answer.error_message


def test_what_is_over_the_memory_is_an_answer(models: Path, carrier: Kind) -> None:
    with workers.running(models, kind=carrier) as own, grpc.insecure_channel(own.address) as channel:
        own.call(lambda: setattr(own.plane.memory, "limit", 100_000))
        sent = iter([pair(1, 1, 1), wide("large"), pair(2, 2, 2)])
        answers = list(Stub(channel).ModelStreamInfer(sent, timeout=CALL_SECONDS))
        assert ["no memory left" in answer.error_message for answer in answers] == [False, True, False]
        assert answers[1].infer_response.id == "large"
        own.awaits({"over_budget": 1}, model="wide")
        wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")


def test_a_request_that_no_memory_is_left_for_ends_the_stream(models: Path) -> None:
    with workers.running(models) as own, grpc.insecure_channel(own.address) as channel:
        own.call(lambda: setattr(own.plane.memory, "limit", 100_000))
        sent = iter([pair(1, 1, 1), raw("pair", "x", "FP32", np.ones((20_000, 3)))])
        with pytest.raises(grpc.RpcError) as raised:
            list(Stub(channel).ModelStreamInfer(sent, timeout=CALL_SECONDS))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")


def test_a_stream_ends_at_its_deadline(stub: Stub, worker: Worker) -> None:
    before, feed = worker.outcomes("steps"), Feed()
    feed.send(pair(1, 1, 1), long(1000))  # a second on a fast machine
    answers = stub.ModelStreamInfer(iter(feed), timeout=0.4)
    with pytest.raises(grpc.RpcError) as raised:
        list(answers)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    feed.end()
    # The client resets the stream at its own deadline, which began before the worker's.
    worker.awaits({"deadline": 1}, {"cancelled": 1}, model="steps", since=before)
    worker.settles("steps")


def test_each_request_of_a_stream_may_have_a_time_limit(stub: Stub) -> None:
    hurried = slow()
    hurried.parameters["timeout"].int64_param = 20_000
    first, second = stub.ModelStreamInfer(iter([hurried, pair(1, 1, 1)]), timeout=CALL_SECONDS)
    assert "deadline" in first.error_message
    assert floats(second.infer_response) == [4, 4, 4]


def test_a_stream_without_a_whole_last_message_fails(models: Path) -> None:
    with workers.running(models) as own, closing(Raw(own.address)) as client:
        whole = add_prefix(pair(1, 1, 1).SerializeToString())
        client.write(encode_frame(frames.HEADERS, frames.END_HEADERS, 1, client.head(path=STREAM)))
        client.write(encode_frame(frames.DATA, frames.END_STREAM, 1, whole + whole[:-1]))
        answer = client.answer(1)
    assert answer.fields["grpc-status"] == str(grpc.StatusCode.INTERNAL.value[0])
    message = pb.ModelStreamInferResponse.FromString(bytes(answer.data[5:]))
    assert floats(message.infer_response) == [4, 4, 4]
