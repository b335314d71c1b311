"""What a sink that is down or slow costs: a model under full load while events are decided and cannot be delivered."""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import track

from loadtests.h2load import Window, require
from loadtests.monitor import ON, measure_window
from loadtests.processes import Server, penstock, run_server, split_cores
from loadtests.traffic import build
from penstock.cli.admin_api_client import AdminApiClient

MEMORY_BYTES = 32 << 20
"""What an outage may take."""

P99 = 1.02
HANGS_S = 30.0


@dataclass(slots=True)
class Sink:
    """A webhook whose state can be set: ``up`` takes, ``down`` answers 503, ``slow`` says nothing for half a minute."""

    state: str = "up"
    got: list[int] = field(default_factory=list)
    port: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen on the command line."""
    parser.add_argument("--outage-seconds", type=float, default=600.0)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between events")


def main(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if the outage costs more than it may, or an event is lost or out of order."""
    require()
    console = Console()
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder, listen_sink() as sink:
        models = build(Path(folder))
        server_cores, client_cores = split_cores()
        cores = [*server_cores, *client_cores[:-1]]
        with run_server(penstock(models, "--workers", "1"), cores) as server:
            figures = measure_outage(server, sink, arguments, client_cores[-1:])
    for name, value in figures.items():
        console.print(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}")
    sound = figures["memory_mib"] <= MEMORY_BYTES / (1 << 20) and figures["p99"] <= P99 and not figures["lost"]
    return 0 if sound and figures["in_order"] else 1


@contextmanager
def listen_sink() -> Iterator[Sink]:
    """A sink that listens."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if sink.state == "slow":
                time.sleep(HANGS_S)
            taken = sink.state == "up"
            if taken:
                sink.got.append(event["sequence"])
            self.send_response(200 if taken else 503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink.port = http.server_address[1]
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield sink
    finally:
        http.shutdown()


def measure_outage(
    server: Server, sink: Sink, arguments: argparse.Namespace, cores: list[int]
) -> dict[str, float | int]:
    """Windows with the sink up and then out: half of the time down, half of it slow; and what arrives afterwards."""
    gateway = AdminApiClient(server.addresses["ops"])
    policy = {**ON, "sinks": {"hook": {"webhook": {"url": f"http://127.0.0.1:{sink.port}"}}}}
    asked, stop = [0], threading.Event()

    def ask() -> None:
        while not stop.wait(arguments.every):
            gateway.retrain("m", None, "load test")
            asked[0] += 1

    def load(number: int, name: str) -> list[Window]:
        turns = track(range(number), name, console=Console(stderr=True))
        return [measure_window(server, gateway, policy, arguments, cores)[0] for _ in turns]

    load(3, "warming")
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    number = max(2, round(arguments.outage_seconds / (arguments.seconds + 1)))
    up = load(max(2, number // 3), "the sink is up")
    memory = server.rss_bytes()
    most = memory
    out: list[Window] = []
    for state in ("down", "slow"):
        sink.state = state
        for _ in range(2):
            out += load(max(1, number // 4), f"the sink is {state}")
            most = max(most, server.rss_bytes())
    sink.state = "up"
    began = time.monotonic()
    up += load(max(2, number // 3), "the sink is up again")
    stop.set()
    asking.join(10)
    while len(set(sink.got)) < asked[0] and time.monotonic() - began < 900:
        time.sleep(0.5)
    first = list(dict.fromkeys(sink.got))
    return {
        "events": asked[0],
        "lost": asked[0] - len(first),
        "repeats": len(sink.got) - len(first),
        "in_order": int(first == sorted(first)),
        "seconds_until_all_arrived": time.monotonic() - began,
        "memory_mib": (most - memory) / (1 << 20),
        "rate": statistics.median(window.rate for window in out) / statistics.median(window.rate for window in up),
        "p99": statistics.median(window.latencies.p99 for window in out)
        / statistics.median(window.latencies.p99 for window in up),
    }
