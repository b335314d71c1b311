"""How much more two workers do than one: the same load on one core and on two, each round one after the other.

There are so many connections that either has enough of them: what one worker joins in a turn of its loop, two have to
share, and with few connections that takes a part of what the second core brings.
"""

import argparse
import statistics

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import h2load
from loadtests.codecs import BINARY, GRPC, JSON, Codec, ReferenceCalls
from loadtests.graphs import repository
from loadtests.h2load import closed_loop
from loadtests.models import MODELS, BenchModel
from loadtests.processes import halves, penstock, running

_GRPC_PREFIX = 5


def rate(model: BenchModel, codec: Codec, workers: int, connections: int, seconds: float) -> float:
    """Answers a second of that many workers on as many cores."""
    server_cores, client_cores = halves()
    with running(penstock(model.folder, "--workers", str(workers)), server_cores[:workers]) as server:
        address = server.addresses["grpc" if codec.grpc else "http"]
        size = ReferenceCalls(model).check(codec, address) + _GRPC_PREFIX
        call = codec.write(model, model.rows(1))
        rates = [
            closed_loop(
                codec, call, address, connections=connections, seconds=part, cores=client_cores, answer_bytes=size
            ).rate
            for part in (seconds / 4, seconds)  # the first warms up
        ]
    return rates[1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (default 2)")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    h2load.require()
    model = MODELS[arguments.model]
    repository(model)
    title = f"{model.name}, {arguments.connections} connections"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for head in ("", "1 worker", "2 workers", "ratio", "min-max"):
        table.add_column(head, justify="right", no_wrap=True)
    for codec in (JSON, BINARY, GRPC):
        rounds = [
            [rate(model, codec, workers, arguments.connections, arguments.seconds) for workers in (1, 2)]
            for _ in range(arguments.rounds)
        ]
        one, two = (statistics.median(side) for side in zip(*rounds, strict=True))
        ratios = sorted(two / one for one, two in rounds)
        spread = f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
        table.add_row(codec.name, f"{one:,.0f}", f"{two:,.0f}", f"{statistics.median(ratios):.2f}", spread)
    Console().print(table)
    return 0
