"""Worker processes: started in their own sessions and watched by pidfd, whether children of this process or adopted."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from penstock.control.workers.environment import MALLOC, TUNABLES, worker_environment
from penstock.control.workers.slots import SlotLock

_SCHEDULED: Final = 2
"""The kind of a process's clock in its identifier, as clock_getcpuclockid(3) makes it: time on a processor."""


class Child(Protocol):
    """A child of this process."""

    def wait(self) -> int:
        """Wait until it has ended; return its exit code, or -N after signal N."""


class WorkerProcess:
    """One worker's process; ``before_close`` is called while its descriptor is still its own."""

    def __init__(self, pid: int, child: Child | None = None) -> None:
        self.pid = pid
        self._child = child
        self.before_close: Callable[[], object] = lambda: None
        self.pidfd = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self.pidfd, select.POLLIN)

    def ended(self) -> bool:
        """Whether it has ended; never waits."""
        return bool(self._poll.poll(0))

    def processor_ns(self) -> int:
        """The processor time used so far, in nanoseconds; 0 if unknown."""
        with suppress(OSError):
            return time.clock_gettime_ns((~self.pid << 3) | _SCHEDULED)
        return 0

    def kill(self) -> None:
        """End it at once; without effect if it has ended."""
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to drain; without effect if it has ended."""
        self._signal(signal.SIGTERM)

    def close(self) -> str:
        """Release a process that has ended; return how it ended, such as "exit 1"."""
        self.before_close()
        os.close(self.pidfd)
        if self._child is None:
            return "adopted"
        code = self._child.wait()
        return f"signal {-code}" if code < 0 else f"exit {code}"

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)


def start(module: str, arguments: Sequence[str]) -> WorkerProcess:
    """Run a module of Penstock in a new process that gets no terminal signals and outlives this one.

    Its standard output goes to standard error, since nothing reads the standard output of a server.
    """
    environment = {TUNABLES: MALLOC, **worker_environment(os.environ)}
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
        env=environment,
    )
    return WorkerProcess(child.pid, child)


def adopt(file: SlotLock) -> WorkerProcess | None:
    """The live owner of a slot, None if it has none."""
    pid = file.owner()
    if not pid:
        return None
    try:
        process = WorkerProcess(pid)
    except ProcessLookupError:
        return None
    if file.owner() == pid:  # unchanged: the descriptor belongs to the owner, not to a later process with the same id
        return process
    os.close(process.pidfd)
    return None
