"""Counts the instructions of one request that comes alone, beside the ceiling's: the same on a busy machine.

Both servers run under Valgrind's callgrind, and the count covers user space only; both make the same three system
calls: a read, a write, a wait. Valgrind makes a server fifty times slower, so the worker's clock is a counter
there: each look at it is a microsecond after the one before. What the monitor does with sampled rows is not in the
count: it comes once for many requests (see docs/adr/0012).
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests.access import ACCEPT_KEYS, create_key, set_environment
from loadtests.codecs import BINARY, GRPC, GRPC_METHOD, JSON, Call, Codec
from loadtests.graphs import find_repository
from loadtests.models import MODELS, BenchModel
from loadtests.processes import Server, list_tree, penstock, run_server
from loadtests.wires import connect

MODEL = "tiny"
REQUESTS = 400
WARM_UP = 300
START_S = 300.0
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)

CODECS = (JSON, BINARY, GRPC)
_LOOK_S = 0.0005  # between two looks for the answers to requests that were sent together
SERVERS = 1 + len(CODECS)
"""Starts of a round: Penstock with all codecs, and a ceiling for each."""

Send = Callable[[], None]
Advance = Callable[[], object]


def require() -> None:
    """Exit with 1 and what to do where there is no Valgrind."""
    if shutil.which("callgrind_control") is None:
        raise SystemExit("valgrind is missing; install it with: apt-get install valgrind")


def under_callgrind(folder: Path) -> list[str]:
    """Return the beginning of a command whose instructions are counted on demand, and written to a folder."""
    return ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/%p"]


def read_instructions(text: str) -> int:
    """Return the total of a profile that callgrind has written."""
    totals = _TOTAL.findall(text)
    if not totals:
        raise ValueError("the profile has no total")
    return int(totals[-1])


def count(pid: int, folder: Path, send: Send, requests: int) -> float:
    """Return the instructions of one of so many requests, each sent after the answer to the one before."""
    for _ in range(WARM_UP):
        send()
    _control(pid, "-i", "on")
    send()
    _control(pid, "-z")
    before = set(folder.iterdir())
    for _ in range(requests):
        send()
    _control(pid, "-d")
    _control(pid, "-i", "off")
    profiles = [path for path in set(folder.iterdir()) - before if path.name.startswith(f"{pid}.")]
    return read_instructions(profiles[0].read_text()) / requests


def _control(pid: int, *arguments: str) -> None:
    subprocess.run(["callgrind_control", *arguments, str(pid)], capture_output=True, timeout=60, check=True)


@contextmanager
def sender(codec: Codec, call: Call, server: Server) -> Iterator[Send]:
    """Return what sends a request over one connection and reads its answer."""
    if codec.grpc:
        with grpc.insecure_channel(server.addresses["grpc"]) as channel:
            infer: Callable[..., bytes] = channel.unary_unary(GRPC_METHOD)
            metadata = [(name.lower(), value) for name, value in call.headers.items()]
            yield lambda: _call(infer, call.body, metadata)
        return
    host, _, port = server.addresses["http"].rpartition(":")
    fields = {"Host": server.addresses["http"], "Content-Length": str(len(call.body)), **call.headers}
    head = f"POST {call.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = head.encode() + b"\r\n" + call.body
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        first = connection.recv(1 << 16)
        if not first.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the answer is {first[:300]!r}")

        def send() -> None:
            connection.sendall(request)
            left = len(first)
            while left > 0:
                left -= len(connection.recv(1 << 16)) or left  # a closed connection ends it too

        yield send


@contextmanager
def sender_together(codec: Codec, call: Call, server: Server, number: int) -> Iterator[Send]:
    """Return what sends a request over each of so many connections, and reads the answers: the server is stopped
    meanwhile, so that one turn of its event loop takes all of them."""
    address, pid = server.addresses["grpc" if codec.grpc else "http"], _worker(server)
    with ExitStack() as stack:
        wires = [connect(codec.grpc, address, call.path, call.headers, call.body) for _ in range(number)]
        for wire in wires:
            stack.callback(wire.close)

        def send() -> None:
            os.kill(pid, signal.SIGSTOP)
            for wire in wires:
                wire.send(0)
            os.kill(pid, signal.SIGCONT)
            for wire in wires:
                while not wire.receive():
                    time.sleep(_LOOK_S)

        yield send


def _call(infer: Callable[..., bytes], body: bytes, metadata: list[tuple[str, str]]) -> None:
    if not infer(body, timeout=60, metadata=metadata):
        raise RuntimeError("the answer is empty")


def _worker(server: Server) -> int:
    """Return the process that serves: the worker, or the only one."""
    for pid in list_tree(server.pid):
        if b"loadtests.instrumented\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return server.pid


def _counted(
    command: list[str], folder: Path, model: BenchModel, codecs: Sequence[Codec], requests: int, together: int
) -> dict[str, float]:
    """Return the instructions of one request with each codec, or of so many together, for one server."""
    found = {}
    with run_server(command, sorted(os.sched_getaffinity(0)), START_S) as server:
        for codec in codecs:
            call = codec.write(model, model.rows(1))
            lone = together == 1
            with sender(codec, call, server) if lone else sender_together(codec, call, server, together) as send:
                found[codec.name] = count(_worker(server), folder, send, requests)
    return found


def measure(
    model: BenchModel, requests: int, advance: Advance = lambda: None, together: int = 1
) -> dict[str, tuple[float, float]]:
    """Return the instructions of one request for Penstock's worker, and for the batching ceiling, by codec; or those of
    a turn with so many requests ``together``. ``advance`` is called after each of the ``SERVERS`` starts."""
    with TemporaryDirectory(prefix="penstock-loadtests-") as name:
        folder = Path(name)
        gateway = [sys.executable, "-m", "loadtests.instrumented", str(folder), *penstock(model.folder)[1:]]
        own = _counted(gateway, folder, model, CODECS, requests, together)
        advance()
        least: dict[str, float] = {}
        for codec in CODECS:
            ceiling = [sys.executable, "-m", "loadtests.ceiling", model.name, "--codec", codec.name, "--batched"]
            least |= _counted([*under_callgrind(folder), *ceiling], folder, model, [codec], requests, together)
            advance()
    return {name: (own[name], least[name]) for name in own}


def measure_access(model: BenchModel, requests: int) -> dict[str, list[float]]:
    """Return the instructions of one request by codec: without authentication, with an API key, and with the key of a
    caller with a quota."""
    with TemporaryDirectory(prefix="penstock-loadtests-") as name:
        folder, home = Path(name, "profiles"), Path(name, "home")
        folder.mkdir()
        gateway = [sys.executable, "-m", "loadtests.instrumented", str(folder), *penstock(model.folder)[1:]]
        with set_environment(home, {}):
            found = {name: [count] for name, count in _counted(gateway, folder, model, CODECS, requests, 1).items()}
        cores = sorted(os.sched_getaffinity(0))
        with set_environment(home, ACCEPT_KEYS), run_server(gateway, cores, START_S) as server:
            for key in (create_key(home, "plain"), create_key(home, "limited", {"requests": 1e9, "concurrent": 1000})):
                for codec in CODECS:
                    call = codec.write(model, model.rows(1))
                    call = replace(call, headers={**call.headers, "authorization": f"Bearer {key}"})
                    with sender(codec, call, server) as send:
                        found[codec.name].append(count(_worker(server), folder, send, requests))
    return found


def measure_tracing(model: BenchModel, requests: int) -> dict[str, list[float]]:
    """Return the instructions of one request by codec: without a receiver of traces, with one and none traced, and with
    every request traced, up to its record."""
    found: dict[str, list[float]] = {codec.name: [] for codec in CODECS}
    with TemporaryDirectory(prefix="penstock-loadtests-") as name, ExitStack() as stack:
        folder = Path(name, "profiles")
        folder.mkdir()
        gateway = [sys.executable, "-m", "loadtests.instrumented", str(folder), *penstock(model.folder)[1:]]
        command = [sys.executable, "-m", "loadtests.receiver"]
        receiver = stack.enter_context(run_server(command, sorted(os.sched_getaffinity(0))))
        endpoint = {"PENSTOCK_TRACING__OTLP_ENDPOINT": f"http://{receiver.addresses['http']}"}
        for number, ratio in enumerate((None, "0", "1")):
            settings = {} if ratio is None else {**endpoint, "PENSTOCK_TRACING__RATIO": ratio}
            with set_environment(Path(name, str(number)), settings):
                for codec, counted in _counted(gateway, folder, model, CODECS, requests, 1).items():
                    found[codec].append(counted)
    return found


def lone_ratios(model: BenchModel, requests: int = REQUESTS) -> dict[str, float]:
    """Return the ceiling's instructions as a part of Penstock's, for each codec."""
    find_repository(model)
    return {f"lone {name}": least / own for name, (own, least) in measure(model, requests).items()}


def access_table(found: Mapping[str, Sequence[float]]) -> Table:
    """Return the table of ``measure_access``: the instructions without authentication, and what is added."""
    table = Table(box=SIMPLE_HEAD)
    for head in ("", "no auth", "key", "key with quota"):
        table.add_column(head, justify="left" if not head else "right")
    for codec, (off, *on) in found.items():
        added = [f"{count - off:+,.0f} ({(count - off) / off:+.1%})" for count in on]
        table.add_row(codec, f"{off:,.0f}", *added)
    return table


def tracing_table(found: Mapping[str, Sequence[float]]) -> Table:
    """Return the table of ``measure_tracing``: the instructions without a receiver, and what is added; that of one
    traced request in a hundred follows from the others."""
    table = Table(box=SIMPLE_HEAD)
    for head in ("", "off", "0 %", "100 %", "1 %"):
        table.add_column(head, justify="left" if not head else "right")
    for codec, (off, none, every) in found.items():
        counts = (none, every, 0.99 * none + 0.01 * every)
        table.add_row(codec, f"{off:,.0f}", *[f"{count - off:+,.0f} ({(count - off) / off:+.2%})" for count in counts])
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", choices=MODELS, default=MODEL)
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"requests that are counted ({REQUESTS})")
    parser.add_argument("--together", type=int, default=1, help="requests in each turn of the event loop (1)")
    parser.add_argument("--auth", action="store_true", help="compare authentication on with off, without the ceiling")
    parser.add_argument("--tracing", action="store_true", help="compare requests with and without traces instead")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured; the median counts (1)")


def main(arguments: argparse.Namespace) -> int:
    """Measure each codec, and print the table."""
    require()
    model, console, table = MODELS[arguments.model], Console(), Table(box=SIMPLE_HEAD)
    find_repository(model)
    if arguments.auth:
        console.print(access_table(measure_access(model, arguments.requests)))
        return 0
    if arguments.tracing:
        console.print(tracing_table(measure_tracing(model, arguments.requests)))
        return 0
    for head in ("", "penstock", "ceiling", "ratio"):
        table.add_column(head, justify="left" if not head else "right")
    with Progress(console=console) as progress:
        task = progress.add_task("counting instructions", total=SERVERS * arguments.rounds)
        rounds = [
            measure(model, arguments.requests, lambda: progress.advance(task), arguments.together)
            for _ in range(arguments.rounds)
        ]
    for codec in CODECS:
        own, least = (statistics.median(side) for side in zip(*(found[codec.name] for found in rounds), strict=True))
        table.add_row(codec.name, f"{own:,.0f}", f"{least:,.0f}", f"{own / least:.2f}")
    console.print(table)
    return 0
