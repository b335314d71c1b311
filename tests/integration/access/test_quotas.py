"""Quotas over several workers and both transports: limits hold over all of them, and others are not affected."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import grpc
import pytest

from penstock.core.access.table import Quota
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.integration.access import ports as data_ports
from tests.integration.access.ports import INFER, DataPorts, ask
from tests.integration.access.test_credentials import PATH, bearer, message

BODY = json.dumps(INFER).encode()
ROWS = json.dumps({"inputs": [{**INFER["inputs"][0], "shape": [4, 3], "data": [0] * 12}]}).encode()


def counted(ports: DataPorts, key: str, requests: int, body: bytes = BODY) -> list[int]:
    """The statuses of so many requests as fast as they go, in turn at every worker."""
    connections = [ports.connect(worker) for worker in range(len(ports.rest))]
    statuses = [
        ask(connections[number % len(connections)], "POST", PATH, key, body).status for number in range(requests)
    ]
    for connection in connections:
        connection.close()
    return statuses


@pytest.mark.parametrize("workers", [1, 4])
def test_a_rate_of_requests(models: Path, workers: int) -> None:
    with data_ports.running(models, workers) as ports:
        slow = ports.add_key("slow", "caller", quota=Quota(requests=10))
        free = ports.add_key("free", "caller")
        counted(ports, free, 4)
        began = time.monotonic()
        statuses = counted(ports, slow, 100)
        seconds = time.monotonic() - began
        assert set(statuses) == {200, 429}
        assert 10 <= statuses.count(200) <= 1.1 * 10 * max(1.0, 1 + seconds) + 1
        assert set(counted(ports, free, 40)) == {200}


def test_a_refusal_says_when_to_try_again(ports: DataPorts) -> None:
    slow, connection = ports.add_key("slow", "caller", quota=Quota(requests=0.5)), ports.connect()
    assert ask(connection, "POST", PATH, slow, BODY).status == 200
    refused = ask(connection, "POST", PATH, slow, BODY)
    assert refused.status == 429 and "requests per second" in refused.body.decode()
    assert 1 <= int(refused.fields["retry-after"]) <= 2
    connection.close()
    with grpc.insecure_channel(ports.grpc[0]) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(message(), metadata=bearer(slow))
    error = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    pushback = dict(cast("Iterable[tuple[str, str]]", error.trailing_metadata()))["grpc-retry-pushback-ms"]
    assert 0 < int(pushback) <= 2200


def test_rows_are_counted_as_they_become_known(ports: DataPorts) -> None:
    slow = ports.add_key("slow", "caller", quota=Quota(rows=8))
    began = time.monotonic()
    statuses = counted(ports, slow, 20, ROWS)
    assert 2 <= statuses.count(200) <= 3 + 2 * (time.monotonic() - began)


def test_requests_at_a_time(ports: DataPorts) -> None:
    key = ports.add_key("two", "caller", quota=Quota(concurrent=2))
    connections = [ports.connect() for _ in range(3)]
    for connection in connections[:2]:  # the head is complete, the body is not: the request is open
        connection.putrequest("POST", PATH)
        connection.putheader("authorization", f"Bearer {key}")
        connection.putheader("content-length", str(len(BODY)))
        connection.endheaders(BODY[:10])
    refused = [ask(connections[2], "POST", PATH, key, BODY)]
    deadline = time.monotonic() + 30
    while refused[-1].status == 200 and time.monotonic() < deadline:
        refused.append(ask(connections[2], "POST", PATH, key, BODY))
    assert refused[-1].status == 429 and b"at a time" in refused[-1].body
    for connection in connections[:2]:
        connection.send(BODY[10:])
        assert connection.getresponse().read()
    assert ask(connections[2], "POST", PATH, key, BODY).status == 200
    for connection in connections:
        connection.close()


def test_quotas_of_both_transports_are_one(ports: DataPorts) -> None:
    key = ports.add_key("slow", "caller", quota=Quota(requests=4))
    connection = ports.connect()
    with grpc.insecure_channel(ports.grpc[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for _ in range(2):
            assert ask(connection, "POST", PATH, key, BODY).status == 200
            stub.ModelInfer(message(), metadata=bearer(key))
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(message(), metadata=bearer(key))
        answers = list(stub.ModelStreamInfer(iter([message()]), metadata=bearer(key)))
        assert "quota" in answers[0].error_message
    connection.close()
