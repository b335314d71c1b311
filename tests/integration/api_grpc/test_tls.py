"""TLS on the gRPC port: who agrees on h2 is served, whoever does not is closed without noise, and no suite is weak."""

import logging
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from penstock.api.grpc.http2 import frames
from penstock.api.grpc.http2_server import Http2Server
from penstock.api.grpc.services import GrpcOptions
from penstock.api.http1 import acceptor
from tests.certificates import Pair, issue, make_authority, make_certificate
from tests.harness import PATIENCE_S
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.raw import Raw
from tests.integration.api_grpc.requests import floats, pair
from tests.integration.api_grpc.worker import Worker

PAIR = pair(1, 1, 1).SerializeToString()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate with a key that suites of RSA and of elliptic curves can use."""
    return make_certificate(tmp_path_factory.mktemp("certificate"), kind=["-newkey", "rsa:2048", "-nodes"])


@pytest.fixture(scope="module")
def secure(models: Path, certificate: Pair) -> Iterator[Worker]:
    with workers.running(models, GrpcOptions(tls=certificate.contexts().grpc)) as running:
        yield running


def works(secure: Worker, certificate: Pair) -> None:
    with closing(Raw(secure.address, tls=certificate.client(None, "h2"))) as raw:
        assert floats(raw.answer(raw.call(PAIR)).message()) == [4, 4, 4]


def connected(secure: Worker) -> socket.socket:
    host, port = secure.address.split(":")
    return socket.create_connection((host, int(port)), 10)


def test_a_client_that_negotiates_h2_is_served(secure: Worker, certificate: Pair) -> None:
    works(secure, certificate)
    with closing(Raw(secure.address, tls=certificate.client(None, "http/1.1", "h2"))) as raw:
        assert floats(raw.answer(raw.call(PAIR)).message()) == [4, 4, 4]


@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h3", "grpc-exp")], ids=["none", "HTTP/1.1", "others"])
def test_a_client_that_does_not_agree_on_h2_is_closed_and_logged_once(
    secure: Worker,
    certificate: Pair,
    protocols: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secure.server, "_not_h2_logged_s", -acceptor.WARNING_INTERVAL_S)
    with caplog.at_level(logging.DEBUG):
        for _ in range(5):
            with certificate.client(None, *protocols).wrap_socket(
                connected(secure), server_hostname="localhost"
            ) as wire:
                assert wire.selected_alpn_protocol() is None
                assert wire.recv(1000) == b""  # an end that TLS has announced: else this raises
        works(secure, certificate)
    said = [record for record in caplog.records if record.name.startswith(("penstock", "asyncio"))]
    assert [(item.levelname, item.name, item.exc_info) for item in said] == [("INFO", "penstock.grpc", None)]


@pytest.mark.parametrize("texts", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b""])
def test_a_client_without_tls_is_closed_without_a_log_line(
    secure: Worker, certificate: Pair, texts: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        with connected(secure) as plain:
            plain.sendall(texts)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(1000):  # an alert, and the end
                pass
        works(secure, certificate)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


def test_a_handshake_that_stops_is_closed(models: Path, certificate: Pair) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(acceptor, "HANDSHAKE_S", 0.2)
        with workers.running(models, GrpcOptions(tls=certificate.contexts().grpc)) as hasty, connected(hasty) as plain:
            plain.sendall(b"\x16\x03\x01")
            with suppress(ConnectionResetError):
                assert plain.recv(1000) == b""
            works(hasty, certificate)


def agreed(secure: Worker, certificate: Pair, suites: str) -> str | None:
    """The suite that a client of TLS 1.2 with these gets; None if there is none."""
    client = certificate.client(None, "h2")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suites)
    try:
        with client.wrap_socket(connected(secure), server_hostname="localhost") as wire:
            suite = wire.cipher()
            return suite[0] if suite else None
    except ssl.SSLError:
        return None


@pytest.mark.parametrize("suite", ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-CHACHA20-POLY1305"])
def test_suites_that_http2_wants(secure: Worker, certificate: Pair, suite: str) -> None:
    assert agreed(secure, certificate, suite) == suite


@pytest.mark.parametrize(
    "suites",
    [
        "ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA",
        "AES128-SHA:AES256-SHA:AES128-SHA256:AES256-SHA256",
        "AES128-GCM-SHA256:AES256-GCM-SHA384",
        "DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256",
    ],
    ids=["CBC", "RSA and CBC", "RSA", "DHE and CBC"],
)
def test_suites_that_http2_prohibits_are_not_offered(secure: Worker, certificate: Pair, suites: str) -> None:
    assert agreed(secure, certificate, suites) is None


def test_a_thousand_clients_without_alpn_are_one_line(
    secure: Worker, certificate: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secure.server, "_not_h2_logged_s", -acceptor.WARNING_INTERVAL_S)
    client = certificate.client()
    with caplog.at_level(logging.DEBUG):
        for _ in range(1000):
            with client.wrap_socket(connected(secure), server_hostname="localhost") as wire:
                assert wire.recv(1000) == b""
        works(secure, certificate)
    said = [record for record in caplog.records if record.name.startswith(("penstock", "asyncio"))]
    assert [(item.levelname, item.exc_info) for item in said] == [("INFO", None)]


@pytest.mark.parametrize("required", [False, True])
def test_names_in_the_certificate_of_a_client(models: Path, certificate: Pair, tmp_path: Path, required: bool) -> None:
    authority = make_authority(tmp_path)
    bot = issue(authority, tmp_path, "bot", ["email:bot@example.org", "URI:spiffe://x/bot"])
    stranger = issue(make_authority(tmp_path, "other"), tmp_path, "stranger", ["URI:spiffe://x/bot"])
    contexts = certificate.contexts(authority, required=required)
    with workers.running(models, GrpcOptions(tls=contexts.grpc)) as asking:
        server = asking.server
        assert isinstance(server, Http2Server)
        with closing(Raw(asking.address, tls=certificate.client(bot, "h2"))) as raw:
            assert floats(raw.answer(raw.call(PAIR)).message()) == [4, 4, 4]
            names = asking.call(lambda: [item.certificate_names for item in server._connections])
            assert names == [("spiffe://x/bot", "bot@example.org")]
            asking.call(server.retire_certified)
            raw.frames_until(frames.GOAWAY)
        for pair in (stranger, None) if required else (stranger,):
            with (
                pytest.raises((OSError, AssertionError)),
                closing(Raw(asking.address, tls=certificate.client(pair, "h2"))) as raw,
            ):
                raw.frames_until(frames.SETTINGS)
        if not required:
            works(asking, certificate)


def test_openssl_s_client_agrees_on_h2(secure: Worker, certificate: Pair) -> None:
    command = [
        "openssl",
        "s_client",
        "-connect",
        secure.address,
        "-alpn",
        "h2",
        "-CAfile",
        str(certificate.certificate),
    ]
    said = subprocess.run(command, input=b"", capture_output=True, timeout=PATIENCE_S, check=True).stdout.decode(
        errors="replace"
    )  # the server's first frames are not text
    assert "ALPN protocol: h2" in said
    assert "Verify return code: 0 (ok)" in said
