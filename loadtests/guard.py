"""Fails when Penstock has become slower against the bare protocol than it was: ratios in one run.

The ratios are those of throughput at 32 connections, and of the instructions of a request that comes alone. What is
kept in ``guard.json`` are medians of a quiet machine. A ratio may fall by a tenth before it is a failure; as
the machine may have been disturbed, what seems to have fallen is measured once more.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests import h2load
from loadtests.codecs import ReferenceCalls
from loadtests.contenders import Contender, all_running, contenders
from loadtests.graphs import repository
from loadtests.h2load import closed_loop
from loadtests.instructions import MODEL, lone_ratios, require
from loadtests.models import MODELS, BenchModel
from loadtests.processes import halves

KEPT = Path(__file__).with_name("guard.json")
GUARDED = ("tiny", "mlp")
CODECS = ("json", "binary", "grpc")
MAY_FALL = 0.1
_CONNECTIONS = 32
_GRPC_PREFIX = 5


@dataclass(frozen=True, slots=True)
class Fallen:
    """A ratio that is lower than it may be."""

    name: str
    kept: float
    seen: float


def fallen(recorded: Mapping[str, float], measured: Mapping[str, float]) -> list[Fallen]:
    """Ratios that have fallen by more than they may; one that is not kept cannot fall."""
    return [
        Fallen(name, recorded[name], ratio)
        for name, ratio in measured.items()
        if name in recorded and ratio < recorded[name] * (1 - MAY_FALL)
    ]


def ratios(model: BenchModel, rounds: int, seconds: float) -> dict[str, float]:
    """Throughput with each codec as a part of the throughput of the batching ceiling: medians over the rounds."""
    repository(model)
    reference, ratios_of = ReferenceCalls(model), dict[str, list[float]]()
    names = {f"{server} {codec}" for server in ("penstock", "batched") for codec in CODECS}
    contenders_of = {contender.name: contender for contender in contenders(model) if contender.name in names}
    with all_running(list(contenders_of.values()), model, halves()[0]) as servers:

        def rate(contender: Contender) -> float:
            address = contender.address(servers[contender.server])
            return closed_loop(
                contender.codec,
                contender.codec.write(model, model.rows(1)),
                address,
                connections=_CONNECTIONS,
                seconds=seconds,
                cores=halves()[1],
                answer_bytes=reference.check(contender.codec, address) + _GRPC_PREFIX,
            ).rate

        for number in range(rounds + 1):
            for codec in CODECS:
                pair = (contenders_of[f"batched {codec}"], contenders_of[f"penstock {codec}"])
                rates = {contender.server: rate(contender) for contender in (pair if number % 2 else pair[::-1])}
                if number:  # the first round warms up
                    ratios_of.setdefault(f"{model.name} {codec}", []).append(
                        rates["penstock"] / rates[f"batched {codec}"]
                    )
    return {name: statistics.median(some_of) for name, some_of in ratios_of.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a window (default 1.5)")
    parser.add_argument("--keep", action="store_true", help="write what is seen to guard.json")


def main(arguments: argparse.Namespace) -> int:
    """Measure and compare; 1 where a ratio has fallen."""
    h2load.require()
    require()
    recorded = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    measured: dict[str, float] = {}
    for name in GUARDED:
        found = ratios(MODELS[name], arguments.rounds, arguments.seconds)
        if fallen(recorded, found) and not arguments.keep:
            again = ratios(MODELS[name], arguments.rounds, arguments.seconds)
            found = {case: max(ratio, again[case]) for case, ratio in found.items()}
        measured |= found
    measured |= lone_ratios(MODELS[MODEL])
    console, table = Console(), Table(box=SIMPLE_HEAD)
    for head in ("", "of the ceiling", "was"):
        table.add_column(head)
    for name, ratio in measured.items():
        table.add_row(name, f"{ratio:.2f}", f"{recorded[name]:.2f}" if name in recorded else "")
    console.print(table)
    if arguments.keep:
        KEPT.write_text(json.dumps({name: round(ratio, 3) for name, ratio in measured.items()}, indent=1) + "\n")
        return 0
    for fall in fallen(recorded, measured):
        console.print(f"{fall.name} has fallen from {fall.kept:.2f} to {fall.seen:.2f} of the ceiling", style="red")
    return 1 if fallen(recorded, measured) else 0
