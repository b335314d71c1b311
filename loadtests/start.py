"""Measures a cold start and the memory of a gateway, beside the ceiling's: on one core, in a home of its own.

A cold start examines every model first; a second start on the same home finds them admitted. Both end when the ready
file is there. Memory is counted as the kernel shares it out (PSS), of all processes together: a page that several
processes share counts once. A first start waits until the process that examines models has ended, as it does then.
"""

import argparse
import shutil
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests.graphs import repository
from loadtests.models import MODELS
from loadtests.processes import cpu_s, halves, penstock, running, tree

MODEL = "tiny"
MANY = 20
EXAMINER = b"penstock.registry.admission.sandbox"
EXAMINED_S = 20.0
ROUNDS = 3
_MIB = 1 << 20

Advance = Callable[[], object]


@dataclass(frozen=True, slots=True)
class StartCost:
    """One start: seconds to ready, processor seconds until then of all processes, and their memory in bytes."""

    wall_s: float
    cpu_s: float
    memory: float


def memory(pid: int) -> int:
    """Return the memory of a process in bytes, 0 if it has ended; a page that several share counts in proportion."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10


def wait_examined(pid: int) -> None:
    """Wait until no process of a server examines models any more; raises ``TimeoutError``."""
    until = time.monotonic() + EXAMINED_S
    while any(EXAMINER in _command(child) for child in tree(pid)):
        if time.monotonic() > until:
            raise TimeoutError(f"models are still examined {EXAMINED_S:g} s after the start")
        time.sleep(0.02)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def measure(command: list[str], models: Iterable[str] = ()) -> StartCost:
    """Start a server on one core, and end it once it is ready; raises ``OSError`` if one of these models is not."""
    with running(command, halves()[0][:1]) as server:
        used = sum(cpu_s(pid, with_ended=True) for pid in tree(server.pid))
        wait_examined(server.pid)
        cost = StartCost(server.start_s, used, sum(map(memory, tree(server.pid))))
        for name in models:
            with urllib.request.urlopen(f"http://{server.addresses['http']}/v2/models/{name}/ready", timeout=60):
                pass
        return cost


def ceiling() -> StartCost:
    """Start the batching ceiling for JSON with one model."""
    repository(MODELS[MODEL])
    return measure([sys.executable, "-m", "loadtests.ceiling", MODEL, "--codec", "json", "--batched"])


@contextmanager
def copies(number: int) -> Iterator[Path]:
    """Yield a folder with so many models of one graph."""
    repository(MODELS[MODEL])
    with TemporaryDirectory(prefix="penstock-start-") as name:
        for index in range(number):
            version = Path(name, f"{MODEL}-{index}", "1")
            version.mkdir(parents=True)
            shutil.copy(MODELS[MODEL].file, version)
        yield Path(name)


def gateway_command(models: Path, home: Path, *options: str) -> list[str]:
    """Return the command of a gateway with a home of its own."""
    return [
        "env",
        "-u",
        "PYTHONDONTWRITEBYTECODE",
        f"PENSTOCK_HOME={home}",
        *penstock(models, "--log-level", "warning", *options),
    ]


def gateway(number: int, *options: str) -> tuple[StartCost, StartCost]:
    """Start a gateway with so many models, first in an empty home, then in the same home again."""
    with copies(number) as models, TemporaryDirectory(prefix="penstock-home-") as home:
        command = gateway_command(models, Path(home), *options)
        names = sorted(path.name for path in models.iterdir())
        return measure(command, names), measure(command, names)


def _median(costs: list[StartCost]) -> StartCost:
    return StartCost(*(statistics.median(getattr(cost, field.name) for cost in costs) for field in fields(StartCost)))


def start_costs(rounds: int = ROUNDS, advance: Advance = lambda: None) -> dict[str, StartCost]:
    """Return the medians of interleaved rounds; ``advance`` is called after each of the ``4 * rounds`` starts."""
    found: dict[str, list[StartCost]] = {}
    for _ in range(rounds):
        found.setdefault("ceiling", []).append(ceiling())
        advance()
        for name, number, workers in (("one model", 1, 1), (f"{MANY} models", MANY, 1), ("two workers", 1, 2)):
            cold, again = gateway(number, "--workers", str(workers))
            found.setdefault(name, []).append(cold)
            found.setdefault(f"{name}, again", []).append(again)
            advance()
    return {name: _median(costs) for name, costs in found.items()}


def start_ratios(rounds: int = ROUNDS) -> dict[str, float]:
    """Return what the ceiling needs as a part of what Penstock needs: processor time of a start, and memory."""
    costs = start_costs(rounds)
    least, one, many = costs["ceiling"], costs["one model"], costs[f"{MANY} models"]
    worker = costs["two workers, again"].memory - costs["one model, again"].memory
    return {
        "start, one model": least.cpu_s / one.cpu_s,
        f"start, {MANY} models": least.cpu_s / many.cpu_s,
        "memory, one model": least.memory / costs["one model, again"].memory,
        "memory, another worker": least.memory / max(worker, 1),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"starts of each kind; medians count ({ROUNDS})")


def main(arguments: argparse.Namespace) -> int:
    """Measure, and print the table."""
    console, table = Console(), Table(box=SIMPLE_HEAD)
    with Progress(console=console) as progress:
        task = progress.add_task("starting", total=4 * arguments.rounds)
        costs = start_costs(arguments.rounds, lambda: progress.advance(task))
    for head in ("", "ready after", "processor time", "memory"):
        table.add_column(head, justify="left" if not head else "right")
    for name, cost in costs.items():
        table.add_row(name, f"{cost.wall_s:.2f} s", f"{cost.cpu_s:.2f} s", f"{cost.memory / _MIB:.0f} MiB")
    console.print(table)
    return 0
