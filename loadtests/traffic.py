"""What routes and shadows cost: each configuration in turn against none, on one server, round after round.

The worker has cores to spare, the client one of its own. Ratios are of neighbouring windows; their medians are
reported.
"""

import argparse
import json
import statistics
import sys
import time
import timeit
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtests.codecs import JSON, Call
from loadtests.h2load import Window, closed_loop, require
from loadtests.processes import Server, penstock, run_server, split_cores
from penstock.cli.admin_api_client import AdminApiClient
from penstock.core.labels import Protocol
from penstock.core.routing import parse_route
from penstock.core.tensors import Tensor
from penstock.monitor.counters.slot import Slot
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.observers.shadow import MAX_WAITING, ShadowExecutor, ShadowSampler
from penstock.serving.routing_table import Router
from penstock.serving.version_info import VersionIdentity

FEATURES = 30
SMALL, OTHER, SLOW, HANGING, RAISING = "1", "2", "3", "4", "5"
STICKY = {"x-user-id": "somebody"}
CONNECTIONS = 32
SETTLE_S = 0.3


@dataclass(frozen=True, slots=True)
class Setting:
    """A configuration, the headers that come with its requests, and what share of the plain rate and p99 is asked."""

    name: str
    route: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    rate: float = 0.97
    p99: float = 1.03


def make_shadow_route(version: str) -> dict[str, Any]:
    """A route whose requests are all mirrored."""
    return {"split": {SMALL: 10_000}, "shadow": [{"version": version, "percent": 100}]}


SETTINGS = (
    Setting("split", {"split": {SMALL: 9000, OTHER: 1000}}),
    Setting("split, sticky", {"split": {SMALL: 9000, OTHER: 1000}, "sticky": "header:x-user-id"}, STICKY),
    Setting("shadow, as fast", make_shadow_route(OTHER)),
    Setting("shadow, ten times slower", make_shadow_route(SLOW)),
    Setting("shadow that hangs", make_shadow_route(HANGING)),
    Setting("shadow that raises", make_shadow_route(RAISING)),
)
PLAIN = {"split": {SMALL: 10_000}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--json", type=Path, help="file for the figures")


def main(arguments: argparse.Namespace) -> int:
    """Measure, print, and end with 1 if something costs more than it may."""
    require()
    console = Console()
    micro = measure_microseconds()
    console.print(
        f"route lookup and sticky hash {micro['pick']:.2f} µs, shadow offer {micro['offer']:.2f} µs, "
        f"together {sum(micro.values()):.2f} µs a request (asked: 3)"
    )
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        models = build(Path(folder))
        server_cores, client_cores = split_cores()
        cores = [*server_cores, *client_cores[:-1]]
        with run_server(penstock(models, "--workers", "1"), cores) as server:
            figures = measure_settings(server, arguments, client_cores[-1:])
    show(console, figures)
    if arguments.json:
        arguments.json.write_text(json.dumps({"micro": micro, "settings": figures}, indent=1))
    holds = all(figures[setting.name]["rate"] >= setting.rate for setting in SETTINGS)
    return 0 if holds and sum(micro.values()) <= 3 else 1


def measure_settings(server: Server, arguments: argparse.Namespace, cores: list[int]) -> dict[str, dict[str, float]]:
    """Each setting's medians: rate and p99 over those of the plain windows around it, and what became of mirrors."""
    gateway = AdminApiClient(server.addresses["ops"])
    rates: dict[str, list[float]] = {setting.name: [] for setting in SETTINGS}
    p99s: dict[str, list[float]] = {setting.name: [] for setting in SETTINGS}
    measure_window(server, gateway, PLAIN, {}, arguments, cores)  # warm
    turns = [setting for _ in range(arguments.rounds) for setting in SETTINGS]
    for setting in track(turns, "measuring", console=Console(stderr=True)):
        before = measure_window(server, gateway, PLAIN, setting.headers, arguments, cores)
        with_it = measure_window(server, gateway, setting.route, setting.headers, arguments, cores)
        after = measure_window(server, gateway, PLAIN, setting.headers, arguments, cores)
        rates[setting.name].append(2 * with_it.rate / (before.rate + after.rate))
        p99s[setting.name].append(2 * with_it.latencies.p99 / (before.latencies.p99 + after.latencies.p99))
    figures = {}
    for setting in SETTINGS:
        figures[setting.name] = {
            "rate": statistics.median(rates[setting.name]),
            "p99": statistics.median(p99s[setting.name]),
        }
        for shadow in setting.route.get("shadow", []):
            counts = read_shadow_counts(gateway, shadow["version"])
            figures[setting.name] |= {word: counts[word] for word in ("mirrored", "pairs", "missed", "dropped")}
    return figures


def measure_window(
    server: Server,
    gateway: AdminApiClient,
    route: Mapping[str, Any],
    headers: Mapping[str, str],
    arguments: argparse.Namespace,
    cores: list[int],
) -> Window:
    """One window of load under a route; every answer has to be a good one."""
    gateway.set_route("m", dict(route))
    time.sleep(SETTLE_S)
    row = [round(value, 4) for value in np.linspace(-1, 1, FEATURES).tolist()]
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}]}).encode()
    call = Call("/v2/models/m/infer", body, {"content-type": "application/json", **headers})
    window = closed_loop(
        JSON,
        call,
        server.addresses["http"],
        connections=arguments.connections,
        seconds=arguments.seconds,
        cores=cores,
        answer_bytes=0,
    )
    if window.errors:
        raise SystemExit(f"{window.errors} of {window.done} answers were errors")
    return window


