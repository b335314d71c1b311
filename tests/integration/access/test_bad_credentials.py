"""Ten thousand credentials that are not valid, of one address: refused, limited and forgotten, while a good key works.

What they cost a good caller in time is measured by ``python -m loadtests bad-keys``.
"""

import gc
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from penstock.core.access.attempts import MOST_ADDRESSES
from penstock.core.access.keys import SECRET_BYTES, write_key
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from penstock.serving.access.caller_resolver import MOST_KNOWN, MOST_REFUSED
from tests.harness import PATIENCE_S
from tests.integration.access.ports import DataPorts, ask
from tests.integration.access.test_credentials import BODY, PATH, bearer, message

COUNT, BATCH = 10_000, 100
MOST_GROWN = 20 << 20
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def unknown_key() -> str:
    return write_key("".join(secrets.choice(LETTERS) for _ in range(12)), secrets.token_bytes(SECRET_BYTES))


def unknown_token() -> str:
    return ".".join(secrets.token_urlsafe(60) for _ in range(3))


KINDS: tuple[Callable[[], str], ...] = (lambda: secrets.token_urlsafe(40), unknown_key, unknown_token)


def flood(ports: DataPorts, count: int) -> Counter[bytes]:
    """Send so many credentials of all kinds on one connection, many requests at a time; the statuses of the answers."""
    found: Counter[bytes] = Counter()
    with closing(socket.create_connection(ports.rest[0], PATIENCE_S)) as wire:
        for _ in range(count // BATCH):
            lines = [
                f"GET /v2/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KINDS[number % 3]()}\r\n\r\n"
                for number in range(BATCH)
            ]
            wire.sendall("".join(lines).encode())
            found.update(statuses(wire, BATCH))
    return found


def statuses(wire: socket.socket, count: int) -> Iterator[bytes]:
    """The statuses of so many answers."""
    data = b""
    for _ in range(count):
        while b"\r\n\r\n" not in data:
            data += wire.recv(1 << 16)
        head, _, data = data.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        while len(data) < size:
            data += wire.recv(1 << 16)
        data = data[size:]
        yield head[9:12]


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def key(ports: DataPorts) -> str:
    return ports.add_key("good", "caller")


def test_they_are_limited_and_leave_nothing(ports: DataPorts, key: str) -> None:
    connection = ports.connect()
    flood(ports, COUNT // 5)  # what is allocated once
    before = resident_bytes()
    found = flood(ports, COUNT)
    assert set(found) <= {b"401", b"429"} and found[b"429"] > COUNT // 2
    assert resident_bytes() - before < MOST_GROWN
    resolver = ports.planes[0].callers
    assert len(resolver._known) <= MOST_KNOWN and len(resolver._refused) <= MOST_REFUSED
    assert len(resolver._attempts) <= MOST_ADDRESSES
    assert ask(connection, "POST", PATH, key, BODY).status == 200
    connection.close()
    refusals = ports.refusals()
    assert refusals["too_many_attempts"] >= found[b"429"]
    assert sum(refusals.values()) >= COUNT
    assert len(ports.planes[0].refused.take()) <= 64


def test_over_grpc_too(ports: DataPorts, key: str) -> None:
    with grpc.insecure_channel(ports.grpc[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        codes = [
            stub.ModelInfer.future(message(), metadata=bearer(KINDS[number % 3]())).code() for number in range(600)
        ]
        assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert stub.ModelInfer.future(message(), metadata=bearer(key)).code() is grpc.StatusCode.OK
