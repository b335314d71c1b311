"""More than a server can do: a model on threads is asked at multiples of its peak, and again when that is over.

Requests arrive at random over many connections, whether the server keeps up or not. Goodput is what was answered well a
second; durations run from when a request was sent. Deadlines can be stated, and a share of what is refused be sent once
more, as clients that retry do.
"""

import argparse
import time
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import h2load
from loadtests.codecs import BINARY, GRPC, GRPC_PREFIX, Call, Codec, ReferenceCalls
from loadtests.graphs import find_repository
from loadtests.h2load import closed_loop
from loadtests.models import MODELS, BenchModel
from loadtests.openloop import OpenWindow, open_loop
from loadtests.processes import Server, penstock, run_server, split_cores

TIMES = (2.0, 5.0, 10.0)
_CODECS = {"rest": BINARY, "grpc": GRPC}
_CONNECTIONS = 256  # of each client process
_PEAK_CONNECTIONS = 32


class OverloadedServer:
    """One server under one kind of load."""

    def __init__(self, server: Server, model: BenchModel, codec: Codec, timeout_ms: int | None) -> None:
        self._server, self._codec = server, codec
        self._cores = split_cores()[1]
        self._address = server.addresses["grpc" if codec.grpc else "http"]
        self._call: Call = codec.write(model, model.rows(1))
        self._bytes = ReferenceCalls(model).check(codec, self._address) + GRPC_PREFIX
        self._limited = self._call
        if timeout_ms is not None:
            headers = {**self._call.headers, "penstock-timeout-ms": str(timeout_ms)}
            self._limited = replace(self._call, headers=headers)

    def peak(self, seconds: float) -> float:
        """Answers a second with 32 patient connections."""
        return closed_loop(
            self._codec,
            self._call,
            self._address,
            connections=_PEAK_CONNECTIONS,
            seconds=seconds,
            cores=self._cores,
            answer_bytes=self._bytes,
        ).rate

    def at(self, rate: float, seconds: float) -> OpenWindow:
        """What came of that many requests a second."""
        return open_loop(
            self._codec,
            self._limited,
            self._address,
            rate=rate,
            seconds=seconds,
            cores=self._cores,
            connections=_CONNECTIONS,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", choices=MODELS, default="transformer")
    parser.add_argument("--protocol", choices=_CODECS, default="rest")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a window (default 10)")
    parser.add_argument("--times", type=float, nargs="+", default=list(TIMES), help="multiples of the peak")
    parser.add_argument("--timeout-ms", type=int, help="deadline of every request")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    h2load.require()
    model, seconds = MODELS[arguments.model], arguments.seconds
    find_repository(model)
    console = Console(width=max(Console().width, 120))
    table = Table(title=f"{model.name}, {arguments.protocol}", title_justify="left", box=SIMPLE_HEAD)
    for head in (
        "load",
        "asked/s",
        "goodput/s",
        "of peak",
        "accepted p50 ms",
        "p99 ms",
        "to 0.8",
        "refused",
        "median ms",
        "RSS MiB",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    with run_server(penstock(model.folder, "--workers", "1"), split_cores()[0]) as server:
        load = OverloadedServer(server, model, _CODECS[arguments.protocol], arguments.timeout_ms)
        peak = load.peak(seconds / 2)
        usual = 0.0
        for times in (0.8, *arguments.times, 0.8):
            window = load.at(times * peak, seconds)
            usual = usual or window.accepted.p99
            cells = (
                f"{times:g} x",
                f"{window.asked:,.0f}",
                f"{window.rate:,.0f}",
                f"{window.rate / peak:.2f}",
                f"{window.accepted.p50:.2f}",
                f"{window.accepted.p99:.2f}",
                f"{window.accepted.p99 / usual:.2f}",
                f"{window.errors:,}",
                f"{window.refused.p50:.2f}" if window.refused.count else "",
                f"{server.rss_bytes() / 2**20:,.0f}",
            )
            table.add_row(*cells)
            time.sleep(0.5)
    console.print(table)
    return 0