def read_shadow_counts(gateway: AdminApiClient, version: str) -> dict[str, float]:
    """A shadow's counts once everything mirrored has come to an end."""
    until = time.monotonic() + 10
    while True:
        counts = gateway.shadow("m", version)
        if counts["mirrored"] == counts["pairs"] + counts["missed"] + counts["dropped"]:
            return counts
        if time.monotonic() > until:
            raise SystemExit(f"pairs, misses and drops of version {version} are not what was mirrored: {counts}")
        time.sleep(0.1)


def show(console: Console, found: Mapping[str, Mapping[str, float]]) -> None:
    """Print the figures."""
    table = Table(box=None)
    for head in ("setting", "rate", "p99", "mirrored", "pairs", "missed", "dropped"):
        table.add_column(head, justify="left" if head == "setting" else "right")
    for name, figures in found.items():
        counts = [
            f"{figures[word]:,.0f}" if word in figures else "" for word in ("mirrored", "pairs", "missed", "dropped")
        ]
        table.add_row(name, f"{figures['rate']:.3f}", f"{figures['p99']:.3f}", *counts)
    console.print(table)


# On their own.


class _VersionSubstitute:
    """As much of a served version as the pieces measured here look at."""

    def __init__(self) -> None:
        self.block = Slot.in_process().block(1)
        self.identity = self

    def as_shadow(self, _: object) -> ShadowExecutor:
        never: Any = None
        return ShadowExecutor(VersionIdentity("m", OTHER), self.block, never, MemoryBudget(0), lambda: 0.0)

    def sheds(self) -> bool:
        return False


class _CallSubstitute:
    """As much of a call as an offer looks at."""

    protocol = Protocol.REST
    tensors = (Tensor("x", "FP32", np.zeros((1, FEATURES), "<f4")),)


