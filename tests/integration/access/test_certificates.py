"""Client certificates on the data ports: each connection has its own caller, whatever heads another one sent."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path

import grpc
import pytest

from penstock.core.access.table import Binding
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.certificates import Pair, issue, make_authority
from tests.harness import PATIENCE_S
from tests.integration.access import ports as data_ports
from tests.integration.access.ports import INFER, DataPorts, ask
from tests.integration.access.test_credentials import bearer, message

BODY = json.dumps(INFER).encode()
BOT, GUEST = "spiffe://x/bot", "spiffe://x/guest"


class Secure:
    """Ports with TLS, and the certificates of two clients: the bot may ask digits, the guest fraud."""

    def __init__(self, ports: DataPorts, authority: Pair, clients: dict[str, Pair]) -> None:
        self.ports = ports
        self.authority = authority
        self.clients = clients

    def connect(self, name: str | None) -> HTTPSConnection:
        """A connection to the REST port, with the certificate of a client."""
        context = self.authority.client(None if name is None else self.clients[name])
        return HTTPSConnection("localhost", self.ports.rest[0][1], timeout=PATIENCE_S, context=context)

    def channel(self, name: str | None) -> grpc.Channel:
        """A connection to the gRPC port."""
        pair = None if name is None else self.clients[name]
        key, chain = (None, None) if pair is None else (pair.key.read_bytes(), pair.certificate.read_bytes())
        credentials = grpc.ssl_channel_credentials(self.authority.certificate.read_bytes(), key, chain)
        return grpc.secure_channel(f"localhost:{self.ports.grpc[0].rpartition(':')[2]}", credentials)


@pytest.fixture(scope="module")
def secure(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_authority(folder)
    server = issue(authority, folder, "server")
    clients = {name: issue(authority, folder, name.rpartition("/")[2], [f"URI:{name}"]) for name in (BOT, GUEST)}
    with data_ports.running(models, tls=server.contexts(authority)) as ports:
        bindings = Binding("caller", caller=BOT, models=("digits",)), Binding("caller", caller=GUEST, models=("fraud",))
        ports.publish(replace(ports.table, bindings=bindings))
        yield Secure(ports, authority, clients)


def statuses(secure: Secure, name: str | None, key: str | None = None) -> list[int]:
    """The answers to predictions of both models, asked twice, so that heads are remembered."""
    connection = secure.connect(name)
    found = [
        ask(connection, "POST", f"/v2/models/{model}/infer", key, BODY).status
        for _ in range(2)
        for model in ("digits", "fraud")
    ]
    connection.close()
    return found


def test_the_same_bytes_mean_another_caller_on_another_connection(secure: Secure) -> None:
    for _ in range(2):
        assert statuses(secure, BOT) == [200, 404] * 2
        assert statuses(secure, GUEST) == [404, 200] * 2
        assert statuses(secure, None) == [401] * 4


def test_a_key_decides_before_the_certificate(secure: Secure) -> None:
    key = secure.ports.add_key("keyed", "caller", models=("fraud",))
    for name in (BOT, None, GUEST):
        assert statuses(secure, name, key) == [404, 200] * 2
        assert statuses(secure, name, "pk_wrong") == [401] * 4
    assert statuses(secure, BOT) == [200, 404] * 2


def test_grpc_callers_are_named_by_their_certificates(secure: Secure) -> None:
    found = {}
    for name in (BOT, GUEST, None):
        with secure.channel(name) as channel:
            stub = GRPCInferenceServiceStub(channel)
            found[name] = [
                stub.ModelInfer.future(message(model)).code() for _ in range(2) for model in ("digits", "fraud")
            ]
            assert stub.ModelInfer.future(message(), metadata=bearer("pk_x")).code() is grpc.StatusCode.UNAUTHENTICATED
    ok, hidden = grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND
    assert found == {BOT: [ok, hidden] * 2, GUEST: [hidden, ok] * 2, None: [grpc.StatusCode.UNAUTHENTICATED] * 4}
