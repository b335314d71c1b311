"""A real Envoy in front of the gateway: gRPC through its HTTP/2 pools, health checks, retries and limits."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import PATIENCE_S, Server, wait_until
from tests.ports import free_port

ENVOY = Path(sys.executable).with_name("envoy")


def address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def configuration(target: str, front: int, admin: int) -> dict[str, Any]:
    """gRPC in, HTTP/2 out, with health checks of grpc.health.v1."""
    host, port = target.split(":")
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "penstock", "timeout": "0s", "max_stream_duration": {}}}
    manager = {
        "@type": (
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "stat_prefix": "front",
        "codec_type": "HTTP2",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    return {
        "admin": {"address": address("127.0.0.1", admin)},
        "static_resources": {
            "listeners": [
                {
                    "address": address("127.0.0.1", front),
                    "filter_chains": [
                        {"filters": [{"name": "envoy.http_connection_manager", "typed_config": manager}]}
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "penstock",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "health_checks": [
                        {
                            "timeout": "2s",
                            "interval": "0.2s",
                            "unhealthy_threshold": 2,
                            "healthy_threshold": 1,
                            "grpc_health_check": {"authority": "localhost"},  # else it names the cluster
                        }
                    ],
                    "load_assignment": {
                        "cluster_name": "penstock",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(host, int(port))}}]}],
                    },
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def envoy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Its address, and that of its administration."""
    folder, front, admin = tmp_path_factory.mktemp("envoy"), free_port(), free_port()
    stated = folder / "envoy.json"
    stated.write_text(json.dumps(configuration(server.grpc, front, admin)))
    command = [str(ENVOY), "-c", str(stated), "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: healthy(f"127.0.0.1:{admin}"), PATIENCE_S, "a healthy upstream")
        yield f"127.0.0.1:{front}", f"127.0.0.1:{admin}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def statistic(admin: str, name: str) -> int:
    with urllib.request.urlopen(f"http://{admin}/stats?filter={name}", timeout=PATIENCE_S) as answer:
        found = dict(line.split(": ") for line in answer.read().decode().splitlines())
    return int(found.get(name, -1))


def healthy(admin: str) -> bool:
    try:
        return statistic(admin, "cluster.penstock.membership_healthy") == 1
    except OSError:
        return False


def request(values: list[float]) -> pb.ModelInferRequest:
    array = np.array([values], np.float32)
    made = pb.ModelInferRequest(model_name="identity_fp32")
    made.inputs.add(name="x", datatype="FP32", shape=array.shape)
    made.raw_input_contents.append(array.tobytes())
    return made


def slow() -> pb.ModelInferRequest:
    made = request([2.0])
    made.model_name = "slow"
    made.inputs[0].shape[:] = [1]
    return made


def answered(response: pb.ModelInferResponse) -> list[float]:
    found: list[float] = np.frombuffer(response.raw_output_contents[0], np.float32).tolist()
    return found


def test_calls_pass_and_say_who_answered(envoy: tuple[str, str]) -> None:
    with grpc.insecure_channel(envoy[0]) as channel:
        response, call = GRPCInferenceServiceStub(channel).ModelInfer.with_call(
            request([1.0, 2.0]), metadata=(("x-request-id", "mine"),), timeout=PATIENCE_S
        )
    assert answered(response) == [1.0, 2.0]
    facts = {str(key): str(value) for key, value in call.initial_metadata() or ()}
    assert facts["penstock-route"] == "stable"


def test_errors_and_deadlines_pass(envoy: tuple[str, str]) -> None:
    with grpc.insecure_channel(envoy[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        nobody = request([1.0])
        nobody.model_name = "nobody"
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(nobody, timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as timeout:
            stub.ModelInfer(slow(), timeout=0.05)
        assert timeout.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_large_messages_and_many_at_once(envoy: tuple[str, str]) -> None:
    large = [float(index % 97) for index in range(500_000)]
    with grpc.insecure_channel(envoy[0], options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        with ThreadPoolExecutor(4) as threads:
            for response in threads.map(lambda _: stub.ModelInfer(request(large), timeout=PATIENCE_S), range(8)):
                assert answered(response) == large

    async def many() -> list[list[float]]:
        async with grpc.aio.insecure_channel(envoy[0]) as opened:
            other = GRPCInferenceServiceStub(opened)
            calls = [other.ModelInfer(request([float(index)]), timeout=PATIENCE_S) for index in range(1000)]
            return [answered(await call) for call in calls]

    assert asyncio.run(many()) == [[float(index)] for index in range(1000)]


def test_streams_and_health_pass(envoy: tuple[str, str]) -> None:
    with grpc.insecure_channel(envoy[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        answers = stub.ModelStreamInfer(iter([request([float(index)]) for index in range(50)]), timeout=PATIENCE_S)
        assert [answered(answer.infer_response) for answer in answers] == [[float(index)] for index in range(50)]
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=PATIENCE_S).ready
    wait_until(lambda: healthy(envoy[1]), PATIENCE_S, "a healthy gateway")
    assert statistic(envoy[1], "cluster.penstock.upstream_cx_protocol_error") <= 0
