"""How soon a run ends whose caller has no more time: calls with 75 ms for a model of many small steps that takes 250.

Tells when the caller heard of it, and for how long the worker went on computing after that.
"""

import argparse
import select
import statistics
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests.models import BenchModel
from loadtests.processes import halves, penstock, pinned, running, tree
from loadtests.roads import BINARY, GRPC, Road
from loadtests.wires import Http1Wire, Http2Wire, Wire

_WIDE = 512
_SAMPLE_S = 0.002
_BUSY = 0.5  # of a core
_QUIET_S = 0.05  # how long the worker must have been idle to count as done
_CHAIN = BenchModel("chain", "x", (_WIDE,), ("y",))


def chain(steps: int) -> onnx.ModelProto:
    """So many matrix products, one after the other."""
    weights = np.linalg.qr(np.random.default_rng(0).normal(size=(_WIDE, _WIDE)))[0].astype(np.float32)
    names = ["x", *[f"h{step}" for step in range(1, steps)], "y"]
    nodes = [helper.make_node("MatMul", [before, "w"], [after]) for before, after in pairwise(names)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", _WIDE]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "chain", [x], [y], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def steps_for(seconds: float, rows: int, cores: list[int]) -> int:
    """Steps that take so long on these cores."""
    steps = 50
    options = ort.SessionOptions()
    options.intra_op_num_threads = len(cores)
    with pinned(cores):
        session = ort.InferenceSession(chain(steps).SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {"x": np.ones((rows, _WIDE), np.float32)}
        took = []
        for _ in range(5):
            began = time.perf_counter()
            session.run(None, feeds)
            took.append(time.perf_counter() - began)
    return max(1, round(seconds / (statistics.median(took) / steps)))


def computed_s(pids: list[int]) -> float:
    """Processor seconds of these processes, to the microsecond."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cut(wire: Wire, pids: list[int], at_most_s: float) -> tuple[float, float]:
    """Send one call; when it was answered and when the processes had done computing, in seconds after."""
    began = time.perf_counter()
    wire.send()
    answered, last_busy = 0.0, began
    before, used = began, computed_s(pids)
    while time.perf_counter() - began < at_most_s:
        if select.select([wire.fileno()], [], [], _SAMPLE_S)[0] and wire.receive():
            answered = answered or time.perf_counter()
        now, more = time.perf_counter(), computed_s(pids)
        if (more - used) / (now - before) > _BUSY:
            last_busy = now
        before, used = now, more
        if answered and now - last_busy > _QUIET_S:
            break
    return (answered or time.perf_counter()) - began, last_busy - began


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--takes-ms", type=float, default=250.0, help="what a whole run takes (default 250)")
    parser.add_argument("--timeout-ms", type=int, default=75, help="what a call has (default 75)")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    rows, server_cores = 64, halves()[0]
    table = Table(title=f"{arguments.takes_ms:g} ms runs, {arguments.timeout_ms} ms to answer", box=SIMPLE_HEAD)
    for head in ("", "whole run ms", "answered ms", "at most", "computing until ms", "at most"):
        table.add_column(head, justify="right", no_wrap=True)
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        place = Path(folder, "chain", "1")
        place.mkdir(parents=True)
        onnx.save(chain(steps_for(arguments.takes_ms / 1000, rows, server_cores)), place / "model.onnx")
        with running(penstock(Path(folder), "--workers", "1"), server_cores) as server:
            for road in (BINARY, GRPC):
                found = _calls(
                    road, server.addresses["grpc" if road.grpc else "http"], tree(server.pid), rows, arguments
                )
                whole, answered, computing = (sorted(one) for one in found)
                cells = [f"{statistics.median(whole) * 1000:.0f}"]
                for some in (answered, computing):
                    cells += [f"{statistics.median(some) * 1000:.1f}", f"{some[-1] * 1000:.1f}"]
                table.add_row(road.name, *cells)
    Console(width=100).print(table)
    return 0


def _calls(
    road: Road, address: str, pids: list[int], rows: int, arguments: argparse.Namespace
) -> tuple[list[float], list[float], list[float]]:
    call = road.write(_CHAIN, np.ones((rows, _WIDE), np.float32))
    kind = Http2Wire if road.grpc else Http1Wire
    patient = kind(address, call.path, call.headers, call.body, 1)
    whole = [cut(patient, pids, 5.0)[0] for _ in range(3)]
    patient.close()
    limited = {**call.headers, "penstock-timeout-ms": str(arguments.timeout_ms)}
    wire = kind(address, call.path, limited, call.body, 1)
    some = [cut(wire, pids, 5.0) for _ in range(arguments.calls)]
    wire.close()
    return whole, [one for one, _ in some], [one for _, one in some]
