"""Servers as child processes: started on chosen cores, found by their ready file, measured through /proc, ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_JIFFY_S = 1 / os.sysconf("SC_CLK_TCK")
_IDLE_S = 0.03  # processor time in a tenth of a second below which a server has nothing to do
_SCHEDULED = 2  # the clock of a process that the scheduler keeps (clock_getcpuclockid(3), CPUCLOCK_SCHED)
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its first process, its addresses by transport (``http``, ``grpc``, ``ops``), and the processes
    of a gateway's workers."""

    process: subprocess.Popen[bytes]
    addresses: dict[str, str]
    start_s: float
    workers: tuple[int, ...] = ()

    @property
    def pid(self) -> int:
        """The first process."""
        return self.process.pid

    def cpu_s(self) -> float:
        """Processor seconds its whole process tree has used so far."""
        return sum(cpu_s(pid) for pid in list_tree(self.pid))

    def wait_idle(self, at_most_s: float = 10.0) -> None:
        """Wait until it has done with requests whose callers have left, so that they do not disturb what follows."""
        until = time.monotonic() + at_most_s
        used = self.cpu_s()
        while time.monotonic() < until:
            time.sleep(0.1)
            before, used = used, self.cpu_s()
            if used - before < _IDLE_S:
                return

    def rss_bytes(self) -> int:
        """Resident memory of its process tree; pages shared between its processes count each time."""
        return sum(_rss_bytes(pid) for pid in list_tree(self.pid))


def split_cores() -> tuple[list[int], list[int]]:
    """The cores this process may use: one half for the server, the other for the client."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("the load tests need two cores: one for the server and one for the client")
    middle = len(cores) // 2
    return cores[:middle], cores[middle:]


@contextmanager
def pin_children(cores: Sequence[int]) -> Iterator[None]:
    """Child processes started inside may run on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def run_server(command: Sequence[str], cores: Sequence[int], wait_s: float = 60.0) -> Iterator[Server]:
    """Start a server (``--ready-file PATH`` is added to its command), wait for it, and end it afterwards.

    Raises RuntimeError with the end of its output when it does not become ready.
    """
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        ready, log = Path(folder, "ready.json"), Path(folder, "log")
        began = time.monotonic()
        with pin_children(cores), log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--ready-file", str(ready)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            facts = _wait_ready(process, ready, log, began + wait_s)
            addresses = {key: value for key, value in facts.items() if isinstance(value, str)}
            yield Server(process, addresses, time.monotonic() - began, tuple(facts.get("workers", ())))
        finally:
            _end(process)


def _wait_ready(process: subprocess.Popen[bytes], ready: Path, log: Path, until: float) -> dict[str, Any]:
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > until:
            said = log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{process.args!r} did not become ready:\n{said}")
        time.sleep(0.005)
    facts: dict[str, Any] = json.loads(ready.read_text())
    return facts


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in list_tree(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def penstock(folder: Path | None, *options: str) -> list[str]:
    """The command that serves a folder, or the registry, as a user would, on ports the system picks."""
    script = Path(sys.executable).with_name("penstock")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "penstock"]
    return [
        *start,
        "serve",
        *([str(folder)] if folder else []),
        "--http-port",
        "0",
        "--grpc-port",
        "0",
        "--ops-port",
        "0",
        *options,
    ]


def write_ready(path: str, port: int) -> None:
    """Say where a server of ours listens, in the form of Penstock's ready file."""
    part = Path(path + ".part")
    address = f"127.0.0.1:{port}"
    part.write_text(json.dumps({"http": address, "grpc": address, "pid": os.getpid()}))
    part.replace(path)


def list_tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    pids = [pid]
    for parent in pids:
        pids.extend(_list_children(parent))
    return pids


def _list_children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []


def cpu_s(pid: int, with_ended: bool = False) -> float:
    """Return the processor seconds of a process, ``with_ended`` also those of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if with_ended else 13])) * _JIFFY_S  # utime, stime, cutime, cstime (proc(5))


def process_time_s(pid: int) -> float:
    """Return the processor seconds of a process and of its ended threads, to the nanosecond; 0 if it has ended."""
    clock = ~pid << 3 | _SCHEDULED
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def steal_s() -> float:
    """Processor seconds the host has taken from this machine so far, over all cores."""
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) * _JIFFY_S
