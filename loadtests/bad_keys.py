"""Credentials that are not valid beside good ones: what ten thousand of each kind from one address take from a caller
with a key, and what they leave in the worker's memory.

A ratio compares the good caller's window beside bad credentials with a window beside as many probes, which need none.
"""

import argparse
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests.access import ACCEPT_KEYS, create_key, set_environment
from loadtests.codecs import JSON, Call, WrongAnswer, send
from loadtests.graphs import find_repository
from loadtests.models import MODELS
from loadtests.openloop import OpenWindow, open_loop
from loadtests.processes import Server, penstock, run_server, split_cores
from penstock.core.access.keys import SECRET_BYTES, write_key

MOST_RATIO = 1.5
MOST_MIB = 20.0
RATE = 200.0
CLIENTS = 8
ACCEPTED_S = 20.0
_MODEL = MODELS["tiny"]
_ID = "0123456789abcdefghijklmnopqrstuvwxyz"


def _make_key() -> str:
    return write_key("".join(secrets.choice(_ID) for _ in range(12)), secrets.token_bytes(SECRET_BYTES))


def _make_token() -> str:
    return ".".join(secrets.token_urlsafe(60) for _ in range(3))


KINDS: Mapping[str, Callable[[], str]] = {
    "probes": lambda: "",
    "random text": lambda: secrets.token_urlsafe(40),
    "unknown keys": _make_key,
    "unknown tokens": _make_token,
}
"""Credentials by kind; the first kind has none, and is what the others are compared with."""


@dataclass
class Flood:
    """Clients that send so many requests within some seconds, each with another credential."""

    address: str
    credential: Callable[[], str]
    count: int
    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)

    def start(self) -> list[threading.Thread]:
        """Begin."""
        threads = [threading.Thread(target=self._send, daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def _send(self) -> None:
        connection = HTTPConnection(self.address, timeout=30)
        began, each = time.monotonic(), self.count // CLIENTS
        for number in range(each):
            time.sleep(max(0.0, began + number * self.seconds / each - time.monotonic()))
            self.statuses[self._ask(connection)] += 1
        connection.close()

    def _ask(self, connection: HTTPConnection) -> int:
        credential = self.credential()
        if credential:
            connection.request("GET", "/v2/models", headers={"authorization": f"Bearer {credential}"})
        else:
            connection.request("GET", "/v2/health/live")
        answer = connection.getresponse()
        answer.read()
        return answer.status


def _call(key: str) -> Call:
    call = JSON.write(_MODEL, _MODEL.rows(1))
    return replace(call, headers={**call.headers, "authorization": f"Bearer {key}"})


def _wait_accepted(server: Server, key: str) -> None:
    until = time.monotonic() + ACCEPTED_S
    while True:
        try:
            send(JSON, server.addresses["http"], _call(key))
            return
        except WrongAnswer:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _window(server: Server, key: str, seconds: float, cores: list[int]) -> OpenWindow:
    address = server.addresses["http"]
    return open_loop(JSON, _call(key), address, rate=RATE, seconds=seconds, cores=cores[:1])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--count", type=int, default=10_000, help="requests of each kind (10000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each window (20)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all kinds; the least p99 of each counts (3)")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 where a good caller waits longer, a good request failed, or the worker has grown."""
    find_repository(_MODEL)
    console = Console(width=max(Console().width, 120))
    with (
        TemporaryDirectory(prefix="penstock-loadtests-") as name,
        set_environment(Path(name), ACCEPT_KEYS),
        run_server(penstock(_MODEL.folder, "--workers", "1"), split_cores()[0]) as server,
    ):
        key = create_key(Path(name), "good")
        _wait_accepted(server, key)
        return _measure(server, key, arguments, console)


def _measure(server: Server, key: str, arguments: argparse.Namespace, console: Console) -> int:
    cores = split_cores()[1]
    os.sched_setaffinity(0, cores[1:] or cores)  # the flood takes nothing from the server's cores
    _window(server, key, 2.0, cores)
    memory, failed = server.rss_bytes(), 0
    p99, answers = dict[str, list[float]](), dict[str, Counter[int]]()
    for _ in range(arguments.rounds):
        for kind, credential in KINDS.items():
            flood = Flood(server.addresses["http"], credential, arguments.count, arguments.seconds)
            threads = flood.start()
            window = _window(server, key, arguments.seconds, cores)
            for thread in threads:
                thread.join()
            failed += window.errors
            p99.setdefault(kind, []).append(window.latencies.p99)
            answers.setdefault(kind, Counter()).update(flood.statuses)
    grown = (server.rss_bytes() - memory) / 2**20
    ratios = {kind: min(values) / min(p99["probes"]) for kind, values in p99.items()}
    console.print(_table(p99, ratios, answers))
    console.print(f"good requests that failed: {failed}; memory of the gateway: {grown:+.1f} MiB")
    limited = all(answers[kind][429] for kind in KINDS if kind != "probes")
    return 0 if not failed and limited and grown < MOST_MIB and max(ratios.values()) <= MOST_RATIO else 1


def _table(
    p99: Mapping[str, list[float]], ratios: Mapping[str, float], answers: Mapping[str, Mapping[int, int]]
) -> Table:
    table = Table(title=f"{RATE:,.0f} good requests a second beside credentials that are not valid", box=SIMPLE_HEAD)
    for head in ("beside", "good p99 ms", "to probes", "answers"):
        table.add_column(head, justify="right", no_wrap=True)
    for kind, values in p99.items():
        counted = ", ".join(f"{count} x {status}" for status, count in sorted(answers[kind].items()))
        table.add_row(kind, f"{min(values):.2f}", f"{ratios[kind]:.2f}", counted)
    return table
