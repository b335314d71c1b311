"""The unit of systemd: what systemd-analyze says about it, and a gateway under its filter of system calls, beside a
service manager that listens.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest

from penstock.config.settings import load_settings
from penstock.control.plane.control_plane import STOP_MARGIN_S
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.deploy.unit_file import UNIT, allowed_calls, environment_of, read_unit

ANALYZE = shutil.which("systemd-analyze")
pytestmark = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")

MOST_EXPOSED = 2.0


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/penstock/bin/penstock", shutil.which("true") or "/bin/true"))
    done = analyze("verify", copy)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_is_hardly_exposed() -> None:
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED * 10:.0f}", UNIT)
    assert done.returncode == 0, done.stdout
    found = re.search(r"Overall exposure level for penstock.service: (\d+\.\d)", done.stdout)
    assert found and 0 < float(found[1]) <= MOST_EXPOSED


def test_it_waits_for_a_drain_by_the_defaults() -> None:
    stop = load_settings(None, {}).stop
    needed = stop.drain_delay_seconds + stop.drain_timeout_seconds + STOP_MARGIN_S
    assert float(read_unit()["TimeoutStopSec"][0]) >= needed + 2


class Manager:
    """A service manager that keeps the messages it gets."""

    def __init__(self) -> None:
        self.name = f"@penstock-test/{uuid4()}"
        self.messages: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.name.replace("@", "\0"))
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        while message := self.socket.recv(4096):
            self.messages.append(message.decode())

    def wait_for(self, text: str, after: int = 0) -> None:
        """Wait for a message with this text, after so many others."""
        wait_until(lambda: any(text in message for message in self.messages[after:]), PATIENCE_S, text)

    def close(self) -> None:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as end:
            end.sendto(b"", self.socket.getsockname())
        self._listener.join(PATIENCE_S)
        self.socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    made = Manager()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def server(manager: Manager, tmp_path: Path) -> Iterator[Server]:
    """A gateway as the unit starts it: its environment, its arguments and its filter; models must be confined."""
    unit = read_unit()
    zoo.build_tiny(tmp_path / "models")
    (tmp_path / "penstock.yaml").write_text(f"models: [{tmp_path / 'models'}]\nconfinement: required\n")
    (tmp_path / "calls").write_text("\n".join(allowed_calls(unit)))
    env = environment_of(unit, tmp_path) | {
        "PENSTOCK_CONFIG": str(tmp_path / "penstock.yaml"),
        "NOTIFY_SOCKET": manager.name,
        "WATCHDOG_USEC": "1000000",
    }
    assert unit["ExecStart"] == ["/opt/penstock/bin/penstock serve"]
    program = [sys.executable, "-m", "tests.integration.deploy.unit_file", str(tmp_path / "calls")]
    started = harness.launch(None, tmp_path, env=env, program=[*program, sys.executable, "-m", "penstock"])
    try:
        yield started
    finally:
        started.kill()


def test_a_gateway_serves_under_the_unit_and_reports_its_health(server: Server, manager: Manager) -> None:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert re.search(r"^Seccomp_filters:\s+1$", status, re.MULTILINE)
    x = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    assert server.rest("POST", "/v2/models/identity_fp32/infer", {"inputs": [x]}).status == 200
    metrics = server.as_owner("GET", "/metrics").body.decode()
    layers = re.findall(r"^penstock_confinement_layer\{\S+\} (\S+)", metrics, re.MULTILINE)
    assert layers and set(layers) == {"1.0"}

    assert manager.messages[0] == f"READY=1\nSTATUS=ready http={server.http} grpc={server.grpc} ops={server.ops}"
    manager.wait_for("WATCHDOG=1")

    (worker,) = server.workers
    os.kill(worker, signal.SIGSTOP)  # it is not replaced within the test: harness.LIMITS
    manager.wait_for("STATUS=unhealthy: no worker takes requests")
    unhealthy = len(manager.messages)
    os.kill(worker, signal.SIGCONT)
    manager.wait_for("WATCHDOG=1\nREADY=1", unhealthy)
    ailing = manager.messages[manager.messages.index("STATUS=unhealthy: no worker takes requests") : unhealthy]
    assert set(ailing) == {"STATUS=unhealthy: no worker takes requests"}

    assert server.stop() == 0
    manager.wait_for("STOPPING=1")
