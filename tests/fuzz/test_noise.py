"""Noise on both ports: random bytes, torn and slow requests, torn HTTP/2; nobody else is disturbed and all goes on."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import harness
from tests.budgets import examples
from tests.conformance.rawhttp import connected, request
from tests.fuzz.conftest import assert_serves
from tests.harness import PATIENCE_S, Server

BODY = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}'
GOOD = request("POST", "/v2/models/identity_fp32/infer", BODY)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"

QUICK = settings(
    max_examples=examples(150),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def _serves_after(target: Server) -> Iterator[None]:
    yield
    assert_serves(target)


def throw(address: str, data: bytes) -> bytes:
    """Send bytes, say that nothing follows, and read whatever comes back."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as opened:
        try:
            opened.sendall(data)
            opened.shutdown(socket.SHUT_WR)
            parts = []
            while part := opened.recv(65536):
                parts.append(part)
            return b"".join(parts)
        except OSError:  # hung up on before we were done
            return b""


def noise(seed: int, size: int) -> bytes:
    """Seeded random bytes."""
    return np.random.default_rng(seed).bytes(size)


@pytest.mark.parametrize("size", [1, 40, 5_000, 300_000])
@pytest.mark.parametrize("port", ["http", "grpc", "ops"])
def test_random_bytes_harm_no_other_connection(target: Server, port: str, size: int) -> None:
    for seed in range(5):
        throw(getattr(target, port), noise(seed, size))


@pytest.mark.parametrize("size", [9, 200, 20_000])
def test_random_frames_harm_no_other_connection(target: Server, size: int) -> None:
    for seed in range(10):
        throw(target.grpc, PREFACE + SETTINGS + noise(seed, size))


def test_torn_handshakes_harm_no_other_connection(target: Server) -> None:
    for end in range(1, len(PREFACE) + len(SETTINGS)):
        throw(target.grpc, (PREFACE + SETTINGS)[:end])
    throw(target.grpc, GOOD)
    throw(target.http, PREFACE + SETTINGS)


@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255))
@QUICK
def test_a_request_with_one_changed_byte_is_answered(target: Server, place: int, byte: int) -> None:
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    answer = throw(target.http, changed)
    assert b"HTTP/1.1 5" not in answer or b"HTTP/1.1 501" in answer, answer


FIELDS = st.sampled_from(["inputs", "outputs", "id", "parameters", "name", "shape", "datatype", "data", "z"])


@given(
    document=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner),
        max_leaves=25,
    )
)
@QUICK
def test_any_json_is_answered(target: Server, document: object) -> None:
    reply = target.rest("POST", "/v2/models/identity_fp32/infer", json.dumps(document).encode())
    assert reply.status in {200, 400}, reply


@given(data=st.binary(max_size=200), length=st.integers(0, 220))
@QUICK
def test_any_bytes_behind_any_header(target: Server, data: bytes, length: int) -> None:
    headers = {"Inference-Header-Content-Length": str(length)}
    reply = target.rest("POST", "/v2/models/logistic/infer", data, headers)
    assert reply.status in {200, 400}, reply


def test_torn_requests_do_not_take_others_along(target: Server) -> None:
    torn = GOOD + b"\0\1 no request at all\r\n\r\n"
    for _ in range(10):
        with ExitStack() as stack:
            callers = [stack.enter_context(connected(target.http)) for _ in range(40)]
            for number, caller in enumerate(callers):
                caller.send(torn if number == 20 else GOOD)
            assert [caller.reply().status for caller in callers] == [200] * 40


def test_requests_torn_at_every_byte(target: Server) -> None:
    for end in range(0, len(GOOD), 3):
        throw(target.http, GOOD[:end])


def test_slow_requests_hold_nobody_up(target: Server) -> None:
    slow = [socket.create_connection((host, int(port)), 10) for host, _, port in [target.http.rpartition(":")] * 200]
    try:
        for opened in slow:
            opened.sendall(GOOD[:40])
        for _ in range(20):  # nobody sends the rest of the slow ones before these are answered
            assert target.rest("POST", "/v2/models/identity_fp32/infer", BODY).status == 200
        for opened in slow[:20]:
            opened.sendall(GOOD[40:])
            assert opened.recv(12) == b"HTTP/1.1 200"
    finally:
        for opened in slow:
            opened.close()


def test_callers_that_do_not_read(target: Server) -> None:
    large = request("POST", "/v2/models/identity_bytes/infer", _large_body())
    with connected(target.http) as wire:
        for _ in range(3):
            wire.send(large)
        for _ in range(10):
            assert target.rest("POST", "/v2/models/identity_fp32/infer", BODY).status == 200


def _large_body() -> bytes:
    text = b'"' + b"a" * 1_000_000 + b'"'
    return b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"BYTES","data":[%b]}]}' % text


def test_callers_that_hang_up_in_the_middle(target: Server) -> None:
    slow = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
    for _ in range(8):
        with connected(target.http) as wire:
            wire.send(request("POST", "/v2/models/slow/infer", slow))
    harness.wait_until(lambda: inflight(target) == 0, PATIENCE_S, "nobody is waited for any more")


def inflight(server: Server) -> float:
    """Requests under way, by the metrics."""
    lines = server.admin("GET", "/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("penstock_inflight_requests"))
