"""Whether `penstock loadtest` measures what h2load measures, and what wrk2 would make of it, at half load.

A gateway has its own half of the cores, the load the other. The peak is h2load's with 32 connections. In each round
h2load sends half of the peak, and notes when it sent each request and how long that took; then the generator of
`penstock loadtest` sends a request at each of these moments, over as many connections. Two things must agree:

- durations from the moment of sending, with h2load's as they are;
- durations from the moment a request was due, with h2load's after HdrHistogram's correction of coordinated omission,
  which is what wrk2 reports.

Exit 1 if the median over the rounds of the ratio of a percentile is further from 1 than allowed, or if the generator
was not in time. The cost of the client is in its figures: for a model that answers in 0.1 ms it may exceed 5 %.
"""

import argparse
import math
import statistics
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from loadtests import h2load
from loadtests.codecs import JSON, Call, ReferenceCalls
from loadtests.graphs import find_repository
from loadtests.models import MODELS
from loadtests.processes import penstock, pin_children, run_server, split_cores
from penstock.loadtest.generator import Generator
from penstock.loadtest.histogram import HdrHistogram
from penstock.loadtest.http1_wire import Http1Wire, http1_request
from penstock.loadtest.measurement import Measurement, measure
from penstock.loadtest.schedule import Moments
from penstock.loadtest.wire import resolve

PERCENTILES = (50.0, 90.0, 99.0)
LEAST_CONNECTIONS = 32
MOST_RATE = 100.0
"""Requests a second on a connection of h2load: beyond it sends in bursts each 10 ms."""

SETTLE_S = 0.5
PATIENCE_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", choices=sorted(MODELS), default="transformer")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.5, help="part of the peak")
    parser.add_argument("--within", type=float, default=0.05, help="how far a ratio may be from 1")
    parser.add_argument("--max-lag", type=float, default=1.0, help="milliseconds by which the generator may be delayed")


def main(arguments: argparse.Namespace) -> int:
    """Measure, and print the ratio of each percentile."""
    h2load.require()
    model = MODELS[arguments.model]
    call = ReferenceCalls(model).calls(JSON)[0]
    server_cores, client_cores = split_cores()
    with run_server(penstock(find_repository(model), "--workers", "1"), server_cores) as server:
        address = server.addresses["http"]
        peak = h2load.closed_loop(
            JSON, call, address, connections=32, seconds=5, cores=client_cores, answer_bytes=0
        ).rate
        rate = peak * arguments.share
        print(f"{model.name}: peak {peak:.0f}/s, load {rate:.0f}/s")
        with pin_children(client_cores):
            pairs = [_run_round(call, address, rate, arguments.seconds) for _ in range(arguments.rounds)]
    ratios = {name: [found[name] for found, _ in pairs] for name in pairs[0][0]}
    wrong = _show(ratios, arguments.within)
    problems = [problem for _, window in pairs if (problem := window.generator_problem(arguments.max_lag))]
    for problem in problems:
        print(f"INVALID: {problem}")
    return int(wrong or bool(problems))


def _show(ratios: dict[str, list[float]], within: float) -> bool:
    """Print the medians; whether one is too far from 1."""
    wrong = False
    for name, values in ratios.items():
        median = statistics.median(values)
        apart = not abs(median - 1) <= within
        wrong |= apart
        rounds = " ".join(f"{value:.3f}" for value in values)
        print(f"{name:22} {median:.3f} ({rounds}){'  NOT WITHIN' if apart else ''}")
    return wrong


def _run_round(call: Call, address: str, rate: float, seconds: float) -> tuple[dict[str, float], Measurement]:
    """Send by both, and return the ratios of percentiles (penstock loadtest to h2load)."""
    connections = max(LEAST_CONNECTIONS, math.ceil(rate / MOST_RATE))
    due, took = _by_h2load(call, address, connections, rate, seconds)
    window = _by_generator(call, address, connections, due, seconds)
    raw = HdrHistogram.of(took)
    corrected = raw.corrected(connections / rate * 1e6)
    ratios = {}
    for kind, own, other in (("sent", window.service, raw), ("due, corrected", window.latency, corrected)):
        for percent in PERCENTILES:
            ratios[f"{kind} p{percent:g}"] = own.percentile_us(percent) / other.percentile_us(percent)
    return ratios, window


def _by_h2load(call: Call, address: str, connections: int, rate: float, seconds: float) -> tuple[Moments, Moments]:
    """Return when h2load sent each request, in seconds since the first, and how long each took, in microseconds."""
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        log, data = Path(folder, "log"), Path(folder, "body")
        data.write_bytes(call.body)
        headers = [part for name, value in call.headers.items() for part in ("--header", f"{name}: {value}")]
        load = [f"--clients={connections}", "--threads=1", f"--duration={round(seconds * 1000)}ms"]
        paced = [f"--rps={rate / connections:.6f}", f"--log-file={log}", f"--data={data}"]
        subprocess.run(
            ["h2load", "--h1", *load, *paced, *headers, f"http://{address}{call.path}"],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=seconds + 60,
        )
        starts, statuses, took = np.loadtxt(log, dtype=np.float64, usecols=(0, 1, 2), ndmin=2).T
    if not (statuses == 200).all():
        raise RuntimeError(f"{int((statuses != 200).sum())} answers to h2load were errors")
    return _drop_start(starts, took)


def _drop_start(starts: Moments, took: Moments) -> tuple[Moments, Moments]:
    """Leave out the beginning, in which all connections open at once; in the order of sending."""
    order = np.argsort(starts)
    due = (starts[order] - starts.min()) / 1e6
    kept = due > SETTLE_S
    return due[kept] - SETTLE_S, took[order][kept]


def _by_generator(call: Call, address: str, connections: int, due: Moments, seconds: float) -> Measurement:
    endpoint = resolve(address)
    requests: Sequence[bytes] = [http1_request(endpoint, call.path, call.headers, call.body)]
    generator = Generator(partial(Http1Wire, endpoint, requests), connections, 1, PATIENCE_S)
    try:
        return measure(generator.run(due), seconds, transport_is_grpc=False)
    finally:
        generator.close()
