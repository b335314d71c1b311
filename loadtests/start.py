"""Measures a cold start and the memory of a gateway, beside the ceiling's: on one core, in a home of its own.

A cold start examines every model first; a second start on the same home finds them admitted. Both end when the ready
file is there. Memory is what all processes take together once they are idle: each page once, and pages of libraries
whole, whoever else uses them. A first start waits until the process that examines models has ended, as it does then.
"""

import argparse
import re
import shutil
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests.graphs import find_repository
from loadtests.models import MODELS
from loadtests.processes import cpu_s, list_tree, penstock, run_server, split_cores

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


def memory(pids: Iterable[int]) -> int:
    """Return the bytes of memory that processes take together, those that have ended left out.

    A page that several of them have counts once. One of a file counts whole, whoever else has that file in memory, such
    as this program with the same libraries: of each part of a file counts what the process with the most has of it.
    """
    own, of_files = 0, Counter[tuple[str, str]]()
    for pid in pids:
        with suppress(OSError):
            folder = Path("/proc", str(pid))
            own += sum(_sizes((folder / "smaps_rollup").read_text())["Pss_Anon"])
            of_files |= _file_pages((folder / "smaps").read_text())
    return own + of_files.total()


def _file_pages(text: str) -> Counter[tuple[str, str]]:
    """Return how many bytes of which parts of files are mapped, by file and offset, as the files have them."""
    pages = Counter[tuple[str, str]]()
    for head, rest in re.findall(r"^([0-9a-f]+-.*)\n((?:[A-Z].*\n?)*)", text, re.MULTILINE):
        _, _, offset, _, _, *file = head.split(maxsplit=5)
        sizes = _sizes(rest)
        if file and file[0].startswith("/"):
            pages[file[0], offset] += sum(sizes["Rss"]) - sum(sizes["Anonymous"])
    return pages


def _sizes(text: str) -> dict[str, list[int]]:
    """Return the sizes in bytes that a text of proc(5) states in lines, by name."""
    found: dict[str, list[int]] = {}
    for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE):
        found.setdefault(name, []).append(int(size) << 10)
    return found


def wait_examined(pid: int) -> None:
    """Wait until no process of a server examines models any more; raises ``TimeoutError``."""
    until = time.monotonic() + EXAMINED_S
    while any(EXAMINER in _command(child) for child in list_tree(pid)):
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
    with run_server(command, split_cores()[0][:1]) as server:
        used = sum(cpu_s(pid, with_ended=True) for pid in list_tree(server.pid))
        wait_examined(server.pid)
        server.wait_idle()
        cost = StartCost(server.start_s, used, memory(list_tree(server.pid)))
        for name in models:
            with urllib.request.urlopen(f"http://{server.addresses['http']}/v2/models/{name}/ready", timeout=60):
                pass
        return cost


def ceiling() -> StartCost:
    """Start the batching ceiling for JSON with one model."""
    find_repository(MODELS[MODEL])
    return measure([sys.executable, "-m", "loadtests.ceiling", MODEL, "--codec", "json", "--batched"])


@contextmanager
def copies(number: int) -> Iterator[Path]:
    """Yield a folder with so many models of one graph."""
    find_repository(MODELS[MODEL])
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
