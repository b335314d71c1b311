"""The first workers of a gateway are forks of it: they have none of its files, and new ones take their places."""

import re
import sys
from contextlib import suppress
from pathlib import Path

from tests import harness
from tests.harness import PATIENCE_S, wait_until
from tests.integration.control.watch import infer

COMMAND = (sys.executable, "-X", "importtime", "-m", "penstock")
LATER = {"alembic", "click", "grpc", "httpx", "mako", "mlflow", "onnx", "pygments", "rich", "river", "typer", "yaml"}
"""What no gateway needs until it is ready; each library costs every start time and memory."""


def files_of(pid: int) -> set[str]:
    """What the descriptors of a process refer to."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it is closed meanwhile
            found.add(str(entry.readlink()))
    return found


def command_of(pid: int) -> bytes:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_first_workers_are_forks_and_their_successors_are_not(folder: Path, tmp_path: Path) -> None:
    with harness.running(folder, tmp_path, "--workers", "2", "--drain-delay", "0", program=COMMAND) as server:
        gateway = server.process.pid
        assert [command_of(pid) for pid in server.workers] == [command_of(gateway)] * 2
        for pid in server.workers:
            own, shared = files_of(pid), files_of(pid) & files_of(gateway)
            assert not [name for name in own if "registry.db" in name]
            assert not [name for name in shared if name.startswith(("socket:", "pipe:"))]
        imported = {
            name.split(".")[0] for name in re.findall(r"^import time: .*\| +(\S+)$", server.log_text(), re.MULTILINE)
        }
        assert {"penstock", "sqlalchemy", "starlette"} <= imported
        assert not imported & LATER
        infer(server)
        waiting = [pid for pid in server.child_pids() if command_of(pid) == command_of(gateway)]
        assert sorted(waiting) == sorted(server.workers)  # none is left over
        before = set(server.workers)
        server.kill_worker()
        (new,) = set(server.worker_pids()) - before
        assert b"penstock.app.worker" in command_of(new)
        wait_until(server.is_ready, PATIENCE_S, "the new worker")
        infer(server)
        assert "signal 9" in server.log_text()
