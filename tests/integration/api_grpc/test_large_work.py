"""What would hold the event loop is done on a thread, for unary calls and for requests of streams alike."""

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from penstock.serving import offload
from tests.harness import wait_until
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.requests import pair, raw
from tests.integration.api_grpc.worker import CALL_SECONDS, Worker

COUNT = 100_000
TEXTS = [f"word {number}" for number in range(5000)]
NO_COMPRESSION, GZIP = grpc.Compression.NoCompression, grpc.Compression.Gzip


def typed() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="identity_int64", id="typed")
    request.inputs.add(name="x", datatype="INT64", shape=[COUNT, 1]).contents.int64_contents.extend(range(COUNT))
    return request


def texts() -> pb.ModelInferRequest:
    return raw("identity_bytes", "x", "BYTES", [[word] for word in TEXTS], id="texts")


def numbers() -> pb.ModelInferRequest:
    return raw("identity_int64", "x", "INT64", [[number] for number in range(COUNT)], id="numbers")


def values(response: pb.ModelInferResponse) -> list[Any]:
    """What a response of one output holds."""
    data = response.raw_output_contents[0]
    if response.outputs[0].datatype == "BYTES":
        return [word for word in TEXTS if len(word).to_bytes(4, "little") + word.encode() in data]
    found: list[Any] = np.frombuffer(data, "<i8").tolist()
    return found


Ask = Callable[
    [GRPCInferenceServiceStub, Sequence[pb.ModelInferRequest], grpc.Compression], list[pb.ModelInferResponse]
]


def one_by_one(
    stub: GRPCInferenceServiceStub, requests: Sequence[pb.ModelInferRequest], compression: grpc.Compression
) -> list[pb.ModelInferResponse]:
    """The answers of unary calls."""
    return [stub.ModelInfer(request, compression=compression, timeout=CALL_SECONDS) for request in requests]


def in_a_stream(
    stub: GRPCInferenceServiceStub, requests: Sequence[pb.ModelInferRequest], compression: grpc.Compression
) -> list[pb.ModelInferResponse]:
    """The answers of a stream."""
    answers = stub.ModelStreamInfer(iter(requests), compression=compression, timeout=CALL_SECONDS)
    return [answer.infer_response for answer in answers if not answer.error_message]


@pytest.fixture(params=[one_by_one, in_a_stream], ids=["unary", "stream"])
def ask(request: pytest.FixtureRequest) -> Ask:
    found: Ask = request.param
    return found


@pytest.fixture(scope="module")
def own(models: Path) -> Iterator[Worker]:
    with workers.running(models) as running:
        yield running


@pytest.fixture(scope="module")
def stub(own: Worker) -> Iterator[GRPCInferenceServiceStub]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(own.address, options=options) as channel:
        yield GRPCInferenceServiceStub(channel)


@contextmanager
def counted(own: Worker) -> Iterator[list[int]]:
    """The sizes of the jobs that threads are given."""
    threads, sizes = own.plane.offload, list[int]()
    submit = threads.submit

    def noted(work: offload.OffloadedFunction, done: offload.Done, size: int) -> offload.OffloadedJob:
        sizes.append(size)
        return submit(work, done, size)

    own.call(lambda: setattr(threads, "submit", noted))
    try:
        yield sizes
    finally:
        own.call(partial(delattr, threads, "submit"))


@pytest.mark.parametrize(
    ("make", "expected", "compression", "jobs"),
    [
        (typed, list(range(COUNT)), NO_COMPRESSION, 1),
        (texts, TEXTS, NO_COMPRESSION, 2),
        (numbers, list(range(COUNT)), NO_COMPRESSION, 0),
        (numbers, list(range(COUNT)), GZIP, 1),
        (typed, list(range(COUNT)), GZIP, 2),
    ],
    ids=["many typed numbers", "many texts", "many raw numbers", "many bytes once inflated", "both"],
)
def test_large_work_is_done_on_a_thread(
    ask: Ask,
    own: Worker,
    stub: GRPCInferenceServiceStub,
    make: Callable[[], pb.ModelInferRequest],
    expected: list[Any],
    compression: grpc.Compression,
    jobs: int,
) -> None:
    with counted(own) as sizes:
        answers = ask(
            stub, [pair(1, 2, 3, call_id="before"), make(), make(), pair(4, 5, 6, call_id="after")], compression
        )
    assert [answer.id for answer in answers] == ["before", make().id, make().id, "after"]
    assert values(answers[1]) == values(answers[2]) == expected
    assert len(sizes) >= 2 * jobs
    assert bool(sizes) == bool(jobs)
    wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")


def test_too_much_large_work_is_refused(own: Worker, stub: GRPCInferenceServiceStub) -> None:
    before = own.outcomes("identity_int64")
    own.call(lambda: setattr(own.plane.offload, "waiting_bytes", 1 << 40))
    try:
        assert in_a_stream(stub, [typed(), pair(1, 2, 3, call_id="after")], NO_COMPRESSION)[0].id == "after"
        with pytest.raises(grpc.RpcError) as raised:
            one_by_one(stub, [typed()], NO_COMPRESSION)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "too much large work" in (raised.value.details() or "")
    finally:
        own.call(lambda: setattr(own.plane.offload, "waiting_bytes", 0))
    own.awaits({"overloaded": 2}, model="identity_int64", since=before)
    wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")


def test_an_inflated_message_counts_in_the_memory_of_the_worker(
    ask: Ask, own: Worker, stub: GRPCInferenceServiceStub
) -> None:
    limit = own.plane.memory.limit
    own.call(lambda: setattr(own.plane.memory, "limit", 400_000))
    try:
        with pytest.raises(grpc.RpcError) as raised:
            ask(stub, [numbers()], GZIP)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "no memory left to inflate" in (raised.value.details() or "")
    finally:
        own.call(lambda: setattr(own.plane.memory, "limit", limit))
    wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")


def test_no_memory_stays_in_use_after_threads_have_read_or_dropped_a_request(
    ask: Ask, own: Worker, stub: GRPCInferenceServiceStub
) -> None:
    seen: list[weakref.ref[Any]] = []
    record = own.plane.batcher._record

    def noted(calls: Any) -> None:
        seen.extend(weakref.ref(tensor.data) for call in calls for tensor in (*call.tensors, *call.outputs))
        record(calls)

    gc.collect()
    gc.disable()
    own.plane.batcher._record = noted
    try:
        ask(stub, [typed(), texts()], GZIP)
        waiting = [stub.ModelInfer.future(typed()) for _ in range(10)]
        open_stream = stub.ModelStreamInfer(iter([typed() for _ in range(10)]))
        next(open_stream)
        open_stream.cancel()
        for call in waiting:
            call.cancel()
        wait_until(lambda: own.plane.offload.waiting_bytes == 0, CALL_SECONDS, "the threads are done")
        own.settles("identity_int64")
        wait_until(lambda: not any(item() is not None for item in seen), CALL_SECONDS, "no tensor is left")
        wait_until(lambda: own.plane.memory.used == 0, CALL_SECONDS, "all memory is given back")
        assert seen
    finally:
        own.plane.batcher._record = record
        gc.enable()
