"""Open-loop load: requests arrive at random at a fixed mean rate, whether the server keeps up or not.

A duration runs from the moment a request was due, not from when it could be sent: when every connection is busy
the request waits here, and that wait is part of what a caller would have felt. So a server that stalls is charged
for everybody who arrived meanwhile (no coordinated omission). The loop never sleeps, since timers would bunch the
arrivals: each process of it needs a core of its own.

h2load's own fixed rate is not used: for a rate over 100 a second on a connection it sends in bursts each 10 ms, and
it starts its clock when a request is sent, not when it was due.
"""

import argparse
import gc
import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from loadtests.codecs import Call, Codec
from loadtests.h2load import Window
from loadtests.latencies import Latencies
from loadtests.processes import pin_children
from loadtests.wires import connect, is_good
from penstock.loadtest.wire import BrokenWire, Wire

DELAY_S = 0.001
"""A request that is sent later than that after it was due counts as delayed."""

_GIVE_UP_S = 10.0
_CONNECTIONS = 32  # of each process


@dataclass(slots=True)
class Misses:
    """Requests without a good answer: ``refused`` by the server, ``lost`` with their connection, and where the client
    gave up, sent but ``unanswered``, or ``unsent``."""

    refused: int = 0
    lost: int = 0
    unanswered: int = 0
    unsent: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.refused + self.lost + self.unanswered + self.unsent


@dataclass(frozen=True, slots=True)
class OpenWindow(Window):
    """``rate`` is what was answered a second until the last answer; ``asked`` what was meant to arrive.

    ``latencies`` rank ``misses`` beyond all answers. ``delayed`` requests were sent more than DELAY_S after they were
    due, because no connection was free or the client was busy: the wait is in their durations. ``lag_p99_ms`` is the
    client's own delay in sending what a free connection could have carried. ``accepted`` and ``refused`` are durations
    from when a request was sent, of those answered well and the others.
    """

    asked: float
    misses: Misses
    delayed: int
    lag_p99_ms: float
    accepted: Latencies
    refused: Latencies


def open_loop(
    codec: Codec,
    call: Call,
    address: str,
    *,
    rate: float,
    seconds: float,
    cores: Sequence[int],
    connections: int = _CONNECTIONS,
) -> OpenWindow:
    """Send at ``rate`` a second for that long, from one process on each core with that many connections; nothing at a
    rate of 0."""
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder, ExitStack() as stack:
        data = Path(folder, "body")
        data.write_bytes(call.body)
        spec = {
            "grpc": codec.grpc,
            "address": address,
            "path": call.path,
            "headers": dict(call.headers),
            "body": str(data),
            "rate": rate / len(cores),
            "seconds": seconds,
            "connections": connections,
        }
        parts = []
        for core in cores:
            result = Path(folder, f"{core}.npz")
            arguments = json.dumps({**spec, "seed": core, "result": str(result)})
            with pin_children([core]):
                process = subprocess.Popen([sys.executable, "-m", "loadtests.openloop", arguments])
            stack.callback(process.kill)
            parts.append((process, result))
        for process, _ in parts:
            if process.wait(seconds + 4 * _GIVE_UP_S):
                raise RuntimeError("an open-loop client could not connect; its message is above")
        return _join([np.load(result) for _, result in parts], rate)


def _join(parts: Sequence[dict[str, NDArray[np.int64]]], asked: float) -> OpenWindow:
    durations, lags = (np.concatenate([part[key] for part in parts]) for key in ("durations", "lags"))
    misses = Misses(*np.sum([part["misses"] for part in parts], axis=0).tolist())
    took = max(float(part["took"]) for part in parts)
    lag = float(np.percentile(lags, 99)) / 1000 if len(lags) else 0.0
    latencies = Latencies.of(durations, misses.total)
    accepted, refused = (Latencies.of(np.concatenate([part[key] for part in parts])) for key in ("accepted", "refused"))
    delayed = sum(int(part["delayed"]) for part in parts)
    done, rate = latencies.count, len(durations) / took
    return OpenWindow(done, misses.total, rate, latencies, asked, misses, delayed, lag, accepted, refused)


