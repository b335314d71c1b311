"""How soon a run ends whose caller has no more time: calls with 75 ms for a model of many small steps that takes 250.

Reports when the caller got its answer, and for how long the worker went on computing after that.
"""

import argparse
import select
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests.codecs import BINARY, GRPC, Codec
from loadtests.models import BenchModel
from loadtests.processes import Server, list_tree, penstock, run_server, split_cores
from loadtests.wires import connect
from penstock.loadtest.wire import Wire

_WIDE, _ROWS = 512, 64
_TRIED = 500  # steps, to see what one takes; enough for the cores to be shared
_AT_MOST_S = 5.0
_SAMPLE_S = 0.002
_BUSY = 0.5  # of a core
_QUIET_S = 0.05  # how long the worker must have been idle to count as done
_CHAIN = BenchModel("chain", "x", (_WIDE,), ("y",))


def build_chain(steps: int) -> onnx.ModelProto:
    """So many matrix products, one after the other."""
    weights = np.linalg.qr(np.random.default_rng(0).normal(size=(_WIDE, _WIDE)))[0].astype(np.float32)
    names = ["x", *[f"h{step}" for step in range(1, steps)], "y"]
    nodes = [helper.make_node("MatMul", [before, "w"], [after]) for before, after in pairwise(names)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", _WIDE]) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "chain", [x], [y], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def computed_s(pids: list[int]) -> float:
    """Processor seconds of these processes, to the microsecond."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cut(wire: Wire, pids: list[int], at_most_s: float) -> tuple[float, float]:
    """Send one call; when it was answered and when the processes had done computing, in seconds after."""
    began = time.perf_counter()
    wire.send(0)
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
    table = Table(title=f"{arguments.takes_ms:g} ms runs, {arguments.timeout_ms} ms to answer", box=SIMPLE_HEAD)
    for head in ("", "whole run ms", "answered ms", "at most", "computing until ms", "at most"):
        table.add_column(head, justify="right", no_wrap=True)
    with _serve_chain(_TRIED) as served:
        steps = max(1, round(_TRIED * arguments.takes_ms / 1000 / served.whole_s(BINARY)))
    with _serve_chain(steps) as served:
        for codec in (BINARY, GRPC):
            whole_s, durations = served.whole_s(codec), served.cut(codec, arguments.timeout_ms, arguments.calls)
            cells = [f"{whole_s * 1000:.0f}"]
            for durations_of in zip(*durations, strict=True):
                cells += [f"{statistics.median(durations_of) * 1000:.1f}", f"{max(durations_of) * 1000:.1f}"]
            table.add_row(codec.name, *cells)
    Console(width=100).print(table)
    return 0


class _Served:
    """A server of a chain."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._workers = [pid for pid in list_tree(server.pid) if pid != server.pid]

    def whole_s(self, codec: Codec) -> float:
        """What a call takes that has all the time it wants."""
        return statistics.median(answered for answered, _ in self._ask(codec, {}, 5))

    def cut(self, codec: Codec, timeout_ms: int, calls: int) -> list[tuple[float, float]]:
        """Of each call that has so long, when it was answered and until when the worker computed."""
        return self._ask(codec, {"penstock-timeout-ms": str(timeout_ms)}, calls)

    def _ask(self, codec: Codec, headers: dict[str, str], calls: int) -> list[tuple[float, float]]:
        call = codec.write(_CHAIN, np.ones((_ROWS, _WIDE), np.float32))
        address = self._server.addresses["grpc" if codec.grpc else "http"]
        wire = connect(codec.grpc, address, call.path, {**call.headers, **headers}, call.body)
        durations = [cut(wire, self._workers, _AT_MOST_S) for _ in range(calls)]
        wire.close()
        return durations


@contextmanager
def _serve_chain(steps: int) -> Iterator[_Served]:
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        model_folder = Path(folder, "chain", "1")
        model_folder.mkdir(parents=True)
        onnx.save(build_chain(steps), model_folder / "model.onnx")
        with run_server(penstock(Path(folder), "--workers", "1"), split_cores()[0]) as server:
            yield _Served(server)
