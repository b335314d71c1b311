"""A whole gateway under load: memory comes back, saturation shows and is shed, and nothing is lost at the stop."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import grpc
import numpy as np
import pytest
from pyarrow import parquet

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric

BURST_NUMBERS, BURST_CLIENTS, BURST_REQUESTS = 4_000_000, 4, 3
"""FP32 numbers of each request of a burst, 16 MB in and out."""

RETURN_RATIO = 1.2
ROW = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateway")
    models = folder / "models"
    zoo.place(models, "wide", {"1": zoo.affine(2.0, 1.0, ("n", "m"))})
    zoo.place(models, "short", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    queue = "dynamic_batching { default_queue_policy { max_queue_size: 8 } }"
    zoo.place(models, "bounded", {"1": zoo.affine(2.0, 1.0, ("n", 3))}, f"max_batch_size: 64 {queue}")
    with harness.running(models, folder, "--workers", "1") as running:
        yield running


def resident_bytes(server: Server) -> int:
    return int(Path(f"/proc/{server.workers[0]}/statm").read_text().split()[1]) * 4096


def peak_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.workers[0]}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def rest_burst(server: Server) -> None:
    raw = np.zeros(BURST_NUMBERS, "<f4").tobytes()
    tensor = {
        "name": "x",
        "shape": [1, BURST_NUMBERS],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    connection = HTTPConnection(server.http, timeout=PATIENCE_S)
    for _ in range(BURST_REQUESTS):
        fields = {"inference-header-content-length": str(len(head))}
        connection.request("POST", "/v2/models/wide/infer", head + raw, fields)
        answer = connection.getresponse()
        assert (answer.status, len(answer.read()) > len(raw)) == (200, True)
    connection.close()


def grpc_burst(server: Server) -> None:
    request = pb.ModelInferRequest(model_name="wide")
    request.inputs.add(name="x", datatype="FP32", shape=[1, BURST_NUMBERS])
    request.raw_input_contents.append(np.zeros(BURST_NUMBERS, "<f4").tobytes())
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        for _ in range(BURST_REQUESTS):
            answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=PATIENCE_S)
            assert len(answer.raw_output_contents[0]) == 4 * BURST_NUMBERS


@pytest.mark.parametrize("burst", [rest_burst, grpc_burst])
def test_memory_comes_back_after_a_burst(server: Server, burst: object) -> None:
    work = burst
    assert callable(work)
    for _ in range(20):
        assert server.rest("POST", "/v2/models/wide/infer", {"inputs": [ROW]}).status == 200
    before = resident_bytes(server)
    Path(f"/proc/{server.workers[0]}/clear_refs").write_text("5")  # the peak from now on
    threads = [threading.Thread(target=work, args=(server,)) for _ in range(BURST_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert peak_bytes(server) > before + 4 * BURST_NUMBERS  # it was a burst
    wait_until(lambda: resident_bytes(server) <= RETURN_RATIO * before, PATIENCE_S, "memory to come back")
    wait_until(lambda: metric(server, "penstock_memory_used_bytes") == 0, PATIENCE_S, "the budget to be free")
    assert metric(server, "penstock_worker_restarts_total") == 0


def pipelined(model: str, count: int, fields: str = "", last: str = "") -> bytes:
    body = json.dumps({"inputs": [ROW]}).encode()
    start = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    return (f"{start}{fields}\r\n".encode() + body) * (count - 1) + f"{start}{fields}{last}\r\n".encode() + body


def ask(server: Server, request: bytes) -> list[int]:
    """Send requests of which the last closes the connection; the statuses of all answers."""
    host, port = server.http.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_a_worker_that_short_models_saturate_says_so(server: Server) -> None:
    """The metrics to scale on move: calls in the system against their limit, and the time in the queue."""
    over = threading.Event()

    def press() -> None:
        while not over.is_set():
            assert set(ask(server, pipelined("short", 64, last="connection: close\r\n"))) <= {200, 429}

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(
            lambda: metric(server, "penstock_inflight_requests", model="short") >= 8, PATIENCE_S, "calls in the system"
        )
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert 0 < metric(server, "penstock_concurrency_limit", model="short") < 10_000
    wait_until(lambda: metric(server, "penstock_inflight_requests", model="short") == 0, PATIENCE_S, "an empty system")
    queued = metric(server, "penstock_stage_duration_seconds_sum", model="short", stage="queue")
    assert queued > 0
    assert metric(server, "penstock_event_loop_stall_seconds_count", worker="0") > 0  # of a millisecond and more


def test_a_full_short_model_refuses_the_least_urgent(server: Server) -> None:
    shed = {
        reason: metric(server, "penstock_shed_total", model="bounded", reason=reason)
        for reason in ("queue_full", "gave_way")
    }
    close = "connection: close\r\n"
    statuses = ask(server, pipelined("bounded", 64, last=close))
    assert len(statuses) == 64
    assert set(statuses) == {200, 429}
    assert metric(server, "penstock_shed_total", model="bounded", reason="queue_full") == shed[
        "queue_full"
    ] + statuses.count(429)
    mixed = pipelined("bounded", 9, "penstock-class: batch\r\n") + pipelined(
        "bounded", 9, "penstock-class: critical\r\n", close
    )
    statuses = ask(server, mixed)
    assert statuses[9:].count(200) >= statuses[:9].count(200)
    assert statuses[:9].count(200) <= 4  # a class of half the capacity, of which critical calls take the rest
    assert server.rest("POST", "/v2/models/bounded/infer", {"inputs": [ROW]}).status == 200
    reply = server.rest("POST", "/v2/models/bounded/infer", {"inputs": [ROW]}, {"penstock-class": "urgent"})
    assert reply.status == 400


def test_the_last_answers_before_a_stop_are_counted(tmp_path: Path) -> None:
    """A busy worker samples every 160 ms, and a stop without drain delay takes less."""
    models = tmp_path / "models"
    zoo.place(models, "m", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    server = harness.launch(models, tmp_path, "--workers", "1", env={harness.DRAIN_DELAY: "0"})
    try:
        policy = {"capture": {"sample": 1.0}}
        assert server.as_owner("PUT", "/admin/v1/models/m/policy", policy).status == 200

        def captured() -> float:
            ask(server, pipelined("m", 2, last="connection: close\r\n"))
            return metric(server, "penstock_captured_requests_total", model="m")

        wait_until(lambda: captured() > 0, PATIENCE_S, "the first captured request")
        for _ in range(10):
            ask(server, pipelined("m", 200, last="connection: close\r\n"))
        time.sleep(0.3)  # what was sampled of these is written
        ask(server, pipelined("m", 1, "x-request-id: the last\r\n", "connection: close\r\n"))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        table = tmp_path / "rows.parquet"
        done = harness.run_command("capture", "m:1", "-o", str(table), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "the last" in {row["id"] for row in parquet.read_table(table).to_pylist()}
    finally:
        server.kill()
