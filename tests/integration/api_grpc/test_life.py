"""A server's life: sharing its port, draining, stopping in time."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from penstock.api.grpc.services import GrpcOptions
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import wait_until
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.requests import floats, pair, slow
from tests.integration.api_grpc.worker import CALL_SECONDS, Kind, Worker

Stub = GRPCInferenceServiceStub


@pytest.fixture
def mortal(models: Path, carrier: Kind) -> Iterator[Worker]:
    """A worker the test may stop."""
    with workers.running(models, kind=carrier) as running:
        yield running


def test_calls_under_way_outlive_a_drain(mortal: Worker) -> None:
    with grpc.insecure_channel(mortal.address) as channel:
        call = Stub(channel).ModelInfer.future(slow(), timeout=CALL_SECONDS)
        wait_until(lambda: mortal.begun("slow") == 1, CALL_SECONDS, "the call is under way")
        mortal.call(mortal.server.drain)
        own = [("grpc.use_local_subchannel_pool", 1)]  # else it may still share the first one's connection
        with pytest.raises(grpc.RpcError), grpc.insecure_channel(mortal.address, options=own) as delayed:
            Stub(delayed).ModelInfer(pair(), timeout=CALL_SECONDS)
        assert call.result(timeout=CALL_SECONDS).model_name == "slow"
        mortal.run(mortal.server.stop(10 * CALL_SECONDS))  # longer than the test waits for it


def test_a_stop_waits_no_longer_than_it_may(mortal: Worker) -> None:
    with grpc.insecure_channel(mortal.address) as channel:
        calls = [Stub(channel).ModelInfer.future(slow()) for _ in range(40)]
        wait_until(lambda: mortal.begun("slow") == 40, CALL_SECONDS, "the calls are under way")
        mortal.run(mortal.server.stop(0.2))
        assert isinstance(calls[-1].exception(timeout=CALL_SECONDS), grpc.RpcError)
        wait_until(lambda: sum(mortal.outcomes("slow").values()) == 40, CALL_SECONDS, "every call is counted")


def test_stopping_twice_or_without_a_start_is_not_an_error(mortal: Worker) -> None:
    mortal.run(mortal.server.stop(1))
    mortal.run(mortal.server.stop(1))
    other = mortal.kind(mortal.plane, GrpcOptions())
    mortal.call(other.drain)
    mortal.run(other.stop(1))


def test_two_servers_share_a_port(mortal: Worker) -> None:
    twin = mortal.kind(mortal.plane, GrpcOptions())
    port = int(mortal.address.rpartition(":")[2])
    assert mortal.run(twin.start("127.0.0.1", port)) == port
    for _ in range(8):
        with grpc.insecure_channel(mortal.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            assert floats(Stub(channel).ModelInfer(pair(1, 1, 1), timeout=CALL_SECONDS)) == [4, 4, 4]
    mortal.run(mortal.server.stop(1))
    with grpc.insecure_channel(mortal.address) as channel:
        assert floats(Stub(channel).ModelInfer(pair(1, 1, 1), timeout=CALL_SECONDS)) == [4, 4, 4]
    mortal.run(twin.stop(1))


def test_old_connections_move_on_without_a_loss(models: Path, carrier: Kind) -> None:
    with workers.running(models, GrpcOptions(max_connection_age_s=0.2), carrier) as young:
        with grpc.insecure_channel(young.address) as channel:
            stub, began, answered = Stub(channel), time.monotonic(), 0
            while time.monotonic() - began < 1.5:
                assert floats(stub.ModelInfer(pair(1, 1, 1), timeout=CALL_SECONDS)) == [4, 4, 4]
                answered += 1
        young.awaits({"ok": answered}, model="pair", version="2")


def test_a_port_that_is_taken(worker: Worker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="cannot listen on"):
            worker.run(worker.kind(worker.plane, GrpcOptions()).start("127.0.0.1", taken.getsockname()[1]))


def test_ipv6_addresses_are_served(worker: Worker) -> None:
    async def asked() -> list[float]:
        server = worker.kind(worker.plane, GrpcOptions())
        port = await server.start("::1", 0)
        async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
            answer = await Stub(channel).ModelInfer(pair(1, 1, 1), timeout=CALL_SECONDS)
        await server.stop(1)
        return list(floats(answer))

    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    assert worker.run(asked()) == [4, 4, 4]


def test_many_idle_connections_disturb_no_other(worker: Worker) -> None:
    async def silent() -> list[float]:
        host, port = worker.address.split(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
        async with grpc.aio.insecure_channel(worker.address) as channel:
            answer = await Stub(channel).ModelInfer(pair(1, 1, 1), timeout=CALL_SECONDS)
        for _, writer in idle:
            writer.close()
        return list(floats(answer))

    assert worker.run(silent()) == [4, 4, 4]
