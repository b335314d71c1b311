"""Runs `penstock serve` as a process of its own, and talks plain HTTP/1.1 to it."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.cli.connections import Address, open_connection
from tests import commands
from tests.commands import Command

PATIENCE_S = 120.0
"""How long a test waits for a fact, however busy the machine. A wait ends when its fact is true: the bound is free."""

TRIES = 5
"""Of what is promised in seconds; the first one that holds is the last."""

START_SECONDS = STOP_SECONDS = CALL_SECONDS = PATIENCE_S

DRAIN_DELAY = "PENSTOCK_STOP__DRAIN_DELAY_SECONDS"
"""How long a server goes on serving after its readiness ends; a second by default."""

FREEZE = "PENSTOCK_LIMITS__FREEZE_SECONDS"
"""Silence after which a worker is replaced; 1.2 seconds by default."""

LIMITS = {
    DRAIN_DELAY: "0.1",
    "PENSTOCK_STOP__DRAIN_TIMEOUT_SECONDS": str(10 * PATIENCE_S),  # a stop that reaches it has failed
    "PENSTOCK_ADMISSION__SECONDS": "60",
    FREEZE: "30",
    "PENSTOCK_LIMITS__DEADLINE_SECONDS": str(PATIENCE_S),
}
"""What bounds a server of the tests. A busy machine must reach none of the bounds; a test of one sets its own."""

COMMAND = [sys.executable, "-m", "penstock"]


def wait_until(check: Callable[[], bool], seconds: float, what: str | Callable[[], str], pause: float = 0.01) -> None:
    """Poll until ``check`` is true; fail with ``what`` when time runs out. After ``pause`` seconds it is asked again,
    and then less and less often."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what if isinstance(what, str) else what()}")
        time.sleep(pause)
        pause = max(
            pause, min(1.2 * pause, 0.3)
        )  # what takes long is not asked so often: the answers cost processor time


def is_ever_within(seconds: float, measure: Callable[[str], float]) -> bool:
    """Whether what ``measure`` returns for a new name is at most so many seconds in one of a few tries.

    For what is promised in seconds: a busy machine delays some of the tries, a product that is too slow all of them.
    """
    return any(measure(f"try-{number}") <= seconds for number in range(TRIES))


async def reached(check: Callable[[], bool]) -> None:
    """Let the event loop run until ``check`` is true; TimeoutError when time runs out."""
    async with asyncio.timeout(PATIENCE_S):
        while not check():  # noqa: ASYNC110 - threads and processes bring it about, and set no event
            await asyncio.sleep(0.001)


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    return time.clock_gettime((~pid << 3) | 2)  # the identifier of its clock, as clock_getcpuclockid(3) makes it


def is_alive(pid: int) -> bool:
    """Whether a process exists and any of its threads runs: until the last one ends, its sockets are open."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] != "Z" or int(fields[17]) > 1  # state, and num_threads of proc_pid_stat(5)


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, inflated if need be; tokens such as NaN are refused, as JSON refuses them."""
        return json.loads(self.inflated(), parse_constant=_refuse_token)

    def inflated(self) -> bytes:
        """The body without its content encoding."""
        match self.headers.get("content-encoding", "identity"):
            case "gzip":
                return gzip.decompress(self.body)
            case "deflate":
                return zlib.decompress(self.body)
        return self.body

    def error(self) -> str:
        """The sentence of an error answer, whose form is checked."""
        assert self.headers.get("content-type", "").startswith("application/json"), self
        document = self.json()
        assert set(document) == {"error"} and isinstance(document["error"], str) and document["error"], self
        return document["error"]


def _refuse_token(token: str) -> object:
    raise AssertionError(f"an answer holds the token {token}, which is not JSON")


def call(
    address: Address,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = CALL_SECONDS,
) -> Reply:
    """One HTTP request on a connection of its own, to a port or a unix socket."""
    connection = open_connection(address, seconds)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


