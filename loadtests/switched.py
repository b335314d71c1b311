"""Runs `penstock serve` with a worker whose traces are switched on and off: ``… loadtests.switched LOG serve …``.

The worker begins without traces. From SIGUSR1 on, windows with and without them follow each other in pairs, by chance
with or without first, and each change writes a line to LOG: nanoseconds since the epoch, nanoseconds of processor time
so far, and 1 if traces are on from then on. Nothing else changes between two windows: process, memory, connections.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

WINDOW_S = 0.25
LOG = "LOADTESTS_SWITCHED_LOG"


def main(arguments: list[str]) -> int:
    """Run the gateway, or one of its workers."""
    if arguments[0] == "worker":
        return worker(arguments[1:])
    from penstock.cli import run  # noqa: PLC0415 - a worker needs none of these
    from penstock.control.workers import prefork, process  # noqa: PLC0415

    log = str(Path(arguments[0]).absolute())

    def start(module: str, arguments: Sequence[str]) -> process.WorkerProcess:
        child = subprocess.Popen(
            [sys.executable, "-m", "loadtests.switched", "worker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
            env={**os.environ, LOG: log},
        )
        return process.WorkerProcess(child.pid, child)

    process.start = start
    prefork.fork_workers = lambda number, main: prefork.WaitingWorkers()  # each is a program of its own here
    return run(arguments[1:])


def worker(arguments: list[str]) -> int:
    """Run the worker of a slot."""
    from penstock.app import worker as program  # noqa: PLC0415
    from penstock.serving.data_plane import DataPlane  # noqa: PLC0415
    from penstock.serving.tracer import Tracer  # noqa: PLC0415

    log = Path(os.environ[LOG]).open("w", buffering=1)  # noqa: SIM115 - before the worker is confined, for all its life

    class Switch:
        """Switches the tracer of a worker."""

        def __init__(self, plane: DataPlane, log: TextIO) -> None:
            self._plane = plane
            self._tracer: Tracer | None = plane.tracer
            self._log = log
            self._planned: list[bool] = []
            plane.tracer = None

        def change(self) -> None:
            """Begin the next window."""
            if not self._planned:
                self._planned = random.sample((True, False), 2)
            is_on = self._planned.pop()
            self._plane.tracer = self._tracer if is_on else None
            self._log.write(f"{time.time_ns()} {time.process_time_ns()} {is_on:d}\n")
            asyncio.get_running_loop().call_later(WINDOW_S, self.change)

    def make_plane(*arguments: Any, **options: Any) -> DataPlane:
        plane = DataPlane(*arguments, **options)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, Switch(plane, log).change)
        return plane

    with patch.object(program, "DataPlane", make_plane):
        return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
