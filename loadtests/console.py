"""What open pages of the console cost the control process and the workers, in processor time.

A gateway serves many models of one graph, with traffic on one of them. Its processes are watched without a page, and
with ten: each reads one stream with the topics of the overview and of one model, as the console does.
"""

import argparse
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtests.graphs import find_repository
from loadtests.models import MODELS
from loadtests.processes import Server, cpu_s, penstock, run_server, split_cores

MODEL = "tiny"
PAGES = 10
MAY_USE = 0.02
"""The share of a core that so many open pages may use."""

TOPICS = ("models", "traffic", "readiness", "events", "fleet")
OF_MODEL = ("model", "traffic", "route", "rollouts", "monitor")
SETTLE_S = 5.0


@contextmanager
def copy_models(models: int, versions: int) -> Iterator[Path]:
    """Yield a folder with so many models of so many versions, all of one graph."""
    find_repository(MODELS[MODEL])
    with TemporaryDirectory(prefix="penstock-console-") as name:
        for model in range(models):
            for version in range(1, versions + 1):
                place = Path(name, f"m{model:03d}", str(version))
                place.mkdir(parents=True)
                (place / "model.onnx").hardlink_to(MODELS[MODEL].file)
        yield Path(name)


@contextmanager
def open_pages(ops: str, names: Sequence[str]) -> Iterator[None]:
    """Streams as of pages of these models, read until the end of the block."""
    with ExitStack() as stack:
        for name in names:
            connection = HTTPConnection(ops, timeout=600)
            stack.callback(connection.close)
            topics = ",".join((*TOPICS, *(f"{kind}:{name}" for kind in OF_MODEL)))
            connection.request("GET", f"/admin/v1/stream?topics={topics}")
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"a stream was refused: {answer.read().decode()}")
            threading.Thread(target=_drain, args=(answer,), daemon=True).start()
        yield


def _drain(answer: HTTPResponse) -> None:
    try:
        while answer.read1(1 << 16):
            pass
    except (OSError, ValueError, AttributeError):
        return  # the block is over


def ask(http: str, rate: float, over: threading.Event) -> None:
    """Ask the first model so many times a second until ``over``."""
    model = MODELS[MODEL]
    rows = model.rows(1)
    tensor = {"name": model.input, "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    body, connection = json.dumps({"inputs": [tensor]}), HTTPConnection(http, timeout=60)
    while not over.wait(1 / rate):
        connection.request("POST", "/v2/models/m000/infer", body)
        connection.getresponse().read()
    connection.close()


def measure_used(server: Server, seconds: float) -> tuple[float, float]:
    """Return the shares of a core that the control process and the workers use in so many seconds."""
    pids, began = (server.pid, *server.workers), time.monotonic()
    before = [cpu_s(pid) for pid in pids]
    time.sleep(seconds)
    passed = time.monotonic() - began
    shares = [(cpu_s(pid) - start) / passed for pid, start in zip(pids, before, strict=True)]
    return shares[0], sum(shares[1:])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--models", type=int, default=20, help="models (default 20)")
    parser.add_argument("--versions", type=int, default=2, help="versions of each (default 2)")
    parser.add_argument("--rate", type=float, default=50, help="requests a second (default 50)")
    parser.add_argument("--seconds", type=float, default=30, help="length of each window (default 30)")
    parser.add_argument("--rounds", type=int, default=2, help="windows with and without pages (default 2)")


def main(arguments: argparse.Namespace) -> int:
    """Measure, print, and return 1 if ten pages use more than they may."""
    over, costs = threading.Event(), list[float]()
    with (
        copy_models(arguments.models, arguments.versions) as folder,
        TemporaryDirectory() as home,
        run_server(["env", f"PENSTOCK_HOME={home}", *penstock(folder)], split_cores()[0], wait_s=600) as server,
    ):
        asking = threading.Thread(target=ask, args=(server.addresses["http"], arguments.rate, over))
        asking.start()
        names = [f"m{index % arguments.models:03d}" for index in range(PAGES)]
        for _ in range(arguments.rounds):
            time.sleep(SETTLE_S)
            alone = measure_used(server, arguments.seconds)
            with open_pages(server.addresses["ops"], names):
                time.sleep(SETTLE_S)
                watched = measure_used(server, arguments.seconds)
            costs.append(watched[0] - alone[0])
            print(
                f"control process: {alone[0]:.2%} of a core without a page, {watched[0]:.2%} with {PAGES}; "
                f"workers: {alone[1]:.2%} and {watched[1]:.2%}"
            )
        over.set()
        asking.join()
    least = min(costs)  # whatever else runs here only adds
    print(f"{PAGES} open pages cost {least:.2%} of a core; they may cost {MAY_USE:.0%}")
    return 1 if least > MAY_USE else 0
