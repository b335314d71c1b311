"""Every port x method x Host x Origin of a gateway without authentication: what is foreign is refused before anything
is routed, and what is its own is answered as ever."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2.frames import ErrorCode, encode_frame
from penstock.app import owner_socket
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.api_grpc.raw import Raw
from tests.ports import free_port

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH")
SAFE = {"GET", "HEAD", "OPTIONS"}
REFUSED = {403, 421}

HOSTS = {  # and whether it is the gateway's own
    "localhost:1": True,
    "LocalHost": True,
    "127.0.0.1:1": True,
    "[::1]:1": True,
    "trusted.example:1": True,
    "evil.example:1": False,
    "localhost.evil.example": False,
    "127.0.0.1.nip.io": False,
    "10.0.0.7:1": False,
    "0.0.0.0:1": False,
    "": False,
}
ORIGINS: dict[str, tuple[dict[str, str], bool]] = {  # the fields, and whether they are of a foreign page
    "none": ({}, False),
    "own": ({"origin": "http://{host}"}, False),
    "own, by its site": ({"sec-fetch-site": "same-origin"}, False),
    "typed in": ({"sec-fetch-site": "none"}, False),
    "foreign": ({"origin": "http://evil.example"}, True),
    "null": ({"origin": "null"}, True),
    "another port": ({"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}, True),
    "another site": ({"sec-fetch-site": "cross-site"}, True),
    "rebound": ({"origin": "http://evil.example:1", "sec-fetch-site": "same-origin"}, True),
    "allowed by cors.origins": ({"origin": "https://app.example", "sec-fetch-site": "cross-site"}, True),
}
PATHS = {
    "rest": ("/v2", "/v2/models/row/infer", "/v2/repository/models/row/unload", "/none", "//v2", "/%76%32"),
    "ops": ("/livez", "/admin/v1/models", "/admin/v1/models/row/policy", "/none", "//livez"),
    "owner": ("/livez", "/admin/v1/models/row/policy"),
    "health": ("/livez", "/none"),
    "grpc": ("/inference.GRPCInferenceService/RepositoryModelUnload", "/grpc.health.v1.Health/Check", "/none"),
}

Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def health_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, health_port: int) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("origins")
    zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), folder / "models" / "row.onnx")
    env = {
        "PENSTOCK_HEALTH_PORT": str(health_port),
        "PENSTOCK_CORS__ORIGINS": '["https://app.example"]',
        "PENSTOCK_TRUSTED_HOSTS": '["trusted.example"]',
    }
    with harness.running(folder / "models", folder, "--workers", "1", env=env) as running:
        yield running


def connected(address: str) -> Connect:
    host, _, port = address.rpartition(":")
    return lambda: socket.create_connection((host, int(port)), PATIENCE_S)


def listeners(server: Server, health_port: int) -> dict[str, Connect]:
    """How to reach each port that speaks HTTP/1.1."""
    home = server.log.parent / "home"
    return {
        "rest": connected(server.http),
        "ops": connected(server.ops),
        "owner": lambda: owner_socket.connect(home / owner_socket.NAME, PATIENCE_S),
        "health": connected(f"127.0.0.1:{health_port}"),
    }


def wanted(port: str, method: str, host: str, name: str) -> int:
    """The status that a request is refused with, 0 for none."""
    _, is_foreign = ORIGINS[name]
    if not HOSTS[host]:
        return 421
    is_allowed = port in {"rest", "grpc"} and name == "allowed by cors.origins"
    return 403 if is_foreign and not is_allowed and method not in SAFE else 0


def fields_of(host: str, name: str) -> dict[str, str]:
    return {field: text.format(host=host.lower()) for field, text in ORIGINS[name][0].items()}


def status_of(connect: Connect, method: str, path: str, host: str, name: str) -> int:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", "Content-Length: 0"]
    lines += [f"{field}: {text}" for field, text in fields_of(host, name).items()]
    with closing(connect()) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while len(head) < 12 and (part := client.recv(4096)):
            head += part
    assert head.startswith(b"HTTP/1.1 "), head
    return int(head[9:12])


@pytest.mark.parametrize("port", ["rest", "ops", "owner", "health"])
def test_http_ports_refuse_foreign_origins(server: Server, health_port: int, port: str) -> None:
    connect, paths = listeners(server, health_port)[port], PATHS[port]
    for method, host, name in product(METHODS, HOSTS, ORIGINS):
        status = wanted(port, method, host, name)
        for path in paths if status else paths[:1]:
            found = status_of(connect, method, path, host, name)
            assert (found if found in REFUSED else 0) == status, (method, path, host, name, found)


def test_the_grpc_port_refuses_foreign_origins(server: Server) -> None:
    for method in METHODS:
        with closing(Raw(server.grpc)) as raw:
            for host, name in product(filter(None, HOSTS), ORIGINS):
                status = wanted("grpc", method, host, name)
                for path in PATHS["grpc"] if status else PATHS["grpc"][1:2]:
                    for kind in ("application/grpc", "text/plain"):
                        found = grpc_status(raw, method, path, kind, host, name)
                        assert found == status, (method, path, kind, host, name, found)


def counted(server: Server) -> dict[str, int]:
    """The refusals by host and by origin, of all ports."""
    text = server.admin("GET", "/metrics").body.decode()
    found = re.findall(r'penstock_auth_refused_total\{reason="(untrusted_host|foreign_origin)"\} (\d+)', text)
    return {reason: int(count) for reason, count in found}


def test_every_port_counts_what_it_refuses(server: Server, health_port: int) -> None:
    before = counted(server)
    ports = listeners(server, health_port)
    for connect in ports.values():
        assert status_of(connect, "GET", "/none", "evil.example", "none") == 421
        assert status_of(connect, "POST", "/none", "localhost", "foreign") == 403
    with closing(Raw(server.grpc)) as raw:
        for _ in range(2):  # the second head is remembered
            assert grpc_status(raw, "POST", "/none", "application/grpc", "evil.example", "none") == 421
            assert grpc_status(raw, "POST", "/none", "text/plain", "localhost:1", "foreign") == 403
    expected = {reason: count + len(ports) + 2 for reason, count in before.items()}
    assert len(expected) == 2
    wait_until(lambda: counted(server) == expected, PATIENCE_S, "the counts of all ports")

    def recorded() -> set[tuple[str, str]]:
        entries = server.as_owner("GET", "/admin/v1/audit?limit=1000").json()["entries"]
        found = [entry for entry in entries if entry["action"] == "auth.refuse"]
        return {(entry["after"]["detail"], entry["address"]) for entry in found}

    wanted = {(reason, "127.0.0.1") for reason in expected}
    wait_until(lambda: wanted <= recorded(), PATIENCE_S, "the refusals in the audit")


def test_an_empty_host_ends_its_stream(server: Server) -> None:
    with closing(Raw(server.grpc)) as raw:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", "/none"), (":authority", "")]
        raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS, 1, bytes(raw.encoder.encode(fields))))
        assert raw.answer(1).reset == ErrorCode.PROTOCOL_ERROR


def grpc_status(raw: Raw, method: str, path: str, kind: str, host: str, name: str) -> int:
    """The HTTP status for a refusal, whichever form it has; 0 for none."""
    fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)]
    fields += [("content-type", kind), *fields_of(host, name).items()]
    number, raw.next = raw.next, raw.next + 2
    flags = frames.END_HEADERS | frames.END_STREAM
    raw.write(encode_frame(frames.HEADERS, flags, number, bytes(raw.encoder.encode(fields))))
    answer = raw.answer(number)
    assert answer.reset is None
    if answer.fields.get("grpc-status") == "7":
        return 421 if "trusted_hosts" in answer.fields["grpc-message"] else 403
    http = int(answer.fields[":status"])
    return http if http in REFUSED else 0


def test_nothing_was_unloaded(server: Server) -> None:
    assert server.rest("GET", "/v2/models/row/ready").status == 200


def test_a_page_cannot_use_the_data_port(server: Server) -> None:
    page = {"origin": "http://evil.example", "sec-fetch-site": "cross-site", "content-type": "text/plain"}
    for path in (
        "repository/models/row/unload",
        "repository/models/row/load",
        "models/row/infer",
        "models/row/feedback",
    ):
        reply = server.rest("POST", f"/v2/{path}", {}, page)
        assert (reply.status, "cors.origins" in reply.error()) == (403, True)
    assert server.rest("GET", "/v2/models/row/ready").status == 200


@pytest.mark.parametrize("port", ["http", "ops"])
@pytest.mark.parametrize("lines", [b"", b"Host: localhost\r\nHost: localhost\r\n", b"Host: a b\r\n"])
def test_a_request_has_one_host_field(server: Server, port: str, lines: bytes) -> None:
    with closing(connected(getattr(server, port))()) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\n%b\r\n" % lines)
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_grpc_value_with_a_line_break_ends_its_stream(server: Server) -> None:
    with closing(Raw(server.grpc)) as raw:
        number = raw.call(b"", path="/grpc.health.v1.Health/Check", x_a="b\rc")
        assert raw.answer(number).reset == 1


def test_the_paths_of_this_test_are_there(server: Server, health_port: int) -> None:
    """What is not refused is answered, so that the tables above say something."""
    assert server.rest("GET", "/v2").status == 200
    assert server.admin("GET", "/livez").status == 200
    assert Path(server.log.parent / "home" / owner_socket.NAME).is_socket()
    with closing(listeners(server, health_port)["owner"]()) as client:
        client.sendall(b"GET /admin/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
