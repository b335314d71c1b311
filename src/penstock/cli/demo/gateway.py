"""Runs the gateway of the demo: `penstock serve` in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.app.owner_socket import NAME
from penstock.cli.console import say

PORTS = {"http": 8000, "grpc": 8001, "ops": 8002}
START_SECONDS = 120.0
STOP_SECONDS = 20.0


class GatewayFailed(Exception):
    """The gateway did not start; the text ends with its last log lines."""


@dataclass(frozen=True, slots=True)
class DemoGateway:
    """A running gateway and its addresses (host:port); ``owner`` is its unix socket, by which the demo changes it."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    ops: str
    owner: Path
    workers: int


@contextmanager
def serve_registry(folder: Path) -> Iterator[DemoGateway]:
    """Serve an empty registry while a block runs; the gateway writes its files to ``folder``.

    It runs in a process group of its own, so that Ctrl-C reaches only the demo, which stops the gateway in order.

    Raises:
        GatewayFailed: it ended, or was not ready in time.
    """
    ready, log = folder / "ready.json", folder / "serve.log"
    command = [sys.executable, "-m", "penstock", "serve", "--ready-file", str(ready)]
    for name, port in PORTS.items():
        command += [f"--{name}-port", str(_free_or_any(name, port))]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PENSTOCK_HOME": str(folder / "home")},
            start_new_session=True,
        )
    try:
        yield _wait(process, ready, log, folder / "home" / NAME)
    finally:
        _stop(process)


def _free_or_any(name: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            say(f"port {port} ({name}) is taken; using a free one instead")
            return 0
    return port


def _wait(process: subprocess.Popen[bytes], ready: Path, log: Path, owner: Path) -> DemoGateway:
    end = time.monotonic() + START_SECONDS
    while not ready.exists():
        if process.poll() is not None:
            raise GatewayFailed(f"the gateway ended with {process.returncode}:\n{_read_tail(log)}")
        if time.monotonic() > end:
            raise GatewayFailed(f"the gateway was not ready within {START_SECONDS:.0f} s:\n{_read_tail(log)}")
        time.sleep(0.02)
    facts = json.loads(ready.read_text())
    return DemoGateway(process, facts["http"], facts["grpc"], facts["ops"], owner, len(facts["workers"]))


def _read_tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
