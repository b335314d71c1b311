"""Small requests at a fixed mean rate on both transports, from one process that leaves the core to others meanwhile.

As in ``openloop`` a duration runs from the moment a request was due. The process sleeps until shortly before that, so
that whoever sends large requests from the same core gets on too.
"""

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.codecs import BINARY, GRPC
from loadtests.latencies import Latencies
from loadtests.models import BenchModel
from loadtests.openloop import Client, draw_arrivals
from loadtests.processes import pin_children
from loadtests.wires import connect
from penstock.loadtest.wire import Wire

RATE = 200.0
"""Requests a second on each transport."""

_CONNECTIONS = 64
_EARLY_S = 0.002
_AT_MOST_S = 3600.0
_END_S = 30.0


class _Ended(Exception):
    """The requests beside which these were sent have ended."""


def _raise_ended(*_: object) -> None:
    raise _Ended


@dataclass
class Neighbours:
    """Requests of some seconds; ``seen`` are their durations in milliseconds, by transport, once they are over."""

    errors: int = 0
    seen: dict[str, Latencies] = field(default_factory=dict)


class _Client(Client):
    def __init__(self, connect: Callable[[], Wire], connections: int, due: NDArray[np.float64]) -> None:
        super().__init__(connect, connections, due)
        self.by_kind: dict[str, list[float]] = {"Http1Wire": [], "Http2Wire": []}

    def _wait_s(self, until_due_s: float) -> float:
        return max(0.0, min(until_due_s, 0.05) - _EARLY_S)

    def _finish(self, wire: Wire) -> None:
        before = len(self.durations)
        super()._finish(wire)
        if len(self.durations) > before:
            self.by_kind[type(wire).__name__].append(self.durations[-1])


@contextmanager
def send_beside(model: BenchModel, addresses: Mapping[str, str], cores: Sequence[int]) -> Iterator[Neighbours]:
    """Send beside what is done inside; the result is filled afterwards."""
    result = Neighbours()
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        spec: dict[str, Any] = {"result": str(Path(folder, "result.json"))}
        for codec, key in ((BINARY, "http"), (GRPC, "grpc")):
            call = codec.write(model, model.rows(1))
            body = Path(folder, key)
            body.write_bytes(call.body)
            spec[key] = {
                "address": addresses[key],
                "path": call.path,
                "headers": dict(call.headers),
                "body": str(body),
            }
        with pin_children(cores):
            process = subprocess.Popen([sys.executable, "-m", "loadtests.neighbours", json.dumps(spec)])
        try:
            yield result
            process.send_signal(signal.SIGTERM)
            if process.wait(_END_S):
                raise RuntimeError("the neighbours' client failed; its message is above")
            said = json.loads(Path(spec["result"]).read_text())
            result.errors = said.pop("errors")
            result.seen = {kind: Latencies.of(np.array(some, np.int64)) for kind, some in said.items()}
        finally:
            process.kill()


def _wires(spec: Mapping[str, Any]) -> Iterator[Wire]:
    for key in itertools.cycle(("http", "grpc")):
        call = spec[key]
        yield connect(key == "grpc", call["address"], call["path"], call["headers"], Path(call["body"]).read_bytes())


def main() -> None:
    """The client process; its one argument is what ``neighbours`` says."""
    spec = json.loads(sys.argv[1])
    wires = _wires(spec)
    client = _Client(lambda: next(wires), _CONNECTIONS, draw_arrivals(2 * RATE, _AT_MOST_S, 1))
    gc.disable()
    signal.signal(signal.SIGTERM, _raise_ended)
    with suppress(_Ended):
        client.run()
    http, grpc = client.by_kind["Http1Wire"], client.by_kind["Http2Wire"]
    Path(spec["result"]).write_text(json.dumps({"REST": http, "gRPC": grpc, "errors": client.misses.total}))
    os._exit(0)


if __name__ == "__main__":
    main()
