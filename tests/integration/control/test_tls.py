"""TLS of a whole gateway: on all ports, with certificates that change while it serves, and clients that have one."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.control.workers.environment import LIBRARY_THREADS
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub as Stub
from tests import harness
from tests.certificates import Pair, issue, make_authority, make_certificate
from tests.harness import PATIENCE_S, Reply, Server, is_alive, wait_until
from tests.integration.control.watch import BODY

LOOKS = "from penstock.app import certificates; certificates.LOOK_S = 0.05; from penstock.cli import main; main()"
"""A gateway that looks at its files twenty times a second."""


class Gateway:
    """A gateway with TLS: the files of its certificate, and what its clients trust."""

    def __init__(self, folder: Path, server: Server, files: Pair, trusted: list[Pair]) -> None:
        self.server, self.files = server, files
        self.bundle = folder / "trusted.pem"
        self.bundle.write_text("".join(pair.certificate.read_text() for pair in trusted))

    @property
    def addresses(self) -> tuple[str, str, str]:
        return self.server.http, self.server.grpc, self.server.ops

    def put(self, pair: Pair) -> None:
        shutil.copy(pair.key, self.files.key)
        shutil.copy(pair.certificate, self.files.certificate)

    def context(self, pair: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.bundle)
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    def ask(self, address: str, method: str, path: str, body: bytes | None = None, pair: Pair | None = None) -> Reply:
        connection = HTTPSConnection(address, timeout=PATIENCE_S, context=self.context(pair))
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return Reply(answer.status, {key.lower(): text for key, text in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        text = self.ask(self.server.ops, "GET", "/metrics").body.decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(item.value for item in samples if item.name == name and labels.items() <= item.labels.items())

    def loaded(self, count: int) -> bool:
        return self.metric("penstock_tls_certificate_reloads_total", result="loaded") >= count

    def presents(self, address: str, pair: Pair) -> bool:
        """Whether a new connection to a port sees this certificate."""
        with self.connected(address, self.context()) as wire:
            return wire.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())

    @contextmanager
    def connected(self, address: str, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as wire,
        ):
            yield wire


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    folder = tmp_path_factory.mktemp("pairs")
    return make_certificate(folder, "one"), make_certificate(folder, "two")


@contextmanager
def running(models: Path, folder: Path, pairs: tuple[Pair, Pair], *options: str, **env: str) -> Iterator[Gateway]:
    files = Pair(folder / "tls.crt", folder / "tls.key")
    for source, target in ((pairs[0].certificate, files.certificate), (pairs[0].key, files.key)):
        shutil.copy(source, target)
    settings = {"PENSTOCK_TLS__CERTIFICATE_FILE": str(files.certificate), "PENSTOCK_TLS__KEY_FILE": str(files.key)}
    settings |= dict.fromkeys(LIBRARY_THREADS, "1")  # as the gateway's own first steps set
    program = [sys.executable, "-c", LOOKS]
    with harness.running(models, folder / "server", *options, env={**settings, **env}, program=program) as server:
        yield Gateway(folder, server, files, list(pairs))


@pytest.fixture
def gateway(folder: Path, tmp_path: Path, pairs: tuple[Pair, Pair]) -> Iterator[Gateway]:
    with running(folder, tmp_path, pairs, "--workers", "2") as started:
        yield started


def says_http(address: str) -> bytes:
    """What plain HTTP gets from a port."""
    host, _, port = address.rpartition(":")
    said = b""
    with socket.create_connection((host, int(port)), PATIENCE_S) as plain, suppress(OSError):
        plain.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        while more := plain.recv(1000):
            said += more
    return said


def handshake(gateway: Gateway, address: str, **limits: ssl.TLSVersion) -> str:
    """The version that a client with these limits gets, "" if none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(gateway.bundle)
    context.set_ciphers("ALL:@SECLEVEL=0")
    for name, version in limits.items():
        setattr(context, name, version)
    try:
        with gateway.connected(address, context) as wire:
            return wire.version() or ""
    except OSError:
        return ""


