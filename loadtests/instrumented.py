"""Runs `penstock serve` with its workers under callgrind: ``python -m loadtests.instrumented FOLDER serve …``.

Each worker starts as ``python -m loadtests.instrumented worker …``: its clock is a counter, so that decisions about
time do not see how slow Valgrind makes it. Its timers wait longer, so that they come as often among the requests as
they would, and the monitor's samples wait for longer than a measurement takes.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from pathlib import Path
from typing import TypeVarTuple

import uvloop

_Ts = TypeVarTuple("_Ts")

STEP_NS = 1_000
"""Nanoseconds between one look at the clock and the next."""

SLOWER = 60
"""How much longer a timer waits."""

SAMPLE_S = 3600.0
SETTINGS = {"PENSTOCK_LIMITS__FREEZE_SECONDS": "3600", "PENSTOCK_LIMITS__LOAD_SECONDS": "600"}
"""A worker whose clock stands still looks frozen, and loads its models slowly."""


class SlowLoop(uvloop.Loop):
    """An event loop whose timers wait longer."""

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """See ``asyncio.AbstractEventLoop``."""
        return super().call_later(delay * SLOWER, callback, *args, context=context)


def main(arguments: list[str]) -> int:
    """Run the gateway, or one of its workers."""
    if arguments[0] == "worker":
        return worker(arguments[1:])
    from loadtests.instructions import under_callgrind  # noqa: PLC0415 - a worker needs none of these
    from penstock.cli import run  # noqa: PLC0415
    from penstock.control.workers import prefork, process  # noqa: PLC0415

    tool = under_callgrind(Path(arguments[0]))

    def start(module: str, arguments: Sequence[str]) -> process.WorkerProcess:
        child = subprocess.Popen(
            [*tool, sys.executable, "-m", "loadtests.instrumented", "worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )
        return process.WorkerProcess(child.pid, child)

    os.environ.update(SETTINGS)
    process.start = start
    prefork.fork_workers = lambda number, main: prefork.WaitingWorkers()  # each is a program of its own here
    return run(arguments[1:])


def worker(arguments: list[str]) -> int:
    """Run the worker of a slot."""
    time.monotonic_ns = itertools.count(time.monotonic_ns(), STEP_NS).__next__  # before anybody imports it
    time.perf_counter_ns = time.monotonic_ns  # by which runs are measured at loading: it decides where they take place
    from penstock.core.confinement import ConfinementReport  # noqa: PLC0415
    from penstock.engine.confinement import confine  # noqa: PLC0415

    confine.confine_worker = lambda *_: ConfinementReport()  # Valgrind writes its profiles from within the worker
    from penstock.app import worker as program  # noqa: PLC0415
    from penstock.serving.observers import row_sampler  # noqa: PLC0415

    row_sampler.PAUSE_S = SAMPLE_S
    uvloop.new_event_loop = SlowLoop
    return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
