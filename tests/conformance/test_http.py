"""HTTP/1.1 on the REST port and the ops port: rules, slow senders, and crowds of clients that say nothing."""

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests import harness, zoo
from tests.conformance.rawhttp import Wire, connected, request
from tests.harness import PATIENCE_S, Server, running, wait_until

INFER = "/v2/models/doubled/infer"
BODY = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
PROBES = ("/livez", "/readyz", "/metrics")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    zoo.save(zoo.affine(2.0, 0.0, ("n", 3)), models / "doubled.onnx")
    with running(models, tmp_path_factory.mktemp("server")) as server:
        yield server


Port = Callable[[Server], str]
PORTS: dict[str, tuple[Port, str]] = {
    "rest": (lambda item: item.http, "/v2/health/live"),
    "ops": (lambda item: item.ops, "/livez"),
}

RULES = {
    "as it should be": (b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, False),
    "absolute form": (b"GET http://localhost:1%b HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, False),
    "HTTP/1.0": (b"GET %b HTTP/1.0\r\n\r\n", 200, True),
    "HTTP/1.0 kept alive": (b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, False),
    "no Host": (b"GET %b HTTP/1.1\r\n\r\n", 400, True),
    "two Hosts": (b"GET %b HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, True),
    "a bad Host": (b"GET %b HTTP/1.1\r\nHost: a b\r\n\r\n", 400, True),
    "HTTP/0.9": (b"GET %b\r\n", 400, True),
    "HTTP/2.0": (b"GET %b HTTP/2.0\r\nHost: localhost\r\n\r\n", 400, True),
    "both framings": (
        (b"GET %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400, True,
    ),
    "another coding": (
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, True,
    ),
    "an expectation": (b"GET %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nExpect: b\r\n\r\na", 417, True),
    "a long head": (b"GET %b HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", 431, True),
    "a head of megabytes": (b"GET %b HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1_000_000 + b"\r\n", 431, True),
    "trailer fields": (
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a:b\r\n" * 20_000,
        431, True,
    ),
    "chunk extensions": (
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 100_000 + b"\r\n",
        431, True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(("data", "status", "closes"), RULES.values(), ids=RULES)
def test_the_rules_hold_on_both_ports(gateway: Server, port: str, data: bytes, status: int, closes: bool) -> None:
    address, path = PORTS[port]
    with connected(address(gateway)) as wire:
        wire.send(data.replace(b"%b", path.encode(), 1))
        reply = wire.reply()
        if port == "ops" and b"chunked\r\n\r\n" in data and reply.status == 200:  # answered before its body came
            assert wire.is_closed()
            return
        assert reply.status == status
        assert (reply.headers.get("connection") == "close") is closes
        if closes:
            assert wire.is_closed()
        else:
            wire.send(request("GET", path))
            assert wire.reply().status == 200


def test_a_slow_sender_is_ended_by_the_time_it_stated(gateway: Server) -> None:
    for head in (
        request("POST", INFER, b"", "penstock-timeout-ms: 200", "Content-Length: 100") + b"{",
        request("POST", INFER, b"", "penstock-timeout-ms: 200", "Transfer-Encoding: chunked") + b"1\r\n{\r\n",
    ):
        with connected(gateway.http) as wire:
            wire.send(head)
            reply = wire.reply()
            assert (reply.status, reply.headers["connection"]) == (504, "close")
            assert wire.is_closed()


def half_open(address: str, count: int, said: bytes, kept: ExitStack) -> list[socket.socket]:
    """So many connections that say no more than this."""
    host, _, port = address.rpartition(":")
    made = []
    for _ in range(count):
        one = kept.enter_context(socket.create_connection((host, int(port)), harness.CALL_SECONDS))
        one.sendall(said)
        made.append(one)
    return made


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nX: ", request("GET", "/livez")])
def test_probes_are_answered_by_a_crowded_ops_port(gateway: Server, said: bytes) -> None:
    with ExitStack() as kept:
        half_open(gateway.ops, 300, said, kept)
        for path in PROBES:
            with connected(gateway.ops) as wire:
                wire.send(request("GET", path))
                assert wire.reply().status == 200


def answered(address: str, said: bytes, kept: ExitStack) -> bytes:
    """How the answer to an unfinished request begins; asks again while older connections are being closed."""
    while True:
        [one] = half_open(address, 1, said, kept)
        with suppress(ConnectionResetError):
            return one.recv(12)


def test_probes_are_answered_beside_bodies_that_do_not_come(gateway: Server) -> None:
    said = request("PUT", "/admin/v1/models/a/versions/1", b"", "Content-Length: 1000000")
    with ExitStack() as kept:
        for _ in range(256):
            assert answered(gateway.ops, said, kept) == b"HTTP/1.1 501"  # it is taken, and its body owed
        for path in PROBES:
            with connected(gateway.ops) as wire:
                wire.send(request("GET", path))
                assert wire.reply().status == 200
        with connected(gateway.ops) as wire:
            wire.send(request("GET", "/admin/v1/models"))
            assert wire.reply().status == 503


def push(server: Server, model: str, content: bytes) -> None:
    assert server.push(model, "1", content).status == 201
    wait_until(lambda: server.rest("GET", f"/v2/models/{model}/ready").status == 200, PATIENCE_S, f"{model} is ready")


def test_active_clients_are_served_with_few_descriptors(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 700
    program = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *harness.COMMAND]
    zoo.save(zoo.affine(2.0, 0.0, ("n", 3)), tmp_path / "doubled.onnx")
    content = (tmp_path / "doubled.onnx").read_bytes()
    with running(None, tmp_path, program=program) as server, ExitStack() as kept:
        push(server, "doubled", content)
        before = Wire(server.http)
        kept.callback(before.close)
        before.send(request("GET", "/v2/health/live"))
        assert before.reply().status == 200
        for _ in range(2):
            half_open(server.http, 250, b"G", kept)
            half_open(server.ops, 250, b"G", kept)
            before.send(request("POST", INFER, BODY))
            assert before.reply().status == 200
            with connected(server.http) as wire:
                wire.send(request("POST", INFER, BODY))
                assert wire.reply().status == 200
            with connected(server.ops) as wire:
                wire.send(request("GET", "/readyz"))
                assert wire.reply().status == 200
        push(server, "other", content)
        assert server.log_text().count("\n") < 30