def suite_of(gateway: Gateway, address: str, suites: str) -> str:
    """The suite that a client of TLS 1.2 with these gets, "" if none."""
    context = gateway.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suites)
    try:
        with gateway.connected(address, context) as wire:
            found = wire.cipher()
            return found[0] if found else ""
    except OSError:
        return ""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_all_ports_speak_modern_tls_alone(gateway: Gateway) -> None:
    for address in gateway.addresses:
        assert b"HTTP/1" not in says_http(address)
        assert handshake(gateway, address, maximum_version=ssl.TLSVersion.TLSv1_1) == ""
        assert handshake(gateway, address, maximum_version=ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        assert handshake(gateway, address) == "TLSv1.3"
        for suites in ("ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256:AES128-SHA"):
            assert suite_of(gateway, address, suites) == ""
        assert suite_of(gateway, address, "ECDHE-ECDSA-AES128-GCM-SHA256") == "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert gateway.ask(gateway.server.ops, "GET", "/livez").status == 200
    assert gateway.ask(gateway.server.ops, "GET", "/readyz").status == 200


class Load:
    """Calls on new connections and on one that stays, by REST, gRPC and to the ops port, until it is stopped."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.stop = threading.Event()
        self.calls, self.failed = 0, list[str]()
        targets = (self.call_anew, self.call_on, self.call_grpc, self.probe)
        self.threads = [threading.Thread(target=self.repeat, args=(target,)) for target in targets]

    def repeat(self, target: object) -> None:
        assert callable(target)
        with ExitStack() as open_connections:
            while not self.stop.is_set():
                try:
                    target(open_connections)
                    self.calls += 1
                except Exception as error:
                    self.failed.append(repr(error))

    def call_anew(self, _: ExitStack) -> None:
        reply = self.gateway.ask(self.gateway.server.http, "POST", "/v2/models/pair/infer", BODY)
        assert reply.status == 200, reply

    def call_on(self, kept: ExitStack) -> None:
        if not hasattr(self, "connection"):
            server, context = self.gateway.server, self.gateway.context()
            self.connection = HTTPSConnection(server.http, timeout=PATIENCE_S, context=context)
            kept.callback(self.connection.close)
        self.connection.request("POST", "/v2/models/pair/infer", BODY)
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 200

    def call_grpc(self, _: ExitStack) -> None:
        credentials = grpc.ssl_channel_credentials(self.gateway.bundle.read_bytes())
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self.gateway.server.grpc, credentials, options) as channel:
            assert Stub(channel).ServerLive(pb.ServerLiveRequest(), timeout=PATIENCE_S).live

    def probe(self, _: ExitStack) -> None:
        assert self.gateway.ask(self.gateway.server.ops, "GET", "/readyz").status == 200

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def test_certificates_rotate_without_a_lost_call(gateway: Gateway, pairs: tuple[Pair, Pair]) -> None:
    rotations = 30
    with Load(gateway) as load:
        for number in range(1, rotations + 1):
            gateway.put(pairs[number % 2])
            wait_until(partial(gateway.loaded, number), PATIENCE_S, "a reload")
            for address in gateway.addresses:
                wait_until(partial(gateway.presents, address, pairs[number % 2]), PATIENCE_S, "it is presented")
    assert load.failed == []
    assert load.calls > rotations
    expiry = gateway.metric("penstock_tls_certificate_expiration_timestamp_seconds", certificate="server")
    command = ["openssl", "x509", "-noout", "-enddate", "-in", str(gateway.files.certificate)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert expiry == ssl.cert_time_to_seconds(said.partition("=")[2].strip())


def test_a_pair_that_cannot_be_used_is_reported_and_even_new_workers_have_the_earlier(
    gateway: Gateway, pairs: tuple[Pair, Pair]
) -> None:
    beside = gateway.files.certificate.with_suffix(".new")
    beside.write_text("no certificate")
    beside.replace(gateway.files.certificate)  # at once: a half-written file is refused too
    wait_until(
        lambda: gateway.metric("penstock_tls_certificate_reloads_total", result="refused") >= 1, PATIENCE_S, "a report"
    )
    for pid in gateway.server.workers:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, gateway.server.workers)), PATIENCE_S, "the end of the workers")
    wait_until(
        lambda: (
            len(gateway.server.child_pids()) >= 2
            and gateway.ask(gateway.server.ops, "GET", "/readyz").json()["workers"]["ready"] == 2
        ),
        PATIENCE_S,
        "their successors",
    )
    for address in gateway.addresses:
        assert gateway.presents(address, pairs[0])
    lines = [line for line in gateway.server.log_text().splitlines() if "certificates in use stay" in line]
    assert len(lines) == 1 and "expected certificates in PEM form" in lines[0]
    assert gateway.metric("penstock_task_failures_total", task="certificates") >= 1
    gateway.put(pairs[1])
    wait_until(lambda: gateway.loaded(1), PATIENCE_S, "a reload")


def test_clients_without_alpn_leave_few_lines(gateway: Gateway) -> None:
    with Load(gateway) as load:
        for _ in range(200):
            with gateway.connected(gateway.server.grpc, gateway.context()) as wire:
                assert wire.selected_alpn_protocol() is None
                with suppress(OSError):
                    assert wire.recv(1000) == b""
    assert load.failed == []
    log = gateway.server.log_text()
    assert "Traceback" not in log
    assert len([line for line in log.splitlines() if "h2 by ALPN" in line]) <= 4  # one a minute and worker


def test_required_certificates_of_clients(folder: Path, tmp_path: Path, pairs: tuple[Pair, Pair]) -> None:
    authority, other = make_authority(tmp_path), make_authority(tmp_path, "other")
    bot = issue(authority, tmp_path, "bot", ["URI:spiffe://x/bot"])
    stranger = issue(other, tmp_path, "stranger", ["URI:spiffe://x/bot"])
    ca = tmp_path / "ca.crt"
    shutil.copy(authority.certificate, ca)
    bindings = json.dumps([{"caller": "spiffe://x/bot", "role": "admin"}])
    env = {"PENSTOCK_AUTH__MTLS__CLIENT_CA": str(ca), "PENSTOCK_AUTH__BINDINGS": bindings}
    env["PENSTOCK_TLS__CLIENT"] = "required"
    with running(folder, tmp_path, pairs, **env) as gateway:
        for address, path in ((gateway.server.http, "/v2/health/live"), (gateway.server.ops, "/livez")):
            assert gateway.ask(address, "GET", path, pair=bot).status == 200
            for presented in (None, stranger):
                with pytest.raises(OSError):
                    gateway.ask(address, "GET", path, pair=presented)
        assert is_live(gateway, bot)
        assert not is_live(gateway, None) and not is_live(gateway, stranger)
        shutil.copy(other.certificate, ca)  # the authority is replaced on disk
        wait_until(lambda: is_live(gateway, stranger), PATIENCE_S, "the new authority")
        assert not is_live(gateway, bot)


def is_live(gateway: Gateway, pair: Pair | None) -> bool:
    """Whether gRPC answers a client with this certificate."""
    key, chain = (pair.key.read_bytes(), pair.certificate.read_bytes()) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(gateway.bundle.read_bytes(), key, chain)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(gateway.server.grpc, credentials, options) as channel:
        try:
            return bool(Stub(channel).ServerLive(pb.ServerLiveRequest(), timeout=PATIENCE_S).live)
        except grpc.RpcError:
            return False


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"PENSTOCK_AUTH__MTLS__CLIENT_CA": "ca.pem"}, "auth.mtls needs tls"),
        (
            {
                "PENSTOCK_TLS__CERTIFICATE_FILE": "a",
                "PENSTOCK_TLS__KEY_FILE": "b",
                "PENSTOCK_TLS__CLIENT": "required",
            },
            "tls.client: required needs",
        ),
        ({"PENSTOCK_TLS__CERTIFICATE_FILE": "/none", "PENSTOCK_TLS__KEY_FILE": "/none"}, "/none: no such file"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path: Path, settings: dict[str, str], sentence: str) -> None:
    done = harness.run_command("serve", str(tmp_path), folder=tmp_path, env=settings)
    assert done.returncode == 2
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1
