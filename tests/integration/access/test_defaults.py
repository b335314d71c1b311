"""What a gateway without authentication keeps to itself: addresses, files, core dumps, and its models' control."""

import json
import os
import resource
import stat
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest

from penstock.app.hardening import CORE_BYTES
from penstock.control.instance import directory
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, call, run_command, wait_until
from tests.integration.control.watch import infer, metric
from tests.ports import free_port

OPEN = ("--insecure-no-auth",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    zoo.place(root, "pair", {"1": zoo.versioned(1)})
    return root


@pytest.mark.parametrize("option", ["--host", "--ops-host"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_it_does_not_start_beyond_loopback(folder: Path, tmp_path: Path, option: str, host: str) -> None:
    done = run_command("serve", str(folder), option, host, folder=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    for part in ("auth", "tls", "--insecure-no-auth", host):
        assert part in line


def test_it_warns_where_everyone_may_use_it(folder: Path, tmp_path: Path) -> None:
    with harness.running(folder, tmp_path, "--host", "0.0.0.0", *OPEN) as server:
        assert server.ops.startswith("127.0.0.1:")
        assert "WARNING" in server.log_text()
        assert "everyone who can reach 0.0.0.0 may use this gateway" in server.log_text()
        assert metric(server, "penstock_insecure") == 1
        server.http = server.http.replace("0.0.0.0", "127.0.0.1")
        infer(server)
        for verb in ("load", "unload"):
            reply = server.rest("POST", f"/v2/repository/models/pair/{verb}", {})
            assert (reply.status, "repository_control" in reply.error()) == (403, True)
        own = {"host": "10.9.8.7:8000"}
        assert server.rest("GET", "/v2", headers=own).status == 200  # an address cannot be rebound
        assert server.rest("GET", "/v2", headers={"host": "evil.example"}).status == 421
        assert server.admin("GET", "/livez", headers=own).status == 421  # this one is on loopback
        infer(server)


@pytest.mark.parametrize(("setting", "status"), [("off", 403), ("on", 200)])
def test_the_control_of_models_is_a_setting(folder: Path, tmp_path: Path, setting: str, status: int) -> None:
    with harness.running(folder, tmp_path, env={"PENSTOCK_REPOSITORY_CONTROL": setting}) as server:
        assert server.rest("POST", "/v2/repository/models/pair/load", {}).status == status
        assert server.rest("POST", "/v2/repository/models/pair/unload", {}).status == status
        assert metric(server, "penstock_insecure") == 0


def others_have(path: Path) -> list[str]:
    """What users other than the owner have a right to, below a path."""
    found = []
    for item in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):  # it came and went
            mode = item.lstat().st_mode
            if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077:
                found.append(str(item))
    return found


def test_files_belong_to_its_user_alone(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "captures").mkdir(parents=True)
    (home / "captures" / "old").write_text("rows")
    for path in (home, home / "captures", home / "captures" / "old"):
        path.chmod(0o777)
    before = os.umask(0)
    try:
        with harness.running(None, tmp_path, program=harness.COMMAND) as server:
            assert server.push("pair", "1", (folder / "pair" / "1" / "model.onnx").read_bytes()).status == 201
            infer(server)
            wait_until(lambda: not others_have(home), PATIENCE_S, lambda: str(others_have(home)))
            for shared in directory.open_homes(home, directory.list_bases(os.environ, os.geteuid())):
                assert not others_have(shared)
            for pid in (server.process.pid, *server.workers):
                assert limit_of(pid) == CORE_BYTES
        assert not others_have(home)
    finally:
        os.umask(before)


def limit_of(pid: int) -> int:
    """The bytes of a core dump of a process."""
    return resource.prlimit(pid, resource.RLIMIT_CORE)[1]


def cli(server: Server, *arguments: str) -> str:
    """What a command prints about the gateway on the home."""
    done = run_command(*arguments, folder=server.log.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_go_by_the_owners_socket(folder: Path, tmp_path: Path) -> None:
    with harness.running(None, tmp_path) as server:
        (tmp_path / "home" / "gateway.json").unlink()  # by which they would find the port
        cli(server, "models", "push", "pair", str(folder / "pair" / "1" / "model.onnx"), "--version", "1")
        cli(server, "models", "alias", "pair", "champion", "1")
        entries = json.loads(cli(server, "audit", "--json"))["entries"]
        assert {entry["actor"] for entry in entries} == {"owner"}
        by_port = cli(server, "audit", "--json", "--url", server.ops)
        assert by_port == cli(server, "audit", "--json", "--url", f"unix:{tmp_path}/home/ops.sock")
        assert cli(server, "health", "--json")
        socket = tmp_path / "home" / "ops.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert not socket.exists()


def test_the_health_port_is_all_that_others_reach(folder: Path, tmp_path: Path) -> None:
    port = free_port()
    env = {"PENSTOCK_HEALTH_HOST": "0.0.0.0", "PENSTOCK_HEALTH_PORT": str(port)}
    with harness.running(folder, tmp_path, env=env) as server:
        address = f"127.0.0.1:{port}"
        assert call(address, "GET", "/readyz").json() == {"ready": True}
        assert call(address, "GET", "/livez", headers={"host": "10.0.0.7"}).status == 200
        for path in ("/", "/metrics", "/admin/v1/models", "/v2"):
            assert call(address, "GET", path).status == 404
        assert metric(server, "penstock_insecure") == 0


def test_answers_of_the_ops_port_are_not_kept_or_framed(folder: Path, tmp_path: Path) -> None:
    with harness.running(folder, tmp_path) as server:
        connection = HTTPConnection(server.ops, timeout=PATIENCE_S)
        connection.request("GET", "/")
        fields = connection.getresponse().headers
        connection.close()
        assert "frame-ancestors 'none'" in (fields["content-security-policy"] or "")
        assert (fields["x-content-type-options"], fields["cache-control"]) == ("nosniff", "no-store")