def measure_microseconds(number: int = 200_000) -> dict[str, float]:
    """A request's share: the pick by a sticky header, and the offer to a shadow whose queue is full, which is the one
    that has to be cheap."""
    route = parse_route({"split": {SMALL: 9000, OTHER: 1000}, "sticky": "header:x-user-id"})
    loaded: Any = {version: _VersionSubstitute() for version in (SMALL, OTHER)}
    around: Any = None
    router = Router("m", route, loaded, loaded[SMALL], around)
    fields = {b"host": b"x", b"content-type": b"application/json", b"x-user-id": b"somebody 12345"}
    executor = loaded[OTHER].as_shadow(None)
    executor.taken = MAX_WAITING  # full, as under load
    mirror, call = ShadowSampler(executor, 1.0, loaded[OTHER].sheds), _CallSubstitute()
    offered: Any = call
    return {
        "pick": min(timeit.repeat(lambda: router.pick(fields), number=number, repeat=5)) / number * 1e6,
        "offer": min(timeit.repeat(lambda: mirror.offer(offered), number=number, repeat=5)) / number * 1e6,
    }


# The models.


def build(root: Path) -> Path:
    """Five versions of one model: small, as small, ten times slower, one that hangs, one that raises."""
    graphs = {
        SMALL: _graph(),
        OTHER: _graph(),
        SLOW: _graph(work=256, turns=6),
        HANGING: _graph(hangs=True),
        RAISING: _graph(raises=True),
    }
    for version, graph in graphs.items():
        path = root / "m" / version / "model.onnx"
        path.parent.mkdir(parents=True)
        onnx.save(graph, path)
    return root


def _graph(work: int = 0, turns: int = 0, hangs: bool = False, raises: bool = False) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    weight = numpy_helper.from_array(generator.standard_normal((FEATURES, 3)).astype(np.float32), "weight")
    numbers, nodes, last = [weight], [helper.make_node("MatMul", ["x", "weight"], ["s0"])], "s0"

    def number(name: str, values: Any, kind: type) -> None:
        numbers.append(numpy_helper.from_array(np.array(values, kind), name))

    if work:
        number("wide", np.zeros((FEATURES, work)), np.float32)
        number("square", np.full((work, work), 1 / work), np.float32)
        number("narrow", np.zeros((work, 3)), np.float32)
        nodes.append(helper.make_node("MatMul", ["x", "wide"], ["w0"]))
        nodes += [helper.make_node("MatMul", [f"w{turn}", "square"], [f"w{turn + 1}"]) for turn in range(turns)]
        nodes += [
            helper.make_node("MatMul", [f"w{turns}", "narrow"], ["n"]),
            helper.make_node("Add", ["s0", "n"], ["s1"]),
        ]
        last = "s1"
    if hangs or raises:  # only for rows whose first number is -1, as the bench sends them and admission does not
        number("first", [0], np.int64)
        number("minus", -0.99, np.float32)
        nodes += [
            helper.make_node("Gather", ["x", "first"], ["column"], axis=1),
            helper.make_node("Less", ["column", "minus"], ["is_low"]),
            helper.make_node("Cast", ["is_low"], ["low"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["low"], ["lowest"], keepdims=0),
        ]
    if raises:
        number("far", 100, np.int64)
        number("table", [0.0, 0.0], np.float32)
        nodes += [
            helper.make_node("Mul", ["lowest", "far"], ["place"]),
            helper.make_node("Gather", ["table", "place"], ["nothing"]),
            helper.make_node("Add", [last, "nothing"], ["s2"]),
        ]
        last = "s2"
    if hangs:
        number("many", 1 << 40, np.int64)
        number("yes", True, np.bool_)
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["v"], ["v_out"])],
            "body",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 3]),
            ],
            [
                helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("v_out", TensorProto.FLOAT, ["N", 3]),
            ],
        )
        nodes += [
            helper.make_node("Mul", ["lowest", "many"], ["turns"]),
            helper.make_node("Loop", ["turns", "yes", last], ["s3"], body=body),
        ]
        last = "s3"
    nodes.append(helper.make_node("Softmax", [last], ["y"], axis=1))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", FEATURES])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, numbers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    sys.exit("run it as: python -m loadtests traffic")
