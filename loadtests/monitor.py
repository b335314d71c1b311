"""What the monitor costs: a model served with it and without it, in turns on one server; counting, a scrape alone."""

import argparse
import json
import statistics
import sys
import time
import timeit
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from loadtests.codecs import JSON, Call
from loadtests.h2load import Window, closed_loop, require
from loadtests.processes import Server, penstock, run_server, split_cores
from loadtests.traffic import FEATURES, SMALL, build
from penstock.cli.admin_api_client import AdminApiClient
from penstock.control.monitoring.drift.version_series import VersionSeries
from penstock.core.policies import MonitorPolicy
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.reference import TRAINING
from penstock.monitor.reference_builder import build as build_reference
from penstock.monitor.rows import RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor
from penstock.telemetry.exposition import Exposition
from tests.harness import call as http_call

ON = {"monitor": {"sample": 1.0}}
OFF = {"monitor": {"sample": 0, "label_horizon_seconds": 0}}
SETTLE_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", type=Path, help="file for the figures")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if the monitor costs more than it may."""
    require()
    console = Console()
    figures = {
        "us_a_row_of_30_at_32": measure_counting(30, 32) / 32,
        "us_one_row_of_100": measure_counting(100, 1),
        "scrape_ms": measure_scrape(),
    }
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        models = build(Path(folder))
        server_cores, client_cores = split_cores()
        cores = [*server_cores, *client_cores[:-1]]
        with run_server(penstock(models, "--workers", "1"), cores) as server:
            figures |= measure_monitor(server, arguments, client_cores[-1:])
    for name, value in figures.items():
        console.print(f"{name} {value:.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0 if figures["rate"] >= 0.95 and figures["p99"] <= 1.05 else 1


def measure_monitor(server: Server, arguments: argparse.Namespace, cores: list[int]) -> dict[str, float]:
    """Medians of rate and p99 with the monitor over those of the windows without it on both sides."""
    gateway = AdminApiClient(server.addresses["ops"])
    lines = [",".join(f"f{index}" for index in range(FEATURES))]
    rows = np.random.default_rng(0).uniform(-1, 1, (12_000, FEATURES))
    data = "\n".join([*lines, *(",".join(f"{value:.4f}" for value in row) for row in rows)]).encode()
    path = f"/admin/v1/models/m/versions/{SMALL}/reference"
    made = http_call(server.addresses["ops"], "PUT", path, data)
    if made.status != 201:
        raise SystemExit(f"no reference: {made.status}")
    rates, p99s, costs, plain = [], [], [], 0.0
    measure_window(server, gateway, ON, arguments, cores)  # warm
    for _ in track(range(arguments.rounds), "measuring", console=Console(stderr=True)):
        before, cheap = measure_window(server, gateway, OFF, arguments, cores)
        with_it, dear = measure_window(server, gateway, ON, arguments, cores)
        after, cheap_too = measure_window(server, gateway, OFF, arguments, cores)
        costs.append(2 * dear / (cheap + cheap_too))
        plain = after.rate
        rates.append(2 * with_it.rate / (before.rate + after.rate))
        p99s.append(2 * with_it.latencies.p99 / (before.latencies.p99 + after.latencies.p99))
    return {
        "rate": statistics.median(rates),
        "p99": statistics.median(p99s),
        "processor": statistics.median(costs),
        "requests_a_second": plain,
    }


def measure_window(
    server: Server, gateway: AdminApiClient, policy: Mapping[str, Any], arguments: argparse.Namespace, cores: list[int]
) -> tuple[Window, float]:
    """One window of load under a policy, and the server's processor microseconds a request; every answer has to be a
    good one."""
    gateway.set_policy("m", dict(policy))
    time.sleep(SETTLE_S)
    row = [round(value, 4) for value in np.linspace(-1, 1, FEATURES).tolist()]
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}]}).encode()
    before = server.cpu_s()
    found = closed_loop(
        JSON,
        Call(f"/v2/models/m/versions/{SMALL}/infer", body, {"content-type": "application/json"}),
        server.addresses["http"],
        connections=arguments.connections,
        seconds=arguments.seconds,
        cores=cores,
        answer_bytes=0,
    )
    if found.errors:
        raise SystemExit(f"{found.errors} of {found.done} answers were errors")
    return found, (server.cpu_s() - before) / found.done * 1e6


def _watched(features: int, rows: int) -> tuple[RowCounter, VersionMonitor, list[tuple[list[Tensor], list[Tensor]]]]:
    generator = np.random.default_rng(0)
    sides = (
        input_columns([TensorSpec("x", "FP32", (-1, features))], batching=True),
        output_columns([TensorSpec("p", "FP32", (-1, 2))], batching=True),
    )

    def exchange(count: int) -> tuple[list[Tensor], list[Tensor]]:
        p = generator.uniform(size=count)
        x = generator.normal(size=(count, features)).astype(np.float32)
        y = np.stack([1 - p, p], axis=1).astype(np.float32)
        return [Tensor("x", "FP32", x)], [Tensor("p", "FP32", y)]

    inputs, outputs = exchange(10_000)
    given, answered = sides[0](inputs), sides[1](outputs)
    if given is None:
        raise RuntimeError
    names = [[*side.numbers, *side.labels] for side in sides]
    reference = build_reference((names[0], names[1]), given, answered, TRAINING)
    cells = np.zeros(RegionLayout.of(reference).size, np.uint64)
    counter = RowCounter(reference, cells, sides, 1.0)
    first = RegionCounts.of(reference, [cells])
    monitor = VersionMonitor(reference, MonitorPolicy(), first, 0.0)
    bunch = [exchange(rows)]
    counter.count(bunch)
    monitor.evaluate(RegionCounts.of(reference, [cells]), 1.0)
    return counter, monitor, bunch


def measure_counting(features: int, rows: int, number: int = 2000) -> float:
    """Microseconds to count one bunch of so many rows: inputs, outputs, the joint distance, likeness of neighbours."""
    counter, _, bunch = _watched(features, rows)
    return min(timeit.repeat(lambda: counter.count(bunch), number=number, repeat=5)) / number * 1e6


def measure_scrape(number: int = 50) -> float:
    """Milliseconds of a scrape of some 4000 series of one version's monitor."""
    _, monitor, _ = _watched(60, 500)
    exposition = Exposition(VersionSeries(("m", "1"), monitor).readings)
    return min(timeit.repeat(exposition.render, number=number, repeat=5)) / number * 1e3


if __name__ == "__main__":
    sys.exit("run it as: python -m loadtests monitor")
