"""With the garbage collector off, nothing of an answered request is left: tensors go by reference count, on every path.

Real sockets, real clients, real models; client and server share one event loop, so that "answered" has a moment.
"""

import asyncio
import gc
import json
import socket
import struct
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import aio

from penstock.api.grpc.http2_server import Http2Server
from penstock.api.grpc.services import GrpcOptions
from penstock.api.http1.limits import HttpLimits
from penstock.api.rest.server import RestServer
from penstock.core.batching import RowProof, RunCost
from penstock.core.desired import ModelSpec, ReadyState, VersionStatus
from penstock.core.options import ModelOptions
from penstock.engine import model as engine
from penstock.engine.model import Model
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.routing_table import ModelEntry, RoutingTable, build_model_entry
from penstock.serving.version_info import VersionIdentity
from tests import zoo
from tests.harness import PATIENCE_S, reached
from tests.integration.api_grpc.worker import Layout
from tests.unit.serving.gated import Gated

Story = Callable[["World"], Awaitable[None]]


class World:
    """A data plane with both transports, and weak references to the tensors of every call that it counted."""

    def __init__(self, folder: Path) -> None:
        self.slot = Slot.in_process()
        self.plane = DataPlane(self.slot, lambda block: Totals.of([self.slot], block), Layout(), 30_000_000_000)
        self.gated: Gated
        self.seen: list[weakref.ref[Any]] = []
        self.ended: list[str] = []
        self.plane.publish(RoutingTable(self._models(folder)), {})
        self.plane.mark_ready()
        record, self.plane.batcher._record = self.plane.batcher._record, self._record
        self._counted = record

    def _models(self, folder: Path) -> dict[str, ModelEntry]:
        zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), folder / "affine.onnx")
        zoo.save(zoo.gather(), folder / "gather.onnx")

        def affine() -> Model:
            return engine.load(folder / "affine.onnx", ModelOptions(), 1, RowProof(True))

        def gather() -> Model:
            return engine.load(folder / "gather.onnx", ModelOptions(), 1)

        self.gated = Gated(affine())
        models = {
            "inline": affine(),
            "pool": affine(),
            "joint": affine(),
            "failing": gather(),
            "failing_pool": gather(),
            "gated": self.gated.model,
        }
        for name in ("pool", "joint", "failing_pool", "gated"):
            models[name].run_ns = None  # unknown, so that it stays off the event loop
        models["joint"].batch_cost = RunCost(1e6, 1e3)
        return {name: self._entry(name, block, model) for block, (name, model) in enumerate(models.items(), 1)}

    def _entry(self, name: str, block: int, model: Model) -> ModelEntry:
        identity, counters = VersionIdentity(name, "1"), self.slot.block(block)
        loaded = LoadedVersion(identity, model, ModelOptions(), {}, counters, self.plane.memory)
        return build_model_entry(ModelSpec(name), {"1": loaded}, {"1": VersionStatus(name, "1", ReadyState.READY)})

    async def start(self) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        self.http: tuple[str, int] = sock.getsockname()
        self.rest = RestServer(self.plane, "0", HttpLimits())
        await self.rest.start(sock)
        self.grpc = Http2Server(self.plane, GrpcOptions())
        self.channel = aio.insecure_channel(f"127.0.0.1:{await self.grpc.start('127.0.0.1', 0)}")
        self.stub: Any = GRPCInferenceServiceStub(self.channel)

    async def stop(self) -> None:
        self.gated.gate.set()
        await self.channel.close()
        self.rest.drain()
        await asyncio.gather(self.rest.stop(5), self.grpc.stop(5))
        for entry in self.plane.routing_table.models.values():
            await entry.routes["1"][0].close()

    def _record(self, calls: Sequence[InferCall]) -> None:
        for call in calls:
            self._see([call], "ok" if call.fault is None else call.fault.kind)
        self._counted(calls)

    def _see(self, calls: Sequence[InferCall], outcome: str) -> None:
        for call in calls:
            self.ended.append(outcome)
            self.seen += [weakref.ref(tensor.data) for tensor in (*call.tensors, *call.outputs)]

    async def all_gone(self, outcomes: Sequence[str]) -> None:
        await reached(lambda: len(self.ended) >= len(outcomes) and not any(item() is not None for item in self.seen))
        assert sorted(self.ended) == sorted(outcomes)
        assert self.plane.memory.used == 0
        self.seen.clear()
        self.ended.clear()

    # Clients.

    async def ask(self, model: str, rows: int = 1, data: Any = None, headers: str = "", count: int = 1) -> list[int]:
        """Requests on one REST connection, all sent at once; their statuses."""
        reader, writer = await asyncio.open_connection(*self.http)
        body = json.dumps({"inputs": [data or tensor(rows)]}).encode()
        try:
            writer.write(post(model, body, headers) * count)
            return [await status(reader) for _ in range(count)]
        finally:
            writer.close()
            await writer.wait_closed()

    async def call(self, model: str, rows: int = 1, request: Any = None, timeout_s: float = PATIENCE_S) -> str:
        """A unary gRPC call; its status."""
        try:
            await self.stub.ModelInfer(request or message(model, rows), timeout=timeout_s)
        except aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"


