"""Clients that misuse the server beside clients that do not: what they take from the good ones, and how they end.

Floods of HTTP/2 (rapid reset, pings, settings, empty frames, a header block that never ends, windows that are never
opened), slow clients of HTTP/1.1 and garbage on both ports, each for some seconds, beside steady good traffic by REST.
Offenders come back a moment after they were closed. Slow readers and senders have to be gone only after the times that
the server gives everybody, so how long they live is reported and not judged.
"""

import argparse
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests.codecs import BINARY, GRPC
from loadtests.graphs import find_repository
from loadtests.models import MODELS
from loadtests.openloop import OpenWindow, open_loop
from loadtests.processes import Server, penstock, run_server, split_cores
from penstock.loadtest.http2_wire import grpc_body

OFFENDERS = 16
RATE = 1000.0
PAUSE_S = 0.1
_MODEL = MODELS["tiny"]
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SPEED_S = 0.001  # between two pieces of a flood: each offender sends some hundred kilobytes a second


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _head(stream: int, flags: int = 4) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(b"\0%c%b%c%b" % (len(k), k.encode(), len(v), v.encode()) for k, v in fields.items())
    return _frame(1, flags, stream, block)


Piece = Callable[[int], bytes]
"""What an offender sends at its n-th turn."""


def _call(stream: int) -> bytes:
    body = grpc_body(GRPC.write(_MODEL, _MODEL.rows(1)).body)
    return _head(stream) + _frame(0, 1, stream, body)


HTTP2: dict[str, Piece] = {
    "rapid reset": lambda n: b"".join(
        _head(s) + _frame(3, 0, s, b"\0\0\0\x08") for s in range(40 * n + 1, 40 * n + 41, 2)
    ),
    "pings": lambda n: _frame(6, 0, 0, b"8 octets") * 20,
    "settings": lambda n: _frame(4, 0, 0, b"\0\4\0\0\xff\xff") * 20,
    "empty frames": lambda n: (_head(1) if not n else b"") + _frame(0, 0, 1) * 20,
    "endless headers": lambda n: (_head(1, 0) if not n else b"") + _frame(9, 0, 1, b"\0\1a\1b") * 20,
    "closed windows": lambda n: (_frame(4, 0, 0, b"\0\4\0\0\0\0") if not n else b"") + _call(2 * n + 1),
    "tiny windows": lambda n: _frame(8, 0, 0, b"\0\0\0\1") * 20,
}
_SLOW_HEAD = b"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: localhost\r\n"
HTTP1: dict[str, Piece] = {
    "slow heads": lambda n: _SLOW_HEAD if not n else b"x" if n % 100 == 0 else b"",
    "slow bodies": lambda n: _SLOW_HEAD + b"content-length: 1000\r\n\r\n" if not n else b"1" if n % 100 == 0 else b"",
    "slow readers": lambda n: b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 10,
    "garbage": lambda n: np.random.default_rng(n).bytes(1000),
}


@dataclass
class Offenders:
    """Some clients that do the same, over and over, for as long as they are let; ``lived`` are seconds of connections
    that were closed, ``open`` counts those that were not."""

    address: str
    first: bytes
    piece: Piece
    reads: bool
    lived: list[float] = field(default_factory=list)
    open: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float) -> list[threading.Thread]:
        """Begin."""
        threads = [threading.Thread(target=self._offend, daemon=True) for _ in range(OFFENDERS)]
        for thread in threads:
            thread.start()
        threading.Timer(seconds, self._stop.set).start()
        return threads

    def _offend(self) -> None:
        host, _, port = self.address.rpartition(":")
        while not self._stop.is_set():
            with suppress(OSError), socket.create_connection((host, int(port)), 5) as wire:
                began = time.monotonic()
                if self._talk(wire):
                    self.lived.append(time.monotonic() - began)
                else:
                    self.open += 1
            self._stop.wait(PAUSE_S)

    def _talk(self, wire: socket.socket) -> bool:
        """Misuse a connection; whether the server has closed it."""
        wire.settimeout(5)
        turn = 0
        try:
            wire.sendall(self.first)
            while not self._stop.is_set():
                data = self.piece(turn)
                turn += 1
                wire.settimeout(0.2)
                with suppress(TimeoutError):
                    wire.sendall(data)
                wire.settimeout(_SPEED_S)
                with suppress(TimeoutError):
                    if self.reads and wire.recv(1 << 16) == b"":
                        return True
                if not self.reads:
                    time.sleep(_SPEED_S)
        except OSError:
            return True
        return False


def _measure_good(server: Server, seconds: float, cores: Sequence[int]) -> OpenWindow:
    call = BINARY.write(_MODEL, _MODEL.rows(1))
    address = server.addresses["http"]
    return open_loop(BINARY, call, address, rate=RATE, seconds=seconds, cores=cores[:1])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each attack (default 8)")


def main(arguments: argparse.Namespace) -> int:
    """Attack, measure and print; 1 where good requests failed."""
    find_repository(_MODEL)
    console = Console(width=max(Console().width, 120))
    table = Table(title=f"{OFFENDERS} offenders beside {RATE:,.0f} good requests a second", box=SIMPLE_HEAD)
    for head in (
        "attack",
        "good p50 ms",
        "p99 ms",
        "to quiet",
        "failed",
        "RSS +MiB",
        "closed",
        "lived s (median)",
        "open",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    failed = 0
    with run_server(penstock(_MODEL.folder, "--workers", "1"), split_cores()[0]) as server:
        cores = split_cores()[1]
        os.sched_setaffinity(0, cores[1:] or cores)  # offenders take nothing from the server's cores
        _measure_good(server, 1.0, cores)
        quiet, memory = _measure_good(server, arguments.seconds, cores), server.rss_bytes()
        table.add_row("none", f"{quiet.latencies.p50:.2f}", f"{quiet.latencies.p99:.2f}", "1.00", str(quiet.errors))
        for name, piece in {**HTTP2, **HTTP1}.items():
            http2 = name in HTTP2
            offenders = Offenders(
                server.addresses["grpc" if http2 else "http"], _PREFACE if http2 else b"", piece, name != "slow readers"
            )
            threads = offenders.run(arguments.seconds)
            window = _measure_good(server, arguments.seconds, cores)
            grown = (server.rss_bytes() - memory) / 2**20
            for thread in threads:
                thread.join()
            failed += window.errors
            p99 = window.latencies.p99
            lived = f"{np.median(offenders.lived):.2f}" if offenders.lived else ""
            cells = (
                f"{window.latencies.p50:.2f}",
                f"{p99:.2f}",
                f"{p99 / quiet.latencies.p99:.2f}",
                str(window.errors),
            )
            table.add_row(name, *cells, f"{grown:.0f}", str(len(offenders.lived)), lived, str(offenders.open))
    console.print(table)
    return 1 if failed else 0
