"""Swaps a model of more than 100 MiB again and again under steady load: nothing may fail, and nobody should notice.

Two versions are pushed to a gateway of their own. In every cycle the model's policy is changed from one to the other,
so that each swap loads the new version beside the old one, publishes it and unloads the old one. Callers go on all
the while at a fixed rate, by REST and by gRPC; latencies count from the moment a call was due. Every answer has to
carry the number of the version that its header names.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.progress import track

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import CallFailed, RestClient
from penstock.cli.grpc_client import GrpcClient
from penstock.cli.upload import read_upload

MODEL = "table"
NUMBERS = 27_000_000
"""Float32 numbers of one version's weights: 103 MiB."""

REQUEST = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [123]}]}
CALLERS = ("rest", "rest", "rest", "grpc")
CALL_S = 10.0
AFTER_S = 0.1
"""A swap's window goes on for that long after it was acknowledged: the old version is unloaded then."""


@dataclass(slots=True)
class Calls:
    """What one caller saw: when each call was due, how long its answer took, who answered."""

    protocol: str
    due: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--cycles", type=int, default=50, help="swaps")
    parser.add_argument("--rate", type=float, default=400.0, help="calls a second, over all callers")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--steady", type=float, default=0.5, help="seconds without a swap in each cycle")


def build(path: Path, version: int) -> Path:
    """A model that looks a number up in a large table; every number is its version's."""
    table = numpy_helper.from_array(np.full(NUMBERS, version, np.float32), "table")
    index = helper.make_tensor_value_info("index", TensorProto.INT64, [1])
    number = helper.make_tensor_value_info("number", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["number"])], "g", [index], [number], [table]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def call_on(protocol: str, address: str, rate: float, phase: float, stop: Any, answers: Any) -> None:
    """Be one caller, in a process of its own: call at a fixed rate until ``stop`` is set."""
    client: Any = RestClient(address, CALL_S) if protocol == "rest" else GrpcClient(address, CALL_S)
    calls, due = Calls(protocol), time.monotonic() + phase
    while not stop.is_set():
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            reply = client.infer(MODEL, "", REQUEST)
        except CallFailed as failure:
            calls.faults.append(str(failure))
            continue
        calls.due.append(due)
        calls.seconds.append(time.monotonic() - due)
        number = int(reply.document["outputs"][0]["data"][0])
        calls.versions.append(number)
        if reply.version != str(number):
            calls.faults.append(f"version {reply.version} answered {number}")
    answers.put(calls)


def read_rss(pid: int) -> int:
    """Bytes a process has in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The whole drill; its findings."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-swap-"))
    context = multiprocessing.get_context("spawn")
    with run_gateway(folder, arguments.workers) as gateway:
        registry = AdminApiClient(gateway["ops"])
        for version in (1, 2):
            path = build(folder / f"{version}.onnx", version)
            registry.push(MODEL, str(version), read_upload(path), {}, "", lambda _done, _total: None)
            path.unlink()
        registry.configure(MODEL, {"versions": "specific:1", "keep_warm_seconds": 0}, "")
        stop, answers = context.Event(), context.Queue()
        each = arguments.rate / len(CALLERS)
        callers = [
            context.Process(
                target=call_on,
                args=(kind, gateway["http" if kind == "rest" else "grpc"], each, index / arguments.rate, stop, answers),
            )
            for index, kind in enumerate(CALLERS)
        ]
        for caller in callers:
            caller.start()
        time.sleep(3.0)
        windows, memory = [], []
        for cycle in track(range(arguments.cycles), "swapping", console=console):
            time.sleep(arguments.steady)
            began = time.monotonic()
            registry.configure(MODEL, {"versions": f"specific:{2 - cycle % 2}"}, "")
            windows.append((began, time.monotonic() + AFTER_S))
            time.sleep(AFTER_S)
            memory.append(sum(map(read_rss, gateway["workers"])))
        stop.set()
        calls = [answers.get(timeout=CALL_S) for _ in callers]
        for caller in callers:
            caller.join(CALL_S)
        time.sleep(1.0)
        final = sum(map(read_rss, gateway["workers"]))
    return make_findings(calls, windows, memory, final)


@contextmanager
def run_gateway(folder: Path, workers: int) -> Iterator[dict[str, Any]]:
    """A gateway on a registry of its own; what its ready file says."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "penstock", "serve", "--registry", str(folder / "home"), "--workers", str(workers)]
    ports = ["--http-port", "0", "--grpc-port", "0", "--ops-port", "0", "--ready-file", str(ready)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *ports], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.05)
        facts: dict[str, Any] = json.loads(ready.read_text())
        yield facts
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)


def make_findings(
    calls: list[Calls], windows: list[tuple[float, float]], memory: list[int], final: int
) -> dict[str, Any]:
    """The figures of a drill."""
    faults = [fault for calls in calls for fault in calls.faults]
    return {
        "swaps": len(windows),
        "calls": sum(len(calls.due) for calls in calls),
        "failed_or_wrong": len(faults),
        "faults": sorted(set(faults))[:5],
        "versions": sorted({version for calls in calls for version in calls.versions}),
        "swap_seconds_median": statistics.median(end - start - AFTER_S for start, end in windows),
        "rss_first_mib": memory[0] / 2**20,
        "rss_last_mib": memory[-1] / 2**20,
        "rss_at_rest_mib": final / 2**20,
        "rss_last_to_first": memory[-1] / memory[0],
        "milliseconds": {
            kind: compare_latencies([calls for calls in calls if calls.protocol == kind], windows)
            for kind in ("rest", "grpc")
        },
    }


def compare_latencies(calls: list[Calls], windows: list[tuple[float, float]]) -> dict[str, Any]:
    """Latencies (ms) of the calls that were due in a swap, of all others, and the one to the other."""
    due = np.concatenate([calls.due for calls in calls])
    seconds = np.concatenate([calls.seconds for calls in calls])
    starts, ends = np.array(windows).T
    index = np.searchsorted(starts, due, side="right") - 1
    swapping = (index >= 0) & (due < ends[np.maximum(index, 0)])
    figures: dict[str, Any] = {"calls_in_swaps": int(swapping.sum())}
    for quantile in (50, 90, 99, 99.9):
        steady = np.percentile(seconds[(due >= starts[0] - 2.0) & ~swapping], quantile) * 1e3
        swap = np.percentile(seconds[swapping], quantile) * 1e3
        figures[f"p{quantile:g}"] = {
            "steady": round(steady, 3),
            "swap": round(swap, 3),
            "ratio": round(swap / steady, 3),
        }
    return figures


def main(arguments: argparse.Namespace) -> int:
    """Run the drill and print what was found."""
    console = Console(stderr=True)
    findings = run(arguments, console)
    print(json.dumps({"load_average": os.getloadavg()[0], **findings}, indent=2))
    return 1 if findings["failed_or_wrong"] else 0
