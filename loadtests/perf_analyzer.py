"""Triton's own load tool against Penstock: over HTTP (binary and JSON tensors) and gRPC.

Beside infer it reads server metadata, model metadata, config and statistics, and refuses a server that lacks one of
them. The binary comes out of an old client wheel (the later ones do not carry it) and needs two libraries.
"""

import argparse
import csv
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests.graphs import find_repository
from loadtests.models import MODELS, BenchModel, cache_folder
from loadtests.processes import penstock, pin_children, run_server, split_cores

_WHEELS = ("tritonclient==2.49.0", "nvidia-cuda-runtime-cu12==12.9.79")
_JSON = ("--input-tensor-format", "json", "--output-tensor-format", "json")
_RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "http, binary": ("http", ()),
    "http, json": ("http", _JSON),
    "grpc": ("grpc", ()),
}
_CONCURRENCY = (1, 8)
_COLUMNS = ("Concurrency", "Inferences/Second", "p50 latency", "p99 latency")


class Unavailable(Exception):
    """perf_analyzer cannot start here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Tool:
    """The program and the environment it starts in."""

    path: Path
    environment: Mapping[str, str]

    def measure(self, model: BenchModel, url: str, protocol: str, options: Sequence[str]) -> dict[str, str]:
        """The row of its table; raises RuntimeError with the tool's own words."""
        with TemporaryDirectory(prefix="penstock-loadtests-") as folder, pin_children(split_cores()[1]):
            table = Path(folder, "report.csv")
            load = ["--measurement-interval", "1000", "--stability-percentage", "50", "--percentile", "99"]
            command = [str(self.path), "-m", model.name, "-u", url, "-i", protocol, "-f", str(table), *load, *options]
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"perf_analyzer over {protocol} failed:\n{(done.stderr + done.stdout)[:1000]}")
            with table.open() as lines:
                return next(csv.DictReader(lines))


def find() -> Tool:
    """The program $PERF_ANALYZER names, else one installed below the cache folder on first use."""
    configured = os.environ.get("PERF_ANALYZER")
    tool = _make_tool(Path(configured), ()) if configured else _find_installed()
    said = subprocess.run([tool.path, "--version"], env=tool.environment, capture_output=True, text=True, check=False)
    if "libb64" in said.stderr:
        raise Unavailable("perf_analyzer needs libb64.so.0d; install it with: apt-get install libb64-0d")
    if said.returncode:
        raise Unavailable(f"perf_analyzer does not start: {said.stderr.strip()}")
    return tool


def _find_installed() -> Tool:
    folder = cache_folder() / "perf-analyzer"
    if not (folder / "bin" / "perf_analyzer").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", *_WHEELS]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"perf_analyzer could not be installed: {done.stderr.strip().splitlines()[-1]}")
    return _make_tool(folder / "bin" / "perf_analyzer", sorted(folder.glob("lib/python*/site-packages/nvidia/*/lib")))


def _make_tool(path: Path, libraries: Sequence[Path]) -> Tool:
    if not path.exists():
        raise Unavailable(f"perf_analyzer is not at {path}")
    paths = [os.environ.get("LD_LIBRARY_PATH", ""), *map(str, libraries)]
    return Tool(path, {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, paths))})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--http", metavar="HOST:PORT", help="a running server that has the model (with --grpc)")
    parser.add_argument("--grpc", metavar="HOST:PORT")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 0 also where the tool cannot start, 1 where it does not get along with the server."""
    try:
        tool = find()
    except Unavailable as missing:
        print(f"skipped: {missing}", file=sys.stderr)
        return 0
    model = MODELS[arguments.model]
    try:
        with _server(arguments, model) as addresses:
            Console().print(_measure(tool, model, addresses))
    except RuntimeError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


def _measure(tool: Tool, model: BenchModel, addresses: Mapping[str, str]) -> Table:
    table = Table(title=f"perf_analyzer, {model.name}", title_justify="left", box=SIMPLE_HEAD)
    for head in ("", "concurrency", "infer/s", "p50 µs", "p99 µs"):
        table.add_column(head, justify="right" if head else "left")
    for (name, (protocol, options)), together in product(_RUNS.items(), _CONCURRENCY):
        load = ("--concurrency-range", str(together), *options)
        row = tool.measure(model, addresses[protocol], protocol, load)
        table.add_row(name, *(row[column] for column in _COLUMNS))
    return table


@contextmanager
def _server(arguments: argparse.Namespace, model: BenchModel) -> Iterator[Mapping[str, str]]:
    if arguments.http and arguments.grpc:
        yield {"http": arguments.http, "grpc": arguments.grpc}
        return
    command = penstock(find_repository(model), "--workers", "1")
    with run_server(command, split_cores()[0]) as server:
        yield server.addresses
