"""What a key costs at full load: two gateways on one core, without and with authentication, in neighbouring windows.

The requests of the second one carry an API key, or that of a caller with a quota. Ratios are of neighbouring windows,
which change places round after round; their medians are reported.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtests.access import ACCEPT_KEYS, create_key, set_environment
from loadtests.codecs import BINARY, GRPC, GRPC_PREFIX, JSON, Call, Codec, ReferenceCalls, WrongAnswer, send
from loadtests.graphs import find_repository
from loadtests.h2load import closed_loop, require
from loadtests.models import MODELS, BenchModel
from loadtests.processes import Server, penstock, run_server, split_cores

MODEL = "tiny"
CODECS = (JSON, BINARY, GRPC)
LEAST_RATE = 0.98
MOST_US = 2.0
ACCEPTED_S = 20.0
QUOTA: Mapping[str, float] = {"requests": 1e9, "concurrent": 1000}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a kind of key costs with a codec: its part of the plain rate, and more processor time a request (µs)."""

    codec: str
    key: str
    rate: float
    more_us: float

    @property
    def holds(self) -> bool:
        """Whether that is as little as asked."""
        return self.rate >= LEAST_RATE and self.more_us <= MOST_US


@dataclass(frozen=True, slots=True)
class _Load:
    """How requests are sent."""

    model: BenchModel
    seconds: float
    connections: int
    core: list[int]
    sizes: Mapping[str, int]
    """Size of an answer's body in bytes, by codec."""

    def wait_accepted(self, server: Server, key: str) -> None:
        """Wait until the worker knows a new key; raises ``WrongAnswer`` if it does not within some seconds."""
        until = time.monotonic() + ACCEPTED_S
        while True:
            try:
                send(JSON, server.addresses["http"], self.call(JSON, key))
                return
            except WrongAnswer:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def call(self, codec: Codec, key: str) -> Call:
        """Return a request with a key, without one if it is empty."""
        call = codec.write(self.model, self.model.rows(1))
        return replace(call, headers={**call.headers, **({"authorization": f"Bearer {key}"} if key else {})})

    def window(self, server: Server, codec: Codec, key: str) -> tuple[float, float]:
        """Return the rate and the processor time of a request (µs) of one window; every answer must be a good one."""
        before = server.cpu_s()
        window = closed_loop(
            codec,
            self.call(codec, key),
            address_of(server, codec),
            connections=self.connections,
            seconds=self.seconds,
            cores=self.core,
            answer_bytes=self.sizes[codec.name],
        )
        if window.errors:
            raise SystemExit(f"{window.errors} of {window.done} answers were errors")
        return window.rate, (server.cpu_s() - before) / window.done * 1e6


def address_of(server: Server, codec: Codec) -> str:
    """Return where a server answers requests of a codec."""
    return server.addresses["grpc" if codec.grpc else "http"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=7, help="pairs of windows of each kind; medians count (7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (2)")
    parser.add_argument("--connections", type=int, default=32)


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 where a key costs more than 2 % of the rate or 2 µs."""
    require()
    model = MODELS[MODEL]
    find_repository(model)
    server_cores, client_cores = split_cores()
    with TemporaryDirectory(prefix="penstock-loadtests-") as name, ExitStack() as servers:

        def start(home: Path, settings: Mapping[str, str]) -> Server:
            with set_environment(home, settings):
                return servers.enter_context(run_server(penstock(model.folder, "--workers", "1"), server_cores))

        plain, secured = start(Path(name, "plain"), {}), start(Path(name, "secured"), ACCEPT_KEYS)
        reference = ReferenceCalls(model)
        sizes = {codec.name: reference.check(codec, address_of(plain, codec)) + GRPC_PREFIX for codec in CODECS}
        load = _Load(model, arguments.seconds, arguments.connections, client_cores, sizes)
        keys = {
            "key": create_key(Path(name, "secured"), "plain"),
            "key with a quota": create_key(Path(name, "secured"), "limited", QUOTA),
        }
        for key in keys.values():
            load.wait_accepted(secured, key)
        windows = {
            (codec.name, kind): (partial(load.window, plain, codec, ""), partial(load.window, secured, codec, key))
            for codec in CODECS
            for kind, key in keys.items()
        }
        costs = measure(windows, arguments.rounds)
    Console().print(_table(costs))
    return 0 if all(cost.holds for cost in costs) else 1


_Window = Callable[[], tuple[float, float]]


def measure(windows: Mapping[tuple[str, str], tuple[_Window, _Window]], rounds: int) -> list[Cost]:
    """Return the medians over rounds; the windows of a pair change places each round."""
    rates: dict[tuple[str, str], list[float]] = {name: [] for name in windows}
    more: dict[tuple[str, str], list[float]] = {name: [] for name in windows}
    for number in track(range(rounds), "measuring", console=Console(stderr=True)):
        for name, pair in windows.items():
            seen = [window() for window in (pair if number % 2 else pair[::-1])]
            without, with_key = seen if number % 2 else seen[::-1]
            rates[name].append(with_key[0] / without[0])
            more[name].append(with_key[1] - without[1])
    return [Cost(*name, statistics.median(rates[name]), statistics.median(more[name])) for name in windows]


def _table(costs: list[Cost]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for head in ("codec", "request with", "of the rate without", "more processor time"):
        table.add_column(head)
    for cost in costs:
        table.add_row(cost.codec, cost.key, f"{cost.rate:.3f}", f"{cost.more_us:+.1f} µs")
    return table
