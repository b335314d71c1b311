"""Worker processes: their end is seen, told once, and their descriptor outlives whoever watches it."""

import os
import subprocess
import sys

from penstock.control.workers.process import WorkerProcess
from tests.harness import PATIENCE_S, wait_until


def test_whoever_watches_the_descriptor_is_told_before_it_goes() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process = WorkerProcess(child.pid, child)
    reported: list[int] = []
    process.before_close = lambda: reported.append(os.fstat(process.pidfd).st_size)  # fails once it is closed
    wait_until(process.ended, PATIENCE_S, "the end of the process")
    assert process.close() == "exit 3"
    assert len(reported) == 1


def test_a_process_tells_the_processor_time_that_it_has_used() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    process = WorkerProcess(busy.pid, busy)
    wait_until(lambda: process.processor_ns() > 50_000_000, PATIENCE_S, "processor time")
    process.kill()
    wait_until(process.ended, PATIENCE_S, "the end of the process")
    process.close()
    assert process.processor_ns() == 0
