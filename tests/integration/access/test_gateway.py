"""Whole gateways with keys: revoked within a second at every worker, counted, and kept without the control process."""

import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest

from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, is_ever_within, wait_until
from tests.integration.access.ports import INFER, ask
from tests.integration.access.test_credentials import PATH, bearer, message
from tests.keys import ACCEPT_KEYS, create_key, revoke_key

BODY = json.dumps(INFER).encode()
WITHIN_S = 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    zoo.place(folder / "models", "digits", {"1": zoo.affine(2.0, 1.0, ("n", 3))})
    with harness.running(folder / "models", folder, "--workers", "2", env=ACCEPT_KEYS) as running:
        yield running


def connect(server: Server) -> HTTPConnection:
    host, _, port = server.http.rpartition(":")
    return HTTPConnection(host, int(port), timeout=PATIENCE_S)


def ask_until_refused(server: Server, key: str, last: list[float]) -> None:
    """Note when the last request of each of several connections succeeded; they end with their first refusal."""

    def ask_on(number: int) -> None:
        connection = connect(server)
        while ask(connection, "POST", PATH, key, BODY).status == 200:
            last[number] = time.monotonic()
        connection.close()

    threads = [threading.Thread(target=ask_on, args=(number,)) for number in range(len(last))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)


def test_a_revoked_key_ends_at_every_worker_and_on_open_connections(server: Server, folder: Path) -> None:
    assert is_ever_within(WITHIN_S, partial(_outlives, server, folder))


def _outlives(server: Server, folder: Path, name: str) -> float:
    """How long a key is accepted after it was revoked, seconds."""
    key = create_key(folder, name, "caller")
    last, revoked = [0.0] * 8, []

    def revoke() -> None:
        wait_until(lambda: all(last), PATIENCE_S, "a first answer on each connection")
        revoke_key(folder, name)
        revoked.append(time.monotonic())

    revoking = threading.Thread(target=revoke)
    revoking.start()
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ModelInfer(message(), metadata=bearer(key))
        ask_until_refused(server, key, last)
        revoking.join(PATIENCE_S)
        wait_until(lambda: _code(stub, key) is grpc.StatusCode.UNAUTHENTICATED, PATIENCE_S, "the end of the key")
    return max(last) - revoked[0]


def _code(stub: GRPCInferenceServiceStub, key: str) -> grpc.StatusCode:
    code: grpc.StatusCode = stub.ModelInfer.future(message(), metadata=bearer(key)).code()
    return code


def test_refusals_of_all_workers_are_counted(server: Server, folder: Path) -> None:
    admin = create_key(folder, "admin", "admin")
    slow = create_key(folder, "slow", "caller", quota={"requests": 1})
    for _ in range(20):
        connection = connect(server)
        ask(connection, "POST", PATH, None, BODY)
        ask(connection, "POST", PATH, slow, BODY)
        connection.close()

    def metrics() -> str:
        return server.admin("GET", "/metrics", headers={"authorization": f"Bearer {admin}"}).body.decode()

    wait_until(lambda: 'penstock_auth_refused_total{reason="no_credential"}' in metrics(), PATIENCE_S, "the count")
    assert 'penstock_quota_refused_total{caller="slow"}' in metrics()
    assert "pk_" not in metrics()


def test_refusals_of_the_data_ports_are_in_the_audit(server: Server, folder: Path) -> None:
    admin = create_key(folder, "auditor", "admin")
    eye = create_key(folder, "eye", "viewer")
    connection = connect(server)
    ask(connection, "POST", PATH, eye, BODY)
    ask(connection, "POST", PATH, None, BODY)
    connection.close()

    with grpc.insecure_channel(server.grpc) as channel:
        denied = GRPCInferenceServiceStub(channel).RepositoryModelUnload.future(
            pb.RepositoryModelUnloadRequest(model_name="digits"), metadata=bearer(eye)
        )
        assert denied.code() is grpc.StatusCode.PERMISSION_DENIED

    def refusals() -> set[tuple[str, str, str, str]]:
        headers = {"authorization": f"Bearer {admin}"}
        entries = server.admin("GET", "/admin/v1/audit", headers=headers).json()["entries"]
        return {
            (entry["action"], entry["actor"], entry["address"], entry["after"]["detail"])
            for entry in entries
            if entry["action"].endswith(".refuse")
        }

    expected = {
        ("access.refuse", "eye", "127.0.0.1", "'predict'"),
        ("access.refuse", "eye", "127.0.0.1", "'operate'"),
        ("auth.refuse", "anonymous", "127.0.0.1", "no_credential"),
    }
    wait_until(lambda: expected <= refusals(), PATIENCE_S, "the refusals in the audit")


def test_keys_go_on_while_the_control_process_is_gone(folder: Path, tmp_path: Path) -> None:
    server = harness.launch(folder / "models", tmp_path, "--workers", "1", env=ACCEPT_KEYS)
    try:
        key = create_key(tmp_path, "bot", "caller")
        server.process.kill()
        server.process.wait(PATIENCE_S)
        connection = connect(server)
        assert ask(connection, "POST", PATH, key, BODY).status == 200
        assert ask(connection, "POST", PATH, None, BODY).status == 401
        connection.close()
    finally:
        server.kill()
