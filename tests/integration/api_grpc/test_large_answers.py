"""Many and large answers: a client that reads gets all of them, and one that does not costs itself its stream."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import numpy as np
import pytest

from penstock.api.grpc.http2 import connection, frames
from penstock.api.grpc.http2.frames import ErrorCode
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import PATIENCE_S, wait_until
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.raw import Raw
from tests.integration.api_grpc.requests import pair
from tests.integration.api_grpc.worker import Worker

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PAIR = pair(1, 1, 1).SerializeToString()


@pytest.fixture(scope="module")
def own(models: Path) -> Iterator[Worker]:
    with workers.running(models) as running:
        yield running


def echo(megabytes: int) -> pb.ModelInferRequest:
    """A request whose answer has so many MiB."""
    rows = (megabytes << 20) // 4000
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[rows, 1000])
    content = np.arange(rows * 1000, dtype=np.float32).tobytes()
    return pb.ModelInferRequest(model_name="identity_fp32", inputs=[tensor], raw_input_contents=[content])


@pytest.mark.parametrize(("calls", "megabytes"), [(40, 4), (20, 8), (2, 40)])
def test_a_channel_that_asks_for_much_at_a_time_gets_it(own: Worker, calls: int, megabytes: int) -> None:
    request = echo(megabytes)
    with grpc.insecure_channel(own.address, options=UNLIMITED) as channel, ThreadPoolExecutor(calls) as pool:
        stub = GRPCInferenceServiceStub(channel)
        answers = [pool.submit(stub.ModelInfer, request, timeout=PATIENCE_S) for _ in range(calls)]
        for answer in answers:
            assert answer.result().raw_output_contents[0] == request.raw_input_contents[0]


def test_a_client_with_fixed_small_windows_takes_a_large_answer(own: Worker) -> None:
    """As Node's client does: windows of 64 KiB, opened on the stream and on the connection for each piece that came."""
    request = echo(48)
    with closing(Raw(own.address, {frames.INITIAL_WINDOW_SIZE: 65_535})) as raw:
        number = raw.call_in_pieces(request.SerializeToString())
        seen = 0
        while not raw.answers.get(number) or not raw.answers[number].over:
            raw.read()
            assert not raw.closed
            size = len(raw.answers[number].data) if number in raw.answers else 0
            if size - seen >= 16_384:
                raw.write(frames.window_update(number, size - seen) + frames.window_update(0, size - seen))
                seen = size
        assert raw.answers[number].status == 0
        assert raw.answers[number].message().raw_output_contents[0] == request.raw_input_contents[0]


def test_an_answer_that_nobody_takes_ends_its_own_stream(own: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STUCK_NS", 1_000_000_000)
    with closing(Raw(own.address, {frames.INITIAL_WINDOW_SIZE: 100})) as raw:
        number = raw.call_in_pieces(echo(1).SerializeToString())
        assert raw.answer(number).reset == ErrorCode.CANCEL
        other = raw.call(PAIR)
        raw.write(frames.window_update(other, 1 << 20))
        assert raw.answer(other).status == 0
        wait_until(lambda: own.plane.memory.used == 0, PATIENCE_S, "the answer's memory")


def one_window() -> bytes:
    """A request of a little less than 1 MiB, which fits into a stream's window, and so does its answer."""
    request = echo(1)
    request.inputs[0].shape[0] -= 1
    request.raw_input_contents[0] = request.raw_input_contents[0][4000:]
    return request.SerializeToString()


def test_answers_that_are_not_read_are_bounded(own: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with windows of 2 GiB that does not read: what waits is counted, and others are served."""
    monkeypatch.setattr(own.plane.memory, "limit", 64 << 20)
    message = one_window()
    huge = {frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW}
    with closing(Raw(own.address, huge)) as raw, closing(Raw(own.address)) as other:
        raw.write(frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
        raw.socket.settimeout(1.0)
        numbers: list[int] = []
        while len(numbers) < 200 and not raw.closed:  # until the server reads no more, either
            numbers.append(raw.call(message))
        assert len(numbers) > 10
        assert other.answer(other.call(PAIR)).status == 0
        assert own.plane.memory.used <= 64 << 20
    wait_until(lambda: own.plane.memory.used == 0, PATIENCE_S, "all memory back")


HUGE = {frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW}


def test_answers_are_made_as_fast_as_the_client_takes_them(own: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """More answers than one connection may have in memory: the calls wait, and none is refused."""
    monkeypatch.setattr(own.plane.memory, "limit", 64 << 20)
    message = one_window()
    before = own.outcomes("identity_fp32")
    with closing(Raw(own.address, HUGE)) as raw:
        numbers = [raw.call(message) for _ in range(20)]
        wait_until(
            lambda: own.outcomes("identity_fp32").get("ok", 0) >= before.get("ok", 0) + 16, PATIENCE_S, "the first ones"
        )
        numbers += [raw.call(message) for _ in range(16)]
        hurried = raw.call(message, grpc_timeout="200m")
        given_up = raw.call(message)
        assert raw.answer(hurried).status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert own.outcomes("identity_fp32").get("ok", 0) < before.get("ok", 0) + 36
        raw.write(frames.reset(given_up, ErrorCode.CANCEL))
        raw.write(frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW))
        assert [raw.answer(number).status for number in numbers] == [0] * 36
        own.awaits({"ok": 36, "deadline": 1, "cancelled": 1}, model="identity_fp32", since=before)
    wait_until(lambda: own.plane.memory.used == 0, PATIENCE_S, "all memory back")


def test_calls_that_wait_for_their_answers_to_be_admitted_end_with_their_connection(
    own: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own.plane.memory, "limit", 64 << 20)
    message = one_window()

    def counted() -> int:
        return sum(own.outcomes("identity_fp32").values()) + sum(own.outcomes().values())

    before, answered = counted(), own.outcomes("identity_fp32").get("ok", 0)
    with closing(Raw(own.address, HUGE)) as raw:
        for _ in range(20):
            raw.call(message)
        wait_until(lambda: own.outcomes("identity_fp32").get("ok", 0) >= answered + 16, PATIENCE_S, "the first answers")
    wait_until(lambda: counted() == before + 20, PATIENCE_S, "every call is counted once")
    own.settles("identity_fp32")
    wait_until(lambda: own.plane.memory.used == 0, PATIENCE_S, "all memory back")
