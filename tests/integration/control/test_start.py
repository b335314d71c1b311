"""How a server comes up: the ready line and file, and one clear line when it cannot."""

import re
import socket
from pathlib import Path
from typing import Protocol

import pytest

from penstock import cli
from penstock.app import launch
from tests import harness
from tests.harness import PATIENCE_S, Server, run_command, wait_until
from tests.integration.control.watch import infer, port_of
from tests.ports import free_port


class Refusal(Protocol):
    """See the fixture."""

    def __call__(self, *arguments: str, code: int = 2) -> str: ...


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Runs `penstock serve` in this process; gives the one line it ends with."""
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(launch, "protect_process", lambda: None)  # of the tests
    for port in ("HTTP", "GRPC", "OPS"):  # the default ones may be somebody else's, such as the demo's
        monkeypatch.setenv(f"PENSTOCK_{port}_PORT", "0")

    def run(*arguments: str, code: int = 2) -> str:
        assert cli.run(["serve", *arguments]) == code
        reported = capsys.readouterr()
        assert reported.out == ""
        lines = reported.err.strip().splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    return run


def ready_addresses(server: Server) -> tuple[str, ...]:
    """What the ready line says; nothing before it is written."""
    line = re.search(r"^penstock ready http=(\S+) grpc=(\S+) ops=(\S+)$", server.log_text(), re.MULTILINE)
    return line.groups() if line else ()


def test_the_ready_line_and_file_say_the_same(folder: Path, tmp_path: Path) -> None:
    with harness.running(folder, tmp_path, "--drain-delay", "0") as server:
        wait_until(lambda: ready_addresses(server) != (), PATIENCE_S, "the line")
        assert ready_addresses(server) == (server.http, server.grpc, server.ops)
        assert set(server.workers) <= set(server.child_pids())  # beside what examines models
        assert server.is_ready()
        assert f"the console is at http://{server.ops}/console/" in server.log_text()
        opened = run_command("console", "--no-open", folder=tmp_path)
        assert (opened.returncode, opened.stdout) == (0, f"http://{server.ops}/console/\n")


def test_stated_ports_are_used(folder: Path, tmp_path: Path) -> None:
    wanted = [free_port() for _ in range(3)]
    options = [
        text
        for flag, port in zip(("http", "grpc", "ops"), wanted, strict=True)
        for text in (f"--{flag}-port", str(port))
    ]
    with harness.running(folder, tmp_path, *options, "--drain-delay", "0") as server:
        assert [port_of(address) for address in (server.http, server.grpc, server.ops)] == wanted
    with harness.running(folder, tmp_path, *options, "--drain-delay", "0") as server:  # and free again at once
        infer(server)


def test_ipv6_addresses_are_served(folder: Path, tmp_path: Path) -> None:
    with harness.running(folder, tmp_path, "--host", "::1", "--drain-delay", "0") as server:
        assert server.http.startswith("[::1]:")
        infer(server)
        assert server.is_ready()


@pytest.mark.parametrize("flag", ["--http-port", "--grpc-port", "--ops-port"])
def test_a_port_in_use_is_reported_in_one_line(folder: Path, refusal: Refusal, flag: str) -> None:
    others = [text for item in ("--http-port", "--grpc-port", "--ops-port") if item != flag for text in (item, "0")]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        line = refusal(str(folder), *others, flag, str(port), code=1)
    assert line == f"penstock: port {port} on 127.0.0.1 is in use; choose another with {flag}"


def test_the_ports_of_a_running_server_are_in_use(folder: Path, tmp_path: Path, refusal: Refusal) -> None:
    with harness.running(folder, tmp_path, "--drain-delay", "0") as server:
        ports = ("--http-port", str(port_of(server.http)), "--grpc-port", "0", "--ops-port", "0")
        assert "in use" in refusal(str(folder), *ports, code=1)
        infer(server)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--registry", "ftp://somewhere"), "expected a folder, sqlite:///PATH or postgresql://HOST/NAME"),
        (("{tmp}/missing",), "does not exist"),
        (("{tmp}/file",), "not a folder"),
        (("{tmp}/empty",), "no model"),
        (("{tmp}/papers",), "no model"),
        (("{folder}", "{tmp}/missing"), "does not exist"),
        (("{folder}", "--http-port", "99999"), "http_port"),
        (("{folder}", "--workers", "none"), "workers: expected a number from 1 to 256, or auto"),
        (("{folder}", "--config", "{tmp}/missing.yaml"), "missing.yaml"),
        (("{folder}", "--config", "{tmp}/file"), "http_prt is not a setting"),
        (("{folder}", "--ready-file", "{tmp}/missing/ready.json"), "--ready-file"),
        (("{folder}", "--host", "no such host"), "--host"),
        (("{folder}", "--host", "192.0.2.1", "--insecure-no-auth"), "--host"),
        (("{folder}", "--nonsense"), "--nonsense"),
        (("{folder}", "--http-port", "many"), "--http-port"),
        (("{folder}", "another"), "another"),
    ],
)
def test_bad_options_are_reported_in_one_line(
    folder: Path, tmp_path: Path, refusal: Refusal, arguments: tuple[str, ...], part: str
) -> None:
    (tmp_path / "file").write_text("http_prt: 1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "README.md").write_text("no model")
    line = refusal(*(text.format(tmp=tmp_path, folder=folder) for text in arguments))
    assert part in line
    assert line.startswith("penstock: ")


def test_an_old_ready_file_is_gone_before_the_start(folder: Path, tmp_path: Path, refusal: Refusal) -> None:
    old = tmp_path / "ready.json"
    old.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        refusal(str(folder), "--http-port", port, "--ready-file", str(old), code=1)
    assert not old.exists()


MOST_MIB = 100
"""What a gateway with one small model may hold, without the pages of files."""


def test_a_ready_gateway_holds_little_memory(folder: Path, tmp_path: Path) -> None:
    with harness.running(folder, tmp_path, program=harness.COMMAND) as server:
        pids = [server.process.pid, *server.workers]
        wait_until(lambda: set(server.child_pids()) == set(server.workers), PATIENCE_S, "the end of the examination")
        assert sum(map(own_mib, pids)) < MOST_MIB


def own_mib(pid: int) -> float:
    """The memory of a process in MiB; a page that several share counts in proportion, and one of a file not at all."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024