@dataclass(slots=True)
class Server:
    """A running server: its addresses, its processes, and what it wrote to stderr."""

    process: subprocess.Popen[bytes] | Command
    log: Path
    http: str = ""
    grpc: str = ""
    ops: str = ""
    workers: tuple[int, ...] = ()
    home: Path = Path()

    def read_ready(self, file: Path) -> None:
        """Take the addresses from the ready file."""
        facts = json.loads(file.read_text())
        self.http, self.grpc, self.ops = facts["http"], facts["grpc"], facts["ops"]
        self.workers = tuple(facts["workers"])

    def rest(
        self,
        method: str,
        path: str,
        body: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request to the REST port; a mapping is sent as JSON."""
        return call(self.http, method, path, _encoded(body), headers)

    def push(self, model: str, version: str, content: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Push a version."""
        return call(self.ops, "PUT", f"/admin/v1/models/{model}/versions/{version}", content, headers)

    def admin(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request to the ops port."""
        return call(self.ops, method, path, _encoded(body), headers)

    def as_owner(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request by the unix socket in the home, as the gateway's own user: what is owner-only is set this way."""
        return call(self.home / "ops.sock", method, path, _encoded(body), headers)

    def is_ready(self) -> bool:
        """Whether the ops port says so, of every worker."""
        try:
            reply = self.admin("GET", "/readyz")
        except OSError:
            return False
        workers = reply.json()["workers"]
        return reply.status == 200 and bool(workers["ready"] == workers["configured"])

    def child_pids(self) -> list[int]:
        """The living processes the control process has started, whatever their purpose."""
        children: list[int] = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid and fields[0] != "Z":
                    children.append(int(stat.parent.name))
        return children

    def worker_pids(self) -> list[int]:
        """The workers there are now, as the ops port shows them."""
        workers = self.admin("GET", "/admin/v1/workers").json()["workers"]
        return [worker["pid"] for worker in workers if worker["pid"]]

    def kill_worker(self) -> int:
        """End a worker at once, and wait until another has taken its place; the process id of the one that ended."""
        before = self.worker_pids()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: not is_alive(before[0]), START_SECONDS, "the end of the worker")
        wait_until(lambda: self._replaced(before), START_SECONDS, "its successor")
        return before[0]

    def _replaced(self, before: list[int]) -> bool:
        found = self.worker_pids()
        return len(found) == len(before) and before[0] not in found and self.is_ready()

    def stop(self) -> int:
        """Ask the server to stop; its exit code, or a failure when it does not stop in time."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not stopped {STOP_SECONDS} s after SIGTERM\n{self.log_text()}") from None
        finally:
            self.kill()

    def kill(self) -> None:
        """End every process of this server at once."""
        pids = {*self.workers, *self.child_pids()}
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
        for pid in pids:
            if is_alive(pid) and _is_own_process(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def log_text(self) -> str:
        """What the server wrote to stderr."""
        return self.log.read_text(errors="replace")


def _is_own_process(pid: int) -> bool:
    """Guards against a pid that was reused by another program meanwhile: our processes run this interpreter."""
    with suppress(OSError):
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _encoded(body: bytes | Mapping[str, Any] | None) -> bytes | None:
    return json.dumps(body).encode() if isinstance(body, Mapping) else body


def launch(
    models: Path | None,
    folder: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = (),
) -> Server:
    """Start a server on free ports with a home of its own in ``folder``, and wait until it is ready.

    Without ``models`` it serves its registry. Its control process is a fork that has its imports already, or a
    ``program`` of its own, which takes the arguments of `penstock`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready.json", folder / "stderr.log"
    ready.unlink(missing_ok=True)
    ports = ["--http-port", "0", "--grpc-port", "0", "--ops-port", "0"]
    command = ["serve", *([str(models)] if models else []), *ports, "--ready-file", str(ready), *options]
    process = _started(program, command, environment(folder, env), log)
    server = Server(process, log, home=_home(environment(folder, env), options))
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, START_SECONDS, "ready file")
        assert process.poll() is None, f"ended with {process.poll()}\n{server.log_text()}"
    except BaseException:
        server.kill()
        raise
    server.read_ready(ready)
    return server


def _home(env: Mapping[str, str], options: Sequence[str]) -> Path:
    """The home of a server: the folder of its registry if it has one, else what the environment says."""
    registry = options[options.index("--registry") + 1] if "--registry" in options else env.get("PENSTOCK_REGISTRY", "")
    return Path(env["PENSTOCK_HOME"] if not registry or "://" in registry else registry)


def _started(
    program: Sequence[str], command: Sequence[str], env: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes] | Command:
    if not program:
        return Command(command, env, Path(os.devnull), log)
    with log.open("wb") as errors:
        return subprocess.Popen(
            [*program, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=env
        )


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read, as the gateway asks of secrets."""
    path.touch(0o600)
    path.write_bytes(content)


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a server: this one's without its Penstock settings, a home in ``folder``, and quick stops."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith("PENSTOCK_")}
    return {**kept, "PENSTOCK_HOME": str(folder / "home"), **LIMITS, **(extra or {})}


@contextmanager
def running(
    models: Path | None,
    folder: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = (),
) -> Iterator[Server]:
    """A server for the time of a block; afterwards it must stop by itself and leave no process behind."""
    server = launch(models, folder, *options, env=env, program=program)
    try:
        yield server
        assert server.process.poll() is None, f"the server ended by itself\n{server.log_text()}"
        children = server.child_pids()
        server.stop()
        wait_until(lambda: not any(map(is_alive, children)), PATIENCE_S, "the end of every worker")
    finally:
        server.kill()


ANY_PORTS = {f"PENSTOCK_{transport}_PORT": "0" for transport in ("HTTP", "GRPC", "OPS")}
"""Settings of a gateway that takes free ports; flags come before them."""


def run_command(
    *arguments: str, folder: Path, seconds: float = PATIENCE_S, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one `penstock` command to its end; a gateway takes free ports where the command names none."""
    ports = ANY_PORTS if arguments[:1] == ("serve",) else {}
    return commands.run(arguments, environment(folder, {**ports, **(env or {})}), seconds)
