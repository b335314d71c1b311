"""A gateway whose models are not there yet: it starts, says why it is not ready, and serves them once they are."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from penstock.core.errors import InvalidInput, NotReady
from penstock.registry.repository.local import LocalTree
from tests import harness, s3, zoo
from tests.harness import COMMAND, PATIENCE_S, Server, wait_until
from tests.integration.registry.test_gateway import answering
from tests.ports import free_port

QUICK = {"PENSTOCK_WATCH__SECONDS": "0.2", "PENSTOCK_WATCH__SETTLE_SECONDS": "0.3"}


@contextmanager
def waiting(folder: Path, *models: str, env: Mapping[str, str] = QUICK) -> Iterator[Server]:
    """A server that is up and not ready."""
    http, rpc, ops = free_port(), free_port(), free_port()
    ports = ["--http-port", str(http), "--grpc-port", str(rpc), "--ops-port", str(ops)]
    command = [*COMMAND, "serve", *models, *ports, "--ready-file", str(folder / "ready.json")]
    log = folder / "stderr.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stderr=errors, env=harness.environment(folder, env))
    server = Server(process, log, f"127.0.0.1:{http}", f"127.0.0.1:{rpc}", f"127.0.0.1:{ops}")
    try:
        wait_until(lambda: "reason" in readiness(server), PATIENCE_S, "the ops port")
        yield server
        assert process.poll() is None, server.log_text()
        assert server.stop() == 0
    finally:
        server.kill()


def readiness(server: Server) -> dict[str, object]:
    try:
        reply = server.admin("GET", "/readyz")
    except OSError:
        assert server.process.poll() is None, server.log_text()
        return {}
    document: dict[str, object] = reply.json()
    assert (reply.status == 200) == document["ready"] == ("reason" not in document)
    return document


def open_for_requests(server: Server) -> bool:
    try:
        return server.rest("GET", "/v2/health/live").status == 200
    except OSError:
        return False


def serving(server: Server) -> int:
    with grpc.insecure_channel(server.grpc) as channel:
        stub: Any = HealthStub(channel)
        return int(stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True).status)


def up(server: Server, repository: str) -> bool:
    """The metric of a repository."""
    lines = server.admin("GET", "/metrics").body.decode().splitlines()
    (line,) = [line for line in lines if line.startswith(f'penstock_repository_up{{repository="{repository}"}}')]
    return float(line.rpartition(" ")[2]) == 1


def repositories(server: Server) -> dict[str, tuple[int, str]]:
    repositories = server.admin("GET", "/admin/v1/registry").json()["repositories"]
    return {repository["name"]: (repository["models"], repository["reason"]) for repository in repositories}


def test_an_empty_bucket_is_served_once_models_are_in_it(tmp_path: Path) -> None:
    with s3.running() as own:
        bucket = f"s3://{own.name}/q"
        with waiting(tmp_path, bucket, env={**QUICK, **own.environment}) as server:
            wait_until(lambda: "holds no model" in str(readiness(server).get("reason")), PATIENCE_S, "the reason")
            wait_until(lambda: open_for_requests(server), PATIENCE_S, "the workers")
            assert server.rest("GET", "/v2/health/ready").status != 200
            assert serving(server) == health_pb2.HealthCheckResponse.NOT_SERVING
            assert server.rest("POST", "/v2/repository/models/m/load", {}).status == 503
            assert "holds no model" in str(readiness(server)["reason"])
            assert not up(server, bucket)
            assert "holds no model" in repositories(server)[bucket][1]
            assert not (tmp_path / "ready.json").exists()
            own.call("PUT", f"/{own.name}/q/m/3/model.onnx", zoo.versioned(3).SerializeToString())
            wait_until((tmp_path / "ready.json").exists, PATIENCE_S, "readiness")
            assert answering(server) == "3"
            assert server.rest("GET", "/v2/health/ready").status == 200
            assert serving(server) == health_pb2.HealthCheckResponse.SERVING
            assert (up(server, bucket), repositories(server)[bucket]) == (True, (1, ""))
            assert server.log_text().count("no model can be served yet") == 1
            own.call("PUT", f"/{own.name}/q/later/1/model.onnx", zoo.versioned(4).SerializeToString())
            wait_until(lambda: server.rest("GET", "/v2/models/later/ready").status == 200, PATIENCE_S, "the next model")


def test_a_bucket_that_cannot_be_reached_at_the_start(tmp_path: Path) -> None:
    with s3.running() as own:
        content = zoo.versioned(5).SerializeToString()
        own.call("PUT", f"/{own.name}/p/m/5/model.onnx", content)
        port = free_port()
        environment = {**QUICK, **own.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        with waiting(tmp_path, f"s3://{own.name}/p", env=environment) as server:
            wait_until(lambda: "cannot be reached" in str(readiness(server).get("reason")), PATIENCE_S, "the reason")
            assert "cannot be reached" in repositories(server)[f"s3://{own.name}/p"][1]
            with forwarding(port, own.port):
                wait_until(lambda: bool(readiness(server)["ready"]), PATIENCE_S, "the bucket's models")
                assert answering(server) == "5"
            assert server.log_text().count("no model can be served yet") == 1
            wait_until(lambda: not up(server, f"s3://{own.name}/p"), PATIENCE_S, "the end of the bucket")
            assert (readiness(server)["ready"], answering(server)) == (True, "5")
            for _ in server.worker_pids():
                server.kill_worker()  # its successor loads the copy
            assert answering(server) == "5"
            assert server.log_text().count("what is served stays as it is") == 1
            with forwarding(port, own.port):
                own.call("PUT", f"/{own.name}/p/m/6/model.onnx", zoo.versioned(6).SerializeToString())
                wait_until(lambda: answering(server) == "6", PATIENCE_S, "what came meanwhile")


def test_a_bucket_that_is_away_beside_a_folder(tmp_path: Path) -> None:
    with s3.running() as own:
        port = free_port()
        away = {**QUICK, **own.environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        zoo.place(tmp_path / "models", "m", {"1": zoo.versioned(1)})
        with harness.running(tmp_path / "models", tmp_path / "a", f"s3://{own.name}/none", env=away) as server:
            assert (up(server, str(tmp_path / "models")), up(server, f"s3://{own.name}/none")) == (True, False)
            assert answering(server) == "1"


@contextmanager
def forwarding(port: int, to: int) -> Iterator[None]:
    """Make one port lead to another for the time of a block, so that a server can be away at its address."""
    code = (
        "import asyncio, sys\n"
        "async def pump(reader, writer):\n"
        "    while data := await reader.read(65536):\n"
        "        writer.write(data)\n"
        "        await writer.drain()\n"
        "    writer.close()\n"
        "async def met(reader, writer):\n"
        "    theirs, ours = await asyncio.open_connection('127.0.0.1', int(sys.argv[2]))\n"
        "    await asyncio.gather(pump(reader, ours), pump(theirs, writer), return_exceptions=True)\n"
        "async def main():\n"
        "    server = await asyncio.start_server(met, '127.0.0.1', int(sys.argv[1]))\n"
        "    await server.serve_forever()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([*COMMAND[:1], "-c", code, str(port), str(to)], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("folder", ["", "m"])
def test_a_file_system_that_fails_is_away_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "m").mkdir()
    tree = LocalTree(tmp_path)

    def fail(path: object, *_: object, **__: object) -> int:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(NotReady, match="cannot be read now"):
        tree.entries(folder)
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(NotReady, match="cannot be read now"):
        tree.refresh()
    with pytest.raises(NotReady, match="cannot be read now"):
        tree.read("m/config.pbtxt", "the configuration")
    monkeypatch.undo()
    with pytest.raises(InvalidInput, match="missing"):
        tree.read("m/config.pbtxt", "the configuration")