def post(model: str, body: bytes, headers: str = "") -> bytes:
    """An infer request."""
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def status(reader: asyncio.StreamReader) -> int:
    """Read one answer; its status."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    await reader.readexactly(int(fields[b"content-length"]))
    return int(head.split(b" ")[1])


def tensor(rows: int) -> dict[str, Any]:
    return {"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": [1.5] * (3 * rows)}


OUT_OF_RANGE = {"name": "index", "shape": [1], "datatype": "INT64", "data": [99]}


def message(model: str, rows: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    request.raw_input_contents.append(np.ones((rows, 3), "<f4").tobytes())
    return request


def out_of_range(model: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="index", datatype="INT64", shape=[1]).contents.int64_contents.append(99)
    return request


async def rest_inline(world: World) -> None:
    assert await world.ask("inline") == [200]
    await world.all_gone(["ok"])
    assert await world.ask("inline", rows=500) == [200]
    await world.all_gone(["ok"])


async def rest_inline_joint(world: World) -> None:
    assert await world.ask("inline", count=20) == [200] * 20
    await world.all_gone(["ok"] * 20)


async def rest_pool(world: World) -> None:
    assert await world.ask("pool", rows=3) == [200]
    await world.all_gone(["ok"])


async def rest_pool_joint(world: World) -> None:
    assert await world.ask("joint", rows=2, count=20) == [200] * 20
    await world.all_gone(["ok"] * 20)
    assert await world.ask("joint", rows=1, count=20) == [200] * 20
    await world.all_gone(["ok"] * 20)


async def rest_failed(world: World) -> None:
    for model in ("failing", "failing_pool"):
        statuses = await world.ask(model, data=OUT_OF_RANGE, count=3)
        assert set(statuses) <= {400, 500}
        kinds = list(world.ended)
        await world.all_gone(kinds)
        assert len(kinds) == 3


async def rest_expired(world: World) -> None:
    assert await world.ask("gated", headers="penstock-timeout-ms: 50\r\n", count=2) == [504, 504]
    world.gated.gate.set()  # the run that nobody waits for any more still has its inputs
    await world.all_gone(["deadline"] * 2)


async def rest_cancelled(world: World) -> None:
    asking = socket.create_connection(world.http)
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it is a reset
    asking.sendall(post("gated", json.dumps({"inputs": [tensor(2)]}).encode()) * 2)
    await reached(lambda: bool(world.gated.runs))
    asking.close()
    await reached(lambda: len(world.ended) == 2)
    world.gated.gate.set()
    await world.all_gone(["cancelled"] * 2)


async def grpc_inline(world: World) -> None:
    assert await world.call("inline") == "OK"
    await world.all_gone(["ok"])
    assert await world.call("inline", rows=500) == "OK"
    await world.all_gone(["ok"])


async def grpc_inline_joint(world: World) -> None:
    assert set(await asyncio.gather(*(world.call("inline") for _ in range(20)))) == {"OK"}
    await world.all_gone(["ok"] * 20)


async def grpc_pool(world: World) -> None:
    assert await world.call("pool", rows=3) == "OK"
    await world.all_gone(["ok"])


async def grpc_pool_joint(world: World) -> None:
    assert set(await asyncio.gather(*(world.call("joint", rows=2) for _ in range(20)))) == {"OK"}
    await world.all_gone(["ok"] * 20)


async def grpc_failed(world: World) -> None:
    for model in ("failing", "failing_pool"):
        assert await world.call(model, request=out_of_range(model)) in {"INVALID_ARGUMENT", "INTERNAL"}
        await world.all_gone(list(world.ended))


async def grpc_expired(world: World) -> None:
    assert await world.call("gated", timeout_s=0.2) == "DEADLINE_EXCEEDED"
    await reached(lambda: bool(world.ended))
    world.gated.gate.set()
    await world.all_gone(list(world.ended))


async def grpc_cancelled(world: World) -> None:
    call = world.stub.ModelInfer(message("gated", 2), timeout=PATIENCE_S)
    await reached(lambda: bool(world.gated.runs))
    call.cancel()
    await reached(lambda: bool(world.ended))
    world.gated.gate.set()
    await world.all_gone(["cancelled"])


async def stream(world: World, model: str, requests: Sequence[pb.ModelInferRequest]) -> list[str]:
    call = world.stub.ModelStreamInfer(timeout=PATIENCE_S)
    for request in requests:
        await call.write(request)
    await call.done_writing()
    return [answer.error_message async for answer in call]


async def stream_inline_and_pool(world: World) -> None:
    for model in ("inline", "pool", "joint"):
        assert await stream(world, model, [message(model, 2)] * 10) == [""] * 10
        await world.all_gone(["ok"] * 10)


async def stream_failed(world: World) -> None:
    for model in ("failing", "failing_pool"):
        errors = await stream(world, model, [out_of_range(model)] * 3)
        assert all(errors)
        await world.all_gone(list(world.ended))


async def stream_cancelled(world: World) -> None:
    call = world.stub.ModelStreamInfer(timeout=PATIENCE_S)
    for _ in range(3):
        await call.write(message("gated", 2))
    await reached(lambda: bool(world.gated.runs))
    call.cancel()
    await reached(lambda: len(world.ended) == 3)
    world.gated.gate.set()
    await world.all_gone(["cancelled"] * 3)


async def stream_with_time_limits(world: World) -> None:
    hurried = message("gated", 2)
    hurried.parameters["timeout"].int64_param = 50_000  # microseconds
    errors = await stream(world, "gated", [hurried] * 2)
    assert all("deadline" in error for error in errors)
    world.gated.gate.set()
    await world.all_gone(["deadline"] * 2)


async def stream_expired(world: World) -> None:
    call = world.stub.ModelStreamInfer(timeout=0.3)
    for _ in range(3):
        await call.write(message("gated", 2))
    await reached(lambda: len(world.ended) == 3)
    world.gated.gate.set()
    await world.all_gone(list(world.ended))


async def stream_on_threads(world: World) -> None:
    typed = pb.ModelInferRequest(model_name="inline")
    typed.inputs.add(name="x", datatype="FP32", shape=[20_000, 3]).contents.fp32_contents.extend([1.5] * 60_000)
    assert await stream(world, "inline", [typed] * 3) == [""] * 3
    await world.all_gone(["ok"] * 3)


STORIES: Sequence[Story] = (
    rest_inline,
    rest_inline_joint,
    rest_pool,
    rest_pool_joint,
    rest_failed,
    rest_expired,
    rest_cancelled,
    grpc_inline,
    grpc_inline_joint,
    grpc_pool,
    grpc_pool_joint,
    grpc_failed,
    grpc_expired,
    grpc_cancelled,
    stream_inline_and_pool,
    stream_failed,
    stream_cancelled,
    stream_with_time_limits,
    stream_expired,
    stream_on_threads,
)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_nothing_of_an_answered_request_is_left(tmp_path: Path, story: Story) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.start()
        try:
            await asyncio.wait_for(story(world), 2 * PATIENCE_S)
        finally:
            await world.stop()

    asyncio.run(scenario())
