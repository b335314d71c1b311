"""How much more two workers do than one, on a core each: with the same connections a worker, and the same in all.

What one worker joins in a turn of its loop, two have to share: with the same connections in all that takes a part of
what the second core brings. The client needs as many cores as the servers, so the machine must have four.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import h2load
from loadtests.codecs import BINARY, GRPC, GRPC_PREFIX, JSON, Codec, ReferenceCalls
from loadtests.graphs import find_repository
from loadtests.h2load import closed_loop
from loadtests.models import MODELS, BenchModel
from loadtests.processes import penstock, run_server, split_cores

WORKERS = 2


@dataclass(frozen=True, slots=True)
class Scaling:
    """Answers a second of one worker, of two with as many connections each, and of two that share so many."""

    one: float
    two: float
    shared: float


def require_cores(server: Sequence[int]) -> None:
    """Exit with 1 and what to do where two workers would share a core."""
    if len(server) < WORKERS:
        raise SystemExit(
            f"two workers need a core each, and the client two more: this machine has {len(server)} for the workers;"
            " run it on one with four cores"
        )


def measure_rate(model: BenchModel, codec: Codec, workers: int, connections: int, seconds: float) -> float:
    """Answers a second of that many workers on as many cores."""
    server_cores, client_cores = split_cores()
    with run_server(penstock(model.folder, "--workers", str(workers)), server_cores[:workers]) as server:
        address = server.addresses["grpc" if codec.grpc else "http"]
        size = ReferenceCalls(model).check(codec, address) + GRPC_PREFIX
        call = codec.write(model, model.rows(1))
        rates = [
            closed_loop(
                codec, call, address, connections=connections, seconds=part, cores=client_cores, answer_bytes=size
            ).rate
            for part in (seconds / 4, seconds)  # the first warms up
        ]
    return rates[1]


def measure(model: BenchModel, codec: Codec, connections: int, seconds: float) -> Scaling:
    """Measure one round."""
    one = measure_rate(model, codec, 1, connections, seconds)
    two = measure_rate(model, codec, WORKERS, WORKERS * connections, seconds)
    return Scaling(one, two, measure_rate(model, codec, WORKERS, connections, seconds))


def format_cells(rounds: Sequence[Scaling]) -> list[str]:
    """The figures of a codec: medians over the rounds, of the ratios round by round."""
    figures = []
    for many in ([one.two for one in rounds], [one.shared for one in rounds]):
        ratios = sorted(rate / one.one for rate, one in zip(many, rounds, strict=True))
        figures += [f"{statistics.median(many):,.0f}", f"{statistics.median(ratios):.2f}"]
        figures.append(f"{ratios[0]:.2f}-{ratios[-1]:.2f}")
    return [f"{statistics.median(one.one for one in rounds):,.0f}", *figures]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--connections", type=int, default=32, help="of one worker (default 32)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a window (default 2)")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    h2load.require()
    require_cores(split_cores()[0])
    model, connections = MODELS[arguments.model], arguments.connections
    find_repository(model)
    title = f"{model.name}, two workers with {WORKERS * connections} and with {connections} connections"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    pair = ("ratio", "min-max")
    for head in ("", "1 worker", "same a worker", *pair, "same in all", *pair):
        table.add_column(head, justify="right", no_wrap=True)
    for codec in (JSON, BINARY, GRPC):
        rounds = [measure(model, codec, connections, arguments.seconds) for _ in range(arguments.rounds)]
        table.add_row(codec.name, *format_cells(rounds))
    Console().print(table)
    return 0
