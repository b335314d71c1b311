"""Predictions on behalf of callers of the ops port: what is sent to the REST port, what comes back, and what fails."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from penstock.control.plane import predictions
from penstock.control.plane.predictions import DataPorts, PredictionAnswer, PredictionRequest, Predictions
from penstock.core.access.callers import ANONYMOUS, Caller, CallerKind
from penstock.core.errors import NotReady, TooLarge
from tests.certificates import make_authority, make_certificate

ANN = Caller("ann", CallerKind.KEY, key_id="k")


@dataclass
class RestPort:
    """A server in the place of the REST port; keeps what it was sent."""

    status: int = 200
    body: bytes = b'{"outputs": []}'
    sent: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    address: str = ""

    def ask(self, request: PredictionRequest, caller: Caller = ANONYMOUS) -> PredictionAnswer:
        return ask(DataPorts(self.address, "127.0.0.1:1"), request, caller)


def ask(ports: DataPorts, request: PredictionRequest, caller: Caller = ANONYMOUS) -> PredictionAnswer:
    """Ask by a service whose credential is the name of the caller and of the model."""

    def delegate(caller: Caller, model: str) -> str | None:
        return f"pd_{caller.name}-{model}" if caller.is_proven else None

    async def predict() -> PredictionAnswer:
        service = Predictions(ports, delegate)
        try:
            return await service.predict(request, caller)
        finally:
            service.close()

    return asyncio.run(predict())


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[RestPort]:
    """A server for the time of a block, with TLS if there is a ``context``."""
    port = RestPort()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            port.sent.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(port.status)
            for name in ("penstock-model-version", "penstock-route", "server-timing", "x-secret"):
                self.send_header(name, f"the {name}")
            self.end_headers()
            self.wfile.write(port.body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Quiet(HTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Say nothing of handshakes that fail."""

    server = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    port.address = f"0.0.0.0:{server.server_address[1]}"  # every interface is reached by the loopback one
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def rest() -> Iterator[RestPort]:
    """A server without TLS."""
    with serving() as port:
        yield port


def test_a_request_is_sent_as_the_caller_who_asks(rest: RestPort) -> None:
    answer = rest.ask(PredictionRequest("a b", "1", b"{}", {"x-user-id": "7"}), ANN)
    path, fields, body = rest.sent[0]
    assert (path, body) == ("/v2/models/a%20b/versions/1/infer", b"{}")
    assert (fields["authorization"], fields["x-user-id"]) == ("Bearer pd_ann-a b", "7")
    assert (fields["penstock-timing"], fields["penstock-timeout-ms"]) == ("1", "20000")
    assert fields["host"].startswith("127.0.0.1:")
    assert (answer.status, answer.body) == (200, rest.body)
    assert answer.fields == {name: f"the {name}" for name in sorted(answer.fields)}
    assert set(answer.fields) == {"penstock-model-version", "penstock-route", "server-timing"}


def test_an_anonymous_caller_sends_no_credential_and_errors_are_answers_too(rest: RestPort) -> None:
    rest.status, rest.body = 400, b'{"error": "no inputs"}'
    answer = rest.ask(PredictionRequest("digits", "", b"{}"))
    path, fields, _ = rest.sent[0]
    assert (path, "authorization" in fields) == ("/v2/models/digits/infer", False)
    assert (answer.status, answer.body) == (400, rest.body)


def test_a_long_answer_is_refused(rest: RestPort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "MOST_BYTES", 10)
    with pytest.raises(TooLarge, match="longer than 10 bytes"):
        rest.ask(PredictionRequest("digits", "", b"{}"))


def test_a_port_that_does_not_answer_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(NotReady, match="does not answer"):
        ask(DataPorts(address, ""), PredictionRequest("digits", "", b"{}"))


def test_a_port_with_tls_is_known_by_its_own_certificate(tmp_path: Path) -> None:
    pair, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    request = PredictionRequest("digits", "", b"{}")
    with serving(pair.contexts().http()) as port:
        chain, strange = pair.certificate.read_text(), other.certificate.read_text()
        assert ask(DataPorts(port.address, "", lambda: chain + strange), request).status == 200
        with pytest.raises(NotReady):
            ask(DataPorts(port.address, "", lambda: strange + chain), request)
        assert len(port.sent) == 1


def test_a_port_that_requires_a_client_certificate_is_not_asked(tmp_path: Path) -> None:
    pair, authority = make_certificate(tmp_path), make_authority(tmp_path)
    chain = pair.certificate.read_text()
    with serving(pair.contexts(authority, required=True).http()) as port, pytest.raises(NotReady):
        ask(DataPorts(port.address, "", lambda: chain), PredictionRequest("digits", "", b"{}"))
    assert not port.sent


def test_addresses_say_what_clients_need() -> None:
    service = Predictions(DataPorts("127.0.0.1:1", "127.0.0.1:2", lambda: "a chain", lambda: True), lambda *_: None)
    expected = {"http": "127.0.0.1:1", "grpc": "127.0.0.1:2", "tls": True, "authentication": True}
    assert service.addresses() == expected
    assert list(service.readings())
    service.close()
