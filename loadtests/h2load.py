"""Closed-loop load with h2load: prebuilt requests, one in flight on each connection, every duration logged."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from loadtests.codecs import Call, Codec
from loadtests.latencies import Latencies
from loadtests.processes import pin_children
from penstock.loadtest.http2_wire import grpc_body

_FINISHED = re.compile(r"finished in [\d.]+\w*, ([\d.]+) req/s")
_REQUESTS = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded")
_CODES = re.compile(r"status codes: (\d+) 2xx")
_DATA = re.compile(r"\((\d+)\) data")

Times = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Window:
    """One window of load: answers, those that were errors, answers a second, and their durations in microseconds."""

    done: int
    errors: int
    rate: float
    latencies: Latencies


def require() -> str:
    """Version of the installed h2load; exits with 1 and what to do where there is none."""
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is missing; install it with: apt-get install nghttp2-client")
    return subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def closed_loop(
    codec: Codec, call: Call, address: str, *, connections: int, seconds: float, cores: Sequence[int], answer_bytes: int
) -> Window:
    """Keep that many connections busy; a duration runs from the request's first byte to the answer's last.

    ``answer_bytes`` is the size of a correct gRPC answer's body: h2load does not read trailers, where gRPC puts its
    errors, so any difference there counts every answer of the window as an error.
    """
    return logged_loop(
        codec, call, address, connections=connections, seconds=seconds, cores=cores, answer_bytes=answer_bytes
    )[0]


def logged_loop(
    codec: Codec, call: Call, address: str, *, connections: int, seconds: float, cores: Sequence[int], answer_bytes: int
) -> tuple[Window, Times]:
    """As ``closed_loop``; return also when each answer was complete, in microseconds since the epoch."""
    with TemporaryDirectory(prefix="penstock-loadtests-") as folder:
        log, data = Path(folder, "log"), Path(folder, "body")
        data.write_bytes(grpc_body(call.body) if codec.grpc else call.body)
        command = _make_command(codec, call, address, connections, seconds, min(connections, len(cores)))
        with pin_children(cores):
            run = subprocess.run(
                [*command[:-1], "--data", str(data), "--log-file", str(log), command[-1]],
                capture_output=True,
                text=True,
                timeout=seconds + 120,
                check=False,
            )
        if run.returncode:
            raise RuntimeError(f"h2load failed: {run.stderr.strip() or run.stdout[-500:]}")
        return _read(run.stdout, log, connections * answer_bytes if codec.grpc else None, answer_bytes)


def _make_command(codec: Codec, call: Call, address: str, connections: int, seconds: float, threads: int) -> list[str]:
    headers = [part for name, value in call.headers.items() for part in ("--header", f"{name}: {value}")]
    protocol = [] if codec.grpc else ["--h1"]
    load = [f"--clients={connections}", f"--threads={threads}", f"--duration={round(seconds * 1000)}ms"]
    return ["h2load", *protocol, *load, *headers, f"http://{address}{call.path}"]


def _read(output: str, log: Path, slack: int | None, answer_bytes: int) -> tuple[Window, Times]:
    done, succeeded = _find_numbers(_REQUESTS, output)
    (ok,) = _find_numbers(_CODES, output)
    errors = done - min(succeeded, ok)
    if slack is not None and abs(_find_numbers(_DATA, output)[0] - done * answer_bytes) > slack:
        errors = done
    logged = np.loadtxt(log, dtype=np.int64, usecols=(0, 2), ndmin=2) if done else np.zeros((0, 2), np.int64)
    began_us, took_us = logged.T
    rate = _FINISHED.search(output)
    return Window(done, errors, float(rate[1]) if rate else 0.0, Latencies.of(took_us)), began_us + took_us


def _find_numbers(pattern: re.Pattern[str], output: str) -> tuple[int, ...]:
    match = pattern.search(output)
    if match is None:
        raise RuntimeError(f"h2load said something unexpected:\n{output[-1000:]}")
    return tuple(int(number) for number in match.groups())