class Client:
    """Sends what is due on free connections; moments in seconds, durations in microseconds.

    A connection the server closed is replaced, as a pool would do; that is an error only if a request was on it.
    """

    def __init__(
        self,
        connect: Callable[[], Wire],
        connections: int,
        due: NDArray[np.float64],
        give_up_s: float = _GIVE_UP_S,
    ) -> None:
        self._connect = connect
        self._give_up_s = give_up_s
        self._wires: dict[int, Wire] = {}
        self._free: deque[Wire] = deque()
        self._due: list[float] = due.tolist()
        self._began: dict[Wire, float] = {}
        self._sent: dict[Wire, float] = {}
        self._waiting: deque[float] = deque()
        self._epoll = select.epoll()
        for _ in range(connections):
            self._open()
        self.durations: list[float] = []
        self.lags: list[float] = []
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.misses = Misses()
        self.delayed = 0

    def _open(self) -> None:
        wire = self._connect()
        self._wires[wire.fileno()] = wire
        self._epoll.register(wire.fileno(), select.EPOLLIN)
        self._free.append(wire)

    def _replace(self, wire: Wire) -> None:
        del self._wires[wire.fileno()]
        self._epoll.unregister(wire.fileno())
        wire.close()
        if self._began.pop(wire, None) is None:
            self._free.remove(wire)
        else:
            self.misses.lost += 1
        self._open()

    def run(self) -> float:
        """Send everything and wait for the answers; how long it took, in seconds."""
        started, sent, total = time.perf_counter(), 0, len(self._due)
        give_up = (self._due[-1] if total else 0.0) + self._give_up_s
        while sent < total or self._waiting or self._began:
            now = time.perf_counter() - started
            while sent < total and self._due[sent] <= now:
                self._waiting.append(self._due[sent])
                sent += 1
            while self._waiting and self._free:
                self._send(self._waiting.popleft(), now)
            self._receive(started, self._wait_s(self._due[sent] - now if sent < total else 0.0))
            if now > give_up:
                self.misses.unanswered = len(self._began)
                self.misses.unsent = len(self._waiting) + total - sent
                break
        return time.perf_counter() - started

    def _send(self, due: float, now: float) -> None:
        wire = self._free.popleft()
        self._began[wire] = due
        self._sent[wire] = now
        self.lags.append((now - max(due, wire.freed)) * 1e6)
        self.delayed += now - due > DELAY_S
        try:
            wire.send(0)
            self._watch(wire)
        except BrokenWire:
            self._replace(wire)

    def _watch(self, wire: Wire) -> None:
        if wire.wants_output != wire.watched:
            wire.watched = wire.wants_output
            self._epoll.modify(wire.fileno(), select.EPOLLIN | (select.EPOLLOUT if wire.watched else 0))

    def _wait_s(self, until_due_s: float) -> float:
        """How long the client may sleep where nothing comes; timers are late, so that this one does not."""
        del until_due_s
        return 0.0

    def _receive(self, started: float, wait_s: float) -> None:
        for number, event in self._epoll.poll(wait_s):
            wire = self._wires[number]
            try:
                self._serve(wire, event, started)
            except BrokenWire:
                self._replace(wire)

    def _serve(self, wire: Wire, event: int, started: float) -> None:
        if event & select.EPOLLOUT:
            wire.flush()
        if event & ~select.EPOLLOUT and wire.receive():
            wire.freed = time.perf_counter() - started
            self._finish(wire)
        self._watch(wire)

    def _finish(self, wire: Wire) -> None:
        due, took = self._began.pop(wire), (wire.freed - self._sent.pop(wire)) * 1e6
        if is_good(wire):
            self.durations.append((wire.freed - due) * 1e6)
            self.accepted.append(took)
        else:
            self.refused.append(took)
            self.misses.refused += 1
        self._free.append(wire)


def draw_arrivals(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Moments of a Poisson process, in seconds."""
    if not rate:
        return np.zeros(0)
    random = np.random.default_rng(seed)
    moments = np.cumsum(random.exponential(1 / rate, int(rate * seconds * 1.5) + 50))
    return moments[moments < seconds]


def main() -> None:
    """One client process; its one argument is what ``open_loop`` says."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.openloop", description=__doc__)
    parser.add_argument("spec")
    spec = json.loads(parser.parse_args().spec)
    body = Path(spec["body"]).read_bytes()

    def open_wire() -> Wire:
        return connect(spec["grpc"], spec["address"], spec["path"], spec["headers"], body)

    try:
        client = Client(open_wire, spec["connections"], draw_arrivals(spec["rate"], spec["seconds"], spec["seed"]))
        gc.disable()  # a collection would be charged to the server
        took = client.run()
    except (OSError, BrokenWire) as failure:
        sys.exit(f"open loop: {failure}")
    np.savez(
        spec["result"],
        durations=np.array(client.durations).astype(np.int64),
        lags=np.array(client.lags).astype(np.int64),
        accepted=np.array(client.accepted).astype(np.int64),
        refused=np.array(client.refused).astype(np.int64),
        misses=np.array(astuple(client.misses)),
        delayed=client.delayed,
        took=took,
    )
    os._exit(0)  # no need to close the connections one by one


if __name__ == "__main__":
    main()
