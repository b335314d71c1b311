"""Worker processes: their end is seen, told once, and their descriptor outlives whoever watches it."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from penstock.control.workers.process import WorkerProcess, adopt
from penstock.control.workers.slots import SlotFile
from tests.harness import PATIENCE_S, wait_until


def test_watchers_of_a_descriptor_are_notified_before_it_is_closed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process = WorkerProcess(child.pid, child)
    reported: list[int] = []
    process.before_close = lambda: reported.append(os.fstat(process.pidfd).st_size)  # fails once it is closed
    wait_until(process.ended, PATIENCE_S, "the end of the process")
    assert process.close() == "exit 3"
    assert len(reported) == 1


def test_a_process_reports_the_processor_time_that_it_has_used() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    process = WorkerProcess(busy.pid, busy)
    wait_until(lambda: process.processor_ns() > 50_000_000, PATIENCE_S, "processor time")
    process.kill()
    wait_until(process.ended, PATIENCE_S, "the end of the process")
    process.close()
    assert process.processor_ns() == 0


class Owned(SlotFile):
    """A slot whose owner changes between two looks."""

    def __init__(self, *owners: int) -> None:
        self._owners = iter(owners)

    def owner(self) -> int:
        return next(self._owners)


def test_an_owner_that_ends_while_it_is_adopted_is_none() -> None:
    open_before = pidfds()
    assert adopt(Owned(os.getpid(), os.getppid())) is None
    assert pidfds() <= open_before


def pidfds() -> set[str]:
    """The descriptors of processes that this process has open."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # another thread has closed it, or the search of the folder itself
            if "pidfd" in str(path.readlink()):
                found.add(path.name)
    return found
